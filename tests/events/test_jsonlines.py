"""Events as JSON lines: the keys, their order, and that nothing a server sends breaks a line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from comfyreport import events as ev
from comfyreport.events.jsonlines import to_dict, to_line
from tests.plugins.events import SAMPLER, EventBuilder, txt2img

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
)


def output_event(value: Any) -> ev.OutputReady:
    output = ev.Output(node=SAMPLER, index=0, kind="value", value=value)
    return ev.OutputReady(seq=1, time=2.0, elapsed=3.0, output=output)


def test_a_progress_line_begins_with_the_four_keys() -> None:
    event = EventBuilder().step(SAMPLER, 5, 20, 4.0)
    line = to_line(event)
    assert line.startswith(b'{"step":5,"max_steps":20,"eta_seconds":12.0,"node":"KSampler",')
    assert line.endswith(b"}\n")


def test_no_other_line_has_a_step() -> None:
    with_step = [event for event in txt2img() if "step" in to_dict(event)]
    assert len(with_step) == 5
    assert all(isinstance(event, ev.NodeProgress) for event in with_step)


def test_other_lines_begin_with_their_type() -> None:
    for event in txt2img():
        if not isinstance(event, ev.NodeProgress):
            assert list(to_dict(event))[:4] == ["type", "seq", "time", "elapsed"]


def test_what_is_none_is_left_out() -> None:
    event = ev.QueueChanged(seq=1, time=2.0, elapsed=3.0, remaining=4)
    assert to_dict(event) == {
        "type": "queue_changed", "seq": 1, "time": 2.0, "elapsed": 3.0, "source": "client", "remaining": 4,
    }  # fmt: skip


def test_a_node_is_flattened_alike_everywhere() -> None:
    inner = ev.NodeRef(id="10", class_type="", title="My group", raw_id="10.0.0.4")
    flat = {"node": "10", "node_id": "10", "title": "My group", "raw_id": "10.0.0.4"}
    output = ev.Output(node=inner, index=0, kind="image")
    error = ev.ErrorInfo(
        code="invalid_input", message="", node_errors=(ev.NodeError(node=inner, type="t", message=""),)
    )
    finished = to_dict(
        ev.RunFinished(seq=1, time=0.0, elapsed=0.0, status="rejected", exit_code=4, error=error, outputs=(output,))
    )
    queued = to_dict(ev.RunQueued(seq=1, time=0.0, elapsed=0.0, nodes=(inner,)))
    places = [
        to_dict(ev.NodeStarted(seq=1, time=0.0, elapsed=0.0, node=inner)),
        finished["outputs"][0],
        finished["error"]["node_errors"][0],
        queued["nodes"][0],
    ]
    for place in places:
        assert flat.items() <= place.items()


def test_bytes_become_their_length() -> None:
    event = ev.NodePreview(seq=1, time=2.0, elapsed=3.0, node=None, media_type="image/jpeg", image=b"\xff\xd8\xff")
    data = to_dict(event)
    assert data["image_bytes"] == 3
    assert "image" not in data


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_lacks_is_left_out(number: float) -> None:
    event = ev.NodeProgress(seq=1, time=2.0, elapsed=3.0, step=1, max_steps=2, eta_seconds=number, node=SAMPLER)
    assert "eta_seconds" not in json.loads(to_line(event), parse_constant=pytest.fail)


def test_keys_can_be_left_out() -> None:
    event = txt2img()[2]
    assert "nodes" in json.loads(to_line(event))
    assert "nodes" not in json.loads(to_line(event, without=("nodes", "no_such_key")))


@pytest.mark.parametrize(
    "value",
    [10**30, -(10**30), "lone \ud800", {1: 2}, {"a": {3.5: None}}, float("nan"), [float("inf")], {"\ud800": 1}, 1j],
    ids=str,
)
def test_unusual_values_make_a_line(value: Any) -> None:
    line = to_line(output_event(value))
    assert line.count(b"\n") == 1
    data = json.loads(line, parse_constant=pytest.fail)
    assert data["type"] == "output_ready"
    assert data["output"]["node"] == "KSampler"


def test_a_long_text_that_needs_escapes_is_escaped() -> None:
    value = "\x7f\u202e画\u200b\U000e0041" * 1000
    line = to_line(output_event(value))
    assert json.loads(line)["output"]["value"] == value
    assert line.decode().rstrip("\n").isprintable()


def test_very_deep_nesting_makes_a_line() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert json.loads(to_line(output_event(value)))["seq"] == 1


@settings(deadline=None)
@given(JSON)
def test_whatever_a_server_sends_makes_one_line(value: Any) -> None:
    line = to_line(output_event(value))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line, parse_constant=pytest.fail)["elapsed"] == 3.0
