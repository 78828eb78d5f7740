"""RunView: the state of a run that reporters read. It is made from the run's events alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from comfyreport.events import types as ev

NodeState = Literal["waiting", "cached", "running", "finished"]


@dataclass(slots=True)
class NodeView:
    """One node of the run, by the events so far. `started` is in seconds of `event.elapsed`."""

    ref: ev.NodeRef
    state: NodeState = "waiting"
    started: float | None = None
    seconds: float = 0.0
    step: float | None = None
    max_steps: float | None = None
    pass_number: int = 1
    eta_seconds: float | None = None
    steps_per_second: float | None = None
    text: str = ""
    timed: bool = False

    @property
    def title(self) -> str:
        """What to call the node on a screen; server text, to be cleaned with `printable` when drawn."""
        return self.ref.title or self.ref.name


class RunView:
    """The state of one run, always matching the event that is being delivered.

    Reporters read it and never change it. `status` is `waiting`, `queued`, `running`, or the final status.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, NodeView] = {}
        self._active: dict[str, NodeView] = {}
        self.server = ""
        self.prompt_id: str | None = None
        self.status: str = "waiting"
        self.connection: str = ""
        self.position: int | None = None
        self.remaining: int | None = None
        self.queued_at: float | None = None
        self.started_at: float | None = None
        self.elapsed = 0.0
        self.silent_seconds = 0.0
        self.done = 0
        self.total = 0
        self.fraction = 0.0
        self.run_eta_seconds: float | None = None
        self.run_eta_low: float | None = None
        self.run_eta_high: float | None = None
        self.eta_basis: str | None = None
        self.outputs: tuple[ev.Output, ...] = ()
        self.result: ev.RunFinished | None = None

    @property
    def nodes(self) -> Mapping[str, NodeView]:
        """All nodes known so far, by id, in the workflow's order."""
        return self._nodes

    @property
    def active(self) -> tuple[NodeView, ...]:
        """The nodes that run now, in the order in which they began."""
        return tuple(self._active.values())

    @property
    def cached(self) -> tuple[str, ...]:
        """Ids of the nodes whose results came from the cache."""
        return tuple(key for key, node in self._nodes.items() if node.state == "cached")

    @property
    def timings(self) -> Mapping[str, float]:
        """Seconds that each node has run, finished ones only, by id."""
        return {key: node.seconds for key, node in self._nodes.items() if node.timed}

    @property
    def run_seconds(self) -> float:
        """Seconds since the prompt was taken by the server; 0 before."""
        return 0.0 if self.queued_at is None else max(0.0, self.elapsed - self.queued_at)

    def apply(self, event: ev.Event) -> None:
        """Take one event in. The delivery calls it just before the event's hooks."""
        self.elapsed = event.elapsed
        if event.source != "client":
            self.silent_seconds = 0.0
        if isinstance(event, ev.ProgressEvent):
            self._apply_progress(event)
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    def _apply_progress(self, event: ev.ProgressEvent) -> None:
        self.fraction = event.fraction
        self.done = event.nodes_done
        self.total = event.nodes_total
        self.run_eta_seconds = event.run_eta_seconds
        self.run_eta_low = event.run_eta_low
        self.run_eta_high = event.run_eta_high
        self.eta_basis = event.eta_basis

    def _node(self, ref: ev.NodeRef) -> NodeView:
        node = self._nodes.get(ref.id)
        if node is None:
            node = self._nodes[ref.id] = NodeView(ref)
        return node

    def _stream_started(self, event: ev.StreamStarted) -> None:
        self.server = event.server

    def _run_queued(self, event: ev.RunQueued) -> None:
        self.status = "queued"
        self.prompt_id = event.prompt_id
        self.position = event.position
        self.queued_at = event.elapsed
        for ref in event.nodes:
            self._node(ref)
        self.total = len(self._nodes)

    def _queue_changed(self, event: ev.QueueChanged) -> None:
        self.position = event.position
        self.remaining = event.remaining

    def _run_started(self, event: ev.RunStarted) -> None:
        self.status = "running"
        self.position = 0
        self.started_at = event.elapsed

    def _node_cached(self, event: ev.NodeCached) -> None:
        self._node(event.node).state = "cached"

    def _node_started(self, event: ev.NodeStarted) -> None:
        node = self._node(event.node)
        node.state = "running"
        node.started = event.elapsed
        node.step = node.max_steps = node.eta_seconds = node.steps_per_second = None
        node.pass_number = 1
        node.text = ""
        self._active[event.node.id] = node

    def _node_progress(self, event: ev.NodeProgress) -> None:
        node = self._node(event.node)
        node.step = event.step
        node.max_steps = event.max_steps
        node.pass_number = event.pass_number
        node.eta_seconds = event.eta_seconds
        node.steps_per_second = event.steps_per_second

    def _node_text(self, event: ev.NodeText) -> None:
        self._node(event.node).text = event.text

    def _node_finished(self, event: ev.NodeFinished) -> None:
        node = self._node(event.node)
        node.state = "finished"
        node.seconds += event.seconds or 0.0
        node.timed = node.timed or event.seconds is not None
        self._active.pop(event.node.id, None)

    def _output_ready(self, event: ev.OutputReady) -> None:
        self.outputs = (*self.outputs, event.output)

    def _output_saved(self, event: ev.OutputSaved) -> None:
        saved = event.output
        self.outputs = tuple(
            saved if (output.node.id, output.index) == (saved.node.id, saved.index) else output
            for output in self.outputs
        )

    def _connection_changed(self, event: ev.ConnectionChanged) -> None:
        self.connection = event.state

    def _heartbeat(self, event: ev.Heartbeat) -> None:
        self.silent_seconds = event.silent_seconds

    def _run_finished(self, event: ev.RunFinished) -> None:
        self.status = event.status
        self.outputs = event.outputs
        self.result = event
        self._active.clear()
        if event.status == "success":
            self.fraction = 1.0


_HANDLERS: dict[type[ev.Event], Callable[[RunView, Any], None]] = {
    ev.StreamStarted: RunView._stream_started,
    ev.RunQueued: RunView._run_queued,
    ev.QueueChanged: RunView._queue_changed,
    ev.RunStarted: RunView._run_started,
    ev.NodeCached: RunView._node_cached,
    ev.NodeStarted: RunView._node_started,
    ev.NodeProgress: RunView._node_progress,
    ev.NodeText: RunView._node_text,
    ev.NodeFinished: RunView._node_finished,
    ev.OutputReady: RunView._output_ready,
    ev.OutputSaved: RunView._output_saved,
    ev.ConnectionChanged: RunView._connection_changed,
    ev.Heartbeat: RunView._heartbeat,
    ev.RunFinished: RunView._run_finished,
}
