"""The `console` reporter: plain lines for logs and pipes, and a region that is drawn over on a terminal.

`Console` decides which lines are written; `frame` makes the lines of the region, a pure function of the run, the time
and the terminal.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Literal, NamedTuple

from comfyreport import (
    ConnectionChanged,
    Countdown,
    Event,
    Heartbeat,
    Lines,
    NodeCached,
    NodeFinished,
    NodeProgress,
    NodeRef,
    NodeStarted,
    NodeText,
    NodeView,
    OutputSaved,
    QueueChanged,
    Region,
    RunFinished,
    RunQueued,
    RunStarted,
    RunView,
    Stream,
    Warning,  # noqa: A004  the event's name
    bar,
    cell_width,
    describe_event,
    describe_slowest,
    describe_waiting,
    describe_work,
    fit,
    format_seconds,
    format_speed,
    format_steps,
    hookimpl,
    pad,
    percentage,
    printable,
    shorten,
    stderr,
)

PROGRESS_SECONDS, PROGRESS_PERCENT = 5.0, 5.0
"""A progress line is written when so much time has passed, or the bar has moved so far, since the last one."""
HEARTBEAT_SECONDS = 30.0
"""A heartbeat is written when no line was for so long. All seconds are of the events' clock."""
QUICK_SECONDS = 1.0
"""A node that took less, and showed no steps, is a quick one: with `nodes=slow` these are counted together."""
MAX_NODE_LINES = 8
BAR_WIDTHS = (30, 20, 10)
_FINISHING = "Finishing"
"""Columns of a bar, the widest that there is room for."""
MIN_TITLE_BESIDE_WIDE_BAR = 20
MIN_TITLE = 8
TITLE_LIMIT = 120

_SLACK = 1e-3  # heartbeats come on a timer of their own; one that comes a moment early counts too
_CYAN, _GREEN = 36, 32
_BAR = re.compile(r"█+░*|░+|\[#*-*\]")


# --- the frame


def frame(
    run: RunView, elapsed: float, width: int, height: int, *, left: str = "", unicode: bool, color: bool
) -> list[str]:
    """The lines of the region at *elapsed* seconds: a line for each running node, and one for the whole run.

    *left* says how long that still takes. No line is wider than *width* - 1 columns: terminals differ in what they do
    when the last one is filled. There are at most *height* - 2 lines, and always one.
    """
    room = max(1, width - 1)
    if run.result is not None:
        return []
    if run.status == "queued":
        seconds = f"[{format_seconds(_seconds_since(run.queued_at, elapsed), 0)}]"
        return [fit(_joined(describe_waiting(run.position), _connection_words(run), seconds), room)]
    if run.status != "running":
        words = "Submitting the workflow" if run.connection == "connected" else "Connecting"
        return [fit(f"{words} [{format_seconds(elapsed, 0)}]", room)]
    nodes = _visible_nodes(run, min(MAX_NODE_LINES, height - 3))
    titles = Counter(node.title for node in nodes)
    lines = _table([_cells(node, elapsed, same_title=titles[node.title] > 1) for node in nodes], room, unicode=unicode)
    run_line = _run_line(run, elapsed, room, left, hidden=len(run.active) - len(nodes), unicode=unicode)
    if color:
        return [*(_colored(line, _CYAN) for line in lines), _colored(run_line, _GREEN)]
    return [*lines, run_line]


def _visible_nodes(run: RunView, limit: int) -> list[NodeView]:
    """The nodes that have a line: if there are too many, those with a bar first, then those that started last."""
    if len(run.active) <= limit:
        return list(run.active)
    ranked = sorted(enumerate(run.active), key=lambda item: (item[1].step is not None, item[0]), reverse=True)
    return [node for _, node in sorted(ranked[: max(0, limit)], key=lambda item: item[0])]


class _Cells(NamedTuple):
    """The line of one node in its parts; without a bar (`part` is None), `steps` is the time that it has run."""

    title: str
    part: float | None
    steps: str
    speed: str
    eta: str
    text: str


