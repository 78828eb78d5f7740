"""A recorded run, played as the loop plays a real one: with the heartbeats in its silences, and what is expected."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from comfyreport import events as ev
from comfyreport.estimates.expected import Expected, Observation
from comfyreport.events import Instant
from comfyreport.recording.player import Player, Recording
from comfyreport.timing import Timing
from tests.benchmarks.estimates.baselines import Baselines, Guesses

Graph = Mapping[str, Any]

SILENCE = Timing().silence


class Line(NamedTuple):
    """What one event told, and what the baselines would have; `elapsed` counts from the run's start."""

    elapsed: float
    fraction: float
    remaining: float | None
    low: float | None
    high: float | None
    basis: str | None
    guesses: Guesses


class Played(NamedTuple):
    """One run: its lines, how long it took from its start to the end of its last node, and what was seen of it."""

    lines: list[Line]
    seconds: float
    node_seconds: dict[str, float]
    observations: list[Observation]


def play(recording: Recording, expected: Mapping[str, Expected] | None) -> Played:
    """The run of a recording, with what is expected of its nodes."""
    player = Player(recording, previews=False)
    if expected is not None:
        player.run.expect(expected)
    return measured(_events(player, recording))._replace(observations=player.run.observations())


def measured(events: Iterable[ev.Event]) -> Played:
    """What the events of a run told, and when it was over."""
    baselines = Baselines()
    begun, ended = None, 0.0
    lines: list[Line] = []
    node_seconds: dict[str, float] = {}
    for event in events:
        if isinstance(event, ev.RunStarted):
            begun = event.elapsed
        baselines.observe(event)
        if isinstance(event, ev.NodeFinished):
            ended = event.elapsed
            node_seconds[event.node.id] = event.seconds or 0.0
        if isinstance(event, ev.ProgressEvent) and begun is not None:
            lines.append(_line(event, event.elapsed - begun, baselines))
    assert begun is not None
    return Played(lines, ended - begun, node_seconds, [])


def read(event: Mapping[str, Any]) -> ev.Event | None:
    """An event of a stream, as far as the benchmark needs it; None for one that tells no progress."""
    cls = ev.EVENT_TYPES[event["type"]]
    if not issubclass(cls, (ev.RunStarted, ev.ProgressEvent)):
        return None
    fields = {field.name for field in dataclasses.fields(cls) if field.init} - {"node", "outputs"}
    values = {name: value for name, value in event.items() if name in fields}
    if "node_id" in event:
        values["node"] = ev.NodeRef(id=event["node_id"])
    return cls(**values)


def _line(event: ev.ProgressEvent, elapsed: float, baselines: Baselines) -> Line:
    low, high = event.run_eta_low, event.run_eta_high
    guesses = baselines.guesses(event.elapsed)
    return Line(elapsed, event.fraction, event.run_eta_seconds, low, high, event.eta_basis, guesses)


def _events(player: Player, recording: Recording) -> Iterator[ev.Event]:
    """The events of a recording, with the heartbeats that the loop told when nothing of the run was heard."""
    records = iter(recording.records)
    heartbeats: list[ev.Event] = []
    heard = told = 0.0

    def wait(seconds: float) -> bool:
        nonlocal heard, told
        while player.run.started and (next_at := max(heard, told) + SILENCE) < seconds:
            told = next_at
            heartbeats.extend(player.run.heartbeat(Instant(recording.time + told, told), told - heard))
        record = next(records)
        if record["kind"] == "ws-text" and record["dir"] == "in" and '"prompt_id"' in record["text"]:
            heard = seconds
        return True

    for event in player.events(wait):
        yield from heartbeats
        heartbeats.clear()
        yield event


def graph_of(recording: Recording) -> Graph:
    """The workflow that was submitted."""
    for record in recording.records:
        if record.get("path") == "/prompt" and record.get("dir") == "out":
            graph: Graph = record["request"]["prompt"]
            return graph
    raise AssertionError("a recording without a submission")
