"""Many runs on many servers as one: how many are done, what each server does, and when all will be over. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from comfyreport import events as ev
from comfyreport.events import NodeView, RunView, TimeLeft
from comfyreport.render.formats import format_steps
from comfyreport.render.runs import describe_inputs
from comfyreport.render.wording import summarize_result
from comfyreport.text import printable

MAX_FAILURES = 20

_TITLE = 60
_REASON = 300


class RunRow(NamedTuple):
    """A run that is open, for a line: `doing` says what it does; `seconds_left` is None without an estimate."""

    run_index: int | None
    status: str
    doing: str
    fraction: float
    seconds_left: float | None


class ServerRow(NamedTuple):
    """A server and the runs there: those that run, then those that wait.

    `done` counts the runs that ended there, and `average` is how many seconds one took, without the queue.
    """

    server: str
    runs: tuple[RunRow, ...]
    done: int
    average: float | None

    @property
    def throughput(self) -> float | None:
        """Runs a second, while it works; None before one has ended there."""
        return 1 / self.average if self.average else None


class FailedRun(NamedTuple):
    """A run that was no success: why, and which inputs it had, each on one line."""

    run_index: int | None
    status: str
    reason: str
    inputs: str


class _Server:
    """What is known of a server: how many runs ended there, and the seconds of those that ran."""

    def __init__(self) -> None:
        self.done = self.timed = 0
        self.seconds = 0.0

    @property
    def average(self) -> float | None:
        return self.seconds / self.timed if self.timed else None


class Fleet:
    """The runs of a command by its events; what is kept grows with open runs and servers alone.

    A reporter hands it the events that it gets, with their `run`: `stream_started`, `run_queued`, `run_finished` and
    `warning` must be among them. The others may be left out.

    `total` is how many runs were announced, of `planned` in all where a command goes on; `done` is how many have ended
    in whatever way, `stopped` how many of these somebody has stopped, `failed` how many were no success without that,
    `failures` the first twenty of them. `elapsed` is the time of the newest event, in seconds.
    """

    def __init__(self) -> None:
        self.total = self.planned = 0
        self.done = self.failed = self.stopped = 0
        self.failures: list[FailedRun] = []
        self.elapsed = 0.0
        self._runs: dict[int | None, RunView] = {}
        self._servers: dict[str, _Server] = {}
        self._all = _Server()

    @property
    def several(self) -> bool:
        """Whether the command makes several runs, as far as is known."""
        return self.planned > 1

    @property
    def running(self) -> int:
        """How many runs a server works on."""
        return sum(run.status == "running" for run in self._runs.values())

    @property
    def queued(self) -> int:
        """How many runs wait in the queue of a server."""
        return len(self._runs) - self.running

    @property
    def average(self) -> float | None:
        """How many seconds a run took, without the queue; None before one has ended."""
        return self._all.average

    def apply(self, event: ev.Event, run: RunView) -> None:
        """Take one event in, and the view of its run."""
        self.elapsed = event.elapsed
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event, run)

    def servers(self, elapsed: float) -> list[ServerRow]:
        """What each server does at *elapsed* seconds, in the order in which they first had a run."""
        runs: dict[str, list[RunView]] = {name: [] for name in self._servers}
        for run in self._runs.values():
            runs.setdefault(run.server, []).append(run)
        rows = []
        for name, there in runs.items():
            there.sort(key=lambda run: run.status != "running")
            known = self._servers.get(name) or _Server()
            rows.append(ServerRow(name, tuple(_row(run, elapsed) for run in there), known.done, known.average))
        return rows

    def seconds_left(self, elapsed: float) -> float | None:
        """How many seconds all runs still take at *elapsed*; None without a basis, and when nothing is left.

        What is left to do, in runs, over the runs a second of the servers that are in use. A run takes what the ones
        that have ended took, on its server or at all; before any has, what is estimated of those that run.
        """
        running = [run for run in self._runs.values() if run.status == "running"]
        average = self.average or _expected(running, elapsed)
        left = max(self.total - self.done, len(self._runs))
        if not average or not left:
            return None
        waiting = float(left - len(running))
        longest = 0.0
        for run in running:
            rest = _rest(run, elapsed, self._usual(run.server, average))
            longest = max(longest, rest)
            waiting += min(1.0, rest / self._usual(run.server, average))
        servers = {run.server for run in self._runs.values()} or {""}
        rate = sum(1 / self._usual(server, average) for server in servers)
        return max(longest, waiting / rate)

    def time_left(self, elapsed: float) -> TimeLeft | None:
        """`seconds_left` as `describe_time_left` takes it."""
        seconds = self.seconds_left(elapsed)
        return None if seconds is None else TimeLeft(seconds, seconds, seconds)

    def _usual(self, server: str, otherwise: float) -> float:
        """How many seconds a run takes there."""
        known = self._servers.get(server)
        return (known and known.average) or otherwise

    def _stream_started(self, event: ev.StreamStarted, run: RunView) -> None:
        self.total = event.runs_total
        self.planned = event.runs_planned or event.runs_total

    def _run_queued(self, event: ev.RunQueued, run: RunView) -> None:
        self._runs[event.run_index] = run
        self._servers.setdefault(run.server, _Server())

    def _warning(self, event: ev.Warning, run: RunView) -> None:
        if event.code == "run_moved":
            # Where it goes isn't known before it is queued there.
            self._runs.pop(event.run_index, None)

    def _run_finished(self, event: ev.RunFinished, run: RunView) -> None:
        self._runs.pop(event.run_index, None)
        self.done += 1
        if event.status in ("cancelled", "detached"):
            self.stopped += 1
        elif event.exit_code:
            self.failed += 1
            if len(self.failures) < MAX_FAILURES:
                took = max(0.0, event.seconds - (event.queue_seconds or 0.0))
                told = summarize_result(replace(event, seconds=took, queue_seconds=None), hints=False)
                reason = printable(told, _REASON)
                failure = FailedRun(event.run_index, printable(event.status), reason, describe_inputs(event.inputs))
                self.failures.append(failure)
        known = self._servers.get(run.server)
        for each in (self._all, *([known] if known else ())):
            each.done += 1
            if event.status in ("success", "partial"):
                each.timed += 1
                each.seconds += max(0.0, event.seconds - (event.queue_seconds or 0.0))


_HANDLERS: dict[type[ev.Event], Callable[[Fleet, Any, RunView], None]] = {
    ev.StreamStarted: Fleet._stream_started,
    ev.RunQueued: Fleet._run_queued,
    ev.Warning: Fleet._warning,
    ev.RunFinished: Fleet._run_finished,
}


def _expected(running: Iterable[RunView], elapsed: float) -> float | None:
    """How many seconds those that run are expected to take in all, on average; None where there is no estimate."""
    wholes = [
        left.seconds + elapsed - run.started_at
        for run in running
        if run.started_at is not None and (left := run.eta_at(elapsed)) is not None
    ]
    return sum(wholes) / len(wholes) if wholes else None


def _rest(run: RunView, elapsed: float, usual: float) -> float:
    """How many seconds *run* still takes, by its own estimate, else by what is *usual*."""
    left = run.eta_at(elapsed)
    if left is not None:
        return left.seconds
    return max(0.0, usual - (elapsed - (elapsed if run.started_at is None else run.started_at)))


def _row(run: RunView, elapsed: float) -> RunRow:
    left = None if run.connection == "lost" else run.eta_at(elapsed)
    return RunRow(run.run_index, run.status, _doing(run), run.fraction, None if left is None else left.seconds)


def _doing(run: RunView) -> str:
    if run.connection in ("lost", "polling"):
        return {"lost": "connection lost", "polling": "polling"}[run.connection]
    if run.status != "running":
        return f"{run.position} before it" if run.position else "in the queue"
    with_bars = [node for node in run.active if node.step is not None]
    node: NodeView | None = next(reversed(with_bars or list(run.active)), None)
    if node is None:
        return "finishing" if 0 < run.total <= run.done else "starting" if not run.done else "working"
    title = printable(node.title, _TITLE)
    if node.step is None or node.max_steps is None:
        return title
    return f"{title} {format_steps(node.step, node.max_steps)}"
