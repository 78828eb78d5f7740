"""Texts and values that are far too large or too deep: they are told cut, and cost neither a reporter nor memory."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from comfyreport.events import Instant
from comfyreport.events.jsonlines import to_line
from comfyreport.protocol import responses
from comfyreport.render.wording import describe_event
from comfyreport.run import Run
from comfyreport.text import TEXT_LIMIT
from comfyreport.timing import Timing
from tests.hostile.running import QUICK, follow, measured
from tests.hostile.server import BEGIN, END, WORKFLOW, Frame, Hostile, Raw, Reply, head, history, message, own, picture

MIB = 1024 * 1024
LONG = "\x7f" * 300_000


def text_frame(megabytes: int) -> Iterator[Frame]:
    """A node's text of so many MiB, in pieces."""
    yield Raw(head(megabytes * MIB + 9, 2) + struct.pack(">II", 3, 1) + b"2")
    for _ in range(megabytes):
        yield Raw(b"\x01" * MIB)


@pytest.mark.e2e
def test_a_text_of_100_mib_is_cut(tmp_path: Path) -> None:
    with Hostile(frames=(*BEGIN, *text_frame(100), *END)) as server:
        code, peak, lines = measured(server, tmp_path, "--reporter", "filelog=run.log")
    print(f"a node's text of 100 MiB: {peak:.1f} MiB")
    assert code == 0
    (event,) = [line for line in lines if line["type"] == "node_text"]
    assert event["text"] == "\x01" * (TEXT_LIMIT - 1) + "…"
    assert peak <= 2.2 * 100 + 60
    assert (tmp_path / "events.jsonl").stat().st_size < MIB


@pytest.mark.e2e
def test_a_frame_of_millions_of_values_takes_little_memory(tmp_path: Path) -> None:
    text = '{"type": "progress_state", "data": {"prompt_id": "ID", "nodes": {"2": [' + "[]," * 10_000_000 + "1]}}}"
    with Hostile(frames=(*BEGIN, text, *END)) as server:
        code, peak, lines = measured(server, tmp_path)
    print(f"a frame of ten million values: {peak:.1f} MiB")
    assert code == 0
    (warning,) = [line for line in lines if line["type"] == "warning"]
    assert warning["code"] == "frame_too_large"
    assert peak <= 160


@pytest.mark.e2e
def test_an_answer_of_millions_of_values_takes_little_memory(tmp_path: Path) -> None:
    reply = Reply(b'{"a": [' + b"[]," * 10_000_000 + b"1]}")
    with Hostile(history=lambda _: reply, queue=lambda _: reply) as server:
        code, peak, lines = measured(server, tmp_path, "--lost-after", "1")
    (end,) = [line for line in lines if line["type"] == "run_finished"]
    print(f"an answer of ten million values: {peak:.1f} MiB")
    assert (code, end["status"]) == (6, "lost")
    assert peak <= 160


@pytest.mark.parametrize("depth", [100, 300, 990, 1000, 1015])
def test_values_that_are_nested_deep_cost_no_reporter(tmp_path: Path, depth: int) -> None:
    value = "[" * depth + "]" * depth

    def answer(prompt_id: str) -> Reply:
        found = json.dumps(history(prompt_id, {"3": {"deep": ["DEEP"], "images": [picture()]}}))
        return Reply(found.replace('"DEEP"', value).encode())

    told = own("executed", node="2", output={"x": ["DEEP"]}).replace('"DEEP"', value)
    with Hostile(frames=(*BEGIN, told, *END), history=answer) as server:
        run = follow(server, tmp_path)
    assert run.result.status == "success"
    values = [output.value for output in run.result.outputs if output.kind == "value"]
    assert values == [value if depth == 100 else "(list that is nested too deeply)"]
    # What compares and copies goes as deep as the values do.
    assert copy.deepcopy(run.result) == run.result


def long_history(prompt_id: str) -> Any:
    raised = dict.fromkeys(("node_id", "node_type", "exception_type", "exception_message"), LONG)
    graph = {"3": {"class_type": LONG, "_meta": {"title": LONG}}, LONG: {"class_type": "A"}}
    outputs = {"3": {"text": [LONG], "value": [{LONG: LONG}], "images": [picture(LONG, LONG, LONG)]}, LONG: {"a": [1]}}
    return history(
        prompt_id,
        outputs,
        status="error",
        graph=graph,
        messages=[["execution_error", {**raised, "prompt_id": prompt_id, "traceback": [LONG] * 100}]],
    )


def test_no_text_of_history_is_told_whole() -> None:
    run = Run("id")
    run.sent = run.missed_messages = True
    found = responses.read_history(long_history("id"), "id")
    assert found is not None
    assert_short(run, [*run.feed(found, Instant(1.0, 1.0)), *run.finish(Instant(2.0, 2.0))])


@pytest.mark.parametrize("status", [200, 400])
def test_no_text_of_a_refusal_is_told_whole(status: int) -> None:
    error = {"type": LONG, "message": LONG, "details": LONG}
    body = {"prompt_id": LONG, "error": error, "node_errors": {"2": {"errors": [error] * 5, "class_type": LONG}}}
    run = Run("id", responses.manifest_of(WORKFLOW))
    run.sent = True
    fact = responses.read_accepted(body, {}) if status == 200 else responses.read_refused(body, {})
    assert fact is not None
    assert_short(run, [*run.feed(fact, Instant(1.0, 1.0)), *run.finish(Instant(2.0, 2.0))])
    assert run.prompt_id == "id"


def test_very_many_node_errors_are_not_all_told() -> None:
    body = {"prompt_id": "id", "node_errors": {"2": {"errors": [{"message": "wrong"}] * 100_000}}}
    found = responses.read_accepted(body, {})
    assert found is not None
    assert len(found.node_errors) == 1000


def assert_short(run: Run, told: list[Any]) -> None:
    assert told
    for event in told:
        # A control character takes six in JSON; several texts stand in one event.
        assert len(to_line(event)) < 12 * 8 * TEXT_LIMIT
        assert sum(map(len, describe_event(event))) < 20_000


def test_no_text_of_frames_is_told_whole(tmp_path: Path) -> None:
    frames = [
        *BEGIN,
        own("executing", node=LONG, display_node=LONG),
        own("progress_state", nodes={LONG: {"state": "running"}, "2": {"state": "running", "display_node_id": LONG}}),
        own("progress", node=LONG, value=1, max=2),
        own("execution_cached", nodes=[LONG]),
        own("executed", node="2", output={LONG: [LONG, {LONG: LONG}], "images": [picture(LONG, LONG, LONG)]}),
        message(LONG),
        own("execution_error", node_id="2", exception_type="ExecutionBlocked", exception_message=LONG),
        *END,
    ]
    # History doesn't tell of a blocked node: it must not be asked before these frames are read, on a slow machine too.
    timing = replace(QUICK, silence=Timing().silence)
    with Hostile(frames=frames) as server:
        told = follow(server, tmp_path, timing=timing)
    assert told.result.status == "partial"
    assert (tmp_path / "events.jsonl").stat().st_size < 4 * MIB
    assert max(map(len, told.log.splitlines())) < 4000
