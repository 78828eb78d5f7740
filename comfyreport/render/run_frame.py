"""The live view of one run: the lines of a region, a pure function of the run, the time and the terminal."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from comfyreport.events import NodeView, RunView
from comfyreport.render.drawing import bar, color_bar, pad, shorten
from comfyreport.render.formats import format_seconds, format_speed, format_steps, percentage
from comfyreport.render.wording import describe_waiting
from comfyreport.text import cell_width, fit, printable

MAX_NODE_LINES = 8
BAR_WIDTHS = (30, 20, 10)
"""Columns of a bar, the widest that there is room for."""
MIN_TITLE_BESIDE_WIDE_BAR = 20
MIN_TITLE = 8
TITLE_LIMIT = 120

_FINISHING = "Finishing"
_CYAN, _GREEN = 36, 32


def run_frame(
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
        return [*(color_bar(line, _CYAN) for line in lines), color_bar(run_line, _GREEN)]
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
