"""A reporter that raises, or whose destination fails, hurts neither the run nor another reporter."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from comfyreport import events as ev
from comfyreport.reporting.hookspecs import hookimpl
from comfyreport.reporting.streams import Stream
from tests.packages import Packages, make_plugins
from tests.reporting.deliveries import (
    CLOSE,
    DELIVERED,
    EVENT,
    QUICK,
    STUCK,
    HookCall,
    Session,
    delivery_threads,
    events_of,
    gate,
    one_of_each,
    play,
    session_of,
    spy,
)
from tests.systems import needs_posix


def threads_are_gone() -> bool:
    return not delivery_threads()


# --- raising


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, MemoryError]
)
@pytest.mark.parametrize("hook", sorted(DELIVERED))
def test_a_reporter_that_raises_is_switched_off_and_named_and_the_others_go_on(
    hook: str, error: type[BaseException]
) -> None:
    hook_calls: list[HookCall] = []

    def fail(called: str, about: object) -> None:
        if called == hook:
            raise error("first line\nsecond line")

    reporters = spy("before", hook_calls), spy("bad", hook_calls, act=fail), spy("after", hook_calls)
    events = one_of_each()
    # Nothing is slow here but the machine.
    session = session_of(*reporters, timing=replace(QUICK, hook_limit=10.0, close_limit=10.0))
    session.delivery.publish(events[:-2])
    if hook == "comfyreport_tick":
        session.until(lambda: session.reporters[1].failure)
    session.delivery.publish(events[-2:])
    session.finish()
    reason = f"{hook} raised {error.__name__}: first line second line"
    assert session.complaints == [f"reporter bad failed and was switched off: {reason}"]
    assert session.delivery.failures() == (f"bad: {reason}",)
    for name in ("before", "after"):
        assert events_of(hook_calls, name) == events
        assert [call.hook for call in hook_calls if call.name == name][-1] == CLOSE
    calls = [call.hook for call in hook_calls if call.name == "bad"]
    assert calls[-1] == hook
    assert calls.count(hook) == 1 or hook == EVENT


def test_the_package_is_named(packages: Packages) -> None:
    packages.add(
        "bad",
        "from comfyreport import hookimpl\n@hookimpl\ndef comfyreport_run_started(): raise RuntimeError\n",
        {"worse": "bad"},
    )
    plugins = make_plugins()
    plugins.add_spec("worse")
    session = Session(plugins)
    session.delivery.publish(one_of_each())
    session.finish()
    assert session.complaints == [
        "reporter worse (bad 1.0) failed and was switched off: comfyreport_run_started raised RuntimeError"
    ]


def test_all_may_fail() -> None:
    def fail(hook: str, about: object) -> None:
        raise ValueError

    session = play(*(spy(name, [], act=fail) for name in "abc"), events=one_of_each())
    assert len(session.delivery.failures()) == len(session.complaints) == 3


def test_a_complaint_that_cannot_be_written_stops_nothing() -> None:
    hook_calls: list[HookCall] = []

    def fail(*args: object) -> None:
        raise OSError("stderr is gone")

    session = session_of(spy("bad", [], act=fail), spy("good", hook_calls))
    session.delivery._complain = fail
    session.delivery._trace = fail
    session.delivery.publish(one_of_each())
    session.finish()
    assert events_of(hook_calls, "good") == one_of_each()


class NoMessageError(Exception):
    """It can't tell its message."""

    def __str__(self) -> str:
        raise SystemExit("no")


def test_an_exception_without_a_message_is_a_failure_like_any_other() -> None:
    hook_calls: list[HookCall] = []

    def fail(hook: str, about: object) -> None:
        raise NoMessageError

    session = play(spy("bad", [], {EVENT}, fail), spy("good", hook_calls), events=one_of_each())
    reason = f"{EVENT} raised NoMessageError: (its message can't be told)"
    assert session.delivery.failures() == (f"bad: {reason}",)
    assert events_of(hook_calls, "good") == one_of_each()


@pytest.mark.usefixtures("held_time")
def test_an_exception_whose_message_hangs_is_a_stuck_reporter() -> None:
    hook_calls: list[HookCall] = []
    with gate() as opened:

        class EndlessError(Exception):
            def __str__(self) -> str:
                opened.wait()
                return ""

        def fail(hook: str, about: object) -> None:
            raise EndlessError

        session = session_of(spy("bad", [], {EVENT}, fail), spy("good", hook_calls), timing=STUCK)
        session.delivery.publish(one_of_each())
        session.finish()
    (failure,) = session.delivery.failures()
    assert failure.startswith(f"bad: did not return from {EVENT} within ")
    assert events_of(hook_calls, "good") == one_of_each()


def test_a_failure_is_reported_without_escape_sequences() -> None:
    def fail(hook: str, about: object) -> None:
        raise ValueError("\x1b[2J\x1b]0;owned\x07 \u202e")

    (complaint,) = play(spy("bad", [], {EVENT}, fail), events=one_of_each()).complaints
    assert complaint.endswith(f"{EVENT} raised ValueError: \\x1b[2J\\x1b]0;owned\\x07 \\u202e")


