"""The `console` reporter: plain lines for logs and pipes, and a region that is drawn over on a terminal.

`Console` decides which lines are written; `run_frame` and `fleet_frame` make the lines of the region. Of a command that
makes several runs, the region has a line for each server, and each run has one where it begins and one where it ends.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from comfyreport import (
    ConnectionChanged,
    Countdown,
    Event,
    Fleet,
    Heartbeat,
    Lines,
    NodeCached,
    NodeFinished,
    NodeProgress,
    NodeRef,
    NodeStarted,
    NodeText,
    OutputSaved,
    QueueChanged,
    Region,
    RunFinished,
    RunQueued,
    RunStarted,
    RunView,
    Stream,
    StreamStarted,
    Warning,  # noqa: A004  the event's name
    describe_event,
    describe_fleet,
    describe_in_run,
    describe_running,
    describe_slowest,
    describe_waiting,
    describe_work,
    fleet_frame,
    hookimpl,
    run_frame,
    run_name,
    server_name,
    stderr,
)

PROGRESS_SECONDS, PROGRESS_PERCENT = 5.0, 5.0
"""A progress line is written when so much time has passed, or the bar has moved so far, since the last one."""
HEARTBEAT_SECONDS = 30.0
"""A heartbeat is written when no line was for so long. All seconds are of the events' clock."""
QUICK_SECONDS = 1.0
"""A node that took less, and showed no steps, is a quick one: with `nodes=slow` these are counted together."""
RUNS_SECONDS = 10.0
"""Of many runs, a line of progress for all of them is written so often."""

_SLACK = 1e-3  # heartbeats come on a timer of their own; one that comes a moment early counts too


# --- the reporter


class _ProgressLine(NamedTuple):
    """The last one of a node."""

    pass_number: int
    percent: float
    elapsed: float