def _cells(node: NodeView, elapsed: float, *, same_title: bool) -> _Cells:
    """The cells of a node; where another running node has the *same_title*, its id is added to the title."""
    title = printable(f"{node.title} #{node.ref.id}" if same_title else node.title, TITLE_LIMIT)
    text = printable(node.text.strip(), TITLE_LIMIT)
    if node.step is None or node.max_steps is None:
        return _Cells(title, None, format_seconds(_seconds_since(node.started, elapsed), 0), "", "", text)
    if node.pass_number > 1:
        title += f" (pass {node.pass_number})"
    eta = f"ETA {format_seconds(node.eta_seconds or 0.0, 0)}"
    steps = format_steps(node.step, node.max_steps)
    return _Cells(title, min(1.0, node.step / node.max_steps), steps, format_speed(node.steps_per_second), eta, text)


# What a node's line shows, from the widest terminal to the narrowest: columns of the bar, and which cells.
_LAYOUTS = (
    *((columns, ("steps", "speed", "eta")) for columns in BAR_WIDTHS),
    (BAR_WIDTHS[-1], ("steps", "eta")),
    (0, ("steps", "eta")),
    (0, ("steps",)),
    (0, ()),
)


def _table(rows: list[_Cells], room: int, *, unicode: bool) -> list[str]:
    """The nodes' lines, aligned; where the terminal is narrow, the least important cells are left out."""
    longest = max((cell_width(row.title) for row in rows), default=0)
    shown: list[str] = []
    for columns, names in _LAYOUTS:
        shown = _details(rows, columns, names, unicode=unicode)
        taken = max((cell_width(each) for each in shown), default=0)
        if taken + min(longest, MIN_TITLE_BESIDE_WIDE_BAR if columns > BAR_WIDTHS[-1] else MIN_TITLE) <= room:
            break
    width = max(0, min(longest, room - max((cell_width(each) for each in shown), default=0)))
    lines = []
    for row, details in zip(rows, shown, strict=True):
        line = pad(shorten(row.title, width, unicode=unicode), width) + details
        spare = room - cell_width(line) - 2
        if row.text and spare >= MIN_TITLE:
            line += "  " + shorten(row.text, spare, unicode=unicode)
        lines.append(fit(line.rstrip(), room))
    return lines


def _details(rows: list[_Cells], columns: int, names: tuple[str, ...], *, unicode: bool) -> list[str]:
    """What follows the titles, aligned; each begins with the gap behind the title."""
    widths = {name: max((len(getattr(row, name)) for row in rows if row.part is not None), default=0) for name in names}
    lines = []
    for row in rows:
        cells = [f"{getattr(row, name):>{widths[name]}}" for name in names if widths[name]]
        if row.part is None:
            cells = [row.steps] if names else []
        elif columns:
            cells.insert(0, bar(row.part, columns, unicode=unicode))
        lines.append("".join(f"  {cell}" for cell in cells))
    return lines


def _run_line(run: RunView, elapsed: float, room: int, left: str, *, hidden: int, unicode: bool) -> str:
    """The line of the whole run."""
    percent = f"{percentage(run.fraction):3d}%"
    nodes = f"{run.done}/{run.total} nodes" if run.total else ""
    activity = "" if run.active else _activity(run)
    if left and activity:
        # One of both says what goes on.
        left, activity = ("", activity) if activity == _FINISHING else (left, "")
    parts = {
        "bar": bar(run.fraction, BAR_WIDTHS[0], unicode=unicode),
        "progress": f"{percent}, {left}" if left else percent,
        "activity": activity,
        "nodes": f"({nodes})" if nodes and left else nodes,
        "hidden": f"+{hidden} running" if hidden else "",
        "connection": _connection_words(run),
        "time": f"[{format_seconds(_seconds_since(run.queued_at, elapsed), 0)}]",
    }
    short = [("bar", bar(run.fraction, columns, unicode=unicode)) for columns in BAR_WIDTHS[1:]]
    removable = (("nodes", ""), ("hidden", ""), ("time", ""), ("bar", ""), ("progress", percent), ("activity", ""))
    for name, shorter in (*short, *removable, ("connection", "")):
        if cell_width(_joined(*parts.values())) <= room:
            break
        parts[name] = shorter
    return fit(_joined(*parts.values()), room)


