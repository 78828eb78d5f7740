"""A reporter can't hurt the run, nor another reporter: not by raising, not by being slow or stuck, not by its files."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from comfyreport import events as ev
from comfyreport.reporting.hookspecs import hookimpl
from comfyreport.reporting.streams import Stream
from comfyreport.reporting.validation import HOOKS
from tests.packages import Packages, make_plugins
from tests.reporting.deliveries import (
    PATIENCE,
    QUICK,
    Heard,
    Session,
    delivery_threads,
    ear,
    gate,
    many_steps,
    one_of_each,
    play,
    session_of,
)

EVENT = "comfyreport_event"
CLOSE = "comfyreport_close"


def events_of(heard: list[Heard], name: str) -> list[object]:
    return [call.about for call in heard if call.name == name and call.hook == EVENT]


def threads_are_gone() -> bool:
    return not delivery_threads()


# --- raising


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, MemoryError]
)
@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_whoever_raises_is_switched_off_and_named_and_the_others_go_on(hook: str, error: type[BaseException]) -> None:
    heard: list[Heard] = []

    def fail(called: str, about: object) -> None:
        if called == hook:
            raise error("first line\nsecond line")

    reporters = ear("before", heard), ear("bad", heard, act=fail), ear("after", heard)
    events = one_of_each()
    session = session_of(*reporters)
    session.delivery.publish(events[:-2])
    if hook == "comfyreport_tick":
        session.until(lambda: session.reporters[1].failure)
    session.delivery.publish(events[-2:])
    session.finish()
    why = f"{hook} raised {error.__name__}: first line second line"
    assert session.complaints == [f"reporter bad failed and was switched off: {why}"]
    assert session.delivery.failures() == (f"bad: {why}",)
    for name in ("before", "after"):
        assert events_of(heard, name) == events
        assert [call.hook for call in heard if call.name == name][-1] == CLOSE
    calls = [call.hook for call in heard if call.name == "bad"]
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

    session = play(*(ear(name, [], act=fail) for name in "abc"), events=one_of_each())
    assert len(session.delivery.failures()) == len(session.complaints) == 3


def test_a_complaint_that_cannot_be_made_stops_nothing() -> None:
    heard: list[Heard] = []

    def fail(*args: object) -> None:
        raise OSError("stderr is gone")

    session = session_of(ear("bad", [], act=fail), ear("good", heard))
    session.delivery._complain = fail
    session.delivery._trace = fail
    session.delivery.publish(one_of_each())
    session.finish()
    assert events_of(heard, "good") == one_of_each()


class UnspeakableError(Exception):
    """It can't tell its message."""

    def __str__(self) -> str:
        raise SystemExit("no")


def test_an_exception_that_can_not_be_told_is_a_failure_like_any_other() -> None:
    heard: list[Heard] = []

    def fail(hook: str, about: object) -> None:
        raise UnspeakableError

    session = play(ear("bad", [], {EVENT}, fail), ear("good", heard), events=one_of_each())
    why = f"{EVENT} raised UnspeakableError: (its message can't be told)"
    assert session.delivery.failures() == (f"bad: {why}",)
    assert events_of(heard, "good") == one_of_each()


def test_an_exception_that_takes_for_ever_to_be_told_is_a_reporter_that_is_stuck() -> None:
    heard: list[Heard] = []
    with gate() as opened:

        class EndlessError(Exception):
            def __str__(self) -> str:
                opened.wait()
                return ""

        def fail(hook: str, about: object) -> None:
            raise EndlessError

        session = play(ear("bad", [], {EVENT}, fail), ear("good", heard), events=one_of_each())
    (failure,) = session.delivery.failures()
    assert failure.startswith(f"bad: did not return from {EVENT} within ")
    assert events_of(heard, "good") == one_of_each()


def test_what_a_reporter_raises_is_told_without_what_moves_a_cursor() -> None:
    def fail(hook: str, about: object) -> None:
        raise ValueError("\x1b[2J\x1b]0;owned\x07 \u202e")

    (complaint,) = play(ear("bad", [], {EVENT}, fail), events=one_of_each()).complaints
    assert complaint.endswith(f"{EVENT} raised ValueError: \\x1b[2J\\x1b]0;owned\\x07 \\u202e")


