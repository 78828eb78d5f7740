"""The live view of many runs: a line for each server and one for all; and how they ended, in a few lines. Pure."""

from __future__ import annotations

from comfyreport.render.countdown import describe_time_left
from comfyreport.render.drawing import bar, color_bar, pad, shorten
from comfyreport.render.fleet import Fleet, RunRow, ServerRow
from comfyreport.render.formats import format_seconds, percentage
from comfyreport.render.runs import run_name, server_name
from comfyreport.text import cell_width, fit

# Columns of a bar and of what a run does, from the widest terminal to the narrowest, and whether the time left is told.
_LAYOUTS = ((20, 40, True), (10, 24, True), (10, 16, True), (0, 16, True), (0, 16, False), (0, 0, False))
_RUNS_IN_A_LINE = 4
_CYAN = 36


def fleet_frame(fleet: Fleet, elapsed: float, width: int, height: int, *, unicode: bool, color: bool) -> list[str]:
    """The lines of the region at *elapsed* seconds: one for each server that has a run, and one for all runs.

    No line is wider than *width* - 1 columns. There are at most *height* - 2 lines, and always one: of many servers,
    those that have run longest are shown.
    """
    room = max(1, width - 1)
    rows = [row for row in fleet.servers(elapsed) if row.runs]
    shown = rows[: max(0, height - 3)]
    lines = _server_lines(shown, room, unicode=unicode)
    last = describe_progress(fleet, elapsed)
    hidden = len(rows) - len(shown)
    if hidden:
        last += f", {hidden} more server{'s'[hidden == 1 :]}"
    last = fit(f"{last} [{format_seconds(elapsed, 0)}]" if cell_width(last) + 12 <= room else last, room)
    return [*(color_bar(line, _CYAN) if color else line for line in lines), last]


def describe_progress(fleet: Fleet, elapsed: float) -> str:
    """How far all runs are, in words: `12/24 runs, 1 failed, about 3m left`."""
    parts = [f"{fleet.done}/{max(fleet.total, fleet.done)} runs"]
    if fleet.failed:
        parts.append(f"{fleet.failed} failed")
    left = describe_time_left(fleet.time_left(elapsed))
    return ", ".join([*parts, *([left] if left else [])])


def describe_running(fleet: Fleet, elapsed: float) -> str:
    """How far all runs are, and the first of those that run, for a log: `12/24 runs: run 13 45%, run 14 9%`."""
    runs = [run for row in fleet.servers(elapsed) for run in row.runs if run.status == "running"]
    words = [f"run {run.run_index} {percentage(run.fraction)}%" for run in runs[:_RUNS_IN_A_LINE]]
    if len(runs) > _RUNS_IN_A_LINE:
        words.append(f"{len(runs) - _RUNS_IN_A_LINE} more")
    return describe_progress(fleet, elapsed) + (f": {', '.join(words)}" if words else "")


def describe_fleet(fleet: Fleet) -> list[str]:
    """How all runs ended: one tagged line, then one for each that failed, the first twenty, with its inputs."""
    ok = fleet.done - fleet.failed - fleet.stopped
    took = format_seconds(fleet.elapsed)
    never = max(0, fleet.total - fleet.done)
    if not (fleet.failed or fleet.stopped or never):
        return [f"[OK] {_count(ok)} complete in {took}"]
    parts = [f"{ok} of {_count(fleet.done + never)} complete", *([f"{fleet.failed} failed"] if fleet.failed else [])]
    parts += [f"{fleet.stopped} stopped"] if fleet.stopped else []
    parts += [f"{never} not made"] if never else []
    lines = [f"[{'ERROR' if fleet.failed else 'WARN'}] {', '.join(parts)} in {took}"]
    for each in fleet.failures:
        inputs = f" ({each.inputs})" if each.inputs else ""
        lines.append(f"  {run_name(each.run_index) or 'Run'}{inputs}: {each.reason}")
    more = fleet.failed - len(fleet.failures)
    return [*lines, *([f"  and {more} more"] if more > 0 else [])]


def _count(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"


def _server_lines(rows: list[ServerRow], room: int, *, unicode: bool) -> list[str]:
    """The servers' lines, aligned; where the terminal is narrow, what matters least is left out."""
    names = [server_name(row.server) for row in rows]
    longest = max((cell_width(name) for name in names), default=0)
    lines: list[str] = []
    for layout in _LAYOUTS:
        lines = _aligned([_cells(row.runs, *layout[:2], timed=layout[2], unicode=unicode) for row in rows])
        if longest + max((cell_width(line) for line in lines), default=0) <= room:
            break
    width = max(0, min(longest, room - max((cell_width(line) for line in lines), default=0)))
    return [
        fit(pad(shorten(name, width, unicode=unicode), width) + line, room)
        for name, line in zip(names, lines, strict=True)
    ]


def _cells(runs: tuple[RunRow, ...], columns: int, limit: int, *, timed: bool, unicode: bool) -> list[str]:
    """What is told of a server: its run, with a bar of so many *columns*, and how many others wait there."""
    run, *others = runs
    shown = f"{bar(run.fraction, columns, unicode=unicode)} " if columns else ""
    return [
        (run_name(run.run_index) or "Run").lower(),
        f"{shown}{percentage(run.fraction):3d}%" if run.status == "running" else "",
        shorten(run.doing, limit, unicode=unicode),
        f"ETA {format_seconds(run.seconds_left, 0)}" if timed and run.seconds_left is not None else "",
        f"+{len(others)}" if timed and others else "",
    ]


def _aligned(rows: list[list[str]]) -> list[str]:
    """The cells of each row, one column below the other; each line begins with the gap behind the name."""
    widths = [max(map(cell_width, column)) for column in zip(*rows, strict=True)]
    return [
        "".join(f"  {pad(cell, width)}" for cell, width in zip(row, widths, strict=True) if width).rstrip()
        for row in rows
    ]