def _activity(run: RunView) -> str:
    """What goes on while no node runs."""
    return _FINISHING if 0 < run.total <= run.done else "Working" if run.done else "Starting"


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _connection_words(run: RunView) -> str:
    return {"lost": "(connection lost)", "polling": "(polling)"}.get(run.connection, "")


def _seconds_since(start: float | None, elapsed: float) -> float:
    return 0.0 if start is None else max(0.0, elapsed - start)


def _colored(line: str, color: int) -> str:
    """*line* with its bar in colour."""
    return _BAR.sub(f"\x1b[{color}m\\g<0>\x1b[0m", line, count=1)


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
        self._reset()

    def _reset(self) -> None:
        self._cached = self._quick = 0
        # Of a node that runs, its start, until its line is written.
        self._unwritten: dict[str, NodeStarted] = {}
        self._position: int | None = None
        self._progress: dict[str, _ProgressLine] = {}
        self._texts: dict[str, float] = {}

    def _write(self, event: Event, run: RunView, lines: list[str], *, urgent: bool = False) -> None:
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
            left = self._countdown.words(run, elapsed)
            lines = frame(run, elapsed, out.width(), out.height(), left=left, unicode=out.unicode, color=out.color)
            self._screen.draw(lines, elapsed)

    def _write_plain(self, event: Event, run: RunView, *, wanted: bool = True) -> None:
        """Write what a region shows otherwise; what a node tells comes behind the line of its start."""
        node = getattr(event, "node", None)
        self._write(event, run, [*self._start_lines(node), *describe_event(event)] if wanted and not self._live else [])

    def _start_lines(self, node: NodeRef | None) -> list[str]:
        """The line of a node's start, unless it was written, or the region shows it."""
        started = None if node is None else self._unwritten.pop(node.id, None)
        return [] if started is None or self._live else describe_event(started)

    @hookimpl
    def comfyreport_connection_changed(self, event: ConnectionChanged, run: RunView) -> None:
        """The connection was made, lost, or restored."""
        self._write(event, run, describe_event(event), urgent=True)

    @hookimpl
    def comfyreport_run_queued(self, event: RunQueued | QueueChanged, run: RunView) -> None:
        """The place in the queue, if the prompt has to wait and it has changed."""
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
        self._write(event, run, describe_event(event))

    @hookimpl
    def comfyreport_node_cached(self, event: NodeCached) -> None:
        """Count it: all cached nodes together are one line."""
        self._cached += 1

    @hookimpl
    def comfyreport_node_started(self, event: NodeStarted, run: RunView) -> None:
        """A node began; where quick ones are counted, its line waits until it isn't one."""
        self._progress.pop(event.node.id, None)
        self._unwritten[event.node.id] = event
        self._write(event, run, self._start_lines(event.node) if self._all_nodes else [])

    @hookimpl
    def comfyreport_node_progress(self, event: NodeProgress, run: RunView) -> None:
        """A line for each 5 % or 5 s, and for the first and the last step of each pass."""
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
        wanted = event.elapsed - self._texts.get(event.node.id, -math.inf) >= PROGRESS_SECONDS and event.text.strip()
        if wanted:
            self._texts[event.node.id] = event.elapsed
        self._write_plain(event, run, wanted=bool(wanted))

    @hookimpl
    def comfyreport_node_finished(self, event: NodeFinished, run: RunView) -> None:
        """A node ended; a quick one is counted."""
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
        self._write(event, run, describe_event(event), urgent=True)

    @hookimpl
    def comfyreport_run_finished(self, event: RunFinished, run: RunView) -> None:
        """How the run ended and what took long; the last line of a log is the verdict, a terminal has a summary."""
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
        self._draw(run, elapsed)

    @hookimpl
    def comfyreport_close(self) -> None:
        """Remove the region, or close the file."""
        self._screen.close()


def console(out: Stream = stderr, *, plain: bool = False, nodes: Literal["slow", "all"] = "slow") -> Console:
    """Lines for a person; on a terminal, a live view of the running nodes and the whole run below them.

    :param plain: only add lines, on a terminal too
    :param nodes: `slow` counts nodes of less than a second without steps in one line, `all` tells each
    """
    live = not plain and out.take_terminal()
    return Console(out, live=live, all_nodes=nodes == "all")
