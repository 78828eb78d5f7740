"""Run, message by message: what each makes, and what it must not make."""

from __future__ import annotations

import pytest

from comfyreport import events as ev
from comfyreport.events import Instant, NodeError, NodeRef
from comfyreport.protocol import responses
from comfyreport.run import Run
from comfyreport.run.verdict import Verdict
from tests.playing import ACCEPTED, PROMPT, RunFeeder, executing, progress, short, start, states, text, text_frame


def history(end: str = "success", **more: object) -> responses.History:
    fields = {"error": None, "interrupted": None, "cached": (), "outputs": (), **more}
    return responses.History(prompt_id=PROMPT, end=end, **fields)  # type: ignore[arg-type]


def queue(*names: str, running: str = "", graph: object = None) -> responses.Queue:
    pending = tuple(responses.QueueEntry(number, name, None, graph) for number, name in enumerate(names))
    return responses.Queue((responses.QueueEntry(0, running, None, graph),) if running else (), pending)


# --- nodes


def test_titles_come_from_the_workflow() -> None:
    told = start("3")
    told.tell(1.0, executing("3"), executing("77"))
    refs = [event.node for event in told.events if isinstance(event, ev.NodeStarted)]
    assert refs == [NodeRef(id="3", class_type="Class3", title="Node 3"), NodeRef(id="77", title="77")]


def test_nodes_that_end_and_begin_in_one_state() -> None:
    told = start("3", "8")
    told.tell(1.0, states(("3", "running")), executing("3"))
    told.tell(3.0, states(("3", "finished"), ("8", "running")))
    told.tell(4.0, executing("8"))
    assert sorted(told.shown()[3:]) == ["node_finished 3", "node_started 8"]
    assert told.run.nodes.seconds() == {"3": 2.0, "8": 0.0}


def test_side_by_side() -> None:
    told = start("1", "2")
    told.tell(1.0, states(("1", "running")), executing("1"))
    told.tell(2.0, states(("1", "running"), ("2", "running")), executing("2"))
    told.tell(3.0, states(("1", "running"), ("2", "finished")))
    assert told.shown()[2:] == ["node_started 1", "node_started 2", "node_finished 2"]
    assert list(told.run.nodes.active) == ["1"]


def test_a_finished_node_that_begins_again() -> None:
    told = start("3")
    for at in (1.0, 2.0):
        told.tell(at, executing("3"), states(("3", "running")), states(("3", "finished")))
    assert told.shown()[2:] == ["node_started 3", "node_finished 3"] * 2


def test_a_cached_node_that_runs_all_the_same_is_no_more_cached() -> None:
    told = start("3", "8")
    told.tell(1.0, text("execution_cached", nodes=["3"], prompt_id=PROMPT), executing("3"))
    told.tell(2.0, history())
    end = told.finish(2.0)
    assert (end.cached, end.executed) == ((), ("3",))


def test_what_ran_is_not_called_cached_afterwards() -> None:
    told = start("3")
    told.tell(1.0, executing("3"), states(("3", "finished")), history(cached=("3",)))
    assert "node_cached 3" not in told.shown()
    told.finish(1.0)


def test_states_that_cant_be_read_are_passed_over() -> None:
    told = start("3")
    assert told.tell(1.0, text("progress_state", prompt_id=PROMPT, nodes={"3": None, "4": {"state": 7}})) == []


def test_outputs_of_a_node_are_told_with_its_end() -> None:
    told = start("9")
    told.tell(1.0, states(("9", "running")), executing("9"))
    for name in ("a.png", "b.png"):
        told.tell(1.5, text("executed", node="9", prompt_id=PROMPT, output={"images": [{"filename": name}]}))
    [event] = told.tell(2.0, states(("9", "finished")))
    assert isinstance(event, ev.NodeFinished)
    assert [(output.index, output.filename) for output in event.outputs] == [(0, "a.png"), (1, "b.png")]


def test_outputs_under_one_display_node_have_places_of_their_own() -> None:
    told = start("2")
    ui = {"images": [{"filename": "a.png"}], "text": ["x"]}
    other = {"images": [{"filename": "b.png"}]}
    told.tell(1.0, history(outputs=tuple(responses.HistoryOutput("2", each) for each in (ui, other, ui))))
    assert [(output.index, output.filename) for output in told.run.outputs] == [
        (0, "a.png"),
        (1, None),
        (2, "b.png"),
        (3, None),
    ]
    told.finish(1.0)


