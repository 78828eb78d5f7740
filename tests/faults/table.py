"""The fault matrix as a table for people."""

from __future__ import annotations

from collections.abc import Mapping

from comfyreport.events import EXIT_CODES
from comfyreport.simulator import MOMENTS
from tests.faults.matrix import ROWS, Sees
from tests.faults.playing import Seen

LEGEND = """\
Each cell: exit code and error code, seconds from the fault to the verdict at full scale, requests after the fault.
`0 · 4 s · 1` is a success: where the fault hurts nobody, the seconds are those that the run still took."""


def outcome(sees: Sees) -> str:
    """Exit code and error code."""
    return f"{EXIT_CODES[sees.status]} {sees.code}".strip()


def table(seen: Mapping[str, Seen]) -> str:
    """The matrix in Markdown: *seen* by the cells' names."""
    notes: dict[str, int] = {}
    lines = [f"| fault | {' | '.join(MOMENTS)} |", "|---" * (len(MOMENTS) + 1) + "|"]
    for row in ROWS:
        words = [row.title]
        for moment in MOMENTS:
            sees = row.at(moment)
            if isinstance(sees, str):
                words.append(f"- [{notes.setdefault(sees, len(notes) + 1)}]")
            else:
                found = seen.get(row.name(moment))
                words.append(outcome(sees) if found is None else f"{outcome(sees)} · {_measured(found)}")
        lines.append(f"| {' | '.join(words)} |")
    reasons = [f"[{number}] {reason}." for reason, number in notes.items()]
    return "\n".join([LEGEND, "", *lines, "", "  \n".join(reasons)])


def _measured(seen: Seen) -> str:
    return f"{seen.since_fault():.0f} s · {seen.polls_after()}"
