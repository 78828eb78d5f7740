"""Sums over waiting nodes: what goes in comes out again, and a class that has run tells of the rest of it."""

from __future__ import annotations

import pytest

from comfyreport.estimates.pending import Pending, Sums, Waiting
from tests.estimates.runs import duration


def test_what_goes_in_comes_out_again() -> None:
    pending = Pending()
    durations = [duration(seconds, basis=basis) for seconds in (0.1, 0.7, 1e9) for basis in ("history", "similar")]
    for each in durations:
        pending.change(each, 1)
    assert pending.scaled(2.0).history == pytest.approx(2 * (0.8 + 1e9))
    for each in durations:
        pending.change(each, -1)
    assert pending.scaled(1.0) == Sums()


def test_each_sort_goes_at_its_own_pace() -> None:
    waiting = Waiting()
    waiting.change("A", duration(10.0), 1, paced=True)
    waiting.change("B", duration(100.0), 1, paced=False)
    waiting.change("C", duration(1000.0, basis="prior"), 1, paced=True)
    assert sum(sums.seconds for sums in waiting.sums({"learned": 2.0, "rest": 3.0})) == 20.0 + 100.0 + 3000.0


def test_what_was_not_learned_is_told_by_the_first_that_ran() -> None:
    waiting = Waiting()
    for _ in range(3):
        waiting.change("C", duration(5.0, basis="prior"), 1, paced=True)
    waiting.change("C", duration(5.0, basis="prior"), -1, paced=True)
    waiting.ran("C", 50.0, duration(5.0, basis="prior"), paced=True)
    waiting.ran("D", 50.0, duration(0.0, basis="prior"), paced=True)
    assert [sums.seconds for sums in waiting.sums({})] == [100.0]
    waiting.change("C", duration(5.0, basis="prior"), 1, paced=True)
    assert [sums.seconds for sums in waiting.sums({})] == [150.0]
    waiting.clear()
    assert list(waiting.sums({})) == []
