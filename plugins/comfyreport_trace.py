"""The `trace` reporter: the run on a time line, as trace events that Perfetto and chrome://tracing open.

The format is Chrome's, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU: complete events
(`X`, which nest within a track), instants (`i`), counters (`C`) and names (`M`). A run is a process there, a track is a
thread of it. Nodes that run side by side get tracks of their own; steps lie inside of their node.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from comfyreport import (
    ConnectionChanged,
    Event,
    Heartbeat,
    NodeCached,
    NodeFinished,
    NodeProgress,
    NodeRef,
    NodeStarted,
    NodeText,
    OutputReady,
    OutputSaved,
    QueueChanged,
    RunFinished,
    RunQueued,
    RunStarted,
    Stream,
    StreamStarted,
    Warning,  # noqa: A004  the event's name
    format_steps,
    hookimpl,
    printable,
)

NAME_LIMIT, TEXT_LIMIT = 120, 1_000
COMMAND = 2_000_000_000
"""The process of what is about several runs together; those of the runs have their numbers."""
# Ids of tracks, in the order in which they are shown; behind the last two come further ones of the same kind.
RUN, QUEUE, CONNECTION, CACHED, OUTPUTS, NODES, DOWNLOADS = 1, 2, 3, 4, 5, 100, 10_000
_NAMES = ("run", "queue", "connection", "cached nodes", "outputs", "nodes", "downloads")
TRACKS = dict(zip((RUN, QUEUE, CONNECTION, CACHED, OUTPUTS, NODES, DOWNLOADS), _NAMES, strict=True))


class _Slice(NamedTuple):
    """What goes on, on a track of its run, since `start`."""

    track: int
    name: str
    start: int
    arguments: dict[str, Any]


class _Lanes:
    """Tracks of one kind, as many as there are things side by side; each thing takes the first that is free."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._free_from: list[float] = []

    def take(self, start: int) -> int:
        """A track on which nothing is from *start* on."""
        free = [index for index, free_from in enumerate(self._free_from) if free_from <= start]
        index = min(free, default=len(self._free_from))
        self._free_from[index : index + 1] = [math.inf]
        return self._first + index

    def free(self, track: int, end: int) -> None:
        """What was on *track* ended."""
        self._free_from[track - self._first] = end


class _Run:
    """What goes on in one run, by the events so far."""

    def __init__(self, process: int) -> None:
        self.process = process
        self.tracks: set[int] = set()
        self.start = 0
        self.open: dict[int, _Slice] = {}  # in the queue, and of the connection, by track
        self.nodes: dict[str, _Slice] = {}
        self.steps: dict[str, int] = {}  # when the last step of each running node was told
        self.ready: dict[tuple[str, int], int] = {}
        self.node_lanes, self.download_lanes = _Lanes(NODES), _Lanes(DOWNLOADS)


