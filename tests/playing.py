"""For tests of the pure core: frames as a server writes them, recordings cut and played, invariants of events."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from comfyreport import events as ev
from comfyreport.events import Instant, RunView
from comfyreport.protocol import decode, responses
from comfyreport.recording.player import Player, Recording
from comfyreport.run import Run, RunInput
from tests import recordings

Record = Mapping[str, Any]

PROMPT = "p"
ACCEPTED = responses.Accepted(PROMPT)


def text(kind: str, **data: Any) -> str:
    """A text frame."""
    return json.dumps({"type": kind, "data": data})


def text_frame(node: str, line: str) -> bytes:
    """A binary frame with a node's line of text."""
    head = node.encode()
    return struct.pack(">II", 3, len(head)) + head + line.encode()


def states(*entries: tuple[str, str], **more: Any) -> str:
    """A `progress_state` of nodes given as (id, state); an expanded node's id as `RAW@DISPLAY`."""
    nodes = {}
    for name, state in entries:
        raw, _, display = name.partition("@")
        nodes[raw] = {"value": 0, "max": 1, "state": state, "node_id": raw, "display_node_id": display or raw, **more}
    return text("progress_state", prompt_id=PROMPT, nodes=nodes)


def executing(node: str | None, display: str | None = None, prompt_id: str = PROMPT) -> str:
    """The frame of a node's begin, or of the prompt's end."""
    data: dict[str, Any] = {"node": node, "prompt_id": prompt_id}
    return text("executing", **data, **({} if node is None else {"display_node": display or node}))


def progress(node: str, value: float, maximum: float) -> str:
    """The frame of a bar's move."""
    return text("progress", value=value, max=maximum, prompt_id=PROMPT, node=node)


class RunFeeder:
    """A Run that is fed frames and responses at times that the test chooses, and all events that it made."""

    def __init__(self, *nodes: str, run: Run | None = None, **options: Any) -> None:
        refs = [ev.NodeRef(id=node, class_type=f"Class{node}", title=f"Node {node}") for node in nodes]
        self.run = run or Run(PROMPT, refs, base_url="http://server", **options)
        self.events: list[ev.Event] = []

    def feed(self, at: float, *inputs: str | bytes | RunInput) -> list[ev.Event]:
        """Feed *inputs*, frames or what was decoded already, at second *at*; the new events."""
        new: list[ev.Event] = []
        for each in inputs:
            message = decode.decode(each) if isinstance(each, (str, bytes)) else each
            new += self.run.feed(message, Instant(1000.0 + at, at))
        self.events += new
        return new

    def finish(self, at: float) -> ev.RunFinished:
        """The end of the run; all its events are checked."""
        self.events += self.run.finish(Instant(1000.0 + at, at))
        check(self.events)
        return the_end(self.events)

    def short_events(self) -> list[str]:
        """All events in short."""
        return [short(event) for event in self.events]


def history(end: str = "success", **more: object) -> responses.History:
    """The history of the prompt."""
    fields = {"error": None, "interrupted": None, "cached": (), "outputs": (), **more}
    return responses.History(prompt_id=PROMPT, end=end, **fields)  # type: ignore[arg-type]


def queue(*pending: str, running: str = "", graph: object = None) -> responses.Queue:
    """The queue, of prompts given as their ids."""
    entries = tuple(responses.QueueEntry(number, name, None, graph) for number, name in enumerate(pending))
    return responses.Queue((responses.QueueEntry(0, running, None, graph),) if running else (), entries)


def start(*nodes: str, **options: Any) -> RunFeeder:
    """A run that the server has started."""
    feeder = RunFeeder(*nodes, **options)
    feeder.feed(0.0, ACCEPTED, text("execution_start", prompt_id=PROMPT))
    return feeder


def short(event: ev.Event) -> str:
    """An event as its type and the node's id, with what matters most."""
    line = str(getattr(event, "type", ""))
    node = getattr(event, "node", None)
    if node is not None:
        line += f" {node.id}" + (f"<{node.raw_id}" if node.raw_id else "")
    if isinstance(event, ev.NodeProgress):
        line += f" {event.step:g}/{event.max_steps:g}" + (f" #{event.pass_number}" if event.pass_number > 1 else "")
    if isinstance(event, ev.Warning):
        line += f" {event.code}"
    if isinstance(event, ev.ConnectionChanged):
        line += f" {event.state}"
    return line


def the_end(events: Sequence[ev.Event]) -> ev.RunFinished:
    """The last event, which is `run_finished`."""
    end = events[-1]
    assert isinstance(end, ev.RunFinished)
    return end


# --- recordings


def posted(records: Iterable[Record]) -> list[int]:
    """The indexes of the submissions: of each the request, the answer is the next one."""
    return [
        index
        for index, record in enumerate(records)
        if record.get("path") == "/prompt" and record["dir"] == "out" and record.get("method") == "POST"
    ]


def one_prompt(records: Sequence[Record], number: int = 0) -> list[Record]:
    """The records without the submissions of the other prompts: as if only the one with that number were ours."""
    mine = posted(records)[number]
    kept: list[Record] = []
    answer_due = False
    for index, record in enumerate(records):
        if record.get("path") == "/prompt" and record.get("method") == "POST":
            if index == mine:
                answer_due = True
            elif record["dir"] == "in" and answer_due:
                answer_due = False
            else:
                continue
        kept.append(record)
    return kept


def single_prompts() -> Iterator[tuple[str, int]]:
    """All prompts of all recordings, as recording and number."""
    for name in recordings.names():
        for number in range(len(posted(recordings.load(name)))):
            yield name, number


