"""What hands runs to workers: the protocol of an engine, and the one that any executor of this machine makes."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Protocol

from comfyreport.fleet.assignment import Assignment, Message, Outcome
from comfyreport.fleet.channel import FolderChannel, Stop
from comfyreport.fleet.worker import perform

WINDOW = 200
"""Runs that an engine is given at once, at least: enough to balance, and no more than can be held."""


class Engine(Protocol):
    """Hands assignments to workers. It is used by one command, from one thread; what fails raises ComfyReportError.

    `shown` is what people call it, without anything secret. `window`: how many runs it is given at once. `trouble`: why
    nothing goes on for the moment, in one line, empty where nothing is wrong; as it was when `look` last asked.
    """

    shown: str
    window: int
    trouble: str

    def submit(self, assignment: Assignment) -> Future[Outcome]:
        """Hand it out as soon as a worker is free."""

    def receive(self) -> list[Message]:
        """What workers have told since the last time, those of one attempt in their order."""

    def confirm(self, prompt_id: str) -> None:
        """Let a worker submit its prompt, now that it is kept where that will be."""

    def withdraw(self, prompt_id: str) -> None:
        """Keep nothing more of what was confirmed: whoever waited for it waits no more."""

    def stop(self, stop: Stop) -> None:
        """Tell all workers what is to be cancelled."""

    def died(self, error: BaseException) -> str:
        """Who died, where *error* says that workers died and a run may be handed out again; empty where it doesn't."""

    def look(self) -> None:
        """Ask whether anything goes on; `trouble` is the answer, which comes later."""

    def close(self) -> None:
        """Leave nothing behind. The workers stay."""


class PoolEngine:
    """An executor of this machine, of threads or processes: what workers tell goes through a folder.

    An executor whose workers are elsewhere works too: where a worker has no such folder, what it tells comes with the
    run's end, and it is not told to stop.
    """

    window = WINDOW
    trouble = ""

    def __init__(self, executor: Executor) -> None:
        self.shown = type(executor).__name__
        self._executor = executor
        self._folder = tempfile.mkdtemp(prefix="comfyreport-fleet-")
        self._channel = FolderChannel(self._folder)

    def submit(self, assignment: Assignment) -> Future[Outcome]:
        """Hand it out as soon as a worker is free."""
        return self._executor.submit(perform_in_pool, replace(assignment, folder=self._folder))

    def receive(self) -> list[Message]:
        """What workers have told since the last time."""
        return self._channel.receive()

    def confirm(self, prompt_id: str) -> None:
        """Let a worker submit its prompt."""
        self._channel.confirm(prompt_id)

    def withdraw(self, prompt_id: str) -> None:
        """Nothing: what is kept is in the folder."""

    def stop(self, stop: Stop) -> None:
        """Tell all workers what is to be cancelled."""
        self._channel.ask_to_stop(stop)

    def died(self, error: BaseException) -> str:
        """Nobody: a pool of which one process dies is broken as a whole, and takes nothing more."""
        return ""

    def look(self) -> None:
        """Nothing is known."""

    def close(self) -> None:
        """Remove the folder. The executor stays: whoever made it shuts it down."""
        shutil.rmtree(self._folder, ignore_errors=True)


def perform_in_pool(assignment: Assignment) -> Outcome:
    """Make the run, on whatever thread or process of a pool."""
    channel = FolderChannel(assignment.folder, assignment.index)
    return perform(assignment, channel, f"{platform.node()}-{os.getpid()}")