def test_texts_are_only_for_nodes_that_run() -> None:
    told = start("4")
    assert told.tell(1.0, text_frame("4", "too early")) == []
    told.tell(2.0, executing("4"))
    assert [short(event) for event in told.tell(3.0, text_frame("4", "now"), text_frame("5", "x"))] == ["node_text 4"]


# --- other prompts


def test_messages_of_another_prompt_change_nothing() -> None:
    told = start("3")
    frames = [frame.replace(f'"{PROMPT}"', '"other"') for frame in (executing("3"), progress("3", 1, 2), states())]
    frames += [text(kind, prompt_id="other", nodes=["3"]) for kind in ("execution_cached", "execution_error")]
    assert told.tell(1.0, *frames, executing(None, prompt_id="other")) == []
    assert not told.run.ending


def test_the_note_after_a_reconnect_names_no_prompt() -> None:
    told = start("3")
    assert told.tell(1.0, text("executing", node="77")) == []
    assert told.tell(1.0, text("executing", node=None)) == []
    assert [short(event) for event in told.tell(2.0, text("executing", node="3"))] == ["node_started 3"]
    assert told.tell(2.0, text("executing", node="3")) == []
    assert not told.run.ending


# --- the submission


def test_messages_before_the_answer() -> None:
    told = RunFeeder("3")
    told.tell(1.0, text("execution_start", prompt_id=PROMPT), executing("3"), ACCEPTED)
    assert told.shown() == ["run_queued", "run_started", "node_started 3"]
    assert [event.source for event in told.events] == ["ws"] * 3


def test_a_server_that_gives_another_id_is_believed() -> None:
    told = RunFeeder("3")
    told.run.sent = True
    early = [text("execution_start", prompt_id="given"), executing("3", prompt_id="given")]
    assert told.tell(1.0, *early, executing("3", prompt_id="third")) == []
    told.tell(2.0, responses.Accepted("given"))
    assert told.shown() == ["warning prompt_id_changed", "run_queued", "run_started", "node_started 3"]
    assert [(event.prompt_id, event.time, event.elapsed) for event in told.events] == [("given", 1002.0, 2.0)] * 4
    assert [event.source for event in told.events] == ["http", "http", "ws", "ws"]
    assert told.tell(3.0, executing("3", prompt_id=PROMPT)) == []


def test_early_messages_are_kept_only_to_a_limit() -> None:
    told = RunFeeder("3")
    told.tell(1.0, *[executing(str(number), prompt_id="given") for number in range(5000)])
    told.tell(2.0, responses.Accepted("given"))
    assert len(told.events) < 2100
    assert told.tell(3.0, executing("4000", prompt_id="given")) != []


def test_dropped_outputs_are_told_and_make_it_partial() -> None:
    error = NodeError(node=NodeRef(id="9", title="Save"), type="t", message="m", details="d")
    told = RunFeeder("3", "9")
    told.tell(0.0, responses.Accepted(PROMPT, (error, error)))
    assert told.shown() == ["run_queued", "warning 9 node_errors", "warning 9 node_errors"]
    told.tell(1.0, history())
    end = told.finish(1.0)
    assert (end.status, end.exit_code) == ("partial", 8)


def test_a_refusal() -> None:
    told = RunFeeder("3")
    error = ev.ErrorInfo(code="missing_node", message="m")
    assert told.tell(0.0, responses.Refused(error)) == []
    end = told.finish(0.0)
    assert (end.status, end.error, end.prompt_id) == ("rejected", error, None)


def test_events_bear_no_id_before_the_post_leaves() -> None:
    run = Run(PROMPT)
    [before] = run.emit(ev.ConnectionChanged, Instant(0.0, 0.0), state="connected")
    run.sent = True
    [after] = run.emit(ev.ConnectionChanged, Instant(0.0, 0.0), state="lost")
    assert (before.prompt_id, after.prompt_id) == (None, PROMPT)


# --- the queue


def test_places_in_the_queue() -> None:
    told = RunFeeder("3")
    told.tell(0.0, ACCEPTED)
    said = [
        queue("a", PROMPT, running="r"),
        queue("a", PROMPT, running="r"),
        # One before it went, one came behind it: the length is the same.
        queue(PROMPT, "z", running="r"),
        queue(running=PROMPT),
        queue(),
    ]
    for at, each in enumerate(said):
        told.tell(float(at), each)
    places = [(event.position, event.remaining) for event in told.events if isinstance(event, ev.QueueChanged)]
    assert places == [(2, 3), (1, 3), (0, 1), (None, 0)]


