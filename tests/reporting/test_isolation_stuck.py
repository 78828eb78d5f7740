"""A reporter whose hook is slow or doesn't return hurts neither the run nor another reporter."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from comfyreport import events as ev
from comfyreport.reporting import delivery
from tests.reporting.deliveries import (
    CLOSE,
    DELIVERED,
    EVENT,
    STUCK,
    TIMEOUT,
    HookCall,
    delivery_threads,
    events_of,
    gate,
    many_steps,
    one_of_each,
    session_of,
    spy,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("held_time")]


def threads_are_gone() -> bool:
    return not delivery_threads()


@pytest.mark.parametrize("hook", sorted(DELIVERED - {"comfyreport_tick", CLOSE}))
def test_a_stuck_reporter_is_abandoned_in_the_middle_of_an_event(hook: str) -> None:
    hook_calls: list[HookCall] = []
    events = one_of_each()
    with gate() as opened:

        def hang(called: str, about: object) -> None:
            if called == hook:
                opened.wait()

        timing = replace(STUCK, hook_limit=0.2, slow_hook_warn=0.05)
        session = session_of(
            spy("before", hook_calls), spy("stuck", hook_calls, act=hang), spy("after", hook_calls), timing=timing
        )
        session.delivery.publish(events)
        session.until(lambda: session.reporters[1].failure)
        session.finish()
        assert session.complaints == [
            f"reporter stuck failed and was switched off: did not return from {hook} within 0.2 s"
        ]
        assert len(delivery_threads()) == 1
        for name in ("before", "after"):
            assert events_of(hook_calls, name) == events
            assert [call.hook for call in hook_calls if call.name == name][-1] == CLOSE
        assert [call.hook for call in hook_calls if call.name == "stuck"][-1] == hook
    assert threads_are_gone()
    assert session.warnings == [w for w in session.warnings if w.startswith(f"reporter stuck has been in {hook} for ")]
    assert len(session.warnings) == 1


def test_a_reporter_stuck_in_a_tick() -> None:
    hook_calls: list[HookCall] = []
    with gate() as opened:
        session = session_of(
            spy("stuck", [], {"comfyreport_tick"}, lambda *_: opened.wait()), spy("good", hook_calls), timing=STUCK
        )
        session.delivery.publish(many_steps(3).events)
        session.until(session.delivery.failures)
        before = len(hook_calls)
        session.until(lambda: len(hook_calls) > before + 3)
        session.finish()
    assert session.delivery.failures() == ("stuck: did not return from comfyreport_tick within 0.4 s",)


def test_a_reporter_stuck_in_close() -> None:
    hook_calls: list[HookCall] = []

    with gate() as opened:

        def hang(hook: str, about: object) -> None:
            if hook == CLOSE:
                opened.wait()

        session = session_of(spy("stuck", hook_calls, act=hang), spy("good", hook_calls), timing=STUCK)
        session.delivery.publish(one_of_each())
        session.finish()
        assert session.delivery.failures() == ("stuck: did not return from comfyreport_close within 0.6 s",)
    assert hook_calls[-1].name == "good"
    assert hook_calls[-1].hook == CLOSE
    assert threads_are_gone()


def test_several_stuck_ones() -> None:
    hook_calls: list[HookCall] = []
    with gate() as opened:
        stuck = [spy(name, [], {EVENT}, lambda *_: opened.wait()) for name in "abc"]
        timing = replace(STUCK, hook_limit=0.1, close_limit=0.2)
        session = session_of(*stuck, spy("good", hook_calls), timing=timing)
        session.delivery.publish(one_of_each())
        session.finish()
        assert [failure[0] for failure in session.delivery.failures()] == ["a", "b", "c"]
        assert events_of(hook_calls, "good") == one_of_each()
    assert threads_are_gone()


@pytest.mark.parametrize("hook", [EVENT, CLOSE])
def test_the_time_of_the_reporter_behind_a_stuck_one_begins_with_its_own_call(hook: str) -> None:
    hook_calls: list[HookCall] = []
    with gate() as opened:

        def hang(called: str, about: object) -> None:
            if called == hook:
                opened.wait()

        def delay(called: str, about: object) -> None:
            if called == hook and (hook == CLOSE or isinstance(about, ev.RunStarted)):
                threading.Event().wait(0.25)

        timing = replace(STUCK, hook_limit=1.0, close_limit=1.0, slow_hook_warn=TIMEOUT)
        session = session_of(spy("stuck", [], {hook}, hang), spy("delayed", hook_calls, act=delay), timing=timing)
        session.delivery.publish(one_of_each())
        session.until(lambda: session.delivery.failures() or hook == CLOSE)
        session.finish()
        assert session.delivery.failures() == (f"stuck: did not return from {hook} within 1 s",)
    assert hook_calls[-1].hook == CLOSE


def test_reporters_that_close_in_time_do_not_share_it() -> None:
    limit, clock = 0.5, vars(delivery)["time"]

    def close_late(hook: str, about: object) -> None:
        until = clock.monotonic() + 0.8 * limit
        while clock.monotonic() < until:
            time.sleep(0.001)

    late = [spy(f"slow{n}", [], {CLOSE}, close_late) for n in range(3)]
    session = session_of(*late, timing=replace(STUCK, close_limit=limit))
    session.delivery.publish(one_of_each())
    session.finish()
    assert session.delivery.failures() == ()


@pytest.mark.parametrize("count", [3, 12])
def test_closing_does_not_take_longer_the_more_are_stuck(count: int) -> None:
    hook_calls: list[HookCall] = []
    clock = vars(delivery)["time"]
    with gate() as opened:
        stuck = [spy(f"stuck{n}", [], {CLOSE}, lambda *_: opened.wait()) for n in range(count)]
        session = session_of(*stuck, spy("good", hook_calls), timing=replace(STUCK, close_limit=0.5))
        session.delivery.publish(one_of_each())
        began = clock.monotonic()
        session.finish()
        # One limit for the first, and one that the rest share: twelve would take six seconds one by one.
        assert clock.monotonic() - began < 1.5
        assert len(session.delivery.failures()) == count
        assert session.delivery.failures()[0].endswith(f"{CLOSE} within 0.5 s")
        assert session.delivery.failures()[1].endswith(f"{CLOSE} within {0.5 / count:.3g} s")
    assert hook_calls[-1].hook == CLOSE
    assert events_of(hook_calls, "good") == one_of_each()


@pytest.mark.parametrize("error", [None, ValueError("late"), SystemExit("late")])
def test_an_abandoned_thread_changes_nothing_when_its_hook_returns(error: BaseException | None) -> None:
    hook_calls: list[HookCall] = []
    late: list[threading.Thread] = []
    with gate() as opened:

        def hang(hook: str, about: object) -> None:
            late.append(threading.current_thread())
            opened.wait()
            if error is not None:
                raise error

        session = session_of(spy("stuck", [], {EVENT}, hang), spy("good", hook_calls), timing=STUCK)
        events = many_steps(20).events
        session.delivery.publish(events[:-3])
        session.until(lambda: events_of(hook_calls, "good") == events[:-3])
        failures, complaints, calls = session.delivery.failures(), list(session.complaints), len(session.traced)
        opened.set()
        late[0].join(TIMEOUT)
        assert not late[0].is_alive()
        assert (session.delivery.failures(), session.complaints) == (failures, complaints)
        # Ticks of the others come and go.
        session.until(lambda: session.delivery._current is None)
        assert [name for name, *_ in session.traced[:calls]].count("stuck") == 0
        session.delivery.publish(events[-3:])
        session.finish()
    assert events_of(hook_calls, "good") == events
    assert len(late) == 1


def test_a_hook_that_takes_long_is_warned_of_once_and_kept() -> None:
    hook_calls: list[HookCall] = []
    with gate() as opened:
        slow = spy("slow", hook_calls, {EVENT}, lambda *_: opened.wait())
        session = session_of(slow, timing=replace(STUCK, hook_limit=TIMEOUT, slow_hook_warn=0.01))
        session.delivery.publish(one_of_each())
        session.until(lambda: session.warnings)
        assert session.warnings == ["reporter slow has been in comfyreport_event for 0 s; the run goes on"]
        assert session.delivery.watch() == []
        opened.set()
        session.finish()
    assert session.delivery.failures() == ()
    assert events_of(hook_calls, "slow") == one_of_each()


def test_a_slow_reporter_with_a_backlog_is_dropped_after_the_closing_window() -> None:
    hook_calls: list[HookCall] = []
    events = many_steps(500).events

    def delay(hook: str, about: object) -> None:
        threading.Event().wait(0.02)

    timing = replace(STUCK, close_limit=1.0)
    session = session_of(
        spy("good", hook_calls), spy("slow", hook_calls, act=delay), spy("late", hook_calls), timing=timing
    )
    session.delivery.publish(events)
    session.finish()
    assert session.delivery.failures() == ("slow: was too slow: events still waited 1 s after the end",)
    assert events_of(hook_calls, "good") == events_of(hook_calls, "late") == events
    assert 0 < len(events_of(hook_calls, "slow")) < len(events)
    session.until(threads_are_gone)