def test_a_fault_of_the_delivery_itself_costs_one_event_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Heard] = []
    session = session_of(ear("a", heard), ear("b", heard))
    apply = session.delivery.view.apply

    def break_down(event: ev.Event) -> None:
        if isinstance(event, ev.RunStarted):
            raise LookupError("no such node")
        apply(event)

    monkeypatch.setattr(session.delivery.view, "apply", break_down)
    session.delivery.publish(one_of_each())
    session.finish()
    (failure,) = session.delivery.failures()
    assert failure.startswith("comfyreport: internal error: LookupError: no such node at test_isolation.py:")
    assert session.complaints == [
        f"{failure.removeprefix('comfyreport: ')}; please report this as a fault of comfyreport"
    ]
    wanted = [event for event in one_of_each() if not isinstance(event, ev.RunStarted)]
    assert events_of(heard, "a") == events_of(heard, "b") == wanted
    assert threads_are_gone()


@pytest.mark.parametrize("stuck", ["complaint", "trace", "release"])
def test_nobody_waits_for_what_nobody_reads(stuck: str) -> None:
    heard: list[Heard] = []
    with gate() as opened:

        def fail(hook: str, about: object) -> None:
            raise ValueError

        class Terminal(Stream):
            def release(self) -> None:
                if stuck == "release":
                    opened.wait()

        timing = replace(QUICK, stderr_write=0.1)
        session = session_of(ear("bad", [], act=fail), ear("good", heard), timing=timing)
        session.reporters[0].stream = Terminal(io.StringIO(), name="terminal")

        def hang(*words: object) -> None:
            opened.wait()

        if stuck == "complaint":
            session.delivery._complain = hang
        elif stuck == "trace":
            session.delivery._trace = hang
        session.delivery.publish(one_of_each())
        session.finish()
        assert events_of(heard, "good") == one_of_each()
        assert [failure[:3] for failure in session.delivery.failures()] == ["bad"]


# --- stuck


@pytest.mark.parametrize("hook", sorted(HOOKS - {"comfyreport_tick", CLOSE}))
def test_a_stuck_reporter_is_left_behind_in_the_middle_of_an_event(hook: str) -> None:
    heard: list[Heard] = []
    events = one_of_each()
    with gate() as opened:

        def hang(called: str, about: object) -> None:
            if called == hook:
                opened.wait()

        timing = replace(QUICK, hook_limit=0.2, slow_hook_warn=0.05)
        session = session_of(ear("before", heard), ear("stuck", heard, act=hang), ear("after", heard), timing=timing)
        session.delivery.publish(events)
        session.until(lambda: session.reporters[1].failure)
        session.finish()
        assert session.complaints == [
            f"reporter stuck failed and was switched off: did not return from {hook} within 0.2 s"
        ]
        assert len(delivery_threads()) == 1
        for name in ("before", "after"):
            assert events_of(heard, name) == events
            assert [call.hook for call in heard if call.name == name][-1] == CLOSE
        assert [call.hook for call in heard if call.name == "stuck"][-1] == hook
    assert threads_are_gone()
    assert session.warnings == [w for w in session.warnings if w.startswith(f"reporter stuck has been in {hook} for ")]
    assert len(session.warnings) == 1


def test_a_reporter_stuck_in_a_tick() -> None:
    heard: list[Heard] = []
    with gate() as opened:
        session = session_of(ear("stuck", [], {"comfyreport_tick"}, lambda *_: opened.wait()), ear("good", heard))
        session.delivery.publish(many_steps(3).events)
        session.until(session.delivery.failures)
        before = len(heard)
        session.until(lambda: len(heard) > before + 3)
        session.finish()
    assert session.delivery.failures() == ("stuck: did not return from comfyreport_tick within 0.4 s",)


def test_a_reporter_stuck_in_close() -> None:
    heard: list[Heard] = []

    with gate() as opened:

        def hang(hook: str, about: object) -> None:
            if hook == CLOSE:
                opened.wait()

        session = play(ear("stuck", heard, act=hang), ear("good", heard), events=one_of_each())
        assert session.delivery.failures() == ("stuck: did not return from comfyreport_close within 0.6 s",)
    assert heard[-1].name == "good"
    assert heard[-1].hook == CLOSE
    assert threads_are_gone()


