"""The events are a contract: their shapes, their names, their closed lists."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args, get_type_hints

import pytest

from comfyreport import events as ev


def test_each_event_type_has_one_class() -> None:
    assert list(ev.EVENT_TYPES) == [
        "stream_started",
        "run_queued",
        "queue_changed",
        "run_started",
        "node_cached",
        "node_started",
        "node_progress",
        "node_text",
        "node_preview",
        "node_finished",
        "output_ready",
        "output_saved",
        "connection_changed",
        "heartbeat",
        "warning",
        "run_finished",
        "stream_finished",
    ]
    assert tuple(ev.EVENT_TYPES.values()) == ev.EVENT_CLASSES


@pytest.mark.parametrize("cls", [*ev.EVENT_CLASSES, ev.NodeRef, ev.Output, ev.NodeError, ev.NodeTime, ev.ErrorInfo])
def test_events_are_frozen_slotted_and_described(cls: type[Any]) -> None:
    assert "__slots__" in vars(cls)
    assert cls.__doc__
    hints = get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        assert field.kw_only
        if field.name != "type":
            kind, meaning = get_args(hints[field.name])
            assert kind is not None
            assert isinstance(meaning, str)
            assert meaning


def test_nothing_of_an_event_can_be_changed() -> None:
    event = ev.NodeStarted(seq=1, time=0.0, elapsed=0.0, node=ev.NodeRef(id="3"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.seq = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        ev.RunStarted(1, 0.0, 0.0)  # type: ignore[call-arg]


def test_the_exit_codes_are_the_contracts() -> None:
    assert set(ev.EXIT_CODES) == set(get_args(ev.Status))
    assert [ev.EXIT_CODES[status] for status in ("success", "error", "interrupted", "usage", "unreachable")] == [
        0,
        1,
        1,
        2,
        3,
    ]
    assert [ev.EXIT_CODES[status] for status in ("rejected", "lost", "timeout", "partial", "internal")] == [
        4,
        6,
        7,
        8,
        70,
    ]
    assert ev.EXIT_CODES["cancelled"] == ev.EXIT_CODES["detached"] == 130
    assert ev.EXIT_REPORTER_FAILED not in ev.EXIT_CODES.values()


@pytest.mark.parametrize("codes", [ev.ERROR_CODES, ev.WARNING_CODES])
def test_codes_are_explained(codes: dict[str, str]) -> None:
    assert all(code.isidentifier() and code.islower() and meaning for code, meaning in codes.items())


def test_a_node_is_called_by_its_class_else_by_its_id() -> None:
    assert ev.NodeRef(id="3", class_type="KSampler", title="My sampler").name == "KSampler"
    assert ev.NodeRef(id="3").name == "3"


def test_node_events_and_heartbeats_have_progress() -> None:
    names = {cls.__name__ for cls in ev.EVENT_CLASSES if issubclass(cls, ev.ProgressEvent)}
    assert names == {"NodeCached", "NodeStarted", "NodeProgress", "NodeFinished", "Heartbeat"}
