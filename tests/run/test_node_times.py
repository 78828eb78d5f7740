"""What each node took, as the end of a run tells it."""

from __future__ import annotations

import pytest

from comfyreport import events as ev
from comfyreport.events import NodeRef
from comfyreport.events.jsonlines import to_line
from comfyreport.run.node_times import node_times
from comfyreport.run.nodes import Nodes
from tests.estimates.runs import duration, expected
from tests.playing import (
    ACCEPTED,
    PROMPT,
    RunFeeder,
    executing,
    history,
    play_recording,
    progress,
    single_prompts,
    start,
    states,
    text,
    the_end,
)


def by_id(end: ev.RunFinished) -> dict[str, ev.NodeTime]:
    assert len({each.node.id for each in end.node_times}) == len(end.node_times)
    return {each.node.id: each for each in end.node_times}


def test_seconds_and_shares() -> None:
    feeder = start("3", "8")
    feeder.feed(5.0, executing("3"))
    feeder.feed(8.0, executing("8"))
    feeder.feed(9.0, history())
    end = feeder.finish(9.0)
    assert [(each.node.title, each.seconds, each.share) for each in end.node_times] == [
        ("Node 3", 3.0, 0.75),
        ("Node 8", 1.0, 0.25),
    ]
    assert all(each.steps_per_second is None and not each.cached for each in end.node_times)
    assert end.usual_seconds is None


def test_cached_nodes_come_first_and_took_nothing() -> None:
    feeder = start("3", "4", "5")
    feeder.feed(1.0, text("execution_cached", prompt_id=PROMPT, nodes=["5", "4"]), executing("3"))
    feeder.feed(3.0, history())
    end = feeder.finish(3.0)
    assert [(each.node.id, each.cached, each.seconds, each.share) for each in end.node_times] == [
        ("5", True, 0.0, 0.0),
        ("4", True, 0.0, 0.0),
        ("3", False, 2.0, 1.0),
    ]


def test_the_speed_is_that_which_was_told_last() -> None:
    feeder = start("3", "8")
    feeder.feed(0.0, executing("3"))
    for step in range(1, 5):
        feeder.feed(step / 2, progress("3", step, 4))
    feeder.feed(9.0, executing("8"))
    feeder.feed(10.0, history())
    end = feeder.finish(10.0)
    told = [event.steps_per_second for event in feeder.events if isinstance(event, ev.NodeProgress)]
    assert by_id(end)["3"].steps_per_second == told[-1] == 2.0
    assert by_id(end)["8"].steps_per_second is None


def test_of_two_passes_it_is_the_last_ones() -> None:
    feeder = start("3")
    feeder.feed(0.0, executing("3"))
    for second, step in ((1.0, 1), (2.0, 2), (2.5, 1), (3.0, 2)):
        feeder.feed(second, progress("3", step, 2))
    feeder.feed(3.0, history())
    assert by_id(feeder.finish(3.0))["3"].steps_per_second == 2.0


def test_a_node_that_stops_before_its_bar_is_full_has_the_speed_of_its_last_step() -> None:
    feeder = start("3")
    feeder.feed(0.0, executing("3"), progress("3", 1, 20))
    feeder.feed(2.0, progress("3", 4, 20))
    feeder.feed(60.0, history())
    assert by_id(feeder.finish(60.0))["3"].steps_per_second == 2.0


def test_a_node_that_runs_again_adds_up_and_keeps_the_speed_of_the_run_that_had_a_bar() -> None:
    feeder = start("3", "8")
    feeder.feed(0.0, executing("3"), progress("3", 1, 2))
    feeder.feed(1.0, progress("3", 2, 2))
    feeder.feed(1.0, executing("8"))
    feeder.feed(2.0, executing("3"))
    feeder.feed(5.0, history())
    end = feeder.finish(5.0)
    assert (by_id(end)["3"].seconds, by_id(end)["3"].steps_per_second) == (4.0, 2.0)


