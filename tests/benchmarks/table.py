"""The table of results."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One line of the table; `missed` where the target was missed, `failed` where there is nothing to compare."""

    what: str
    comfyreport: str
    floor: str = ""
    ratio: str = ""
    target: str = ""
    missed: bool = False
    failed: bool = False

    def cells(self) -> list[str]:
        """The cells as they are printed."""
        mark = " **failed**" if self.failed else " **missed**" if self.missed else ""
        return [self.what, self.comfyreport, self.floor, self.ratio, self.target + mark]


def compared(what: str, ours: float, floor: float, most: float | None, remark: str = "") -> Row:
    """A row of CPU seconds against those of the floor; at most *most* times as many are allowed."""
    ratio = ours / floor
    target = "" if most is None else f"at most {most:g}"
    return Row(what + remark, seconds(ours), seconds(floor), f"{ratio:.2f}", target, most is not None and ratio > most)


def seconds(value: float) -> str:
    """Seconds, or milliseconds where they are few."""
    return f"{value:.2f} s" if abs(value) >= 1 else f"{value * 1e3:.1f} ms"


def markdown(rows: list[Row]) -> str:
    """The table as Markdown."""
    head = ["| what | comfyreport | floor | ratio | target |", "|---|---|---|---|---|"]
    return "\n".join([*head, *("| " + " | ".join(row.cells()) + " |" for row in rows)])
