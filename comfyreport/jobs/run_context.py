"""What one run needs of the session that it belongs to, be it the only run or one of many at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count

from comfyreport import events as ev
from comfyreport.errors import (
    ComfyReportError,
    UnreachableError,
    UsageError,
    describe_fault,
    machine_limit,
)
from comfyreport.events import ErrorInfo, Instant
from comfyreport.files import Claims
from comfyreport.reporting.plugins import StandardStreams
from comfyreport.run import Run
from comfyreport.run.verdict import Verdict, cancelled
from comfyreport.timing import Timing


class RunContext(ABC):
    """Where a run's events go, and what it shares with the others of its command.

    `results` has the ends that were told; `run_index` is None where the command makes one run. `hurry` is set when the
    user wants to leave without waiting for reporters.
    """

    sequence: Iterator[int]
    timing: Timing
    results: list[ev.RunFinished]
    streams: StandardStreams
    claims: Claims
    run_index: int | None = None
    hurry: bool = False

    @abstractmethod
    def clock(self) -> Instant:
        """The time now, on the clock of this stream."""

    @abstractmethod
    def wants(self, event_type: str) -> bool:
        """Whether a reporter implements the hook of *event_type*."""

    @abstractmethod
    def watch(self) -> list[str]:
        """Look after the reporters; returns what to warn of."""

    @abstractmethod
    def publish(self, events: Sequence[ev.Event]) -> None:
        """Tell *events* to the reporters; returns at once."""

    @abstractmethod
    def complain(self, line: str) -> None:
        """Write one line to stderr, escapes for what no terminal should see; one that nobody reads is given up soon."""

    @abstractmethod
    def fail_beside_run(self, what: str) -> None:
        """Tell what was asked for beside the run and can't be had: exit code 5 if the run itself was fine."""

    def fail(self, error: BaseException, run: Run | None = None) -> None:
        """Tell the end of a run that *error* ended, of whatever kind it is."""
        run = run or Run("", sequence=self.sequence, run_index=self.run_index)
        run.verdict = verdict_of(error, run)
        self.publish(run.finish(self.clock()))
        if run.verdict.error is not None and run.verdict.error.code == "internal":
            self.complain(f"internal error: {describe_fault(error)}; please report this as a fault of comfyreport")


class SharedContext(RunContext):
    """One of many runs in a session, on a thread of its own: its end is kept for whoever decides what becomes of it.

    :param session: the session; what isn't this run's alone is asked of it.
    :param publish: takes the events of all runs, from any thread; this run's end isn't among them.
    :param timing: the waits of this run.
    :param server: is told with the events that have a place for it.
    """

    def __init__(
        self,
        session: RunContext,
        publish: Callable[[Sequence[ev.Event]], None],
        *,
        run_index: int,
        server: str,
        timing: Timing,
    ) -> None:
        self.sequence = count(1)
        self.timing = timing
        self.results = []
        self.streams = session.streams
        self.claims = session.claims
        self.run_index = run_index
        self.server = server
        self._session = session
        self._publish = publish

    def clock(self) -> Instant:
        """The time now, on the clock of the session."""
        return self._session.clock()

    def wants(self, event_type: str) -> bool:
        """Whether a reporter implements the hook of *event_type*."""
        return self._session.wants(event_type)

    def watch(self) -> list[str]:
        """Nothing: the session's own thread looks after the reporters."""
        return []

    def publish(self, events: Sequence[ev.Event]) -> None:
        """Pass *events* on, but for the run's end."""
        passed: list[ev.Event] = []
        for event in events:
            if isinstance(event, ev.RunFinished):
                self.results.append(replace(event, server=self.server))
            else:
                passed.append(replace(event, server=self.server) if isinstance(event, ev.RunQueued) else event)
        if passed:
            self._publish(passed)

    def complain(self, line: str) -> None:
        """Write one line to stderr, with the run's number."""
        self._session.complain(f"run {self.run_index}: {line}")

    def fail_beside_run(self, what: str) -> None:
        """Tell what was asked for beside the run and can't be had."""
        self._session.fail_beside_run(what)


def verdict_of(error: BaseException, run: Run) -> Verdict:
    """The end of a run that an exception ended."""
    limit = machine_limit(error)
    if limit is not None:
        return _broken_off(limit.code, limit.message, limit.hint, run)
    if isinstance(error, ComfyReportError):
        info = ErrorInfo(code=error.code, message=error.message, hint=error.hint)
        if isinstance(error, UnreachableError):
            return Verdict("unreachable", info, "none", "no", error.retryable)
        if isinstance(error, UsageError):
            return Verdict("usage", info, "none", "no")
    if isinstance(error, KeyboardInterrupt):
        if run.sent:
            return cancelled("interrupted by the user", "unknown", "unknown")
        return cancelled("cancelled by the user before anything was submitted", "none", "no")
    return _broken_off("internal", describe_fault(error), "please report this", run)


def _broken_off(code: str, message: str, hint: str, run: Run) -> Verdict:
    info = ErrorInfo(code=code, message=message, hint=hint)
    return Verdict("internal", info, "unknown" if run.sent else "none", "unknown" if run.sent else "no")
