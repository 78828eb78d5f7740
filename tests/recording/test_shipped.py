"""The recordings that ship: which, how large, what each shows, and that reporters play them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from comfyreport_console import console
from comfyreport_filelog import filelog
from comfyreport_jsonl import jsonl
from comfyreport_quiet import quiet

from comfyreport import events as ev
from comfyreport.errors import UsageError
from comfyreport.testing import load_recording, play, recordings, stream_of
from tests.recordings import ship

SHIPPED = Path(ship.SHIPPED)
STATUSES = {
    "blocked": "partial",
    "interrupted": "interrupted",
    "lost": "lost",
    "node-error": "error",
    "rejected": "rejected",
}


def test_their_names_and_total_size() -> None:
    assert set(recordings()) == set(ship.NAMES)
    assert sum(path.stat().st_size for path in SHIPPED.glob("*.gz")) < 500_000


@pytest.mark.parametrize("name", recordings())
def test_they_hold_the_same_records_as_those_of_the_tests(name: str) -> None:
    assert list(load_recording(name).records) == list(ship.shipped(ship.NAMES[name]))[1:]


@pytest.mark.parametrize("name", recordings())
def test_each_is_a_whole_stream(name: str) -> None:
    events = list(stream_of(name))
    assert isinstance(events[0], ev.StreamStarted)
    end, last = events[-2:]
    assert isinstance(end, ev.RunFinished)
    assert isinstance(last, ev.StreamFinished)
    assert end.status == last.status == STATUSES.get(name, "success")
    assert last.exit_code == ev.EXIT_CODES[end.status]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert all(later.elapsed >= earlier.elapsed for earlier, later in itertools.pairwise(events))


def test_they_have_events_of_all_types_but_heartbeats() -> None:
    types = {type(event) for name in recordings() for event in stream_of(name)}
    assert set(ev.EVENT_CLASSES) - types == {ev.Heartbeat}


def test_what_each_shows() -> None:
    def has(name: str, kind: type[ev.Event]) -> list[ev.Event]:
        return [event for event in stream_of(name) if isinstance(event, kind)]

    assert len(has("cached", ev.NodeCached)) == 7
    assert not has("cached", ev.NodeStarted)
    assert any(event.position == 2 for event in has("queue", ev.QueueChanged))  # type: ignore[attr-defined]
    assert has("text", ev.NodeText)
    assert has("txt2img", ev.OutputSaved)
    assert {event.output.kind for event in has("video", ev.OutputReady)} >= {"video", "text"}  # type: ignore[attr-defined]
    assert [event.state for event in has("reconnect", ev.ConnectionChanged)] == ["connected", "lost", "restored"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", recordings())
def test_our_own_reporters_play_them(name: str) -> None:
    for reporter in (console, quiet, jsonl, filelog):
        for tty in (True, False):
            assert play(reporter, name, tty=tty, width=60) or (reporter is quiet and name not in STATUSES)


def test_an_unknown_name() -> None:
    with pytest.raises(UsageError, match=r"^the recording nothing can't be read: No such file or directory$"):
        play(console, "nothing")