def test_a_node_whose_start_nobody_saw_has_neither_seconds_nor_a_share() -> None:
    feeder = start("3", "8")
    feeder.feed(1.0, states(("3", "finished"), ("8", "running")), executing("8"))
    feeder.feed(2.0, history())
    times = by_id(feeder.finish(2.0))
    assert [(times[key].seconds, times[key].share) for key in ("3", "8")] == [(None, None), (1.0, 1.0)]


def test_what_ran_until_the_run_was_given_up_is_told() -> None:
    feeder = start("3", "8")
    feeder.feed(1.0, executing("3"))
    assert [(each.node.id, each.seconds) for each in feeder.finish(4.0).node_times] == [("3", 3.0)]


def test_a_run_that_never_began_has_none() -> None:
    assert RunFeeder("3").finish(1.0).node_times == ()


def told_usual(*learned: str) -> tuple[list[float | None], float | None]:
    """The usual times that are told of nodes 3 and 8, which take 2 and 1 seconds, and of the run."""
    feeder = RunFeeder("3", "8")
    feeder.run.expect({name: expected(duration(2.5004)) for name in learned})
    feeder.feed(0.0, ACCEPTED, text("execution_start", prompt_id=PROMPT), executing("3"))
    feeder.feed(2.0, executing("8"))
    feeder.feed(3.0, history())
    end = feeder.finish(3.0)
    return [each.usual_seconds for each in end.node_times], end.usual_seconds


def test_usual_times_are_told_where_they_were_learned() -> None:
    assert told_usual("3", "8") == ([2.5, 2.5], 5.001)
    assert told_usual("3") == ([2.5, None], None)


def test_a_node_that_was_cut_short_is_not_held_against_its_usual_time() -> None:
    feeder = start("3", "8")
    feeder.run.expect({name: expected(duration(2.5)) for name in ("3", "8")})
    feeder.feed(1.0, executing("3"))
    feeder.feed(3.0, executing("8"))
    assert [each.usual_seconds for each in feeder.finish(3.5).node_times] == [2.5, None]


def test_the_usual_time_of_a_run_is_told_of_a_whole_one() -> None:
    feeder = start("3", "8")
    feeder.run.expect({name: expected(duration(2.5)) for name in ("3", "8")})
    feeder.feed(1.0, executing("3"))
    assert feeder.finish(3.5).usual_seconds is None


def test_nodes_that_took_no_time_have_no_share() -> None:
    nodes = Nodes([NodeRef(id="1")])
    nodes.stop(nodes.start("1", 5.0), 5.0)
    assert [(each.seconds, each.share) for each in node_times(nodes)] == [(0.0, None)]


def test_a_thousand_nodes_make_a_line_that_can_be_read() -> None:
    refs = [NodeRef(id=str(number), class_type="CLIPTextEncode", title="CLIP Text Encode") for number in range(1000)]
    nodes = Nodes(refs)
    for number in range(1000):
        nodes.stop(nodes.start(str(number), number), number + 1.0)
    times = node_times(nodes)
    assert [each.node for each in times] == refs
    end = ev.RunFinished(seq=1, time=0.0, elapsed=0.0, status="success", exit_code=0, node_times=times)
    assert len(to_line(end)) < 200_000


@pytest.mark.parametrize(("name", "number"), list(single_prompts()))
def test_of_each_recording(name: str, number: int) -> None:
    events = play_recording(name, number)
    end = the_end(events)
    assert [each.node.id for each in end.node_times] == [*end.cached, *end.executed]
    assert [each.cached for each in end.node_times] == [True] * len(end.cached) + [False] * len(end.executed)
    known = {each.node.id: each.seconds for each in end.node_times if not each.cached and each.seconds is not None}
    assert known == end.node_seconds
    shares = [each.share for each in end.node_times if each.share is not None]
    assert not any(known.values()) or sum(shares) == pytest.approx(1, abs=1e-4 * len(shares))
    told = {
        event.node.id: event.steps_per_second
        for event in events
        if isinstance(event, ev.NodeProgress) and event.steps_per_second is not None
    }
    for each in end.node_times:
        if each.steps_per_second is not None:
            assert each.steps_per_second == told[each.node.id]