class Console:
    """Decides which events are worth a line, and when."""

    def __init__(self, out: Stream, *, live: bool, all_nodes: bool) -> None:
        # What the region shows isn't written as lines too.
        self._out, self._live, self._all_nodes = out, live, all_nodes
        self._screen = Region(out) if live else Lines(out)
        self._last_line = 0.0
        self._countdown = Countdown()
        self._fleet = Fleet()
        self._several = False
        self._told_progress = 0.0
        self._reset()

    def _reset(self) -> None:
        self._cached = self._quick = 0
        # Of a node that runs, its start, until its line is written.
        self._unwritten: dict[str, NodeStarted] = {}
        self._position: int | None = None
        self._progress: dict[str, _ProgressLine] = {}
        self._texts: dict[str, float] = {}

    def _write(self, event: Event, run: RunView, lines: list[str], *, urgent: bool = False) -> None:
        if event.run_index is not None:
            # One of several: the lines of its server have it.
            self._several = True
            self._draw(run, event.elapsed, urgent=urgent)
            return
        ended = isinstance(event, RunFinished)
        if self._quick and (ended or (not self._live and event.elapsed - self._last_line >= PROGRESS_SECONDS - _SLACK)):
            lines = [f"[INFO] {self._quick} quick node{'s'[self._quick == 1 :]} done", *lines]
            self._quick = 0
        if self._cached:
            lines = [f"[INFO] {self._cached} node{'s'[self._cached == 1 :]} cached", *lines]
            self._cached = 0
        if lines:
            self._last_line = event.elapsed
        self._screen.write(lines)
        self._draw(run, event.elapsed, urgent=urgent)

    def _draw(self, run: RunView, elapsed: float, *, urgent: bool = False) -> None:
        """Bring the region up to date, unless that was done a moment ago and nothing *urgent* waits above it."""
        out = self._out
        if self._live and (urgent or self._screen.due(elapsed)):
            size, look = (out.width(), out.height()), {"unicode": out.unicode, "color": out.color}
            if self._several or self._fleet.several:
                lines = fleet_frame(self._fleet, elapsed, *size, **look)
            else:
                lines = run_frame(run, elapsed, *size, left=self._countdown.words(run, elapsed), **look)
            self._screen.draw(lines, elapsed)

    def _write_plain(self, event: Event, run: RunView, *, wanted: bool = True) -> None:
        """Write what a region shows otherwise; what a node tells comes behind the line of its start."""
        node = getattr(event, "node", None)
        self._write(event, run, [*self._start_lines(node), *describe_event(event)] if wanted and not self._live else [])

    def _start_lines(self, node: NodeRef | None) -> list[str]:
        """The line of a node's start, unless it was written, or the region shows it."""
        started = None if node is None else self._unwritten.pop(node.id, None)
        return [] if started is None or self._live else describe_event(started)

    def _write_of_run(self, event: Event, run: RunView, lines: list[str]) -> None:
        """Write *lines* about one of several runs."""
        self._screen.write(lines)
        self._write(event, run, [], urgent=True)

    @hookimpl
    def comfyreport_stream_started(self, event: StreamStarted, run: RunView) -> None:
        """Note how many runs there will be."""
        self._fleet.apply(event, run)

    @hookimpl
    def comfyreport_connection_changed(self, event: ConnectionChanged, run: RunView) -> None:
        """The connection was made, lost, or restored."""
        if event.run_index is None:
            self._write(event, run, describe_event(event), urgent=True)
        else:
            wanted = event.state != "connected" and not self._live
            self._write_of_run(event, run, describe_in_run(event, self._fleet.planned) if wanted else [])

    @hookimpl
    def comfyreport_run_queued(self, event: RunQueued | QueueChanged, run: RunView) -> None:
        """The place in the queue, if the prompt has to wait and it has changed."""
        if isinstance(event, RunQueued):
            self._fleet.apply(event, run)
        moved = event.position != self._position and bool(event.position) and run.status == "queued"
        self._position = event.position
        self._write(event, run, [f"[INFO] {describe_waiting(event.position)}"] if moved and not self._live else [])

    @hookimpl
    def comfyreport_queue_changed(self, event: QueueChanged, run: RunView) -> None:
        """The same for a place that is new."""
        self.comfyreport_run_queued(event, run)

    @hookimpl
    def comfyreport_run_started(self, event: RunStarted, run: RunView) -> None:
        """The server started the prompt."""
        if event.run_index is None:
            self._write(event, run, describe_event(event))
        else:
            begun = f"[INFO] {run_name(event.run_index, self._fleet.planned)} started on {server_name(run.server)}"
            self._write_of_run(event, run, [] if self._live else [begun])

    @hookimpl
    def comfyreport_node_cached(self, event: NodeCached) -> None:
        """Count it: all cached nodes together are one line."""
        self._cached += event.run_index is None

    @hookimpl
    def comfyreport_node_started(self, event: NodeStarted, run: RunView) -> None:
        """A node began; where quick ones are counted, its line waits until it isn't one."""
        if event.run_index is not None:
            return
        self._progress.pop(event.node.id, None)
        self._unwritten[event.node.id] = event
        self._write(event, run, self._start_lines(event.node) if self._all_nodes else [])

    @hookimpl
    def comfyreport_node_progress(self, event: NodeProgress, run: RunView) -> None:
        """A line for each 5 % or 5 s, and for the first and the last step of each pass."""
        if event.run_index is not None:
            return
        percent = 100 * event.step / event.max_steps
        last = self._progress.get(event.node.id)
        wanted = (
            last is None
            or last.pass_number != event.pass_number
            or percent - last.percent >= PROGRESS_PERCENT - _SLACK
            or event.elapsed - last.elapsed >= PROGRESS_SECONDS - _SLACK
            or (event.step >= event.max_steps and last.percent < percent)
        )
        if wanted:
            self._progress[event.node.id] = _ProgressLine(event.pass_number, percent, event.elapsed)
        self._write_plain(event, run, wanted=bool(wanted))

    @hookimpl
    def comfyreport_node_text(self, event: NodeText, run: RunView) -> None:
        """A node's own text, every few seconds at most."""
        if event.run_index is not None:
            return
        wanted = event.elapsed - self._texts.get(event.node.id, -math.inf) >= PROGRESS_SECONDS and event.text.strip()
        if wanted:
            self._texts[event.node.id] = event.elapsed
        self._write_plain(event, run, wanted=bool(wanted))

    @hookimpl
    def comfyreport_node_finished(self, event: NodeFinished, run: RunView) -> None:
        """A node ended; a quick one is counted."""
        if event.run_index is not None:
            return
        node_id = event.node.id
        silent = node_id not in self._progress and (self._live or node_id in self._unwritten)
        quick = silent and not self._all_nodes and event.seconds is not None and event.seconds < QUICK_SECONDS
        self._quick += quick
        start = self._start_lines(event.node)
        self._write(event, run, [] if quick else [*start, *describe_event(event)])

    @hookimpl
    def comfyreport_output_saved(self, event: OutputSaved, run: RunView) -> None:
        """A file is on disk; on a terminal the summary at the end has it."""
        self._write_plain(event, run)

    @hookimpl
    def comfyreport_heartbeat(self, event: Heartbeat, run: RunView) -> None:
        """A heartbeat, if no line was written for a while."""
        self._write_plain(event, run, wanted=event.elapsed - self._last_line >= HEARTBEAT_SECONDS - _SLACK)

    @hookimpl
    def comfyreport_warning(self, event: Warning, run: RunView) -> None:
        """A warning."""
        self._fleet.apply(event, run)
        if event.run_index is None:
            self._write(event, run, describe_event(event), urgent=True)
        else:
            self._write_of_run(event, run, describe_in_run(event, self._fleet.planned))

    @hookimpl
    def comfyreport_run_finished(self, event: RunFinished, run: RunView) -> None:
        """How the run ended and what took long; the last line of a log is the verdict, a terminal has a summary."""
        self._fleet.apply(event, run)
        if event.run_index is not None:
            self._write_of_run(event, run, describe_in_run(event, self._fleet.planned))
            return
        lines, width = describe_event(event), self._out.width() - 1
        lines = [*lines, *describe_work(run, width)] if self._live else [*describe_slowest(event, width), *lines]
        self._write(event, run, lines, urgent=True)
        self._reset()

    @hookimpl
    def comfyreport_tick(self, elapsed: float, run: RunView) -> None:
        """Update the times in the region, or write the start of a node that is no quick one."""
        for started in list(self._unwritten.values()):
            if not self._live and elapsed - started.elapsed >= QUICK_SECONDS - _SLACK:
                self._last_line = elapsed
                self._screen.write(self._start_lines(started.node))
        if self._several and not self._live and elapsed - self._told_progress >= RUNS_SECONDS - _SLACK:
            self._told_progress = elapsed
            self._screen.write([f"[PROGRESS] {describe_running(self._fleet, elapsed)}"])
        self._draw(run, elapsed)

    @hookimpl
    def comfyreport_close(self) -> None:
        """Tell how several runs ended; remove the region, or close the file."""
        if self._several:
            self._screen.write(describe_fleet(self._fleet))
        self._screen.close()


def console(out: Stream = stderr, *, plain: bool = False, nodes: Literal["slow", "all"] = "slow") -> Console:
    """Lines for a person; on a terminal, a live view of the running nodes and the whole run below them.

    :param plain: only add lines, on a terminal too
    :param nodes: `slow` counts nodes of less than a second without steps in one line, `all` tells each
    """
    live = not plain and out.take_terminal()
    return Console(out, live=live, all_nodes=nodes == "all")
