"""The `console` reporter: plain lines for logs and pipes, and a region that is drawn over on a terminal.

What is told is decided by `Console`; what stands in the region by `frame`, a pure function of the run, the time and
the terminal.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import NamedTuple

from comfyreport import (
    ConnectionChanged,
    Event,
    Heartbeat,
    Lines,
    NodeCached,
    NodeFinished,
    NodeProgress,
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
    describe_waiting,
    describe_work,
    fit,
    format_seconds,
    format_steps,
    hookimpl,
    pad,
    percentage,
    printable,
    shorten,
    stderr,
)

# All in seconds of the events' clock.
TELL_AFTER = 5.0
TELL_SILENCE_AFTER = 30.0

TELL_AFTER_PERCENT = 5.0
MOST_NODES = 8
BARS = (30, 20, 10)
"""Columns of a bar, where there is room for it."""
ROOMY_TITLE = 20
SMALLEST_TITLE = 8
LONGEST_TITLE = 120

# Heartbeats come on a timer of their own; one that is a moment early still counts.
_SLACK = 1e-3
_CYAN, _GREEN = 36, 32
_BAR = re.compile(r"█+░*|░+|\[#*-*\]")


# --- the frame


def frame(run: RunView, elapsed: float, width: int, height: int, *, unicode: bool, color: bool) -> list[str]:
    """What stands in the region at *elapsed* seconds: a line for each running node, and one for the whole run.

    No line is wider than *width* - 1 columns: terminals differ in what they do when the last one is filled. There
    are at most *height* - 2 lines, and always one.
    """
    room = max(1, width - 1)
    if run.result is not None:
        return []
    if run.status == "queued":
        words = describe_waiting(run.position)
        seconds = _since(run.queued_at, elapsed)
        return [fit(" ".join([words, *_connection(run), f"[{format_seconds(seconds, 0)}]"]), room)]
    if run.status != "running":
        words = "Submitting the workflow" if run.connection == "connected" else "Connecting"
        return [fit(f"{words} [{format_seconds(elapsed, 0)}]", room)]
    nodes = _shown(run, min(MOST_NODES, height - 3))
    twins = Counter(node.title for node in nodes)
    lines = _table([_cells(node, elapsed, twin=twins[node.title] > 1) for node in nodes], room, unicode=unicode)
    whole = _whole(run, elapsed, room, hidden=len(run.active) - len(nodes), unicode=unicode)
    if color:
        return [*(_colored(line, _CYAN) for line in lines), _colored(whole, _GREEN)]
    return [*lines, whole]


def _shown(run: RunView, most: int) -> list[NodeView]:
    """The nodes that have a line: if there are too many, those with a bar, and the latest ones."""
    if len(run.active) <= most:
        return list(run.active)
    ranked = sorted(enumerate(run.active), key=lambda item: (item[1].step is not None, item[0]), reverse=True)
    return [node for _, node in sorted(ranked[: max(0, most)], key=lambda item: item[0])]


class _Cells(NamedTuple):
    """The line of one node in its parts; one without a bar has its time in the place of the bar."""

    title: str
    part: float | None
    steps: str
    speed: str
    eta: str
    text: str


def _cells(node: NodeView, elapsed: float, *, twin: bool) -> _Cells:
    """The cells of a node; one that shares its title with another running one has its id behind it."""
    title = printable(f"{node.title} #{node.ref.id}" if twin else node.title, LONGEST_TITLE)
    text = printable(node.text.strip(), LONGEST_TITLE)
    if node.step is None or node.max_steps is None:
        return _Cells(title, None, format_seconds(_since(node.started, elapsed), 0), "", "", text)
    if node.pass_number > 1:
        title += f" (pass {node.pass_number})"
    eta = f"ETA {format_seconds(node.eta_seconds or 0.0, 0)}"
    steps = format_steps(node.step, node.max_steps)
    return _Cells(title, min(1.0, node.step / node.max_steps), steps, _speed(node.steps_per_second), eta, text)


def _speed(steps_per_second: float | None) -> str:
    if not steps_per_second:
        return ""
    return f"{steps_per_second:.1f} it/s" if steps_per_second >= 0.95 else f"{1 / steps_per_second:.1f} s/it"


# What a node's line shows, from the widest terminal to the narrowest: columns of the bar, and which cells.
_LAYOUTS = (
    *((columns, ("steps", "speed", "eta")) for columns in BARS),
    (BARS[-1], ("steps", "eta")),
    (0, ("steps", "eta")),
    (0, ("steps",)),
    (0, ()),
)


def _table(rows: list[_Cells], room: int, *, unicode: bool) -> list[str]:
    """The nodes' lines, one below the other: what matters least goes where the terminal is narrow."""
    longest = max((cell_width(row.title) for row in rows), default=0)
    shown: list[str] = []
    for columns, names in _LAYOUTS:
        shown = _details(rows, columns, names, unicode=unicode)
        taken = max((cell_width(each) for each in shown), default=0)
        if taken + min(longest, ROOMY_TITLE if columns > BARS[-1] else SMALLEST_TITLE) <= room:
            break
    width = max(0, min(longest, room - max((cell_width(each) for each in shown), default=0)))
    lines = []
    for row, details in zip(rows, shown, strict=True):
        line = pad(shorten(row.title, width, unicode=unicode), width) + details
        spare = room - cell_width(line) - 2
        if row.text and spare >= SMALLEST_TITLE:
            line += "  " + shorten(row.text, spare, unicode=unicode)
        lines.append(fit(line.rstrip(), room))
    return lines


