"""`python -m tests.benchmarks`: measure everything, print the table."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import peers
from tests.benchmarks.cases import CASES
from tests.benchmarks.profiling import PROFILES, profile
from tests.benchmarks.running import Bench, BenchError
from tests.benchmarks.table import Row, markdown

WITH_PEER = ("steps", "nodes", "help")

ABOVE = """\
Where nothing else is said: CPU seconds (user and system) of the whole client process, the median of {repeat}.
`floor` is the bare script `tests/benchmarks/bare.py`, with the same libraries and the same server, run in turn with
comfyreport; or what the line names. `ratio` is the first by the second: it can be compared between machines.
"""
BELOW = """
A **missed** target is one for this machine and its load, too: run it again before believing it. **failed** means that
a client didn't do its work, so that its seconds mean nothing."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for; 1 if a case failed. A missed target is only told."""
    arguments = parser().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="comfyreport-bench-") as folder:
        repeat = 1 if arguments.short else arguments.repeat
        bench = Bench(Path(folder), repeat, short=arguments.short, peers=not arguments.short)
        if arguments.profile:
            print(profile(bench, arguments.profile))
            return 0
        names = arguments.only or list(CASES)
        missing = ""
        if bench.peers and set(names) & set(WITH_PEER):
            try:
                peers.check(bench)
            except peers.UnavailableError as error:
                bench = dataclasses.replace(bench, peers=False)
                missing = f"\n**comfy-cli {peers.VERSION} was not measured: {error}**"
                print(missing, file=sys.stderr)
        rows = [row for name in names for row in _measured(bench, name)]
    print(ABOVE.format(repeat=repeat))
    print(markdown(rows))
    print(BELOW + missing)
    return int(any(row.failed for row in rows))


def _measured(bench: Bench, name: str) -> list[Row]:
    print(f"{name} …", file=sys.stderr, flush=True)
    try:
        return CASES[name](bench)
    except BenchError as failure:
        return [Row(name, str(failure), failed=True)]


def parser() -> argparse.ArgumentParser:
    """The benchmarks' command line."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__, allow_abbrev=False)
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="how often each client runs (5)")
    parser.add_argument("--only", nargs="+", choices=list(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--short", action="store_true", help="small loads, each once; says nothing about speed")
    parser.add_argument("--profile", choices=PROFILES, metavar="CASE", help="where the time goes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
