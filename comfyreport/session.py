"""A session: one stream of events from `stream_started` to `stream_finished`, whatever happens in between."""

from __future__ import annotations

import itertools
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from comfyreport import events as ev
from comfyreport._version import __version__
from comfyreport.delivery import Delivery
from comfyreport.errors import ComfyReportError, UnreachableError, UsageError
from comfyreport.events import ErrorInfo, Instant
from comfyreport.plugins import Plugins
from comfyreport.run import Run
from comfyreport.timing import Timing
from comfyreport.verdict import Verdict, cancelled


class Session:
    """The runs of one command, and the reporters that are told of them.

    :param complain: writes one line to stderr.

    `hurry` is set when the user wants to leave without waiting for reporters.
    """

    def __init__(
        self,
        plugins: Plugins,
        *,
        command: str,
        server: str,
        timing: Timing,
        complain: Callable[[str], None],
        trace: Callable[[str, str, float], None] | None = None,
        runs_total: int = 1,
    ) -> None:
        self.sequence = itertools.count(1)
        self.timing = timing
        self.results: list[ev.RunFinished] = []
        self.hurry = False
        began = time.monotonic()
        self._elapsed: Callable[[], float] = lambda: time.monotonic() - began
        self.complain = complain
        self._delivery = Delivery(plugins.reporters, timing=timing, complain=complain, clock=self.elapsed, trace=trace)
        self._start = ev.StreamStarted(
            seq=next(self.sequence),
            time=round(time.time(), 6),
            elapsed=0.0,
            comfyreport=__version__,
            command=command,
            server=server,
            reporters=tuple(reporter.name for reporter in plugins.reporters),
            runs_total=runs_total,
        )
        self.publish([self._start])

    def elapsed(self) -> float:
        """Monotonic seconds since the stream started."""
        return self._elapsed()

    def use_clock(self, elapsed: Callable[[], float]) -> None:
        """Let another clock tell the seconds since the stream started: a replay's."""
        self._elapsed = elapsed

    def leave(self) -> None:
        """Wait for reporters no longer."""
        self.hurry = True

    def clock(self) -> Instant:
        """The time now, on the clock of this stream."""
        return Instant(round(time.time(), 6), round(self._elapsed(), 6))

    def wants(self, event_type: str) -> bool:
        """Whether a reporter implements the hook of *event_type*."""
        return self._delivery.wants(event_type)

    def watch(self) -> list[str]:
        """Look after the reporters; returns what to warn of."""
        return self._delivery.watch()

    def publish(self, events: Sequence[ev.Event]) -> None:
        """Tell *events* to the reporters; returns at once."""
        self.results += [event for event in events if isinstance(event, ev.RunFinished)]
        self._delivery.publish(events)

    def fail(self, error: BaseException, run: Run | None = None) -> None:
        """Tell the end of a run that *error* ended, of whatever kind it is."""
        run = run or Run("", sequence=self.sequence)
        run.verdict = verdict_of(error, run)
        self.publish(run.finish(self.clock()))
        if run.verdict.status == "internal":
            self.complain(f"internal error: {describe_fault(error)}; please report this as a fault of comfyreport")

    def finish(self) -> int:
        """Close the reporters, tell the end of the stream; the process's exit code.

        `reporter_failures` holds those of the reporters that don't carry the stream; the ones that do are
        closed behind it.
        """
        self._delivery.close(everybody=False, hurry=lambda: self.hurry)
        failed = [result for result in self.results if result.exit_code]
        now = self.clock()
        code = self._exit_code()
        last = ev.StreamFinished(
            seq=next(self.sequence),
            time=now.time,
            elapsed=now.elapsed,
            status=failed[0].status if failed else "success",
            exit_code=code,
            runs=len(self.results),
            failed=len(failed),
            reporter_failures=self._delivery.failures(),
        )
        self._delivery.publish([last])
        self._delivery.close(everybody=True, hurry=lambda: self.hurry)
        return self._exit_code()

    def _exit_code(self) -> int:
        code = next((result.exit_code for result in self.results if result.exit_code), 0)
        return code or (ev.EXIT_REPORTER_FAILED if self._delivery.failures() else 0)


def verdict_of(error: BaseException, run: Run) -> Verdict:
    """The end of a run that an exception ended."""
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
    info = ErrorInfo(code="internal", message=describe_fault(error), hint="please report this")
    sent = run.sent
    return Verdict("internal", info, "unknown" if sent else "none", "unknown" if sent else "no")


def describe_fault(error: BaseException) -> str:
    """An unexpected exception on one line, with the place where it came up."""
    frames = traceback.extract_tb(error.__traceback__ or sys.exc_info()[2])
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{place}"
