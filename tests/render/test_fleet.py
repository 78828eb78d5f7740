"""Fleet: the runs of a command as one, by their events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from comfyreport import Fleet, ServerRow, events as ev
from comfyreport.events import RunViews
from tests.plugins.events import txt2img
from tests.plugins.many import ONE, TWO, many_short, moved, placed, side_by_side, whole


def fleet_of(events: Iterable[ev.Event], until: float = 1e9) -> Fleet:
    fleet, views = Fleet(), RunViews()
    for event in events:
        if event.elapsed <= until:
            fleet.apply(event, views.apply(event))
    return fleet


def rows(fleet: Fleet, elapsed: float) -> dict[str, list[tuple[int | None, str]]]:
    return {row.server: [(run.run_index, run.status) for run in row.runs] for row in fleet.servers(elapsed)}


def test_before_anything() -> None:
    fleet = Fleet()
    assert (fleet.total, fleet.done, fleet.failed, fleet.running, fleet.queued) == (0, 0, 0, 0, 0)
    assert (fleet.servers(1.0), fleet.average, fleet.seconds_left(1.0), fleet.time_left(1.0)) == ([], None, None, None)
    assert not fleet.several


def test_counts() -> None:
    events = many_short(6, servers=2, failing=[3])
    fleet = fleet_of(events, until=2.15)
    assert (fleet.total, fleet.done, fleet.failed, fleet.running, fleet.queued) == (6, 4, 1, 0, 2)
    fleet = fleet_of(events, until=2.3)
    assert (fleet.running, fleet.queued) == (2, 0)
    fleet = fleet_of(events)
    assert (fleet.done, fleet.failed, fleet.running, fleet.queued, fleet.elapsed) == (6, 1, 0, 0, events[-1].elapsed)
    assert fleet.several


def test_what_each_server_does() -> None:
    told = [*side_by_side([("txt2img", ONE, 0.0), ("txt2img", ONE, 0.0), ("txt2img", TWO, 0.0)], total=9)]
    # The second one waits on the first server.
    told = [event for event in told if event.run_index != 2 or isinstance(event, (ev.RunQueued, ev.ConnectionChanged))]
    steps = [event for event in told if isinstance(event, ev.NodeProgress) and event.run_index == 1]
    fleet = fleet_of(told, until=steps[8].elapsed)
    assert rows(fleet, fleet.elapsed) == {ONE: [(1, "running"), (2, "queued")], TWO: [(3, "running")]}
    (first, waiting), _ = (row.runs for row in fleet.servers(fleet.elapsed))
    assert first.doing == "KSampler 9/20"
    assert 0 < first.fraction < 1
    assert (waiting.doing, waiting.fraction, waiting.seconds_left) == ("in the queue", 0.0, None)


def test_the_average_leaves_out_the_queue_and_runs_that_failed() -> None:
    fleet = fleet_of(many_short(8, servers=2, failing=[1, 2]))
    assert fleet.average == pytest.approx(0.8)
    first, second = fleet.servers(99.0)
    assert (first.done, second.done) == (4, 4)
    assert first.throughput == pytest.approx(1 / 0.8)
    assert ServerRow(ONE, (), 0, None).throughput is None


def test_the_time_left_is_what_is_left_by_what_a_run_takes_over_the_servers_in_use() -> None:
    events = many_short(100, servers=4)
    assert fleet_of(events, until=0.15).seconds_left(0.15) is None, "there is no basis yet"
    fleet = fleet_of(events, until=1.2)
    # Of a hundred four are done and four run for 0.2 s at most: 96 of 0.8 s are left, on four servers.
    assert fleet.seconds_left(1.2) == pytest.approx(96 * 0.8 / 4, abs=0.3)
    assert fleet.seconds_left(1.4) == pytest.approx(fleet.seconds_left(1.2) or 0, abs=0.25)
    left = fleet.time_left(1.2)
    assert left is not None
    assert left.seconds == left.low == left.high
    assert fleet_of(events).seconds_left(99.0) is None, "nothing is left"


def test_a_server_that_is_twice_as_fast_counts_twice() -> None:
    def ended(index: int, server: str, at: float, seconds: float) -> list[ev.Event]:
        queued = ev.RunQueued(seq=1, time=0.0, elapsed=at - seconds, run_index=index, server=server)
        begun = ev.RunStarted(seq=1, time=0.0, elapsed=at - seconds, run_index=index)
        end = ev.RunFinished(
            seq=1, time=0.0, elapsed=at, run_index=index, status="success", exit_code=0, seconds=seconds, server=server
        )
        return [queued, begun, end]

    told = [*ended(1, ONE, 10.0, 10.0), *ended(2, TWO, 10.0, 5.0), *ended(3, ONE, 20.0, 10.0)[:2]]
    told += ended(4, TWO, 15.0, 5.0)[:2]
    fleet = fleet_of(whole(sorted(told, key=lambda event: event.elapsed), 32))
    # 28 wait and two just began: 30 runs at 1/10 + 1/5 a second.
    assert fleet.seconds_left(10.0) == pytest.approx(100.0)


def test_before_a_run_has_ended_the_estimates_of_those_that_run_are_the_basis() -> None:
    told = [placed(event, 1, ONE, 0.0) for event in txt2img()[1:-1] if event.elapsed <= 8.0]
    step = told[-1]
    assert isinstance(step, ev.NodeProgress)
    fleet = fleet_of(whole([*told, replace(step, elapsed=12.0, run_eta_seconds=8.0)], 3)[:-1])
    begun = next(event.elapsed for event in told if isinstance(event, ev.RunStarted))
    usual = 12.0 - begun + 8.0
    assert fleet.seconds_left(12.0) == pytest.approx(2 * usual + 8.0)


def test_a_run_that_is_moved_is_where_it_was_queued_last() -> None:
    events = moved()
    assert rows(fleet_of(events, until=0.4), 0.4) == {TWO: [(1, "running")], ONE: [(2, "running")]}
    assert rows(fleet_of(events, until=0.5), 0.5) == {TWO: [], ONE: [(2, "running")]}
    assert rows(fleet_of(events, until=2.3), 2.3) == {TWO: [], ONE: [(1, "running")]}
    fleet = fleet_of(events)
    assert (fleet.done, fleet.failed) == (2, 0)
    assert [row.done for row in fleet.servers(9.0)] == [0, 2]


def test_failures_are_kept_up_to_twenty_with_their_inputs() -> None:
    fleet = fleet_of(many_short(50, failing=range(5, 40)))
    assert fleet.failed == 35
    assert len(fleet.failures) == 20
    first = fleet.failures[0]
    assert (first.run_index, first.status, first.inputs) == (5, "error", "seed=5")
    assert "broken at 5" in first.reason


def test_the_events_that_it_needs_are_enough() -> None:
    events, views = many_short(20, failing=[7]), RunViews()
    fleet, whole_fleet = Fleet(), Fleet()
    for event in events:
        run = views.apply(event)
        whole_fleet.apply(event, run)
        if isinstance(event, (ev.StreamStarted, ev.RunQueued, ev.RunFinished, ev.Warning)):
            fleet.apply(event, run)
        assert rows(fleet, event.elapsed) == rows(whole_fleet, event.elapsed)
        assert fleet.seconds_left(event.elapsed) == whole_fleet.seconds_left(event.elapsed)


def test_what_is_kept_is_bounded_by_open_runs_and_servers() -> None:
    fleet = fleet_of(many_short(2000, servers=3, failing=range(100, 300)))
    assert len(fleet._runs) == 0
    assert len(fleet._servers) == 3
    assert len(fleet.failures) == 20


def test_a_lost_connection_is_told_instead_of_what_the_run_does() -> None:
    told = [placed(event, 1, ONE, 0.0) for event in txt2img()[1:-1] if event.elapsed <= 8.0]
    step = told[-1]
    assert isinstance(step, ev.NodeProgress)
    told.append(replace(step, run_eta_seconds=9.0))
    gone = ev.ConnectionChanged(seq=1, time=0.0, elapsed=9.0, run_index=1, state="lost")
    ((before,),) = (row.runs for row in fleet_of(told).servers(9.0))
    ((after,),) = (row.runs for row in fleet_of([*told, gone]).servers(9.0))
    assert (before.doing, before.seconds_left) == ("KSampler 5/20", 8.0)
    assert (after.doing, after.seconds_left) == ("connection lost", None)
