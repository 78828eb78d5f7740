"""What HTTP responses change in a run: the answer to the submission, the queue, the history."""

from __future__ import annotations

import itertools

from comfyreport import events as ev
from comfyreport.events import NodeError, NodeRef
from comfyreport.protocol import responses
from tests.playing import (
    ACCEPTED,
    PROMPT,
    RunFeeder,
    executing,
    history,
    queue,
    start,
    text,
)


def test_outputs_under_one_display_node_have_indexes_of_their_own() -> None:
    feeder = start("2")
    ui = {"images": [{"filename": "a.png"}], "text": ["x"]}
    other = {"images": [{"filename": "b.png"}]}
    feeder.feed(1.0, history(outputs=tuple(responses.HistoryOutput("2", each) for each in (ui, other, ui))))
    assert [(output.index, output.filename) for output in feeder.run.outputs] == [
        (0, "a.png"),
        (1, None),
        (2, "b.png"),
        (3, None),
    ]
    feeder.finish(1.0)


def test_messages_before_the_answer() -> None:
    feeder = RunFeeder("3")
    feeder.feed(1.0, text("execution_start", prompt_id=PROMPT), executing("3"), ACCEPTED)
    assert feeder.short_events() == ["run_queued", "run_started", "node_started 3"]
    assert [event.source for event in feeder.events] == ["ws"] * 3


def test_a_server_that_gives_another_id_is_followed() -> None:
    feeder = RunFeeder("3")
    feeder.run.sent = True
    early = [text("execution_start", prompt_id="given"), executing("3", prompt_id="given")]
    assert feeder.feed(1.0, *early, executing("3", prompt_id="third")) == []
    feeder.feed(2.0, responses.Accepted("given"))
    assert feeder.short_events() == ["warning prompt_id_changed", "run_queued", "run_started", "node_started 3"]
    assert [(event.prompt_id, event.time, event.elapsed) for event in feeder.events] == [("given", 1002.0, 2.0)] * 4
    assert [event.source for event in feeder.events] == ["http", "http", "ws", "ws"]
    assert feeder.feed(3.0, executing("3", prompt_id=PROMPT)) == []


def test_outputs_come_in_the_workflows_order() -> None:
    """What one node expanded to stays as history has it; what is unknown is last."""
    for order in itertools.permutations(["12", "3", "7", "5.0.0.1", "5.0.0.0", "99"]):
        feeder = start("12", "5", "3", "7")
        entries = [responses.HistoryOutput(node, {"images": [{"filename": f"{node}.png"}]}) for node in order]
        feeder.feed(1.0, history(outputs=tuple(entries)))
        inner = [node for node in order if node.startswith("5.")]
        wanted = [f"{node}.png" for node in ("12", *inner, "3", "7", "99")]
        assert [output.filename for output in feeder.finish(2.0).outputs] == wanted
        told = [event.output.filename for event in feeder.events if isinstance(event, ev.OutputReady)]
        assert told == wanted


def test_dropped_outputs_are_warned_of_and_make_the_run_partial() -> None:
    error = NodeError(node=NodeRef(id="9", title="Save"), type="t", message="m", details="d")
    feeder = RunFeeder("3", "9")
    feeder.feed(0.0, responses.Accepted(PROMPT, (error, error)))
    assert feeder.short_events() == ["run_queued", "warning 9 node_errors", "warning 9 node_errors"]
    feeder.feed(1.0, history())
    end = feeder.finish(1.0)
    assert (end.status, end.exit_code) == ("partial", 8)


def test_a_refusal() -> None:
    feeder = RunFeeder("3")
    error = ev.ErrorInfo(code="missing_node", message="m")
    assert feeder.feed(0.0, responses.Refused(error)) == []
    end = feeder.finish(0.0)
    assert (end.status, end.error, end.prompt_id) == ("rejected", error, None)


def test_places_in_the_queue() -> None:
    feeder = RunFeeder("3")
    feeder.feed(0.0, ACCEPTED)
    queues = [
        queue("a", PROMPT, running="r"),
        queue("a", PROMPT, running="r"),
        # One before it went, one came behind it: the length is the same.
        queue(PROMPT, "z", running="r"),
        queue(running=PROMPT),
        queue(),
    ]
    for at, each in enumerate(queues):
        feeder.feed(float(at), each)
    places = [(event.position, event.remaining) for event in feeder.events if isinstance(event, ev.QueueChanged)]
    assert places == [(2, 3), (1, 3), (0, 1), (None, 0)]


def test_the_queue_shows_that_it_runs() -> None:
    feeder = RunFeeder("3")
    feeder.feed(0.0, queue(running=PROMPT, graph={"3": {"class_type": "KSampler"}}))
    assert feeder.short_events()[:2] == ["run_queued", "run_started"]
    assert {event.source for event in feeder.events} == {"http"}
    waiting = RunFeeder()
    waiting.feed(0.0, queue(PROMPT, graph={"3": {"class_type": "KSampler"}}))
    assert "run_started" not in waiting.short_events()
    [queued] = [event for event in waiting.events if isinstance(event, ev.RunQueued)]
    assert (queued.position, [node.class_type for node in queued.nodes]) == (0, ["KSampler"])


def test_running_nodes_are_finished_by_a_success_alone() -> None:
    for end, shown in (("success", "node_finished 3"), ("error", "node_started 3")):
        feeder = start("3")
        feeder.feed(1.0, executing("3"), history(end))
        assert [line for line in feeder.short_events() if line.startswith("node_")][-1] == shown
        assert feeder.finish(5.0).node_seconds == {"3": 0.0 if end == "success" else 4.0}


def test_the_end_has_the_nodes_that_were_to_make_outputs() -> None:
    feeder = start("12", "5", "3")
    feeder.feed(1.0, history(output_nodes=("3", "12", "99")))
    # In the workflow's order, and none that isn't in it.
    assert feeder.finish(1.0).output_nodes == ("12", "3")


def test_where_nobody_says_which_nodes_those_are_there_are_none() -> None:
    feeder = start("3")
    feeder.feed(1.0, history())
    assert feeder.finish(1.0).output_nodes is None
