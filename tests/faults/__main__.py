"""Plays the fault matrix and prints its table.

    python -m tests.faults [--full]

With --full also one cell of each fault at full scale, 500 random scripts, and a soak of 1,000 runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.e2e.installation import NOTHING_LEARNED
from tests.faults.checks import Leaks, held, unlike
from tests.faults.matrix import Cell, cells, first_cells
from tests.faults.playing import SCALE, Seen
from tests.faults.pool import AT_ONCE, P, pool_of
from tests.faults.scripts import Plan, plan
from tests.faults.soak import grown, soak
from tests.faults.table import table

SCRIPTS = 500
SOAK_RUNS = 1000


class Report:
    """Plays what it is given, says how it went, and keeps what is wrong."""

    def __init__(self, folder: Path) -> None:
        self.wrong: list[str] = []
        self._folder = folder

    def play(
        self,
        title: str,
        items: Sequence[P],
        wrong: Callable[[P, Seen], Iterator[str]],
        *,
        scale: float = SCALE,
        at_once: int = AT_ONCE,
    ) -> dict[str, Seen]:
        """Play all of *items*; what they showed, by name."""
        began = time.monotonic()
        found: dict[str, Seen] = {}
        with pool_of(items, self._folder, scale=scale, at_once=at_once) as pool:
            for item in items:
                try:
                    found[item.name] = held(partial(pool.seen, item), pool.again(item), partial(wrong, item), item.name)
                except Exception as error:  # noqa: BLE001  the others are to be played too
                    self.wrong.append(f"{title}, {item.name}: {error}")
        print(f"{title}: {len(items)} played, {len(found)} right, {time.monotonic() - began:.0f} s", flush=True)
        return found

    def soak(self) -> None:
        """Many runs in this process."""
        measures = soak(SOAK_RUNS, self._folder)
        print("soak:", measures[0], "to", measures[-1], flush=True)
        if grown(measures):
            self.wrong.append(f"soak: {grown(measures)}")


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 where something is wrong."""
    full = parser().parse_args(arguments).full
    os.environ.update(NOTHING_LEARNED)
    leaks = Leaks()
    with tempfile.TemporaryDirectory() as name:
        report = Report(Path(name))
        seen = report.play("matrix", list(cells()), _unlike)
        if full:
            chosen = list(first_cells())
            report.play("full scale", chosen, _unlike, scale=1.0, at_once=len(chosen))
            report.play("scripts", [plan(seed) for seed in range(SCRIPTS)], Plan.wrong)
        leaks.check()
        if full:
            # It looks for itself; its process is started by a tracker that stays.
            report.soak()
    print(f"\n{table(seen)}\n")
    print("\n".join(report.wrong) or "nothing is wrong")
    return bool(report.wrong)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="everything: full scale, many scripts, the soak")
    return parser


def _unlike(cell: Cell, seen: Seen) -> Iterator[str]:
    return unlike(cell, seen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
