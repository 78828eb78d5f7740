"""`python -m tests.benchmarks.estimates`: play everything, print how good the estimates were."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from tests.benchmarks.estimates import invented, series
from tests.benchmarks.estimates.memory import Memory, nothing, remembering
from tests.benchmarks.estimates.tables import ABOVE, table, verdicts

MEMORIES: dict[str, Callable[[], Memory]] = {"learned": remembering, "nothing": nothing}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables of the recorded and of the invented runs. A missed target is only told."""
    arguments = parser().parse_args(argv)
    memory = MEMORIES[arguments.memory]
    print(ABOVE)
    if "recorded" in arguments.only:
        results = series.run(series.recorded(), memory)
        groups = series.grouped(results)
        print(table(results, groups) + "\n\n" + verdicts(groups) + "\n")
    if "invented" in arguments.only:
        results = series.run(invented.cases(), memory)
        print(table(results, series.grouped(results)))
    return 0


def parser() -> argparse.ArgumentParser:
    """The benchmark's command line."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.estimates", description=__doc__, allow_abbrev=False)
    parts = ("recorded", "invented")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, metavar="PART", help=", ".join(parts))
    parser.add_argument("--memory", choices=MEMORIES, default="learned", help="what the runs learn from those before")
    return parser


if __name__ == "__main__":
    sys.exit(main())
