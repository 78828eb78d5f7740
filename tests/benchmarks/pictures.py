"""What it takes to save very many pictures: seconds as a user waits them, and memory."""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.running import Bench, BenchError, Server, comfyreport
from tests.benchmarks.table import Row, seconds

BARE = Path(__file__).with_name("bare_pictures.py")
MOST = 1.2
ALLOWED_GROWTH = 16.0
SIZE = 1024 * 1024


class Waited(NamedTuple):
    """How long one run took, and the memory that it had, in MiB."""

    seconds: float
    peak: float


def pictures(bench: Bench) -> list[Row]:
    """A thousand pictures of a MiB each, beside a bare script with as many connections; and memory beside fewer."""
    few, many = (2, 10) if bench.short else (100, 1000)
    with bench.server("pictures", many) as server:
        clients: dict[str, Callable[[], Waited]] = {
            "ours": partial(_ours, bench, server, many),
            "bare": partial(_bare, bench, server, many),
        }
        ours, bare = _in_turn(bench, clients)
    with bench.server("pictures", few) as server:
        small = _ours(bench, server, few)
    took, floor = (statistics.median(each.seconds for each in waited) for waited in (ours, bare))
    ratio, growth = took / floor, statistics.median(each.peak for each in ours) - small.peak
    what = f"{many:,} pictures of 1 MiB saved, seconds as they are waited (floor: as many connections)"
    return [
        Row(what, seconds(took), seconds(floor), f"{ratio:.2f}", f"at most {MOST:g}", not bench.short and ratio > MOST),
        Row(
            f"memory for {many:,} pictures beyond that for {few}", f"{growth:.1f} MiB", "", "",
            f"at most {ALLOWED_GROWTH:g} MiB", not bench.short and growth > ALLOWED_GROWTH,
        ),
    ]  # fmt: skip


def _in_turn(bench: Bench, clients: Mapping[str, Callable[[], Waited]]) -> list[list[Waited]]:
    rounds = [[client() for client in clients.values()] for _ in range(bench.repeat + (not bench.short))]
    return [list(each) for each in zip(*rounds[not bench.short :], strict=True)]


def _ours(bench: Bench, server: Server, count: int) -> Waited:
    folder = _empty(bench)
    command = [*comfyreport(), "--server", server.url, "--workflow", server.workflow, "--quiet", "--output", folder]
    return _waited(bench, command, folder, count)


def _bare(bench: Bench, server: Server, count: int) -> Waited:
    folder = _empty(bench)
    return _waited(bench, [sys.executable, BARE, server.url, server.workflow, folder], folder, count)


def _empty(bench: Bench) -> Path:
    folder = bench.folder / "pictures"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _waited(bench: Bench, command: list[object], folder: Path, count: int) -> Waited:
    began = time.monotonic()
    spent = bench.run(command)
    sizes = [path.stat().st_size for path in folder.iterdir()]
    if sizes != [SIZE] * count:
        raise BenchError(f"{len(sizes)} files instead of {count}, or not whole")
    return Waited(spent.end - began, spent.peak)
