"""What a run made and took, in a few lines for a person: the end of a log, or of a screen."""

from __future__ import annotations

import os
from collections import Counter

from comfyreport import events as ev
from comfyreport.events import RunView
from comfyreport.render.wording import format_seconds
from comfyreport.text import printable

MAX_SLOWEST = 3
MAX_FILES = 5

_TITLE_LIMIT = 40
# Shorter nodes aren't worth a mention.
_MIN_SECONDS = 0.05
_UNITS = ("B", "kB", "MB", "GB")


def describe_work(run: RunView) -> list[str]:
    """What the run made, which nodes took longest, how much came from the cache; each line indented.

    Nothing before the end of the run, nor about one that never began.
    """
    result = run.result
    if result is None or not (result.executed or result.cached):
        return []
    lines = _outputs(result)
    if result.status in ("success", "partial"):
        # After a failure this would distract from it.
        lines += _slowest(run, result)
        if result.cached and result.executed:
            lines.append(f"Cached: {len(result.cached)} of {len(result.cached) + len(result.executed)} nodes")
    return [f"  {line}" for line in lines]


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


def _slowest(run: RunView, result: ev.RunFinished) -> list[str]:
    timed = sorted(result.node_seconds.items(), key=lambda item: item[1], reverse=True)[:MAX_SLOWEST]
    shown: list[str] = []
    for node_id, seconds in timed:
        if seconds >= _MIN_SECONDS:
            node = run.nodes.get(node_id)
            title = printable(node_id if node is None else node.title, _TITLE_LIMIT)
            share = f" ({100 * seconds / result.seconds:.0f}%)" if result.seconds > 0 and not shown else ""
            shown.append(f"{title} {format_seconds(seconds)}{share}")
    return [f"Slowest: {', '.join(shown)}"] if shown else []
