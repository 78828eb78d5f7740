"""RunView: the state of a run that reporters read. It is made from the run's events alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from comfyreport.events import types as ev

NodeState = Literal["waiting", "cached", "running", "finished"]


@dataclass(frozen=True)
class NodeView:
    """One node of the run, by the events so far; read-only. `started` is in seconds of `event.elapsed`."""

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


class TimeLeft(NamedTuple):
    """Seconds until the run ends, and the range that they lie in."""

    seconds: float
    low: float
    high: float

    @classmethod
    def told_by(cls, event: ev.ProgressEvent) -> TimeLeft | None:
        """What *event* tells, None if nothing; a bound that it doesn't tell is the estimate itself."""
        seconds, low, high = event.run_eta_seconds, event.run_eta_low, event.run_eta_high
        if seconds is None:
            return None
        return cls(seconds, seconds if low is None else low, seconds if high is None else high)


def _change(node: NodeView, **values: Any) -> None:
    vars(node).update(values)


def _apply_progress(state: dict[str, Any], event: ev.ProgressEvent) -> None:
    state["fraction"] = event.fraction
    state["done"] = event.nodes_done
    state["total"] = event.nodes_total
    # The estimate is read from it: one value to set with each step, and not five.
    state["_progress"] = event


class RunView:
    """The state of one run, always matching the event that is being delivered; read-only for reporters.

    `status` is `waiting`, `queued`, `running`, or the final status. A run that is queued again, on another server,
    begins anew: what was told of it before is forgotten.

    :param run_index: which run it is, from 1, where a command makes several.
    :param server: the server's address, until the run's own events tell it.
    """

    run_index: int | None
    server: str
    prompt_id: str | None
    status: str
    connection: str
    position: int | None
    remaining: int | None
    queued_at: float | None
    started_at: float | None
    elapsed: float
    silent_seconds: float
    done: int
    total: int
    fraction: float
    result: ev.RunFinished | None

    def __init__(self, run_index: int | None = None, server: str = "") -> None:
        self._set(run_index=run_index, server=server, prompt_id=None, connection="", elapsed=0.0, silent_seconds=0.0)
        self._begin()

    def _begin(self) -> None:
        """Forget what was told of nodes, outputs and times."""
        self._nodes: dict[str, NodeView]
        self._active: dict[str, NodeView]
        self._outputs: list[ev.Output]
        self._places: dict[tuple[str, int], list[int]]
        self._told_outputs: tuple[ev.Output, ...] | None
        self._set(_nodes={}, _active={}, _outputs=[], _places={}, _told_outputs=())
        self._set(status="waiting", position=None, remaining=None, queued_at=None, started_at=None)
        self._progress: ev.ProgressEvent | None
        self._set(done=0, total=0, fraction=0.0, _progress=None, result=None)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} can't be set: a RunView is read-only")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name} can't be deleted: a RunView is read-only")

    def _set(self, **values: Any) -> None:
        vars(self).update(values)

    @property
    def nodes(self) -> Mapping[str, NodeView]:
        """All nodes known so far, by id, in the workflow's order."""
        return MappingProxyType(self._nodes)

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
        return MappingProxyType({key: node.seconds for key, node in self._nodes.items() if node.timed})

    @property
    def outputs(self) -> tuple[ev.Output, ...]:
        """What the run made so far. A run may make very many: it is put together only where it is read."""
        if self._told_outputs is None:
            self._set(_told_outputs=tuple(self._outputs))
        return self._told_outputs or ()

    @property
    def run_seconds(self) -> float:
        """Seconds since the prompt was taken by the server; 0 before."""
        return 0.0 if self.queued_at is None else max(0.0, self.elapsed - self.queued_at)

    @property
    def run_eta_seconds(self) -> float | None:
        """Seconds until the run ends, as the last event with progress told them."""
        return None if self._progress is None else self._progress.run_eta_seconds

    @property
    def run_eta_low(self) -> float | None:
        """The lower end of the range of `run_eta_seconds`."""
        return None if self._progress is None else self._progress.run_eta_low

    @property
    def run_eta_high(self) -> float | None:
        """The upper end of the range of `run_eta_seconds`."""
        return None if self._progress is None else self._progress.run_eta_high

    @property
    def eta_basis(self) -> str | None:
        """What `run_eta_seconds` rests on: `history`, `similar` or `steps`."""
        return None if self._progress is None else self._progress.eta_basis

    def eta_at(self, elapsed: float) -> TimeLeft | None:
        """How long the run still takes at *elapsed* seconds: what was told last, less the time since then.

        It counts down while no event comes, and stays at 0 when the time is over. None without an estimate, and after
        the end.
        """
        event = self._progress
        told = None if event is None or self.result is not None else TimeLeft.told_by(event)
        if event is None or told is None:
            return None
        passed = max(0.0, elapsed - event.elapsed)
        return TimeLeft(*(max(0.0, seconds - passed) for seconds in told))

    def apply(self, event: ev.Event) -> None:
        """Take one event in. The delivery calls it just before the event's hooks."""
        state = vars(self)
        state["elapsed"] = event.elapsed
        if event.source != "client":
            state["silent_seconds"] = 0.0
        if isinstance(event, ev.ProgressEvent):
            _apply_progress(state, event)
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    def _node(self, ref: ev.NodeRef) -> NodeView:
        node = self._nodes.get(ref.id)
        if node is None:
            node = self._nodes[ref.id] = NodeView(ref)
        return node

    def _stream_started(self, event: ev.StreamStarted) -> None:
        self._set(server=event.server)

    def _run_queued(self, event: ev.RunQueued) -> None:
        if self.queued_at is not None:
            self._begin()
        self._set(server=event.server or self.server)
        self._set(status="queued", prompt_id=event.prompt_id, position=event.position, queued_at=event.elapsed)
        for ref in event.nodes:
            self._node(ref)
        self._set(total=len(self._nodes))

    def _queue_changed(self, event: ev.QueueChanged) -> None:
        self._set(position=event.position, remaining=event.remaining)

    def _run_started(self, event: ev.RunStarted) -> None:
        self._set(status="running", position=0, started_at=event.elapsed)

    def _node_cached(self, event: ev.NodeCached) -> None:
        _change(self._node(event.node), state="cached")

    def _node_started(self, event: ev.NodeStarted) -> None:
        node = self._node(event.node)
        _change(node, state="running", started=event.elapsed, pass_number=1, text="")
        _change(node, step=None, max_steps=None, eta_seconds=None, steps_per_second=None)
        self._active[event.node.id] = node

    def _node_progress(self, event: ev.NodeProgress) -> None:
        # Written one by one, for it runs with each step.
        node = vars(self._node(event.node))
        node["step"] = event.step
        node["max_steps"] = event.max_steps
        node["pass_number"] = event.pass_number
        node["eta_seconds"] = event.eta_seconds
        node["steps_per_second"] = event.steps_per_second

    def _node_text(self, event: ev.NodeText) -> None:
        _change(self._node(event.node), text=event.text)

    def _node_finished(self, event: ev.NodeFinished) -> None:
        node = self._node(event.node)
        seconds, timed = event.seconds or 0.0, event.seconds is not None
        _change(node, state="finished", seconds=node.seconds + seconds, timed=node.timed or timed)
        self._active.pop(event.node.id, None)

    def _output_ready(self, event: ev.OutputReady) -> None:
        output = event.output
        self._places.setdefault((output.node.id, output.index), []).append(len(self._outputs))
        self._outputs.append(output)
        self._set(_told_outputs=None)

    def _output_saved(self, event: ev.OutputSaved) -> None:
        saved = event.output
        for place in self._places.get((saved.node.id, saved.index), ()):
            self._outputs[place] = saved
        self._set(_told_outputs=None)

    def _connection_changed(self, event: ev.ConnectionChanged) -> None:
        self._set(connection=event.state)

    def _heartbeat(self, event: ev.Heartbeat) -> None:
        self._set(silent_seconds=event.silent_seconds)

    def _run_finished(self, event: ev.RunFinished) -> None:
        self._set(server=event.server or self.server)
        self._set(status=event.status, _told_outputs=event.outputs, result=event)
        self._active.clear()
        if event.status == "success":
            self._set(fraction=1.0)


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