def test_the_queue_shows_that_it_runs() -> None:
    told = RunFeeder("3")
    told.tell(0.0, queue(running=PROMPT, graph={"3": {"class_type": "KSampler"}}))
    assert told.shown()[:2] == ["run_queued", "run_started"]
    assert {event.source for event in told.events} == {"http"}
    waiting = RunFeeder()
    waiting.tell(0.0, queue(PROMPT, graph={"3": {"class_type": "KSampler"}}))
    assert "run_started" not in waiting.shown()
    [queued] = [event for event in waiting.events if isinstance(event, ev.RunQueued)]
    assert (queued.position, [node.class_type for node in queued.nodes]) == (0, ["KSampler"])


def test_the_status_counts_all_prompts() -> None:
    told = RunFeeder("3")
    told.tell(0.0, text("status", status={"exec_info": {"queue_remaining": 3}}))
    assert told.shown() == []
    told.tell(1.0, ACCEPTED, text("status", status={"exec_info": {"queue_remaining": 4}}))
    told.tell(2.0, text("status", status={"exec_info": {"queue_remaining": 4}}))
    [event] = [event for event in told.events if isinstance(event, ev.QueueChanged)]
    assert (event.position, event.remaining) == (None, 4)


# --- the end


def test_nothing_is_made_once_the_end_is_known() -> None:
    told = start("3")
    told.tell(1.0, executing("3"), history())
    assert told.tell(2.0, executing("3"), progress("3", 1, 2), ACCEPTED, queue(running=PROMPT), history()) == []
    told.finish(3.0)
    assert told.run.finish(Instant(0.0, 4.0)) == []
    assert told.run.emit(ev.Warning, Instant(0.0, 4.0), code="stalled", message="m") == []
    assert told.tell(5.0, executing("3")) == []


def test_a_run_without_a_verdict_says_so() -> None:
    end = start("3").finish(1.0)
    assert (end.status, end.exit_code, end.error and end.error.code) == ("internal", 70, "internal")


def test_the_first_conclusion_stands() -> None:
    run = Run(PROMPT)
    run.conclude(Verdict("timeout"))
    run.conclude(Verdict("lost"))
    assert run.verdict == Verdict("timeout")


@pytest.mark.parametrize(
    "frame",
    [
        executing(None),
        text("execution_success", prompt_id=PROMPT),
        text("execution_complete", prompt_id=PROMPT),
        text("execution_error", prompt_id=PROMPT, node_id="3"),
        text("execution_interrupted", prompt_id=PROMPT),
    ],
)
def test_the_socket_says_that_it_is_over_and_history_decides(frame: str) -> None:
    told = start("3")
    assert not told.run.ending
    told.tell(1.0, frame)
    assert told.run.ending
    assert told.run.verdict is None
    told.tell(2.0, history())
    assert told.run.verdict is not None
    assert told.run.verdict.status == "success"
    assert not told.run.ending


def test_a_blocked_node_ends_nothing() -> None:
    told = start("3")
    told.tell(1.0, text("execution_error", prompt_id=PROMPT, node_id="3", exception_type="ExecutionBlocked"))
    assert told.shown()[-1] == "warning 3 blocked"
    assert not told.run.ending
    told.tell(2.0, history())
    assert told.finish(2.0).status == "partial"


def test_nodes_that_nobody_closed_are_closed_by_a_success_alone() -> None:
    for end, shown in (("success", "node_finished 3"), ("error", "node_started 3")):
        told = start("3")
        told.tell(1.0, executing("3"), history(end))
        assert [line for line in told.shown() if line.startswith("node_")][-1] == shown
        assert told.finish(5.0).node_seconds == {"3": 0.0 if end == "success" else 4.0}


def test_malformed_messages_are_warned_of_once_a_kind() -> None:
    told = start("3")
    for number in range(100):
        told.tell(1.0, '{"type": "progress", "data": {"value": NaN}}', "x" * number)
    warnings = [event for event in told.events if isinstance(event, ev.Warning)]
    assert {event.code for event in warnings} == {"malformed_message"}
    assert 2 <= len(warnings) <= 20


def test_the_times_of_the_end() -> None:
    told = RunFeeder("3", "8")
    told.tell(2.0, ACCEPTED)
    told.tell(5.0, text("execution_start", prompt_id=PROMPT), states(("3", "running")), executing("3"))
    told.tell(9.0, states(("3", "finished"), ("8", "running")), executing("8"))
    told.tell(10.0, history())
    end = told.finish(12.0)
    assert (end.queue_seconds, end.seconds, end.node_seconds) == (3.0, 10.0, {"3": 4.0, "8": 1.0})
