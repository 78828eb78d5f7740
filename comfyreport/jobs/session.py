"""A session: one stream of events from `stream_started` to `stream_finished`, whatever happens in between."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from comfyreport import events as ev
from comfyreport._version import __version__
from comfyreport.errors import ReporterError
from comfyreport.events import Instant
from comfyreport.files import Claims
from comfyreport.jobs.run_context import RunContext
from comfyreport.reporting.delivery import Delivery
from comfyreport.reporting.plugins import Plugins, StandardStreams
from comfyreport.reporting.streams import stderr, stdout
from comfyreport.timing import Timing


class Session(RunContext):
    """The runs of one command, and the reporters that are told of them.

    :param complain: writes one line to stderr; may block.
    :param on_watch: is called whenever reporters are looked after, on the thread that does the work.
    :param runs_total: how many runs there will be, of *runs_planned* where an earlier command has made some.

    `earlier` is the status of a run of an earlier command that this one goes on with, if one has failed.
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
        on_watch: Callable[[], None] = lambda: None,
        runs_total: int = 1,
        runs_planned: int | None = None,
    ) -> None:
        self.sequence = itertools.count(1)
        self.timing = timing
        self.results: list[ev.RunFinished] = []
        self.hurry = False
        self.streams = plugins.streams
        self.claims = plugins.destinations.claims
        began = time.monotonic()
        self._elapsed: Callable[[], float] = lambda: time.monotonic() - began
        self._failed_beside_run = False
        self.earlier: str | None = None
        self._on_watch = on_watch
        # A copy: one that is loaded too late, behind a signal, belongs to no session.
        reporters = tuple(plugins.reporters)
        self._delivery = Delivery(reporters, timing=timing, complain=complain, clock=self.elapsed, trace=trace)
        self._start = ev.StreamStarted(
            seq=next(self.sequence),
            time=round(time.time(), 6),
            elapsed=0.0,
            comfyreport=__version__,
            command=command,
            server=server,
            reporters=tuple(reporter.name for reporter in reporters),
            runs_total=runs_total,
            runs_planned=runs_planned,
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
        self._on_watch()
        return self._delivery.watch()

    def publish(self, events: Sequence[ev.Event]) -> None:
        """Tell *events* to the reporters; returns at once."""
        self.results += [_kept(event) for event in events if isinstance(event, ev.RunFinished)]
        self._delivery.publish(events)

    def complain(self, line: str) -> None:
        """Write one line to stderr, escapes for what no terminal should see; one that nobody reads is given up soon."""
        self._delivery.complain(line)

    def announce(self, line: str) -> None:
        """Write one line to stderr as `complain` does, without waiting for it."""
        self._delivery.announce(line)

    def fail_beside_run(self, what: str) -> None:
        """Tell what was asked for beside the run and can't be had: exit code 5 if the run itself was fine."""
        self._failed_beside_run = True
        self.complain(what)

    def finish(self, before_end: Callable[[], None] = lambda: None) -> int:
        """Close the reporters, tell the end of the stream; the process's exit code.

        `reporter_failures` holds those of the reporters that don't carry the stream; the ones that do are
        closed behind it.

        :param before_end: writes what else there is to write, before the exit code is told.
        """
        self._delivery.close(everybody=False, hurry=lambda: self.hurry)
        before_end()
        failed = [result for result in self.results if result.exit_code]
        now = self.clock()
        code = self._exit_code()
        last = ev.StreamFinished(
            seq=next(self.sequence),
            time=now.time,
            elapsed=now.elapsed,
            status=failed[0].status if failed else self.earlier or "success",
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
        code = code or ev.EXIT_CODES.get(self.earlier or "", 0)
        return code or (ev.EXIT_REPORTER_FAILED if self._failed_beside_run or self._delivery.failures() else 0)


def _kept(result: ev.RunFinished) -> ev.RunFinished:
    """*result* as it is kept until the end: of many runs, without what is told of nodes, for there may be thousands."""
    if result.run_index is None:
        return result
    return replace(result, executed=(), cached=(), node_seconds={}, node_times=(), output_nodes=None, inputs=None)


def complain_to_stderr(line: str) -> None:
    """Write one line of comfyreport's own to stderr, if there is one."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        stderr.write(f"comfyreport: {line}\n")
        stderr.flush()


class ReporterLoading:
    """Loads the reporters of a program, by names or as objects. A KeyboardInterrupt costs one alone: `go_on` again.

    :param reporters: None for what *quiet* and *json_progress* stand for: errors only, JSON lines, else the console.
    """

    def __init__(
        self, reporters: Iterable[object] | None, *, quiet: bool, json_progress: bool, claims: Claims | None = None
    ) -> None:
        if isinstance(reporters, str):
            raise ReporterError("reporters is a text", hint="give a list: reporters=['console']")
        self.plugins = Plugins(StandardStreams(stdout, stderr), claims=claims)
        default = "jsonl" if json_progress else "quiet" if quiet else "console"
        wanted: list[object] = [default] if reporters is None else list(reporters)
        if wanted and all(isinstance(each, str) and each.startswith("+") for each in wanted):
            wanted = [default, *wanted]
        self._to_plan = deque(wanted)
        self._to_build: deque[Callable[[], None]] = deque()

    def go_on(self) -> None:
        """Load those that aren't yet; ReporterError if one can't be loaded or used."""
        while self._to_plan:
            reporter = self._to_plan.popleft()
            if isinstance(reporter, str):
                self._to_build.append(self.plugins.plan_spec(reporter.removeprefix("+")))
            else:
                self._to_build.append(partial(self.plugins.add_object, reporter))
        # None is built before all are known: building opens files, and two may want the same.
        while self._to_build:
            self._to_build.popleft()()
