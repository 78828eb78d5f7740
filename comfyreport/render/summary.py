"""What a run made and took, in a few lines for a person: the end of a log, or of a screen."""

from __future__ import annotations

import os
from collections import Counter

from comfyreport import events as ev
from comfyreport.events import RunView
from comfyreport.render.drawing import pad, shorten
from comfyreport.render.formats import format_seconds, format_speed, format_usual
from comfyreport.text import cell_width, printable

MAX_SLOWEST = 5
MAX_FILES = 5

_WIDTH = 80
_TITLE_LIMIT = 40
_ID_LIMIT = 12
_MIN_TITLE = 8
# Nodes aren't worth a line below this part of all nodes' seconds, nor those of a run of fewer seconds.
_MIN_SHARE = 0.05
_MIN_SECONDS = 2.0
# After a failure the times would distract from it; who stopped a run may have done so because it took long.
_TIMED_STATUSES = frozenset({"success", "partial", "timeout", "cancelled", "interrupted"})
# What is told of a slow node, from the widest place to the narrowest.
_LAYOUTS = (("seconds", "share", "speed", "usual"), ("seconds", "share", "usual"), ("seconds", "share"), ("seconds",))
_UNITS = ("B", "kB", "MB", "GB")


def describe_work(run: RunView, width: int = _WIDTH) -> list[str]:
    """What the run made, which nodes took longest, how much came from the cache; each line indented.

    Nothing before the end of the run, nor about one that never began. Where a table is wider than *width* columns,
    it tells less.
    """
    result = run.result
    if result is None or not (result.executed or result.cached):
        return []
    lines = _outputs(result) + _slowest(result, "Slowest: ", width - 2)
    if result.status in ("success", "partial") and result.cached and result.executed:
        lines.append(f"Cached: {len(result.cached)} of {len(result.cached) + len(result.executed)} nodes")
    return [f"  {line}" for line in lines]


def describe_slowest(result: ev.RunFinished, width: int = _WIDTH) -> list[str]:
    """The nodes that took longest, aligned: seconds, part of all nodes' seconds, steps a second, what is usual.

    One tagged line, then indented ones; at most five, and only for nodes that took a twentieth or more. Nothing about
    a run of less than two seconds, of one node, or after a failure. Where it is wider than *width* columns, it tells
    less.
    """
    return _slowest(result, "[INFO] Slowest: ", width)


def _slowest(result: ev.RunFinished, lead: str, width: int) -> list[str]:
    slow = _slow_nodes(result)
    if not slow:
        return []
    titles = [printable(time.node.title or time.node.name, _TITLE_LIMIT) for time in slow]
    counts = Counter(titles)
    # Nodes of one title are told apart by their ids.
    ids = [
        f" #{printable(time.node.id, _ID_LIMIT)}" if counts[title] > 1 else ""
        for title, time in zip(titles, slow, strict=True)
    ]
    rows = [_cells(time) for time in slow]
    longest = max(cell_width(title + id_) for title, id_ in zip(titles, ids, strict=True))
    details, room = [""], 0
    for names in _LAYOUTS:
        details = _details(rows, names)
        room = width - len(lead) - len(details[0])
        if room >= min(longest, _MIN_TITLE):
            break
    columns = max(1, min(longest, room))
    lines = [
        (pad(shorten(title, max(1, columns - cell_width(id_)), unicode=True) + id_, columns) + more).rstrip()
        for title, id_, more in zip(titles, ids, details, strict=True)
    ]
    return [lead + lines[0], *(" " * len(lead) + line for line in lines[1:])]


def format_bytes(size: float) -> str:
    """A size: `512 B`, `1.2 MB`; units of 1,000."""
    unit = 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 or size >= 99.5 else f"{size:.1f} {_UNITS[unit]}"


def _outputs(result: ev.RunFinished) -> list[str]:
    """The saved files by name; of what stayed on the server, how many of each kind."""
    saved = [output for output in result.outputs if output.path is not None]
    lines = [f"Saved: {_file(output)}" for output in saved[:MAX_FILES]]
    if len(saved) > MAX_FILES:
        folders = {os.path.dirname(output.path or "") or "." for output in saved}
        where = f" in {printable(folders.pop(), 200)}" if len(folders) == 1 else ""
        lines.append(f"and {len(saved) - MAX_FILES} more files{where}")
    if not saved:
        kinds = Counter(output.kind for output in result.outputs if output.filename is not None)
        counts = ", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in kinds.items())
        lines += [f"Made: {counts}, on the server"] if counts else []
    return lines


def _file(output: ev.Output) -> str:
    size = "" if output.bytes is None else f" ({format_bytes(output.bytes)})"
    return f"{printable(output.path, 200)}{size}"


def _slow_nodes(result: ev.RunFinished) -> list[ev.NodeTime]:
    """The nodes that are worth a line, the slowest first."""
    ran = [time for time in result.node_times if time.seconds is not None and not time.cached]
    if result.status not in _TIMED_STATUSES or len(ran) < 2 or sum(time.seconds or 0.0 for time in ran) < _MIN_SECONDS:
        return []
    worth = [time for time in ran if (time.share or 0.0) >= _MIN_SHARE]
    return sorted(worth, key=lambda time: time.seconds or 0.0, reverse=True)[:MAX_SLOWEST]


def _cells(time: ev.NodeTime) -> dict[str, str]:
    return {
        "seconds": format_seconds(time.seconds or 0.0),
        "share": f"{time.share or 0.0:.0%}",
        "speed": format_speed(time.steps_per_second),
        "usual": format_usual(time.usual_seconds),
    }


def _details(rows: list[dict[str, str]], names: tuple[str, ...]) -> list[str]:
    """What follows the titles, aligned; each begins with the gap behind the title."""
    widths = {name: max(len(row[name]) for row in rows) for name in names}
    # Numbers stand below one another by their ends, the words behind them by their beginnings.
    return [
        "".join(f"  {row[name]:{'<' if name == 'usual' else '>'}{width}}" for name, width in widths.items() if width)
        for row in rows
    ]
