"""Which of many runs an event is about, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from comfyreport import describe_event, describe_in_run, describe_inputs, events as ev, run_name, server_name
from tests.plugins.events import SAMPLER, failed, fully_cached, txt2img
from tests.plugins.many import ONE


@pytest.mark.parametrize(
    ("index", "total", "name"),
    [(None, 24, ""), (3, 24, "Run 3 of 24"), (24, 24, "Run 24 of 24"), (30, 24, "Run 30"), (3, 0, "Run 3")],
)
def test_names(index: int | None, total: int, name: str) -> None:
    assert run_name(index, total) == name


def test_servers() -> None:
    assert server_name("http://10.0.0.1:8188") == "10.0.0.1:8188"
    assert server_name("https://host/path") == "host/path"
    assert server_name("sim") == "sim"
    assert server_name(None) == ""
    assert server_name("\x1b[31m") == "\\x1b[31m"


def test_inputs_are_one_bounded_line() -> None:
    assert describe_inputs(None) == describe_inputs(()) == ""
    inputs = [ev.InputValue(node=SAMPLER, name=name, value=value) for name, value in (("seed", 7), ("text", "a\ncat"))]
    assert describe_inputs(tuple(inputs)) == "seed=7, text=a\\ncat"
    many = tuple(ev.InputValue(node=SAMPLER, name="n" * 99, value="v" * 999) for _ in range(99))
    assert len(describe_inputs(many)) <= 170


@pytest.mark.parametrize("make", [txt2img, failed, fully_cached])
def test_of_the_only_run_it_is_what_describe_event_says(make: object) -> None:
    for event in make():  # type: ignore[operator]
        assert describe_in_run(event, 1) == describe_event(event)


def end_of(events: list[ev.Event]) -> ev.RunFinished:
    end = events[-2]
    assert isinstance(end, ev.RunFinished)
    return replace(end, run_index=3, server=ONE)


def test_ends() -> None:
    assert describe_in_run(end_of(txt2img()), 24) == ["[OK] Run 3 of 24 complete in 23.4s (10.0.0.1:8188)"]
    waited = replace(end_of(txt2img()), queue_seconds=20.0, usual_seconds=4.0)
    assert describe_in_run(waited) == ["[OK] Run 3 complete in 3.4s (usually 4.0s, 10.0.0.1:8188)"]
    assert describe_in_run(replace(end_of(txt2img()), server=None), 2) == ["[OK] Run 3 complete in 23.4s"]
    assert describe_in_run(replace(end_of(txt2img()), usual_seconds=22.0), 24) == [
        "[OK] Run 3 of 24 complete in 23.4s (usually 22.0s, 10.0.0.1:8188)"
    ]
    assert describe_in_run(end_of(fully_cached()), 24)[0].endswith("same inputs as before, 10.0.0.1:8188)")
    first, *more = describe_in_run(end_of(failed()), 24)
    assert first.startswith("[ERROR] Run 3 of 24 (10.0.0.1:8188): Generation failed after 8.9s in KSampler (node 3): ")
    assert more[-1] == "  Hint: the text encoder doesn't fit the model"


def test_other_events_have_their_run_before_them() -> None:
    warning = ev.Warning(seq=1, time=0.0, elapsed=0.0, run_index=5, code="run_moved", message="lost there")
    assert describe_in_run(warning, 24) == ["[WARN] Run 5 of 24: lost there"]
    assert describe_in_run(warning) == ["[WARN] Run 5: lost there"]
    assert describe_in_run(replace(warning, run_index=None), 24) == ["[WARN] lost there"]
