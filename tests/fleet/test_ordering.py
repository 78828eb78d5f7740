"""The order of events from several workers, whatever their clocks say."""

from __future__ import annotations

import math
from typing import Any

from comfyreport import events as ev
from comfyreport.fleet.ordering import Ordering
from tests.fleet.fakes import NOW, finished, run_event


def told(ordering: Ordering, now: float = math.inf) -> list[tuple[int | None, float]]:
    return [(event.run_index, event.elapsed) for event in ordering.release(now)]


def test_events_of_two_workers_come_in_the_order_of_their_time() -> None:
    ordering = Ordering(NOW)
    for worker in ("gpu1", "gpu2"):
        ordering.heard(worker, NOW + 3, NOW + 3)
    ordering.add("gpu1", [run_event(ev.RunStarted, 1, 1.0), run_event(ev.RunStarted, 1, 3.0)], NOW + 3)
    ordering.add("gpu2", [run_event(ev.RunStarted, 2, 2.0)], NOW + 3)
    # What is younger than the hold stays, for an earlier one may still come.
    assert told(ordering, NOW + 2.5) == [(1, 1.0), (2, 2.0)]
    assert told(ordering, NOW + 3.4) == [(1, 3.0)]
    assert not ordering


def test_a_clock_that_is_wrong_is_set_by_the_fastest_message() -> None:
    ordering = Ordering(NOW)
    ordering.heard("gpu1", NOW + 3601.0, NOW + 1.4)
    ordering.heard("gpu1", NOW + 3602.0, NOW + 2.1)
    ordering.add("gpu1", [run_event(ev.RunStarted, 1, 3601.5)], NOW + 5)
    (event,) = ordering.release(math.inf)
    assert (event.elapsed, event.time, event.worker) == (1.6, NOW + 1.6, "gpu1")


def test_nothing_happens_before_the_stream_nor_after_it_was_heard() -> None:
    ordering = Ordering(NOW)
    ordering.heard("gpu1", NOW, NOW)
    ordering.add("gpu1", [run_event(ev.RunStarted, 1, -5.0), run_event(ev.RunStarted, 1, 9.0)], NOW + 1)
    assert told(ordering) == [(1, 0.0), (1, 1.0)]


def test_a_run_keeps_its_own_order_where_the_clock_jumps_back() -> None:
    ordering = Ordering(NOW)
    ordering.heard("gpu1", NOW + 9, NOW + 9)
    ordering.add("gpu1", [run_event(ev.RunStarted, 1, 5.0), run_event(ev.RunStarted, 1, 2.0)], NOW + 9)
    ordering.add("gpu1", [finished(1, time=1.0)], NOW + 9)
    events: list[Any] = ordering.release(math.inf)
    assert [event.type for event in events] == ["run_started", "run_started", "run_finished"]
    assert [event.elapsed for event in events] == [5.0, 5.0, 5.0]