def test_several_stuck_ones() -> None:
    heard: list[Heard] = []
    with gate() as opened:
        stuck = [ear(name, [], {EVENT}, lambda *_: opened.wait()) for name in "abc"]
        timing = replace(QUICK, hook_limit=0.1, close_limit=0.2)
        session = session_of(*stuck, ear("good", heard), timing=timing)
        session.delivery.publish(one_of_each())
        session.finish()
        assert [failure[0] for failure in session.delivery.failures()] == ["a", "b", "c"]
        assert events_of(heard, "good") == one_of_each()
    assert threads_are_gone()


@pytest.mark.parametrize("hook", [EVENT, CLOSE])
def test_the_time_of_the_one_behind_a_stuck_one_begins_with_its_own_call(hook: str) -> None:
    heard: list[Heard] = []
    with gate() as opened:

        def hang(called: str, about: object) -> None:
            if called == hook:
                opened.wait()

        def dawdle(called: str, about: object) -> None:
            if called == hook and (hook == CLOSE or isinstance(about, ev.RunStarted)):
                threading.Event().wait(0.25)

        timing = replace(QUICK, hook_limit=1.0, close_limit=1.0, slow_hook_warn=PATIENCE)
        session = session_of(ear("stuck", [], {hook}, hang), ear("good", heard, act=dawdle), timing=timing)
        session.delivery.publish(one_of_each())
        session.until(lambda: session.delivery.failures() or hook == CLOSE)
        session.finish()
        assert session.delivery.failures() == (f"stuck: did not return from {hook} within 1 s",)
    assert heard[-1].hook == CLOSE


@pytest.mark.parametrize("count", [3, 12])
def test_closing_does_not_take_longer_the_more_are_stuck(count: int) -> None:
    heard: list[Heard] = []
    with gate() as opened:
        stuck = [ear(f"stuck{n}", [], {CLOSE}, lambda *_: opened.wait()) for n in range(count)]
        session = session_of(*stuck, ear("good", heard), timing=replace(QUICK, close_limit=0.5))
        session.delivery.publish(one_of_each())
        began = time.monotonic()
        session.finish()
        assert time.monotonic() - began < 3.0
        assert len(session.delivery.failures()) == count
        assert session.delivery.failures()[0].endswith(f"{CLOSE} within 0.5 s")
        assert session.delivery.failures()[1].endswith(f"{CLOSE} within {0.5 / count:.3g} s")
    assert heard[-1].hook == CLOSE
    assert events_of(heard, "good") == one_of_each()


@pytest.mark.parametrize("error", [None, ValueError("late"), SystemExit("late")])
def test_the_thread_that_was_left_behind_touches_nothing_when_it_comes_back(error: BaseException | None) -> None:
    heard: list[Heard] = []
    late: list[threading.Thread] = []
    with gate() as opened:

        def hang(hook: str, about: object) -> None:
            late.append(threading.current_thread())
            opened.wait()
            if error is not None:
                raise error

        session = session_of(ear("stuck", [], {EVENT}, hang), ear("good", heard))
        events = many_steps(20).events
        session.delivery.publish(events[:-3])
        session.until(lambda: events_of(heard, "good") == events[:-3])
        failures, complaints, calls = session.delivery.failures(), list(session.complaints), len(session.traced)
        busy = session.delivery._busy
        opened.set()
        late[0].join(PATIENCE)
        assert not late[0].is_alive()
        assert (session.delivery.failures(), session.complaints, session.delivery._busy) == (failures, complaints, busy)
        assert [name for name, *_ in session.traced[:calls]].count("stuck") == 0
        session.delivery.publish(events[-3:])
        session.finish()
    assert events_of(heard, "good") == events
    assert len(late) == 1


