"""What travels between a command and its workers: a run that is asked for, what is told of it, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from comfyreport._version import __version__
from comfyreport.events import Event, RunFinished
from comfyreport.jobs.job import Job
from comfyreport.timing import Timing


class SentFile(NamedTuple):
    """A file for a loader: `path` is relative to the folder of the run, in which the worker writes it."""

    path: str
    data: bytes


@dataclass(frozen=True)
class Note:
    """Where an attempt at a run is, for the next one: its prompt, on which server, by which worker of which machine."""

    server: str
    prompt_id: str
    client_id: str
    worker: str = ""
    host: str = ""


@dataclass(frozen=True, repr=False)
class Assignment:
    """One run for a worker, whole: nothing of it is read on the machine of the command.

    `command` tells the runs of one command from those of others. `job` holds credentials, so none of this is ever
    shown. `note`: an earlier attempt, whose prompt is looked for first. `folder`: where workers of this machine leave
    what they tell, if they do.
    """

    command: str
    index: int
    job: Job
    timing: Timing
    files: tuple[SentFile, ...] = ()
    note: Note | None = None
    folder: str = ""
    comfyreport: str = __version__

    def __repr__(self) -> str:
        return f"<run {self.index}>"

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(len(file.data) for file in self.files)


@dataclass(frozen=True, repr=False)
class Message:
    """What a worker tells while it makes a run: `number` counts from 1 in each attempt.

    `sent`: seconds since the epoch on the clock of the worker. `note` is there as soon as the attempt has begun.
    """

    command: str
    index: int
    attempt: str
    number: int
    worker: str
    sent: float
    events: tuple[Event, ...] = ()
    note: Note | None = None


@dataclass(frozen=True, repr=False)
class Outcome:
    """What came of an attempt: the run's end, and the outputs that are sent back, by their place among `outputs`.

    `messages` are those that could not be told before; `told` is how many there were in all.
    """

    attempt: str
    worker: str
    told: int
    result: RunFinished
    files: tuple[tuple[int, bytes], ...] = ()
    messages: tuple[Message, ...] = ()

    def __repr__(self) -> str:
        return f"<outcome: {self.result.status}>"
