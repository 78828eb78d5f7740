"""The tables of the benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.benchmarks.estimates.baselines import NAMES
from tests.benchmarks.estimates.figures import Figures, Pair
from tests.benchmarks.estimates.series import Result
from tests.benchmarks.estimates.targets import judged

HEAD = ("run", "group", "s", "lines", "told", "off", *(f"{name} (ours)" for name in NAMES), "inside", "frac.", "nodes")
WIDTHS = (26, 11, 7, 6, 6, 6, *(max(15, len(name) + 7) for name in NAMES), 7, 6, 6)

ABOVE = """\
off: mean |told - true| of the remaining time, in % of the run; then each baseline on the lines where both tell, and in
brackets ours on these. inside: truths in the range, in % of the lines that tell one. frac.: mean distance of `fraction`
from the true part of the time, in points; nodes: the same of nodes counted alike. told: lines with a remaining time.
"""


def percent(part: float | None) -> str:
    """A part in percent, a dash for none."""
    return "-" if part is None else f"{100 * part:.1f}"


def pair(both: Pair | None) -> str:
    """A baseline's figure and ours beside it."""
    return "-" if both is None else f"{percent(both.theirs)} ({percent(both.ours)})"


def row(name: str, group: str, seconds: float | None, figures: Figures) -> str:
    """One line."""
    cells = (
        name,
        group,
        "" if seconds is None else f"{seconds:.1f}",
        str(figures.lines),
        str(figures.told),
        percent(figures.off),
        *(pair(both) for both in figures.baselines),
        percent(figures.inside),
        percent(figures.fraction),
        percent(figures.counted),
    )
    return line(cells)


def line(cells: Iterable[str]) -> str:
    """Cells side by side; words to the left, numbers to the right."""
    words, numbers = list(zip(cells, WIDTHS, strict=True))[:2], list(zip(cells, WIDTHS, strict=True))[2:]
    left = "".join(cell.ljust(width) for cell, width in words)
    return (left + " ".join(cell.rjust(width) for cell, width in numbers)).rstrip()


def table(results: Iterable[Result], groups: Mapping[str, Figures]) -> str:
    """All runs, and behind them the means of their groups."""
    lines = [line(HEAD)]
    lines += [row(each.case.name, each.case.group, each.played.seconds, each.figures) for each in results]
    lines += ["", *(row("mean of", group, None, figures) for group, figures in groups.items())]
    return "\n".join(lines)


def verdicts(groups: Mapping[str, Figures]) -> str:
    """Each target and whether it is reached."""
    return "\n".join(
        f"{'reached' if reached else 'MISSED '}  {target.group}: {target.what}" for target, reached in judged(groups)
    )