class Trace:
    """Writes trace events as they happen; what has a length is written when it ends."""

    def __init__(self, out: Stream) -> None:
        self._out = out
        self._runs: dict[int, _Run] = {}
        self._several = False
        self._now = 0  # in microseconds, as all times in the file
        self._about: dict[str, Any] = {}
        self._lead = '{"traceEvents":[\n'

    @hookimpl
    def comfyreport_stream_started(self, event: StreamStarted) -> None:
        """Where it is, for the end of the file."""
        self._several = event.runs_total > 1
        self._about = {"comfyreport": _text(event.comfyreport), "server": _text(event.server), "begun": event.time}

    @hookimpl
    def comfyreport_connection_changed(self, event: ConnectionChanged) -> None:
        """A state of the connection begins, and so ends the one before it."""
        self._change(self._run(event), CONNECTION, event.state, detail=_text(event.detail, TEXT_LIMIT))

    @hookimpl
    def comfyreport_run_queued(self, event: RunQueued) -> None:
        """The run begins, in the queue."""
        run = self._run(event)
        for node in [*run.nodes]:
            # It is queued again, elsewhere.
            self._end_node(run, node, told_end=False)
        run.start = run.start or self._now
        if event.server is not None:
            self._write("M", run, 0, "process_labels", args={"labels": _text(event.server)})
        self._change(run, QUEUE, _place(event.position))

    @hookimpl
    def comfyreport_queue_changed(self, event: QueueChanged) -> None:
        """Another place in the queue, and how long it is."""
        run = self._run(event)
        if QUEUE in run.open and run.open[QUEUE].name != _place(event.position):
            self._change(run, QUEUE, _place(event.position))
        self._count(run, "prompts in the queue", event.remaining)

    @hookimpl
    def comfyreport_run_started(self, event: RunStarted) -> None:
        """The wait in the queue is over."""
        self._end(self._run(event), QUEUE)

    @hookimpl
    def comfyreport_node_cached(self, event: NodeCached) -> None:
        """A node that took no time."""
        self._instant(self._run(event), CACHED, _title(event.node), _about(event.node))

    @hookimpl
    def comfyreport_node_started(self, event: NodeStarted) -> None:
        """A node begins, on a track that is free."""
        run = self._run(event)
        self._end_node(run, event.node.id, told_end=False)
        self._node(run, event.node)

    @hookimpl
    def comfyreport_node_progress(self, event: NodeProgress) -> None:
        """A step: from the one before it, or from the begin of the node, until now."""
        run = self._run(event)
        track = self._node(run, event.node, told_begin=False).track
        name = format_steps(event.step, event.max_steps)
        arguments = {"step": event.step, "max_steps": event.max_steps, "pass": event.pass_number}
        self._slice(run, _Slice(track, name, run.steps[event.node.id], arguments), "step")
        run.steps[event.node.id] = self._now
        self._count(run, f"steps a second{_number(track, NODES)}", event.steps_per_second)
        self._count(run, "done %", 100 * event.fraction)

    @hookimpl
    def comfyreport_node_text(self, event: NodeText) -> None:
        """What a node says, on its track."""
        run = self._run(event)
        track = run.nodes[event.node.id].track if event.node.id in run.nodes else RUN
        self._instant(run, track, _text(event.text), {"text": _text(event.text, TEXT_LIMIT), **_about(event.node)})

    @hookimpl
    def comfyreport_node_finished(self, event: NodeFinished) -> None:
        """A node ended; of one whose begin nobody saw, only that is known."""
        run = self._run(event)
        self._node(run, event.node, told_begin=False)
        self._end_node(run, event.node.id, outputs=len(event.outputs))
        self._count(run, "done %", 100 * event.fraction)

    @hookimpl
    def comfyreport_output_ready(self, event: OutputReady) -> None:
        """An output is there; from now on it may be fetched."""
        run, output = self._run(event), event.output
        run.ready[output.node.id, output.index] = self._now
        name = _text(output.filename or output.kind)
        self._instant(run, OUTPUTS, name, {"kind": output.kind, "cached": output.cached, **_about(output.node)})

    @hookimpl
    def comfyreport_output_saved(self, event: OutputSaved) -> None:
        """An output was fetched, on a track that is free."""
        run, output = self._run(event), event.output
        start = run.ready.pop((output.node.id, output.index), self._now)
        track = run.download_lanes.take(start)
        arguments = {"bytes": output.bytes, "path": _text(output.path or "", TEXT_LIMIT), **_about(output.node)}
        self._slice(run, _Slice(track, _text(output.filename or output.kind), start, arguments), "download")
        run.download_lanes.free(track, self._now)

    @hookimpl
    def comfyreport_heartbeat(self, event: Heartbeat) -> None:
        """How much of the outputs was fetched."""
        self._count(self._run(event), "bytes fetched", event.received_bytes)

    @hookimpl
    def comfyreport_warning(self, event: Warning) -> None:
        """A warning, on the track of the run."""
        arguments = {"message": _text(event.message, TEXT_LIMIT), **_about(event.node)}
        self._instant(self._run(event), RUN, f"warning: {_text(event.code)}", arguments)

    @hookimpl
    def comfyreport_run_finished(self, event: RunFinished) -> None:
        """All that still goes on in the run ends, and the run itself."""
        run = self._run(event)
        for node in [*run.nodes]:
            self._end_node(run, node, told_end=False)
        self._end(run, *run.open)
        arguments: dict[str, Any] = {"exit_code": event.exit_code, "prompt_id": _text(event.prompt_id or "")}
        if event.error is not None:
            told = _text(f"{event.error.message} ({event.error.code})", TEXT_LIMIT)
            arguments |= {"error": told, **_about(event.error.node)}
        self._slice(run, _Slice(RUN, _text(event.status), run.start, arguments), "run")
        if event.run_index is not None:
            # Of many runs only those that are open are kept.
            del self._runs[run.process]
        self._out.flush()

    @hookimpl
    def comfyreport_close(self) -> None:
        """End the file; what goes on behind the end of its run, such as a connection, ends now."""
        for run in self._runs.values():
            self._end(run, *run.open)
        about = {"displayTimeUnit": "ms", "otherData": self._about}
        self._out.write(self._lead.lstrip(",") + "]," + json.dumps(about, allow_nan=False)[1:] + "\n")
        self._out.close()

    def _run(self, event: Event) -> _Run:
        """The run that *event* is of; its time is now."""
        self._now = max(self._now, round(event.elapsed * 1e6))
        self._several = self._several or event.run_index is not None
        process = event.run_index or (COMMAND if self._several else 1)
        run = self._runs.get(process)
        if run is None:
            run = self._runs[process] = _Run(process)
            name = "command" if process == COMMAND else f"run {event.run_index or ''}".strip()
            self._write("M", run, 0, "process_name", args={"name": name})
        return run

    def _node(self, run: _Run, node: NodeRef, **more: Any) -> _Slice:
        """The node that runs; if it doesn't yet, it begins now, with *more* to tell of it."""
        if node.id not in run.nodes:
            track = run.node_lanes.take(self._now)
            run.nodes[node.id] = _Slice(track, _title(node), self._now, {**_about(node), **more})
            run.steps[node.id] = self._now
        return run.nodes[node.id]

    def _end_node(self, run: _Run, node: str, **more: Any) -> None:
        if node in run.nodes:
            track, name, start, arguments = run.nodes.pop(node)
            self._slice(run, _Slice(track, name, start, arguments | more), "node")
            run.node_lanes.free(track, self._now)

    def _change(self, run: _Run, track: int, name: str, **arguments: Any) -> None:
        """On *track*, what was ends, and *name* begins."""
        self._end(run, track)
        run.open[track] = _Slice(track, _text(name), self._now, arguments)

    def _end(self, run: _Run, *tracks: int) -> None:
        for track in tracks:
            if track in run.open:
                self._slice(run, run.open.pop(track), TRACKS[track])

    def _slice(self, run: _Run, begun: _Slice, category: str) -> None:
        """What was from its start until now."""
        track, name, start, arguments = begun
        self._write("X", run, track, name, cat=category, ts=start, dur=self._now - start, args=arguments)

    def _instant(self, run: _Run, track: int, name: str, arguments: dict[str, Any]) -> None:
        self._write("i", run, track, name, s="t", ts=self._now, args=arguments)

    def _count(self, run: _Run, name: str, number: float | None) -> None:
        if number is not None and math.isfinite(number):
            self._write("C", run, 0, name, ts=self._now, args={"value": number})

    def _write(self, phase: str, run: _Run, track: int, name: str, **more: Any) -> None:
        if track and track not in run.tracks:
            run.tracks.add(track)
            kind = max(first for first in TRACKS if first <= track)
            self._write("M", run, track, "thread_name", args={"name": TRACKS[kind] + _number(track, kind)})
            self._write("M", run, track, "thread_sort_index", args={"sort_index": track})
        line = {"ph": phase, "name": name, "pid": run.process, "tid": track, **more}
        self._out.write(self._lead + json.dumps(line, allow_nan=False, separators=(",", ":")))
        self._lead = ",\n"


def _number(track: int, first: int) -> str:
    """What tells a track from the first of its kind."""
    return f" {track - first + 1}" if track > first else ""


def _text(text: object, limit: int = NAME_LIMIT) -> str:
    """Text of a server, without what viewers might take for more than text."""
    return printable(text, limit)


def _title(node: NodeRef) -> str:
    return _text(node.title or node.name or "node")


def _about(node: NodeRef | None) -> dict[str, Any]:
    return {} if node is None else {"node_id": _text(node.id), "class_type": _text(node.class_type)}


def _place(position: int | None) -> str:
    return "in the queue" if position is None else f"position {position}"


def trace(out: Stream) -> Trace:
    """The run on a time line, as trace events for Perfetto (ui.perfetto.dev) and chrome://tracing."""
    return Trace(out)
