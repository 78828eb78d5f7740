"""What a run did over time: when its nodes ran, how fast their bars moved, what was warned of. For reports at its end.

It is bounded, whatever a server sends: what is too fine is made coarser, and nothing is forgotten for it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from comfyreport import events as ev
from comfyreport.events import NodeView, RunView
from comfyreport.render.wording import describe_event
from comfyreport.reporting.hookspecs import hookimpl

_SPANS = 64
_POINTS = 512
_NOTES = 200
# Part of a node's seconds over which its speed is told, so that a curve has sixty points or so.
_SHORTEST_RATE = 1 / 60
_PREVIEWS = 6
_PREVIEWED_NODES = 64
_PREVIEW_BYTES = 64_000_000


class Span(NamedTuple):
    """From when to when a node ran, in seconds of `event.elapsed`; `finished`: it came to its end."""

    start: float
    end: float
    finished: bool = True


class Rate(NamedTuple):
    """Steps a second between two moments, in seconds of `event.elapsed`."""

    start: float
    end: float
    steps_per_second: float


class Note(NamedTuple):
    """A warning, or a change of the connection, in words."""

    elapsed: float
    text: str


class NodeRow(NamedTuple):
    """A node that ran or was cached, for a table or a timeline; `spans` and `rates` in seconds of the run.

    `time` has what `run_finished` tells of it; its seconds are those of the spans where that doesn't.
    """

    node: NodeView
    time: ev.NodeTime
    spans: tuple[Span, ...]
    rates: tuple[Rate, ...]
    previews: tuple[ev.NodePreview, ...]


class _Point(NamedTuple):
    elapsed: float
    step: float
    run: int
    pass_number: int


class NodeHistory:
    """When one node ran, and how fast its bars moved."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._points: list[_Point] = []
        self._started: float | None = None
        self._runs = 0
        self._stride = 1
        self._steps = 0
        self._previews: list[ev.NodePreview] = []
        self._newest: ev.NodePreview | None = None
        self._preview_stride = 1
        self._previews_seen = 0

    @property
    def previews(self) -> tuple[ev.NodePreview, ...]:
        """Some of its previews, evenly spread over the time, and the newest one: twelve at most."""
        newest = self._newest
        return (*self._previews, *([] if newest is None or newest in self._previews[-1:] else [newest]))

    @property
    def preview_bytes(self) -> int:
        """How large these are together."""
        return sum(len(preview.image) for preview in self.previews)

    @property
    def spans(self) -> tuple[Span, ...]:
        """The times at which it ran, in order; of very many, neighbours are one."""
        return tuple(self._spans)

    @property
    def points(self) -> int:
        """How many moments of its bars are kept."""
        return len(self._points)

    def rates(self, seconds: float) -> list[Rate]:
        """How fast its bars moved, each over at least so many *seconds*; nothing goes from one pass to the next."""
        rates: list[Rate] = []
        start = self._points[0] if self._points else None
        for before, point in pairwise(self._points):
            if start is None or point[2:] != before[2:] or point.step < before.step:
                start = point
            elif point.elapsed > start.elapsed and point.elapsed - start.elapsed >= seconds:
                taken = point.elapsed - start.elapsed
                rates.append(Rate(start.elapsed, point.elapsed, (point.step - start.step) / taken))
                start = point
        return rates

    def start(self, elapsed: float) -> None:
        """It began."""
        self.stop(elapsed, finished=False)
        self._started = elapsed
        self._runs += 1

    def step(self, event: ev.NodeProgress) -> None:
        """Its bar moved."""
        if self._steps % self._stride == 0:
            self._points.append(_Point(event.elapsed, event.step, self._runs, event.pass_number))
        self._steps += 1
        if len(self._points) > _POINTS:
            self._points, self._stride = self._points[::2], 2 * self._stride

    def show(self, event: ev.NodePreview, *, room: bool) -> None:
        """It sent a preview; without *room* for one more it only takes the newest one's place."""
        self._newest = event
        if room and self._previews_seen % self._preview_stride == 0:
            self._previews.append(event)
        self._previews_seen += 1
        if len(self._previews) >= 2 * _PREVIEWS:
            self._previews, self._preview_stride = self._previews[::2], 2 * self._preview_stride

    def stop(self, elapsed: float, *, finished: bool) -> None:
        """It ended, if it ran."""
        if self._started is not None:
            self._spans.append(Span(self._started, elapsed, finished))
        self._started = None
        if len(self._spans) > _SPANS:
            pairs = zip(self._spans[::2], self._spans[1::2], strict=False)
            joined = [Span(first.start, second.end, first.finished and second.finished) for first, second in pairs]
            self._spans = joined + self._spans[2 * len(joined) :]