def _details(rows: list[_Cells], columns: int, names: tuple[str, ...], *, unicode: bool) -> list[str]:
    """What stands behind the titles, in columns; each begins with the gap to what is before it."""
    widths = {name: max((len(getattr(row, name)) for row in rows if row.part is not None), default=0) for name in names}
    found = []
    for row in rows:
        cells = [f"{getattr(row, name):>{widths[name]}}" for name in names if widths[name]]
        if row.part is None:
            cells = [row.steps] if names else []
        elif columns:
            cells.insert(0, bar(row.part, columns, unicode=unicode))
        found.append("".join(f"  {cell}" for cell in cells))
    return found


def _whole(run: RunView, elapsed: float, room: int, *, hidden: int, unicode: bool) -> str:
    """The line of the whole run."""
    parts = {
        "bar": bar(run.fraction, BARS[0], unicode=unicode),
        "percent": f"{percentage(run.fraction):3d}%",
        "activity": "" if run.active else _activity(run),
        "nodes": f"{run.done}/{run.total} nodes" if run.total else "",
        "left": _run_eta(run),
        "hidden": f"+{hidden} running" if hidden else "",
        "connection": "".join(_connection(run)),
        "time": f"[{format_seconds(_since(run.queued_at, elapsed), 0)}]",
    }
    short = [("bar", bar(run.fraction, columns, unicode=unicode)) for columns in BARS[1:]]
    yielding = (("nodes", ""), ("hidden", ""), ("time", ""), ("bar", ""), ("left", ""), ("activity", ""))
    for name, shorter in (*short, *yielding, ("connection", "")):
        if _columns(parts) <= room:
            break
        parts[name] = shorter
    return fit(" ".join(part for part in parts.values() if part), room)


def _activity(run: RunView) -> str:
    """What goes on while no node runs."""
    return "Finishing" if 0 < run.total <= run.done else "Working" if run.done else "Starting"


def _columns(parts: dict[str, str]) -> int:
    shown = [part for part in parts.values() if part]
    return sum(cell_width(part) for part in shown) + len(shown) - 1


def _run_eta(run: RunView) -> str:
    """The whole run's estimate: as a range where its ends differ when shown."""
    if run.run_eta_seconds is None:
        return ""
    low = format_seconds(run.run_eta_seconds if run.run_eta_low is None else run.run_eta_low, 0)
    high = format_seconds(run.run_eta_seconds if run.run_eta_high is None else run.run_eta_high, 0)
    return f"({low} left)" if low == high else f"({low} to {high} left)"


def _connection(run: RunView) -> list[str]:
    return {"lost": ["(connection lost)"], "polling": ["(polling)"]}.get(run.connection, [])


def _since(start: float | None, elapsed: float) -> float:
    return 0.0 if start is None else max(0.0, elapsed - start)


def _colored(line: str, color: int) -> str:
    """*line* with its bar in colour."""
    return _BAR.sub(f"\x1b[{color}m\\g<0>\x1b[0m", line, count=1)


# --- what is told


class _Told(NamedTuple):
    """The progress line that was written last for a node."""

    pass_number: int
    percent: float
    elapsed: float


