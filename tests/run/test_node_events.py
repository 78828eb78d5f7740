"""Nodes of a run: when each begins and ends, what is cached, outputs and texts."""

from __future__ import annotations

from comfyreport import events as ev
from comfyreport.events import NodeRef
from tests.playing import (
    PROMPT,
    executing,
    history,
    short,
    start,
    states,
    text,
    text_frame,
)


def test_titles_come_from_the_workflow() -> None:
    feeder = start("3")
    feeder.feed(1.0, executing("3"), executing("77"))
    refs = [event.node for event in feeder.events if isinstance(event, ev.NodeStarted)]
    assert refs == [NodeRef(id="3", class_type="Class3", title="Node 3"), NodeRef(id="77", title="77")]


def test_nodes_that_end_and_begin_in_one_state() -> None:
    feeder = start("3", "8")
    feeder.feed(1.0, states(("3", "running")), executing("3"))
    feeder.feed(3.0, states(("3", "finished"), ("8", "running")))
    feeder.feed(4.0, executing("8"))
    assert sorted(feeder.short_events()[3:]) == ["node_finished 3", "node_started 8"]
    assert feeder.run.nodes.seconds() == {"3": 2.0, "8": 0.0}


def test_nodes_side_by_side() -> None:
    feeder = start("1", "2")
    feeder.feed(1.0, states(("1", "running")), executing("1"))
    feeder.feed(2.0, states(("1", "running"), ("2", "running")), executing("2"))
    feeder.feed(3.0, states(("1", "running"), ("2", "finished")))
    assert feeder.short_events()[2:] == ["node_started 1", "node_started 2", "node_finished 2"]
    assert list(feeder.run.nodes.active) == ["1"]


def test_a_finished_node_that_begins_again() -> None:
    feeder = start("3")
    for at in (1.0, 2.0):
        feeder.feed(at, executing("3"), states(("3", "running")), states(("3", "finished")))
    assert feeder.short_events()[2:] == ["node_started 3", "node_finished 3"] * 2


def test_a_cached_node_that_runs_is_no_longer_cached() -> None:
    feeder = start("3", "8")
    feeder.feed(1.0, text("execution_cached", nodes=["3"], prompt_id=PROMPT), executing("3"))
    feeder.feed(2.0, history())
    end = feeder.finish(2.0)
    assert (end.cached, end.executed) == ((), ("3",))


def test_a_node_that_ran_is_not_cached_by_history() -> None:
    feeder = start("3")
    feeder.feed(1.0, executing("3"), states(("3", "finished")), history(cached=("3",)))
    assert "node_cached 3" not in feeder.short_events()
    feeder.finish(1.0)


def test_states_that_cant_be_read_are_skipped() -> None:
    feeder = start("3")
    assert feeder.feed(1.0, text("progress_state", prompt_id=PROMPT, nodes={"3": None, "4": {"state": 7}})) == []


def test_node_finished_has_the_outputs_of_its_node() -> None:
    feeder = start("9")
    feeder.feed(1.0, states(("9", "running")), executing("9"))
    for name in ("a.png", "b.png"):
        feeder.feed(1.5, text("executed", node="9", prompt_id=PROMPT, output={"images": [{"filename": name}]}))
    [event] = feeder.feed(2.0, states(("9", "finished")))
    assert isinstance(event, ev.NodeFinished)
    assert [(output.index, output.filename) for output in event.outputs] == [(0, "a.png"), (1, "b.png")]


def test_texts_are_only_for_nodes_that_run() -> None:
    feeder = start("4")
    assert feeder.feed(1.0, text_frame("4", "too early")) == []
    feeder.feed(2.0, executing("4"))
    assert [short(event) for event in feeder.feed(3.0, text_frame("4", "now"), text_frame("5", "x"))] == ["node_text 4"]