class RunHistory:
    """What one run did over time, by the events that it is given; `nodes` are by id, in order of their start."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeHistory] = {}
        self.notes: list[Note] = []
        self._sizes: dict[str, int] = {}

    def apply(self, event: ev.Event) -> None:
        """Take one event in; of most types there is nothing to keep."""
        if isinstance(event, ev.NodeProgress):
            self._node(event.node).step(event)
        elif isinstance(event, ev.NodeStarted):
            self._node(event.node).start(event.elapsed)
        elif isinstance(event, ev.NodeFinished):
            self._node(event.node).stop(event.elapsed, finished=True)
        elif isinstance(event, ev.RunQueued):
            # Queued again on another server, it begins anew; what was warned of stays.
            self.nodes.clear()
            self._sizes.clear()
        elif isinstance(event, ev.RunFinished):
            for node in self.nodes.values():
                node.stop(event.elapsed, finished=False)
        elif isinstance(event, ev.NodePreview):
            self._keep_preview(event)
        elif len(self.notes) < _NOTES and _is_notable(event):
            self.notes.append(Note(event.elapsed, " ".join(describe_event(event)).partition("] ")[2]))

    def rows(self, run: RunView) -> list[NodeRow]:
        """What is known of each node of *run*, which is over: those that ran, in order of their start, then the others.

        The seconds of the run begin when it was started, else when it was queued.
        """
        origin = run_origin(run)
        times = {} if run.result is None else {time.node.id: time for time in run.result.node_times}
        rows = [
            _row(node, times.get(id_), self.nodes.get(id_) or NodeHistory(), origin)
            for id_, node in run.nodes.items()
            if node.state != "waiting"
        ]
        return sorted(rows, key=lambda row: row.spans[0].start if row.spans else math.inf)

    def _keep_preview(self, event: ev.NodePreview) -> None:
        """Keep it if there is room; one whose node isn't known belongs to none."""
        if event.node is None or (event.node.id not in self._sizes and len(self._sizes) >= _PREVIEWED_NODES):
            return
        room = sum(self._sizes.values()) + len(event.image) <= _PREVIEW_BYTES
        if room or len(event.image) * _PREVIEWED_NODES <= _PREVIEW_BYTES:
            node = self._node(event.node)
            node.show(event, room=room)
            self._sizes[event.node.id] = node.preview_bytes

    def _node(self, ref: ev.NodeRef) -> NodeHistory:
        return self.nodes.setdefault(ref.id, NodeHistory())


class Histories:
    """The hooks that keep a history of each run: a reporter inherits them, and takes `history(event)` at the run's end.

    Previews aren't among them: a server makes them where somebody has their hook. One that wants them has it, too.
    """

    def __init__(self) -> None:
        self._histories: dict[int | None, RunHistory] = {}

    def history(self, event: ev.Event) -> RunHistory:
        """The history of the run that *event* is about, which may be one of several; at its end it is forgotten."""
        if isinstance(event, ev.RunFinished):
            return self._histories.pop(event.run_index, None) or RunHistory()
        return self._histories.setdefault(event.run_index, RunHistory())

    @hookimpl
    def comfyreport_run_queued(self, event: ev.RunQueued) -> None:
        """Begin anew, if it was queued before."""
        self.history(event).apply(event)

    @hookimpl
    def comfyreport_node_started(self, event: ev.NodeStarted) -> None:
        """Keep it."""
        self.history(event).apply(event)

    @hookimpl
    def comfyreport_node_progress(self, event: ev.NodeProgress) -> None:
        """Keep it."""
        self.history(event).apply(event)

    @hookimpl
    def comfyreport_node_finished(self, event: ev.NodeFinished) -> None:
        """Keep it."""
        self.history(event).apply(event)

    @hookimpl
    def comfyreport_warning(self, event: ev.Warning) -> None:
        """Keep it."""
        self.history(event).apply(event)

    @hookimpl
    def comfyreport_connection_changed(self, event: ev.ConnectionChanged) -> None:
        """Keep it, unless it is the first one."""
        self.history(event).apply(event)


def run_origin(run: RunView) -> float:
    """When *run* began, in seconds of `event.elapsed`: when it was started, else queued, else when the stream began."""
    return next((at for at in (run.started_at, run.queued_at) if at is not None), 0.0)


def _row(node: NodeView, time: ev.NodeTime | None, history: NodeHistory, origin: float) -> NodeRow:
    def since(elapsed: float) -> float:
        return max(0.0, elapsed - origin)

    spans = tuple(span._replace(start=since(span.start), end=since(span.end)) for span in history.spans)
    taken = sum(span.end - span.start for span in spans)
    time = time or ev.NodeTime(node=node.ref)
    if time.seconds is None and spans and node.state == "finished":
        time = replace(time, seconds=taken)
    # Steps that come late come together: over much less than one of them there is no speed to tell.
    rates = history.rates(max(taken * _SHORTEST_RATE, taken / (2 * max(1, history.points))))
    relative = tuple(rate._replace(start=since(rate.start), end=since(rate.end)) for rate in rates)
    return NodeRow(node, time, spans, relative, history.previews)


def _is_notable(event: ev.Event) -> bool:
    if isinstance(event, ev.ConnectionChanged):
        return event.state in ("lost", "polling")
    return isinstance(event, ev.Warning)
