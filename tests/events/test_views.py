"""RunViews: the states of runs whose events come in any order of the runs."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace

import pytest

from comfyreport import events as ev
from comfyreport.events import RunView, RunViews
from tests.plugins.events import SERVER, EventBuilder, txt2img
from tests.plugins.many import ONE, TWO, many_short, moved, side_by_side


def state(run: RunView) -> tuple[object, ...]:
    nodes = [(key, node.state, node.step, node.seconds) for key, node in run.nodes.items()]
    counts = (run.done, run.total, run.fraction)
    return (run.run_index, run.server, run.status, run.elapsed, run.prompt_id, counts, run.outputs, run.active, nodes)


def test_one_run_has_one_view_of_all_events() -> None:
    views, single = RunViews(), RunView()
    first = views.last
    for event in txt2img():
        single.apply(event)
        assert views.apply(event) is first
        assert state(views.last) == state(single)
    assert first.run_index is None
    assert first.server == SERVER


@pytest.mark.parametrize("seed", range(5))
def test_each_run_has_the_view_that_its_own_events_make(seed: int) -> None:
    events = side_by_side([("txt2img", ONE, 0.0), ("node-error", TWO, 0.3), ("cached", ONE, 0.0), ("loop", TWO, 5.0)])
    chance = random.Random(seed)
    # The runs' events in any order, those of each in its own.
    waiting = defaultdict(list)
    for event in events[1:-1]:
        waiting[event.run_index].append(event)
    views, alone = RunViews(), {index: RunView(index, ONE) for index in waiting}
    views.apply(events[0])
    while waiting:
        index = chance.choice(list(waiting))
        event = waiting[index].pop(0)
        if not waiting[index]:
            del waiting[index]
        alone[index].apply(event)
        assert state(views.apply(event)) == state(alone[index])
    assert {view.status for view in alone.values()} == {"success", "error"}


def test_the_server_is_the_run_s_own_else_the_stream_s() -> None:
    views = RunViews()
    views.apply(ev.StreamStarted(seq=1, time=0.0, elapsed=0.0, server=SERVER, runs_total=2))
    assert views.apply(ev.RunQueued(seq=2, time=0.0, elapsed=1.0, run_index=1)).server == SERVER
    assert views.apply(ev.RunQueued(seq=3, time=0.0, elapsed=1.0, run_index=2, server=TWO)).server == TWO
    end = ev.RunFinished(seq=4, time=0.0, elapsed=2.0, run_index=1, status="lost", exit_code=6, server=ONE)
    assert views.apply(end).server == ONE


def test_a_run_that_is_queued_again_begins_anew() -> None:
    views = RunViews()
    for event in moved():
        run = views.apply(event)
        if isinstance(event, ev.Warning):
            assert (run.server, run.status, run.nodes["3"].step) == (TWO, "running", 2)
        if isinstance(event, ev.RunQueued) and event.elapsed > 1:
            assert (run.run_index, run.server, run.status) == (1, ONE, "queued")
            assert (run.fraction, run.active, run.timings) == (0.0, (), {})
            assert {node.state for node in run.nodes.values()} == {"waiting"}
            assert run.queued_at == event.elapsed
            assert run.started_at is None
    assert run.status == "success"


def test_events_of_no_run_are_told_with_the_run_told_last_and_change_nothing_of_it() -> None:
    views = RunViews()
    for event in many_short(2)[:6]:
        run = views.apply(event)
    before = state(run)[:3]
    lost = ev.ConnectionChanged(seq=90, time=0.0, elapsed=50.0, state="lost", detail="all of them")
    assert views.apply(lost) is run
    assert (run.elapsed, run.connection, state(run)[:3]) == (50.0, "connected", before)
    assert views.apply(ev.StreamFinished(seq=91, time=0.0, elapsed=51.0, status="x", exit_code=1)) is run


def test_an_end_without_index_has_a_view_of_its_own() -> None:
    views = RunViews()
    for event in many_short(1)[:-2]:
        run = views.apply(event)
    end = ev.RunFinished(seq=99, time=0.0, elapsed=9.0, status="usage", exit_code=2)
    alone = views.apply(end)
    assert (alone.run_index, alone.status, alone.nodes) == (None, "usage", {})
    assert run.status == "running"
    assert views.newest_open is run


def test_the_view_at_the_end_of_a_run_is_right_and_then_forgotten() -> None:
    views, most = RunViews(), 0
    for event in many_short(1000, servers=4):
        run = views.apply(event)
        if isinstance(event, ev.RunFinished):
            assert (run.run_index, run.result, run.status) == (event.run_index, event, event.status)
        most = max(most, len(views._views))
    assert most <= 5


def test_the_newest_open_run() -> None:
    views = RunViews()
    assert views.newest_open is views.last, "before anything, the time of the command can be drawn"
    told = [event for event in many_short(3, servers=3) if event.run_index is not None]
    newest: list[int] = []
    for event in told:
        views.apply(event)
        index = event.run_index or 0
        newest = [each for each in newest if each != index]
        if not isinstance(event, ev.RunFinished):
            newest.append(index)
        open_run = views.newest_open
        assert (open_run.run_index if open_run else None) == (newest[-1] if newest else None)
    assert views.newest_open is None


def test_what_comes_behind_the_end_of_a_run_opens_it_not_again() -> None:
    views = RunViews()
    told = many_short(2, servers=1)
    for event in told[:-1]:
        views.apply(event)
    late = replace(next(event for event in told if isinstance(event, ev.ConnectionChanged)), elapsed=9.0, run_index=1)
    assert views.apply(late).connection == "connected"
    assert views.newest_open is None


def test_a_command_without_any_run() -> None:
    views = RunViews()
    builder = EventBuilder()
    builder.add(ev.StreamStarted, "client", server=SERVER, runs_total=3)
    assert [views.apply(event).server for event in builder.end("usage")] == [SERVER] * 3
    assert views.newest_open is None
