"""The jsonl reporter: every line valid, `seq` rising, cheap where asked for."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from comfyreport_jsonl import jsonl
from hypothesis import given, settings, strategies as st
from jsonschema import Draft202012Validator

from comfyreport import events as ev
from comfyreport.errors import ReporterError
from comfyreport.events import RunView
from comfyreport.events.jsonlines import to_dict
from comfyreport.events.schema import json_schema
from comfyreport.reporting.streams import Stream
from tests.plugins.events import (
    ALL_STEPS,
    DECODER,
    REQUIRED_STEPS,
    SAMPLER,
    EventBuilder,
    call_hook,
    deliver,
    failed,
    fully_cached,
    progress,
    sampling,
    txt2img,
)
from tests.plugins.terminal import Plain

VALIDATOR = Draft202012Validator(json_schema())


def lines(out: Plain) -> list[dict[str, Any]]:
    """The objects that were written, each checked against the schema, with `seq` rising."""
    assert out.text == "" or out.text.endswith("\n")
    objects = [json.loads(line) for line in out.text.splitlines()]
    for each in objects:
        VALIDATOR.validate(each)
    assert all(before["seq"] < after["seq"] for before, after in pairwise(objects))
    return objects


def play(events: list[ev.Event], **options: Any) -> list[dict[str, Any]]:
    out = Plain()
    deliver(jsonl(out, **options), events)
    return lines(out)


def test_every_event_is_a_line() -> None:
    events = txt2img()
    assert [each["type"] for each in play(events)] == [to_dict(event)["type"] for event in events]


def test_the_requirements_lines() -> None:
    out = Plain()
    deliver(jsonl(out), txt2img(REQUIRED_STEPS))
    written = [line for line in out.text.splitlines() if '"step"' in line]
    assert [line[: line.index(',"type"')].partition(',"node_id"')[0] for line in written] == [
        '{"step":1,"max_steps":20,"eta_seconds":19.0,"node":"KSampler"',
        '{"step":5,"max_steps":20,"eta_seconds":12.0,"node":"KSampler"',
        '{"step":10,"max_steps":20,"eta_seconds":8.0,"node":"KSampler"',
        '{"step":15,"max_steps":20,"eta_seconds":4.0,"node":"KSampler"',
        '{"step":20,"max_steps":20,"eta_seconds":0.0,"node":"KSampler"',
    ]


def test_the_first_and_the_last_line() -> None:
    for events in (txt2img(), fully_cached(), failed()):
        lines = play(events)
        assert (lines[0]["type"], lines[-1]["type"]) == ("stream_started", "stream_finished")
        assert [each["type"] for each in lines].count("run_finished") == 1


@pytest.mark.parametrize(("detail", "most_lines", "most_bytes"), [("summary", 8, 2000), ("nodes", 25, 9000)])
def test_what_a_run_of_twenty_steps_costs(detail: str, most_lines: int, most_bytes: int) -> None:
    out = Plain()
    deliver(jsonl(out, detail=detail), txt2img(ALL_STEPS))  # type: ignore[arg-type]
    assert len(lines(out)) <= most_lines
    assert len(out.raw.getvalue()) <= most_bytes


def test_a_summary() -> None:
    lines = play(txt2img(), detail="summary")
    assert [each["type"] for each in lines] == [
        "stream_started", "run_queued", "run_started", "output_saved", "run_finished", "stream_finished",
    ]  # fmt: skip
    assert "nodes" not in lines[1]
    assert lines[4]["outputs"][0]["path"] == "/tmp/sunset.png"


def test_a_summary_has_warnings() -> None:
    builder = EventBuilder().begin()
    builder.add(ev.Warning, code="stalled", message="nothing heard")
    assert [each["type"] for each in play(builder.end(), detail="summary")].count("warning") == 1


def test_nodes_but_no_steps() -> None:
    lines = play(txt2img(), detail="nodes")
    types = [each["type"] for each in lines]
    assert "node_progress" not in types
    assert types.count("node_started") == types.count("node_finished") == 7
    assert len(lines[1]["nodes"]) == 7


def quick(count: int) -> EventBuilder:
    """A sampler of *count* steps, a hundredth of a second each."""
    builder = sampling(())
    for step in range(1, count + 1):
        builder.at(4.0 + step / 100).step(SAMPLER, step, 1000, step / 100)
    return builder


def steps(lines: list[dict[str, Any]]) -> list[float]:
    return [each["step"] for each in lines if "step" in each]


@pytest.mark.parametrize(("rate", "expected"), [(10.0, 10), (2.0, 2), (0.0, 100)])
def test_rate(rate: float, expected: int) -> None:
    builder = quick(100)
    builder.add(ev.NodeFinished, node=SAMPLER, **progress(5, 7))
    written = steps(play(builder.end(), rate=rate))
    assert expected <= len(written) <= expected + 2
    assert (written[0], written[-1]) == (1, 100)


def test_the_newest_step_comes_before_the_end_of_a_broken_run() -> None:
    builder = quick(57)
    assert steps(play(builder.end("lost"), rate=1))[-1] == 57


def test_a_stream_that_just_ends_loses_nothing() -> None:
    assert steps(play(quick(57).events, rate=1))[-1] == 57


def test_a_tick_writes_a_held_line() -> None:
    out = Plain()
    reporter = jsonl(out)
    for event in quick(2).events:
        call_hook(reporter, "event", event=event)
    assert steps(lines(out)) == [1]
    call_hook(reporter, "tick", elapsed=4.2, run=RunView())
    assert steps(lines(out)) == [1, 2]


def test_each_line_is_flushed() -> None:
    out = Plain()
    reporter = jsonl(out)
    for count, event in enumerate(txt2img(), 1):
        call_hook(reporter, "event", event=event)
        assert out.text.count("\n") == count


def test_previews_are_written_as_their_length_and_never_asked_for() -> None:
    out = Plain()
    reporter = jsonl(out)
    assert not hasattr(reporter, "comfyreport_node_preview")
    builder = EventBuilder()
    builder.add(ev.NodePreview, node=SAMPLER, media_type="image/jpeg", image=b"\xff" * 9000)
    deliver(reporter, builder.events)
    assert lines(out)[0]["image_bytes"] == 9000
    assert len(out.text) < 400


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([SAMPLER, DECODER]), st.booleans(), st.floats(0, 0.2)), max_size=50))
def test_nodes_side_by_side_keep_the_order(moves: list[tuple[ev.NodeRef, bool, float]]) -> None:
    builder = EventBuilder().begin()
    counts = {SAMPLER.id: 0, DECODER.id: 0}
    for ref, text, pause in moves:
        builder.at(builder.now + pause)
        if text:
            builder.add(ev.NodeText, node=ref, text="…")
        else:
            counts[ref.id] += 1
            builder.step(ref, counts[ref.id], 1000, 1.0)
    lines = play(builder.end())
    for ref in (SAMPLER, DECODER):
        written = steps([each for each in lines if each.get("node_id") == ref.id])
        assert written == sorted(written)
        assert counts[ref.id] in ([*written, 0] if not counts[ref.id] else written)


def test_utf8_whatever_the_stream(tmp_path: Path) -> None:
    builder = EventBuilder()
    builder.add(ev.NodeText, node=ev.NodeRef(id="1", title="雪 \ud800"), text="é")
    out = Plain(encoding="cp1252")
    deliver(jsonl(out), builder.events)
    assert json.loads(out.raw.getvalue().decode("utf-8"))["text"] == "é"
    deliver(jsonl(Stream.to_path(tmp_path / "x.jsonl")), builder.events)
    assert (tmp_path / "x.jsonl").read_bytes() == out.raw.getvalue()


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
def test_an_unusable_rate(rate: float) -> None:
    with pytest.raises(ReporterError, match="rate="):
        jsonl(Plain(), rate=rate)
