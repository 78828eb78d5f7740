"""Timers on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from comfyreport.timers import Timers


class Clock:
    """A clock that stands still until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timers(clock: Clock) -> Timers:
    return Timers(clock)


def nothing() -> None: ...


def test_it_comes_once(timers: Timers, clock: Clock) -> None:
    timer = timers.add(nothing)
    timer.arm(2.0)
    assert (timer.armed, timer.is_due, timers.wait()) == (True, False, 2.0)
    assert list(timers.take_due()) == []
    clock.now += 2.0
    assert (timer.is_due, timers.wait()) == (True, 0.0)
    assert list(timers.take_due()) == [timer]
    assert (timer.armed, list(timers.take_due())) == (False, [])


def test_the_earliest_comes_first(timers: Timers, clock: Clock) -> None:
    late, early, never = timers.add(nothing), timers.add(nothing), timers.add(nothing)
    late.arm(3.0)
    early.arm(1.0)
    assert timers.wait() == 1.0
    clock.now += 5.0
    assert list(timers.take_due()) == [early, late]
    assert not never.armed


@pytest.mark.parametrize(
    ("rearm", "wait"),
    [
        (lambda timer: timer.arm(9.0), 9.0),
        (lambda timer: timer.arm_sooner(9.0), 4.0),
        (lambda timer: timer.arm_sooner(2.0), 2.0),
        # A second is the longest that a loop without timers waits.
        (lambda timer: timer.disarm(), 1.0),
    ],
)
def test_arming_again(timers: Timers, rearm: Callable[[object], None], wait: float) -> None:
    timer = timers.add(nothing)
    timer.arm(4.0)
    rearm(timer)
    assert timers.wait() == wait


def test_one_that_another_disarms_does_not_come(timers: Timers, clock: Clock) -> None:
    first, second = timers.add(nothing), timers.add(nothing)
    first.arm(1.0)
    second.arm(2.0)
    clock.now += 5.0
    for timer in timers.take_due():
        assert timer is first
        second.disarm()


def test_one_may_arm_itself_again(timers: Timers, clock: Clock) -> None:
    timer = timers.add(nothing)
    timer.arm(0.0)
    for due in timers.take_due():
        due.arm(0.0)
    assert timer.armed
