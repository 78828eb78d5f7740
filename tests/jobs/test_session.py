"""The session: one stream from `stream_started` to `stream_finished`, its exit code, and what failed of it."""

from __future__ import annotations

import itertools

import pytest

from comfyreport import events as ev
from comfyreport._version import __version__
from comfyreport.errors import ReporterError, UnreachableError, WorkflowError, describe_fault
from comfyreport.jobs.session import Session
from comfyreport.reporting.plugins import Plugins
from tests.packages import make_plugins
from tests.reporting.deliveries import QUICK, HookCall, Spy, delivery_threads, gate, spy

EVENT = "comfyreport_event"
CLOSE = "comfyreport_close"


class Running:
    """A session, the hook calls of its first reporter, and its complaints."""

    def __init__(self, *reporters: Spy) -> None:
        self.hook_calls: list[HookCall] = []
        self.complaints: list[str] = []
        self.plugins: Plugins = make_plugins()
        for reporter in (spy("stream", self.hook_calls, {EVENT, CLOSE}), *reporters):
            self.plugins.add_object(reporter, reporter._name)
        self.session = Session(
            self.plugins,
            command="run",
            server="http://127.0.0.1:8188",
            timing=QUICK,
            complain=self.complaints.append,
        )

    def end_run(self, status: ev.Status = "success") -> None:
        """Publish the end of a run."""
        now = self.session.clock()
        self.session.publish(
            [
                ev.RunFinished(
                    seq=next(self.session.sequence),
                    time=now.time,
                    elapsed=now.elapsed,
                    status=status,
                    exit_code=ev.EXIT_CODES[status],
                )
            ]
        )

    @property
    def events(self) -> list[ev.AnyEvent]:
        """The events, once the session is finished; the stream's promises hold."""
        events = [call.about for call in self.hook_calls if call.hook == EVENT]
        assert isinstance(events[0], ev.StreamStarted)
        assert isinstance(events[-1], ev.StreamFinished)
        ends = (ev.StreamStarted, ev.StreamFinished)
        assert not any(isinstance(event, ends) for event in events[1:-1])
        assert all(later.seq > earlier.seq for earlier, later in itertools.pairwise(events))
        assert all(later.elapsed >= earlier.elapsed for earlier, later in itertools.pairwise(events))
        return events

    @property
    def last(self) -> ev.StreamFinished:
        """The last event."""
        last = self.events[-1]
        assert isinstance(last, ev.StreamFinished)
        return last


def failing(name: str, hook: str) -> Spy:
    def act(called: str, about: object) -> None:
        if called == hook:
            raise ValueError("no")

    return spy(name, [], {hook, CLOSE}, act)


def test_a_run_that_is_fine() -> None:
    running = Running(spy("other", [], {CLOSE}))
    running.end_run()
    assert running.session.finish() == 0
    first = running.events[0]
    assert isinstance(first, ev.StreamStarted)
    assert (first.comfyreport, first.command, first.server) == (__version__, "run", "http://127.0.0.1:8188")
    assert (first.reporters, first.runs_total, first.elapsed) == (("stream", "other"), 1, 0.0)
    last = running.last
    assert (last.status, last.exit_code, last.runs, last.failed, last.reporter_failures) == ("success", 0, 1, 0, ())
    assert running.complaints == []
    assert delivery_threads() == []


@pytest.mark.parametrize("status", sorted(ev.EXIT_CODES))
def test_the_stream_ends_with_the_runs_status(status: ev.Status) -> None:
    running = Running()
    running.end_run(status)
    code = ev.EXIT_CODES[status]
    assert running.session.finish() == code
    assert (running.last.status, running.last.exit_code, running.last.failed) == (status, code, int(code != 0))


def test_of_several_runs_the_first_that_is_no_success_counts() -> None:
    running = Running()
    for status in ("success", "timeout", "error"):
        running.end_run(status)
    assert running.session.finish() == 7
    assert (running.last.status, running.last.runs, running.last.failed) == ("timeout", 3, 2)


def test_without_a_run() -> None:
    running = Running()
    assert running.session.finish() == 0
    assert (running.last.status, running.last.runs) == ("success", 0)


@pytest.mark.parametrize("hook", ["comfyreport_run_finished", CLOSE])
def test_a_reporter_that_failed_is_told_at_the_end_and_costs_code_5(hook: str) -> None:
    running = Running(failing("bad", hook))
    running.end_run()
    assert running.session.finish() == ev.EXIT_REPORTER_FAILED == 5
    assert (running.last.status, running.last.exit_code) == ("success", 5)
    assert running.last.reporter_failures == (f"bad: {hook} raised ValueError: no",)
    assert running.complaints == [f"reporter bad failed and was switched off: {hook} raised ValueError: no"]


def test_code_5_is_for_runs_that_were_fine() -> None:
    running = Running(failing("bad", CLOSE))
    running.end_run("lost")
    assert running.session.finish() == 6
    assert (running.last.exit_code, len(running.last.reporter_failures)) == (6, 1)


@pytest.mark.parametrize("hook", ["comfyreport_stream_finished", CLOSE])
def test_a_reporter_that_fails_at_the_very_end_still_costs_code_5(hook: str) -> None:
    def act(called: str, about: object) -> None:
        if called == hook:
            raise ValueError("no")

    running = Running(spy("bad", [], {"comfyreport_stream_finished", CLOSE}, act))
    running.end_run()
    assert running.session.finish() == 5
    assert running.last.exit_code == 0
    assert len(running.complaints) == 1


@pytest.mark.parametrize(
    ("error", "status", "code", "retryable"),
    [
        (WorkflowError("no outputs", hint="export it"), "usage", "workflow", False),
        (ReporterError("unknown", hint="try jsonl"), "usage", "reporter", False),
        (UnreachableError("nobody listens", retryable=True), "unreachable", "refused", True),
        (UnreachableError("a login page", code="auth"), "unreachable", "auth", False),
        (ZeroDivisionError("division by zero"), "internal", "internal", False),
    ],
)
def test_what_goes_wrong_before_a_run_is_its_end(error: Exception, status: str, code: str, retryable: bool) -> None:
    running = Running()
    running.session.fail(error)
    assert running.session.finish() == ev.EXIT_CODES[status]
    (end,) = (event for event in running.events if isinstance(event, ev.RunFinished))
    assert (end.status, end.exit_code, end.submitted, end.retryable) == (status, ev.EXIT_CODES[status], "no", retryable)
    assert end.error is not None
    assert end.error.code == code
    assert [line.partition(":")[0] for line in running.complaints] == (["internal error"] if code == "internal" else [])


def test_a_fault_is_described_on_one_line_with_its_place() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        text = describe_fault(error)
    assert text.startswith("ValueError: two lines at test_session.py:")


def test_the_end_does_not_wait_for_a_user_in_a_hurry() -> None:
    with gate() as opened:
        running = Running(spy("stuck", [], {"comfyreport_run_finished"}, lambda *_: opened.wait()))
        running.end_run()
        running.session.leave()
        assert running.session.finish() == 0
    assert isinstance(running.hook_calls[-2].about, ev.StreamFinished)
    assert running.hook_calls[-1].hook == CLOSE


def test_another_clock_tells_the_time() -> None:
    running = Running()
    running.session.use_clock(lambda: 12.3456789)
    assert running.session.elapsed() == 12.3456789
    assert running.session.clock().elapsed == 12.345679
    running.session.finish()
    assert running.last.elapsed == 12.345679
