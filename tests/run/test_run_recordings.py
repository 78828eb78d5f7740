"""Run over real traffic: each prompt of each recording gives the events that it should."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport import events as ev
from tests import recordings
from tests.playing import (
    check,
    one_prompt,
    play,
    play_recording,
    short,
    single_prompts,
    the_end,
    without_types,
)

PARTIAL = ("e_validation_error", 17)
"""The only submission there that was taken: one output good, one bad."""

ENDS = {
    "b_fully_cached": "success",
    "d5_execution_blocked": "partial",
    "d_node_error": "error",
    "f_interrupt_midway": "interrupted",
    "l_server_killed": "lost",
}


def number_ids() -> list[Any]:
    return [pytest.param(*each, id=f"{each[0]}-{each[1]}") for each in single_prompts()]


def history_end(name: str, number: int) -> str | None:
    """How a prompt ended by the recording's history, read by hand; None if it isn't there."""
    records = one_prompt(recordings.load(name), number)
    answers = [
        record.get("response") for record in records if record.get("path") == "/prompt" and record["dir"] == "in"
    ]
    prompt_id = answers[0].get("prompt_id") if answers and isinstance(answers[0], dict) else None
    for record in records:
        response = record.get("response")
        if str(record.get("path")).startswith("/history/") and isinstance(response, dict) and prompt_id in response:
            kinds = [message[0] for message in response[prompt_id]["status"]["messages"]]
            if "execution_interrupted" in kinds:
                return "interrupted"
            return "error" if "execution_error" in kinds else "success"
    return None


@pytest.mark.parametrize(("name", "number"), number_ids())
def test_each_prompt_has_its_life_cycle_and_its_end(name: str, number: int) -> None:
    events = play_recording(name, number)
    end = the_end(events)
    recorded_end = history_end(name, number)
    if name.startswith("d5"):
        assert (recorded_end, end.status, end.exit_code) == ("success", "partial", 8)
    elif recorded_end is not None:
        assert end.status == recorded_end
    elif (name, number) == PARTIAL:
        assert end.status == "lost"  # its history was not recorded
    else:
        assert end.status in ("lost", "rejected")
    if end.status == "success":
        assert set(end.cached) | set(end.executed) <= {node.id for node in manifest(events)}


def manifest(events: list[ev.Event]) -> tuple[ev.NodeRef, ...]:
    return next(event.nodes for event in events if isinstance(event, ev.RunQueued))


@pytest.mark.parametrize(("name", "status"), ENDS.items())
def test_ends(name: str, status: str) -> None:
    assert the_end(play_recording(name)).status == status


def short_events(
    name: str, number: int = 0, *, but: tuple[str, ...] = ("queue_changed", "connection_changed")
) -> list[str]:
    return [
        short(event)
        for event in play_recording(name, number)
        if getattr(event, "type", "") not in (*but, "node_preview")
    ]


def test_a_normal_run() -> None:
    """A checkpoint, a latent, two texts, a sampler of eight steps, a decoder, an image."""
    steps = [f"node_progress 3 {step}/8" for step in range(1, 9)]
    assert short_events("c_partial_cache") == [
        "run_queued",
        "run_started",
        *(f"node_cached {node}" for node in "4567"),
        "node_started 3",
        *steps,
        "node_finished 3",
        "node_started 8",
        "node_finished 8",
        "node_started 9",
        "node_finished 9",
        "output_ready",
        "run_finished",
    ]


def test_a_fully_cached_run() -> None:
    """Its output node sends `executed` and a finished state, and never began."""
    assert short_events("b_fully_cached") == [
        "run_queued",
        "run_started",
        *(f"node_cached {node}" for node in "3456789"),
        "output_ready",
        "run_finished",
    ]
    end = the_end(play_recording("b_fully_cached"))
    assert [(output.filename, output.cached) for output in end.outputs] == [("b_00001_.png", True)]
    assert (end.executed, set(end.cached)) == ((), set("3456789"))


def test_an_error() -> None:
    end = the_end(play_recording("d_node_error"))
    assert end.error is not None
    assert end.error.code == "node_error"
    assert end.error.node is not None
    assert end.error.node.id in end.executed
    assert end.error.exception_type
    assert 0 < len(end.error.traceback) <= 12
    assert (end.prompt_state, end.submitted, end.retryable) == ("finished", "yes", False)


def test_an_interrupt() -> None:
    end = the_end(play_recording("f_interrupt_midway"))
    assert end.error is not None
    assert (end.error.code, end.exit_code, end.retryable) == ("interrupted", 1, True)
    assert end.error.node is not None
    assert end.error.node.class_type == "KSampler"


def test_a_blocked_node() -> None:
    events = play_recording("d5_execution_blocked")
    assert [event.code for event in events if isinstance(event, ev.Warning)] == ["blocked"]
    end = the_end(events)
    assert end.error is not None
    assert end.error.code == "blocked"
    assert [output.filename for output in end.outputs] == ["d5b_00001_.png"]


def test_outputs_that_were_dropped() -> None:
    """The answer was a 200 with node_errors: with its history it is partial."""
    records = one_prompt(recordings.load(PARTIAL[0]), PARTIAL[1])
    answer = next(record for record in records if record.get("path") == "/prompt" and record["dir"] == "in")
    prompt_id = answer["response"]["prompt_id"]
    entry = {"outputs": {}, "status": {"status_str": "success", "completed": True, "messages": []}}
    history = {"path": f"/history/{prompt_id}", "method": "GET", "status": 200, "response": {prompt_id: entry}}
    events = play([*records, {"t": 9.0, "dir": "in", "kind": "http", **history}])
    check(events)
    end = the_end(events)
    assert (end.status, end.exit_code) == ("partial", 8)
    assert end.error is not None
    assert end.error.code == "outputs_dropped"
    assert end.error.node_errors
    assert "node_errors" in [event.code for event in events if isinstance(event, ev.Warning)]


def test_a_refused_workflow() -> None:
    end = the_end(play_recording("e_validation_error", 0))
    assert (end.status, end.exit_code, end.prompt_state, end.submitted) == ("rejected", 4, "none", "no")
    assert end.error is not None
    assert end.error.code == "missing_node"


def test_a_loop_starts_its_display_nodes_again() -> None:
    lines = short_events("k_for_loop")
    for node in "45":
        turns = [line for line in lines if line.endswith(f" {node}")]
        assert turns == [f"node_started {node}", f"node_finished {node}"] * 4
    assert [line for line in lines if line.endswith(" 6")] == ["node_started 6", "node_finished 6"]
    end = the_end(play_recording("k_for_loop"))
    assert end.executed == ("2", "1", "3", "4", "5", "6", "7")


def test_expanded_nodes_are_reported_as_their_parent() -> None:
    lines = short_events("k6_expansion_inner_progress")
    assert [line for line in lines if " 2" in line] == [
        "node_started 2",
        *(f"node_progress 2<2.0.0.2 {step}/4" for step in range(1, 5)),
        "node_finished 2",
    ]
    refs = [event.node for event in play_recording("k6_expansion_inner_progress") if isinstance(event, ev.NodeProgress)]
    assert {(ref.class_type, ref.title, ref.raw_id) for ref in refs} == {("ProbeExpand", "ProbeExpand", "2.0.0.2")}


def test_nodes_side_by_side() -> None:
    events = play_recording("u_parallel_nodes")
    running: set[str] = set()
    most = 0
    for event in events:
        if isinstance(event, ev.NodeStarted):
            running.add(event.node.id)
        elif isinstance(event, ev.NodeFinished):
            running.discard(event.node.id)
        most = max(most, len(running))
    assert most == 3
    starts = [event.node.id for event in events if isinstance(event, ev.NodeStarted)]
    assert sorted(starts) == sorted(set(starts))
    last = {event.node.id: event for event in events if isinstance(event, ev.NodeProgress)}
    assert all(event.step / event.max_steps > 0.9 for event in last.values())


@pytest.mark.parametrize("name", ["m_reconnect", "m2_reconnect_after_end"])
def test_a_reconnect(name: str) -> None:
    events = play_recording(name)
    assert [event.state for event in events if isinstance(event, ev.ConnectionChanged)] == [
        "connected",
        "lost",
        "restored",
    ]
    end = the_end(events)
    assert end.status == "success"
    assert {"3", "8", "9"} <= set(end.executed)
    turns = [short(event) for event in events if isinstance(event, (ev.NodeStarted, ev.NodeFinished))]
    assert len(turns) == len(set(turns)), "each comes once"


def test_a_reconnect_keeps_the_pass_of_a_running_node() -> None:
    events = play_recording("m_reconnect")
    steps = [event for event in events if isinstance(event, ev.NodeProgress)]
    assert {event.pass_number for event in steps} == {1}
    assert steps[-1].step == 20
    speeds = [event.steps_per_second or 0 for event in steps[-5:]]
    assert max(speeds) < 2 * min(speeds)


def test_a_run_without_progress_bars() -> None:
    assert not [line for line in short_events("h_no_progress") if line.startswith("node_progress")]


def test_lines_of_text() -> None:
    texts = [event for event in play_recording("v_text_progress") if isinstance(event, ev.NodeText)]
    assert [event.text for event in texts] == [f"Status: IN_PROGRESS {number} \u2013 ünï" for number in range(4)]
    assert {event.node.id for event in texts} == {"2"}


def test_previews_are_made_only_where_they_are_wanted() -> None:
    records = recordings.load("n_preview_metadata")
    previews = [event for event in play(records) if isinstance(event, ev.NodePreview)]
    assert [event.index for event in previews] == list(range(len(previews)))
    assert {event.node.id for event in previews if event.node is not None} == {"3"}
    assert not [event for event in play(records, previews=False) if isinstance(event, ev.NodePreview)]


def test_a_run_whose_pictures_only_went_through_the_socket_is_a_success() -> None:
    events = play_recording("o_websocket_output")
    assert the_end(events).status == "success"
    assert [event for event in events if isinstance(event, ev.Warning)] == []
    outputs = the_end(events).outputs
    told = {(each.node.class_type, each.kind, each.media_type, each.url, each.folder) for each in outputs}
    assert told == {("SaveImageWebsocket", "image", "image/png", None, None)}
    assert [each.index for each in outputs] == list(range(len(outputs)))


@pytest.mark.parametrize(("number", "steps"), [(0, 10), (1, 8), (2, 6)])
def test_messages_of_other_prompts_are_not_ours(number: int, steps: int) -> None:
    """Three prompts queued at once, by two clients: each told as if it were alone."""
    events = play_recording("g_queue_three", number)
    end = the_end(events)
    assert [output.filename for output in end.outputs] == [f"g{number + 1}_00001_.png"]
    assert {event.prompt_id for event in events[1:]} == {end.prompt_id}
    sampler = [short(event) for event in events if isinstance(event, ev.NodeProgress)]
    assert sampler == [f"node_progress 3 {step}/{steps}" for step in range(1, steps + 1)]


def test_a_deleted_prompt_never_starts() -> None:
    """Nothing on the socket names it, and history stays empty: the queue alone shows it gone."""
    events = play_recording("r_deleted_from_queue", 1)
    assert not [event for event in events if isinstance(event, (ev.RunStarted, ev.NodeStarted))]
    assert the_end(events).status == "lost"
    assert [event.position for event in events if isinstance(event, ev.QueueChanged)][-1] is None


KINDS = {
    "steps": 1,
    "floats": 1,
    "growing_total": 1,
    "restart": 3,
    "past_total": 1,
    "zero_total": 0,
    "two_bars": 1,
    "burst": 1,
}
"""The prompts of the recording of bars, and how many passes each has."""


@pytest.mark.parametrize(("number", "name"), list(enumerate(KINDS)))
def test_bars_of_all_kinds(number: int, name: str) -> None:
    steps = [event for event in play_recording("x_progress_kinds", number) if isinstance(event, ev.NodeProgress)]
    passes = [event.pass_number for event in steps]
    assert passes == sorted(passes)
    assert sorted(set(passes)) == list(range(1, KINDS[name] + 1))


def test_two_bars_in_turns_have_each_its_own_speed() -> None:
    steps = [event for event in play_recording("x_progress_kinds", 6) if isinstance(event, ev.NodeProgress)]
    for maximum, speed in ((4, 19), (8, 38)):
        speeds = [event.steps_per_second for event in steps if event.max_steps == maximum]
        assert speeds == [pytest.approx(speed, rel=0.1)] * 4


THROTTLED = "0.33/h33_throttled_progress"


def throttled(number: int) -> list[ev.NodeProgress]:
    return [event for event in play_recording(THROTTLED, number) if isinstance(event, ev.NodeProgress)]


def test_a_pass_of_which_only_the_end_was_heard() -> None:
    """Six steps of 0.25 s, twice; of the second pass the server sends the last one alone."""
    steps = throttled(0)
    assert [(event.step, event.pass_number) for event in steps] == [*((step, 1) for step in range(1, 7)), (6, 2)]
    assert {event.eta_seconds for event in steps[-2:]} == {0.0}
    assert [event.steps_per_second for event in steps] == [pytest.approx(4.0, rel=0.05)] * 7


def test_a_throttled_bar_has_the_speed_of_all_its_steps() -> None:
    speeds = [event.steps_per_second for event in throttled(1)]
    assert len(speeds) == 32
    assert speeds == [pytest.approx(94, rel=0.07)] * 32


def test_a_throttled_inner_bar_makes_no_speed_up() -> None:
    """Four steps, each with an inner bar of two: some 0.45 s a step, of which little is heard."""
    steps = throttled(2)
    assert [event.steps_per_second for event in steps if event.max_steps == 2] == [None] * 4
    outer = [event for event in steps if event.max_steps == 4]
    assert [(event.step, event.pass_number) for event in outer] == [(1, 1), (3, 1), (4, 1)]
    assert [event.steps_per_second for event in outer[1:]] == pytest.approx([2.84, 2.65], rel=0.05)


OLD = ("a2_no_previews", "c_partial_cache", "d_node_error", "f_interrupt_midway", "h_no_progress", "x_progress_kinds")


@pytest.mark.parametrize("name", OLD)
def test_a_server_without_progress_state(name: str) -> None:
    """Servers from before it tell a node's end only by the next one's begin; what is told is the same."""
    records = one_prompt(recordings.load(name))
    events = play(without_types(records, "progress_state"))
    check(events)
    turns = (ev.NodeStarted, ev.NodeFinished, ev.NodeProgress, ev.NodeCached, ev.RunFinished)

    def short_turns(events: list[ev.Event]) -> list[str]:
        return [short(event) for event in events if isinstance(event, turns)]

    assert short_turns(events) == short_turns(play(records))