class Console:
    """Decides which events are worth a line, and when."""

    def __init__(self, out: Stream, *, live: bool) -> None:
        self._out = out
        # What the region shows needs no lines.
        self._live = live
        self._screen = Region(out) if live else Lines(out)
        self._forget()
        self._last_line = 0.0

    def _forget(self) -> None:
        self._cached = 0
        self._position: int | None = None
        self._progress: dict[str, _Told] = {}
        self._texts: dict[str, float] = {}

    def _tell(self, event: Event, run: RunView, lines: list[str], *, urgent: bool = False) -> None:
        if self._cached:
            lines = [f"[INFO] {self._cached} node{'' if self._cached == 1 else 's'} cached", *lines]
            self._cached = 0
        if lines:
            self._last_line = event.elapsed
        self._screen.write(lines)
        self._draw(run, event.elapsed, urgent=urgent)

    def _draw(self, run: RunView, elapsed: float, *, urgent: bool = False) -> None:
        """Bring the region up to date, unless that was done a moment ago and nothing *urgent* waits above it."""
        if self._live and (urgent or self._screen.due(elapsed)):
            out = self._out
            lines = frame(run, elapsed, out.width(), out.height(), unicode=out.unicode, color=out.color)
            self._screen.draw(lines, elapsed)

    def _tell_plain(self, event: Event, run: RunView, *, worth: bool = True) -> None:
        self._tell(event, run, describe_event(event) if worth and not self._live else [])

    @hookimpl
    def comfyreport_connection_changed(self, event: ConnectionChanged, run: RunView) -> None:
        """The connection came, went, or came back."""
        self._tell(event, run, describe_event(event), urgent=True)

    @hookimpl
    def comfyreport_run_queued(self, event: RunQueued, run: RunView) -> None:
        """The place in the queue, where there is one to wait in."""
        self._tell_position(event, run)

    @hookimpl
    def comfyreport_queue_changed(self, event: QueueChanged, run: RunView) -> None:
        """The new place in the queue; that others joined behind is no news."""
        self._tell_position(event, run)

    def _tell_position(self, event: RunQueued | QueueChanged, run: RunView) -> None:
        moved = event.position != self._position and bool(event.position) and run.status == "queued"
        self._position = event.position
        self._tell(event, run, [f"[INFO] {describe_waiting(event.position)}"] if moved and not self._live else [])

    @hookimpl
    def comfyreport_run_started(self, event: RunStarted, run: RunView) -> None:
        """The server began."""
        self._tell(event, run, describe_event(event))

    @hookimpl
    def comfyreport_node_cached(self, event: NodeCached) -> None:
        """Counted: they come one by one and make one line."""
        self._cached += 1

    @hookimpl
    def comfyreport_node_started(self, event: NodeStarted, run: RunView) -> None:
        """A node began."""
        self._progress.pop(event.node.id, None)
        self._tell_plain(event, run)

    @hookimpl
    def comfyreport_node_progress(self, event: NodeProgress, run: RunView) -> None:
        """A line for each 5 % or 5 s, and for the first and the last step of each pass."""
        percent = 100 * event.step / event.max_steps
        last = self._progress.get(event.node.id)
        worth = (
            last is None
            or last.pass_number != event.pass_number
            or percent - last.percent >= TELL_AFTER_PERCENT - _SLACK
            or event.elapsed - last.elapsed >= TELL_AFTER - _SLACK
            or (event.step >= event.max_steps and last.percent < percent)
        )
        if worth:
            self._progress[event.node.id] = _Told(event.pass_number, percent, event.elapsed)
        self._tell_plain(event, run, worth=worth)

    @hookimpl
    def comfyreport_node_text(self, event: NodeText, run: RunView) -> None:
        """What a node says of its work, every few seconds at most."""
        worth = event.elapsed - self._texts.get(event.node.id, -math.inf) >= TELL_AFTER and bool(event.text.strip())
        if worth:
            self._texts[event.node.id] = event.elapsed
        self._tell_plain(event, run, worth=worth)

    @hookimpl
    def comfyreport_node_finished(self, event: NodeFinished, run: RunView) -> None:
        """A node ended."""
        self._tell(event, run, describe_event(event))

    @hookimpl
    def comfyreport_output_saved(self, event: OutputSaved, run: RunView) -> None:
        """A file is on disk; on a terminal that stands in what is told at the end."""
        self._tell_plain(event, run)

    @hookimpl
    def comfyreport_heartbeat(self, event: Heartbeat, run: RunView) -> None:
        """A sign of life where no line was written for a while."""
        quiet_for = event.elapsed - self._last_line
        self._tell_plain(event, run, worth=quiet_for >= TELL_SILENCE_AFTER - _SLACK)

    @hookimpl
    def comfyreport_warning(self, event: Warning, run: RunView) -> None:
        """A warning."""
        self._tell(event, run, describe_event(event), urgent=True)

    @hookimpl
    def comfyreport_run_finished(self, event: RunFinished, run: RunView) -> None:
        """How it ended, and the next step; on a terminal also what it made and took."""
        self._tell(event, run, describe_event(event) + (describe_work(run) if self._live else []), urgent=True)
        self._forget()

    @hookimpl
    def comfyreport_tick(self, elapsed: float, run: RunView) -> None:
        """Time passed."""
        self._draw(run, elapsed)

    @hookimpl
    def comfyreport_close(self) -> None:
        """Leave the terminal as it was."""
        self._screen.close()


def console(out: Stream = stderr, *, plain: bool = False) -> Console:
    """Lines for a person; on a terminal, a live view of the running nodes and the whole run below them.

    :param plain: only add lines, on a terminal too
    """
    live = not plain and out.take_terminal()
    return Console(out, live=live)
