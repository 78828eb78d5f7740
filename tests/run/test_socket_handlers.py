"""What messages of the socket change in a run, beside its nodes."""

from __future__ import annotations

import pytest

from comfyreport import events as ev
from tests.playing import (
    ACCEPTED,
    PROMPT,
    RunFeeder,
    executing,
    history,
    short,
    start,
    text,
)


def test_the_note_after_a_reconnect_names_no_prompt() -> None:
    feeder = start("3")
    assert feeder.feed(1.0, text("executing", node="77")) == []
    assert feeder.feed(1.0, text("executing", node=None)) == []
    assert [short(event) for event in feeder.feed(2.0, text("executing", node="3"))] == ["node_started 3"]
    assert feeder.feed(2.0, text("executing", node="3")) == []
    assert not feeder.run.ending


def test_the_status_counts_all_prompts() -> None:
    feeder = RunFeeder("3")
    feeder.feed(0.0, text("status", status={"exec_info": {"queue_remaining": 3}}))
    assert feeder.short_events() == []
    feeder.feed(1.0, ACCEPTED, text("status", status={"exec_info": {"queue_remaining": 4}}))
    feeder.feed(2.0, text("status", status={"exec_info": {"queue_remaining": 4}}))
    [event] = [event for event in feeder.events if isinstance(event, ev.QueueChanged)]
    assert (event.position, event.remaining) == (None, 4)


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
def test_after_an_end_on_the_socket_history_decides(frame: str) -> None:
    feeder = start("3")
    assert not feeder.run.ending
    feeder.feed(1.0, frame)
    assert feeder.run.ending
    assert feeder.run.verdict is None
    feeder.feed(2.0, history())
    assert feeder.run.verdict is not None
    assert feeder.run.verdict.status == "success"
    assert not feeder.run.ending


def test_a_blocked_node_ends_nothing() -> None:
    feeder = start("3")
    feeder.feed(1.0, text("execution_error", prompt_id=PROMPT, node_id="3", exception_type="ExecutionBlocked"))
    assert feeder.short_events()[-1] == "warning 3 blocked"
    assert not feeder.run.ending
    feeder.feed(2.0, history())
    assert feeder.finish(2.0).status == "partial"


def test_malformed_messages_are_warned_of_once_a_kind() -> None:
    feeder = start("3")
    for number in range(100):
        feeder.feed(1.0, '{"type": "progress", "data": {"value": NaN}}', "x" * number)
    warnings = [event for event in feeder.events if isinstance(event, ev.Warning)]
    assert {event.code for event in warnings} == {"malformed_message"}
    assert 2 <= len(warnings) <= 20
