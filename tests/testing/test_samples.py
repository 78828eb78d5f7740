"""The streams that reporters are tried with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from comfyreport import events as ev
from comfyreport.events import RunView
from comfyreport.events.schema import json_schema
from comfyreport.testing.samples import SAMPLES, UnknownEvent, each_type, hostile_values
from tests.playing import check_view


@pytest.mark.parametrize("make", SAMPLES.values(), ids=SAMPLES)
def test_each_sample_is_a_whole_stream(make: Callable[[], list[ev.Event]]) -> None:
    events = make()
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[0], ev.StreamStarted)
    assert isinstance(events[-2], ev.RunFinished)
    assert isinstance(events[-1], ev.StreamFinished)
    run = RunView()
    for event in events:
        run.apply(event)
    assert run.result is events[-2]


def test_each_event_type_is_in_a_sample_that_the_view_can_follow() -> None:
    assert {type(event) for event in each_type()} == set(ev.EVENT_CLASSES)
    check_view([event for event in each_type()[:-1] if not isinstance(event, ev.StreamStarted)])
    assert UnknownEvent not in ev.EVENT_CLASSES
    assert "something_new" not in json_schema()["$defs"]
    assert len(hostile_values()) > 20
