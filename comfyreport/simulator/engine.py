"""The server's state and its one worker: queue, history, cache, stored files. Knows no HTTP and no sockets."""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from .faults import Forgotten, Script
from .media import Picture, clip
from .nodes import Result, session_letters, split_prefix
from .run import Job, Run, Wire
from .validation import Verdict, validate

HISTORY_LIMIT = 1000
"""Entries; the oldest goes first (10,000 in a real server)."""
HISTORY_SECONDS = 0.02
"""Between execution_success and the entry in history; the real server leaves such a gap, which a client
that asks at once hits half of the time."""
SUCCESS = "success"
"""The moment between a run's last own message and its entry in history."""
NEXT = "next"
"""The moment between a run's very last message and the start of the next prompt: none is running then (recording g)."""


@dataclass
class Hold:
    """A point where the worker waits: when node `moment` has told `step` (0: that it started). See `Simulator.hold`."""

    moment: str
    step: float
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        self.released.set()


@dataclass(slots=True)
class Stored:
    """A file of the server: bytes, or a picture that is made when it is asked for."""

    content: bytes | Picture

    def data(self) -> bytes:
        return self.content.png() if isinstance(self.content, Picture) else self.content


class Engine:
    def __init__(self, script: Script, *, speed: float, previews: bool, files: Collection[str] | None) -> None:
        self.script = script
        script.engine = self
        self.speed = speed
        self.previews = previews
        self.given = None if files is None else set(files)
        self.session = session_letters()
        self.wire: Wire
        self.pending: list[Job] = []
        self.running: Run | None = None
        self.client: str | None = None
        self.history: dict[str, Any] = {}
        self.cache: dict[str, Result] = {}
        self.stored: dict[tuple[str, str, str], Stored] = {}
        self.holds: list[Hold] = []
        self._counters: dict[tuple[str, str], int] = {}
        self._number = 0
        self._more = asyncio.Event()

    # What HTTP asks for

    def number(self, front: bool) -> int:
        """Every POST uses one up, accepted or not (recording e)."""
        number, self._number = self._number, self._number + 1
        return -number if front else number

    def validate(self, prompt: Any, targets: Collection[str] | None) -> Verdict:
        uploads = {name for folder, _, name in self.stored if folder == "input"}
        return validate(prompt, None if self.given is None else self.given | uploads, targets)

    def put(self, job: Job) -> None:
        self.script.take(job.prompt_id, behind=bool(self.pending) or self.running is not None)
        heapq.heappush(self.pending, job)
        self._more.set()
        self._tell_status()

    def delete(self, prompt_ids: Collection[str]) -> None:
        """Takes prompts out of the queue; the running one isn't touched."""
        for prompt_id in prompt_ids:
            job = next((job for job in self.pending if job.prompt_id == prompt_id), None)
            if job is not None:
                if len(self.pending) == 1:
                    self._tell_status(waiting=0)  # the last one is told twice
                self.pending.remove(job)
                heapq.heapify(self.pending)
                self._tell_status()

    def forget(self) -> None:
        """Loses the prompt that waits, else the one that runs; no message but a status tells of it."""
        if self.pending:
            self.delete([self.pending[0].prompt_id])
        elif self.running is not None:
            self.running.forgotten = True

    def fate(self, prompt_id: str) -> str:
        """Where a prompt is: `pending`, `running`, `nowhere`, or history's end: `success`, `error`, `interrupted`."""
        if prompt_id in self.history:
            status = self.history[prompt_id]["status"]
            return _end(status["messages"], status["status_str"])
        if self.running is not None and self.running.job.prompt_id == prompt_id:
            return "running"
        return "pending" if any(job.prompt_id == prompt_id for job in self.pending) else "nowhere"

    def clear(self) -> None:
        self.pending.clear()
        self._tell_status()

    def interrupt(self, prompt_id: str | None) -> None:
        """Stops the running prompt; one that waits can't be interrupted, nor one that comes later."""
        run = self.running
        if run is not None and prompt_id in (None, run.job.prompt_id):
            run.interrupted = True

    def queue(self) -> dict[str, Any]:
        running = [] if self.running is None else [self.running.job.told()]
        return {"queue_running": running, "queue_pending": [job.told() for job in self.pending]}

    def status(self, waiting: int | None = None) -> dict[str, Any]:
        waiting = len(self.pending) if waiting is None else waiting
        return {"exec_info": {"queue_remaining": waiting + (self.running is not None)}}

    def shown(self, client: str) -> str | None:
        """The display id that a reconnecting client is told, if its prompt is the running one."""
        run = self.running
        return run.shown if run is not None and run.job.client == client else None

    # The worker

    async def work(self) -> None:
        """Runs what is in the queue, for ever."""
        while True:
            while not self.pending:
                self._more.clear()
                await self._more.wait()
            run = self.running = Run(heapq.heappop(self.pending), self.cache, self)
            self._tell_status()
            remembered = await self._execute(run)
            self.running = None
            self._tell_status()
            if remembered and run.job.client is not None:
                data = {"node": None, "prompt_id": run.job.prompt_id}
                self.wire.send("executing", data, run.job.client)
            await self.pause(NEXT, 0)

    async def _execute(self, run: Run) -> bool:
        """Runs one prompt until history has it; False if it gets lost."""
        try:
            status = await run.execute()
            self.script.came_to(run.job.prompt_id, _end(run.messages, status))
            await self.pause(SUCCESS, 0)
            await self.wait(HISTORY_SECONDS)
            await self.script.finish()
            run.check_forgotten()
        except Forgotten:
            return False
        self._remember(run, status)
        return True

    def _remember(self, run: Run, status: str) -> None:
        while len(self.history) >= HISTORY_LIMIT:
            del self.history[next(iter(self.history))]
        self.history[run.job.prompt_id] = {
            "prompt": run.job.told(),
            "outputs": run.outputs,
            "status": {"status_str": status, "completed": status == "success", "messages": run.messages},
            "meta": run.meta,
        }

    def _tell_status(self, waiting: int | None = None) -> None:
        self.wire.send("status", {"status": self.status(waiting)}, None)

    # What a run asks for

    def keep(self, prefix: str, suffix: str, picture: Picture | None, temporary: bool) -> dict[str, str]:
        """Stores a file under the next free name of its prefix."""
        folder = "temp" if temporary else "output"
        subfolder, start = split_prefix(prefix)
        count = self._counters[folder, prefix] = self._counters.get((folder, prefix), 0) + 1
        name = f"{start}_{count:05}_.{suffix}"
        self.stored[folder, subfolder, name] = Stored(picture or clip(suffix))
        return {"filename": name, "subfolder": subfolder, "type": folder}

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)
        await self.script.work()

    async def pause(self, moment: str, step: float) -> None:
        """Waits here if a hold or a fault says so; each hold works once."""
        await self._play(moment, step)
        hold = next((hold for hold in self.holds if (hold.moment, hold.step) == (moment, step)), None)
        if hold is None:
            return
        self.holds.remove(hold)
        hold.reached.set()
        while not hold.released.is_set():
            await asyncio.sleep(0.002)

    async def _play(self, moment: str, step: float) -> None:
        """Lets the faults of this moment begin."""
        run = self.running
        if moment == SUCCESS:
            self.script.reach("ending")
        elif run is not None and moment in run.nodes:
            await self.script.reach_node(run.nodes[moment]["class_type"], step)
            run.check_forgotten()


def _end(messages: list[list[Any]], status: str) -> str:
    """`success`, `error` or `interrupted`: history's status doesn't tell the last two apart."""
    return "interrupted" if any(kind == "execution_interrupted" for kind, _ in messages) else status