def play(records: Iterable[Record], **options: Any) -> list[ev.Event]:
    """The events that a Player makes of *records*."""
    return list(Player(Recording(tuple(records), server="http://server"), **options).events())


def play_recording(name: str, number: int = 0) -> list[ev.Event]:
    """The checked events of one prompt of a recording."""
    events = play(one_prompt(recordings.load(name), number))
    check(events)
    return events


def without_types(records: Iterable[Record], *kinds: str) -> list[Record]:
    """The records without text frames of the given types."""
    return [
        record
        for record in records
        if record["kind"] != "ws-text"
        or record["dir"] != "in"
        or json.loads(record.get("text") or "{}").get("type") not in kinds
    ]


# --- invariants

_ANYWHERE = (ev.ConnectionChanged, ev.Warning, ev.Heartbeat, ev.QueueChanged)
_STAGES: tuple[tuple[type[ev.Event], ...], ...] = (
    (ev.RunQueued,),
    (ev.RunStarted,),
    (ev.NodeCached, ev.NodeStarted, ev.NodeProgress, ev.NodeText, ev.NodePreview, ev.NodeFinished),
    (ev.OutputReady,),
    (ev.OutputSaved,),
    (ev.RunFinished,),
)


def check(events: Sequence[ev.Event]) -> None:
    """Assert the life cycle of a run's events, and that the RunView agrees with them."""
    check_order(events)
    check_nodes(events)
    check_numbers(events)
    check_view(events)


def check_order(events: Sequence[ev.Event]) -> None:
    """The order of the stages; one that has a single event comes at most once. What is saved early is told at once."""
    stage = -1
    for event in without_saved_early(events):
        if isinstance(event, _ANYWHERE):
            continue
        new = next(number for number, kinds in enumerate(_STAGES) if isinstance(event, kinds))
        assert new >= stage, f"{short(event)} comes too late"
        assert new not in (0, 1, 5) or new > stage, f"{short(event)} comes twice"
        assert new in (0, 5) or stage >= min(new - 1, 1), f"{short(event)} comes too early"
        stage = new
    assert [event for event in events if isinstance(event, ev.RunFinished)] == [events[-1]]


def without_saved_early(events: Sequence[ev.Event]) -> list[ev.Event]:
    """*events* without the outputs that are told and saved, in one, before the last of the node events."""
    last = max((number for number, event in enumerate(events) if isinstance(event, _STAGES[2])), default=0)
    early: set[int] = set()
    for number, (event, behind) in enumerate(itertools.pairwise(events[:last])):
        if isinstance(event, ev.OutputReady) and isinstance(behind, ev.OutputSaved):
            assert event.output == dataclasses.replace(behind.output, path=None, path_bytes=None, bytes=None)
            early |= {number, number + 1}
    return [event for number, event in enumerate(events) if number not in early]


def check_nodes(events: Sequence[ev.Event]) -> None:
    """Nodes begin and end in turn; their progress and text come while they run; cached ones don't run."""
    active: set[str] = set()
    began: list[str] = []
    for event in events:
        if isinstance(event, ev.NodeStarted):
            assert event.node.id not in active, f"{short(event)}: it runs already"
            active.add(event.node.id)
            began.append(event.node.id)
        elif isinstance(event, (ev.NodeProgress, ev.NodeText)):
            assert event.node.id in active, f"{short(event)}: it doesn't run"
        elif isinstance(event, ev.NodeFinished):
            if event.node.id not in active:
                # Its beginning was missed, and so is how long it took.
                assert event.seconds is None, f"{short(event)}: it doesn't run"
                began.append(event.node.id)
            active.discard(event.node.id)
        elif isinstance(event, ev.NodeCached):
            assert event.node.id not in began, f"{short(event)}: it ran"
    end = the_end(events)
    assert list(end.executed) == list(dict.fromkeys(began))
    assert set(end.node_seconds) <= set(began)
    assert not set(end.cached) & set(end.executed)
    if end.status == "success":
        assert not active


def check_numbers(events: Sequence[ev.Event]) -> None:
    """Numbers that only grow, and estimates that are numbers."""
    fraction, elapsed, seq = 0.0, 0.0, 0
    for event in events:
        assert event.seq > seq
        assert event.elapsed >= elapsed
        seq, elapsed = event.seq, event.elapsed
        if isinstance(event, ev.ProgressEvent):
            assert fraction <= event.fraction < 1
            assert 0 <= event.nodes_done <= event.nodes_total
            fraction = event.fraction
        if isinstance(event, ev.NodeProgress):
            assert 0 < event.step <= event.max_steps
            assert 0 <= event.eta_seconds < 1e10
            assert event.steps_per_second is None or 0 <= event.steps_per_second < math.inf
            assert event.pass_number >= 1
    indexes = [(event.output.node.id, event.output.index) for event in events if isinstance(event, ev.OutputReady)]
    assert len(set(indexes)) == len(indexes)


def check_view(events: Sequence[ev.Event]) -> None:
    """The RunView of the events has what `run_finished` has."""
    view = RunView()
    for event in events:
        view.apply(event)
        assert view.elapsed == event.elapsed
    end = the_end(events)
    assert (view.status, view.outputs, view.result) == (end.status, end.outputs, end)
    assert view.active == ()
    assert set(view.cached) == set(end.cached)
    assert {node.ref.id for node in view.nodes.values() if node.state in ("running", "finished")} == set(end.executed)
    for node_id, seconds in view.timings.items():
        assert seconds <= end.node_seconds[node_id] + 0.01 * len(events)