def test_a_hook_that_takes_long_is_warned_of_once_and_kept() -> None:
    heard: list[Heard] = []
    with gate() as opened:
        slow = ear("slow", heard, {EVENT}, lambda *_: opened.wait())
        session = session_of(slow, timing=replace(QUICK, hook_limit=PATIENCE, slow_hook_warn=0.01))
        session.delivery.publish(one_of_each())
        session.until(lambda: session.warnings)
        assert session.warnings == ["reporter slow has been in comfyreport_event for 0 s; the run goes on"]
        assert session.delivery.watch() == []
        opened.set()
        session.finish()
    assert session.delivery.failures() == ()
    assert events_of(heard, "slow") == one_of_each()


def test_a_slow_reporter_with_a_backlog_is_dropped_after_the_closing_window() -> None:
    heard: list[Heard] = []
    events = many_steps(500).events

    def dawdle(hook: str, about: object) -> None:
        threading.Event().wait(0.02)

    timing = replace(QUICK, close_limit=1.0)
    session = session_of(ear("good", heard), ear("slow", heard, act=dawdle), ear("late", heard), timing=timing)
    session.delivery.publish(events)
    session.finish()
    assert session.delivery.failures() == ("slow: was too slow: events still waited 1 s after the end",)
    assert events_of(heard, "good") == events_of(heard, "late") == events
    assert 0 < len(events_of(heard, "slow")) < len(events)
    session.until(threads_are_gone)


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


def written_to(stream: Stream, writer: Writer, *others: object) -> Session:
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
def test_a_closed_pipe_ends_its_reporter_without_a_word(broken_pipe: Stream, flush: bool) -> None:
    calls: list[str] = []
    heard: list[Heard] = []
    session = written_to(broken_pipe, Writer(broken_pipe, calls, flush=flush), ear("good", heard))
    assert session.complaints == []
    assert session.delivery.failures() == ()
    assert session.reporters[0].reader_left
    assert not session.reporters[0].alive
    assert calls == (["event"] if flush else ["event"] * len(one_of_each()) + ["close"])
    assert events_of(heard, "good") == one_of_each()


def test_a_pipe_of_the_reporters_own_is_a_failure() -> None:
    def fail(hook: str, about: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    session = play(ear("bad", [], {EVENT}, fail), events=one_of_each())
    assert session.delivery.failures() == (f"bad: {EVENT} raised BrokenPipeError: [Errno 32] Broken pipe",)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("flush", "closes", "where"),
    [
        (True, False, EVENT),
        (False, True, CLOSE),
        (False, False, "close of its destination"),
    ],
)
def test_a_full_disk_is_named_when_it_shows(flush: bool, closes: bool, where: str) -> None:
    heard: list[Heard] = []
    stream = Stream.to_path("/dev/full")
    session = written_to(stream, Writer(stream, [], flush=flush, closes=closes), ear("good", heard))
    assert session.delivery.failures() == (f"writer: {where} raised OSError: [Errno 28] No space left on device",)
    assert len(session.complaints) == 1
    assert stream.file.closed
    assert events_of(heard, "good") == one_of_each()


def test_a_file_of_a_reporter_that_failed_is_closed_with_what_it_had_written(tmp_path: Path) -> None:
    stream = Stream.to_path(tmp_path / "x.txt")

    class Failing(Writer):
        @hookimpl
        def comfyreport_run_started(self) -> None:
            raise ValueError

    session = written_to(stream, Failing(stream, [], flush=False))
    assert len(session.delivery.failures()) == 1
    assert stream.file.closed
    assert (tmp_path / "x.txt").read_text() == "line\n" * 5


def test_the_file_of_a_stuck_reporter_is_left_alone(tmp_path: Path) -> None:
    stream = Stream.to_path(tmp_path / "x.txt")
    with gate() as opened:
        plugins = make_plugins()
        plugins.add_object(ear("stuck", [], {EVENT}, lambda *_: opened.wait()))
        plugins.reporters[0].stream = stream
        session = Session(plugins)
        session.delivery.publish(one_of_each())
        session.finish()
        assert not stream.file.closed
    stream.file.close()


def test_every_call_is_traced() -> None:
    session = play(ear("a", [], {EVENT, CLOSE}), events=one_of_each())
    assert [hook for _, hook, _ in session.traced] == [EVENT] * len(one_of_each()) + [CLOSE]
    assert all(name == "a" and seconds >= 0 for name, _, seconds in session.traced)