def test_an_internal_error_of_the_delivery_costs_one_event_and_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    hook_calls: list[HookCall] = []
    session = session_of(spy("a", hook_calls), spy("b", hook_calls))
    apply = session.delivery.views.last.apply

    def break_down(event: ev.Event) -> None:
        if isinstance(event, ev.RunStarted):
            raise LookupError("no such node")
        apply(event)

    monkeypatch.setitem(vars(session.delivery.views.last), "apply", break_down)
    session.delivery.publish(one_of_each())
    session.finish()
    (failure,) = session.delivery.failures()
    assert failure.startswith("comfyreport: internal error: LookupError: no such node at test_isolation.py:")
    assert session.complaints == [
        f"{failure.removeprefix('comfyreport: ')}; please report this as a fault of comfyreport"
    ]
    wanted = [event for event in one_of_each() if not isinstance(event, ev.RunStarted)]
    assert events_of(hook_calls, "a") == events_of(hook_calls, "b") == wanted
    assert threads_are_gone()


@pytest.mark.usefixtures("held_time")
@pytest.mark.parametrize("stuck", ["complaint", "trace", "release"])
def test_writes_that_nobody_reads_are_not_waited_for(stuck: str) -> None:
    hook_calls: list[HookCall] = []
    with gate() as opened:

        def fail(hook: str, about: object) -> None:
            raise ValueError

        class Terminal(Stream):
            def release(self) -> None:
                if stuck == "release":
                    opened.wait()

        timing = replace(STUCK, stderr_write=0.1)
        session = session_of(spy("bad", [], act=fail), spy("good", hook_calls), timing=timing)
        session.reporters[0].stream = Terminal(io.StringIO(), name="terminal")

        def hang(*words: object) -> None:
            opened.wait()

        if stuck == "complaint":
            session.delivery._complain = hang
        elif stuck == "trace":
            session.delivery._trace = hang
        session.delivery.publish(one_of_each())
        session.finish()
        assert events_of(hook_calls, "good") == one_of_each()
        assert [failure[:3] for failure in session.delivery.failures()] == ["bad"]


# --- destinations


@pytest.fixture
def broken_pipe() -> Iterator[Stream]:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", closefd=False) as file:
        yield Stream(file, name="stdout")
        # What was written and can't be flushed is dropped with the descriptor.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, writer)
        os.close(null)
    os.close(writer)


class Writer:
    """Writes one line an event; flushes if asked to."""

    def __init__(self, out: Stream, calls: list[str], *, flush: bool = True, closes: bool = False) -> None:
        self._out = out
        self._calls = calls
        self._flush = flush
        self._closes = closes

    @hookimpl
    def comfyreport_event(self) -> None:
        self._calls.append("event")
        self._out.write("line\n")
        if self._flush:
            self._out.flush()

    @hookimpl
    def comfyreport_close(self) -> None:
        self._calls.append("close")
        if self._closes:
            self._out.close()


def session_writing_to(stream: Stream, writer: Writer, *others: object) -> Session:
    plugins = make_plugins()
    plugins.add_object(writer, "writer")
    plugins.reporters[0].stream = stream
    for other in others:
        plugins.add_object(other, getattr(other, "_name", ""))
    session = Session(plugins)
    session.delivery.publish(one_of_each())
    session.finish()
    return session


@pytest.mark.parametrize("flush", [True, False])
def test_a_closed_pipe_ends_its_reporter_silently(broken_pipe: Stream, flush: bool) -> None:
    calls: list[str] = []
    hook_calls: list[HookCall] = []
    session = session_writing_to(broken_pipe, Writer(broken_pipe, calls, flush=flush), spy("good", hook_calls))
    assert session.complaints == []
    assert session.delivery.failures() == ()
    assert session.reporters[0].reader_left
    assert not session.reporters[0].alive
    assert calls == (["event"] if flush else ["event"] * len(one_of_each()) + ["close"])
    assert events_of(hook_calls, "good") == one_of_each()


def test_a_pipe_of_the_reporters_own_is_a_failure() -> None:
    def fail(hook: str, about: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    session = play(spy("bad", [], {EVENT}, fail), events=one_of_each())
    assert session.delivery.failures() == (f"bad: {EVENT} raised BrokenPipeError: [Errno 32] Broken pipe",)


@needs_posix("/dev/full")
@pytest.mark.parametrize(
    ("flush", "closes", "where"),
    [
        (True, False, EVENT),
        (False, True, CLOSE),
        (False, False, "close of its destination"),
    ],
)
def test_a_full_disk_is_named_when_it_shows(flush: bool, closes: bool, where: str) -> None:
    hook_calls: list[HookCall] = []
    stream = Stream.to_path("/dev/full")
    session = session_writing_to(stream, Writer(stream, [], flush=flush, closes=closes), spy("good", hook_calls))
    assert session.delivery.failures() == (f"writer: {where} raised OSError: [Errno 28] No space left on device",)
    assert len(session.complaints) == 1
    assert stream.file.closed
    assert events_of(hook_calls, "good") == one_of_each()


def test_a_file_of_a_reporter_that_failed_is_closed_with_what_it_had_written(tmp_path: Path) -> None:
    stream = Stream.to_path(tmp_path / "x.txt")

    class Failing(Writer):
        @hookimpl
        def comfyreport_run_started(self) -> None:
            raise ValueError

    session = session_writing_to(stream, Failing(stream, [], flush=False))
    assert len(session.delivery.failures()) == 1
    assert stream.file.closed
    assert (tmp_path / "x.txt").read_text() == "line\n" * 5


@pytest.mark.usefixtures("held_time")
def test_the_file_of_a_stuck_reporter_is_left_alone(tmp_path: Path) -> None:
    stream = Stream.to_path(tmp_path / "x.txt")
    with gate() as opened:
        plugins = make_plugins()
        plugins.add_object(spy("stuck", [], {EVENT}, lambda *_: opened.wait()))
        plugins.reporters[0].stream = stream
        session = Session(plugins, STUCK)
        session.delivery.publish(one_of_each())
        session.finish()
        assert not stream.file.closed
    stream.file.close()
