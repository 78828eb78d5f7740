"""What is a moment and not a sum: the start, the end, and how long a line takes to be told."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import IO

import orjson

from tests.benchmarks.clients import bare, ours
from tests.benchmarks.loads import flood
from tests.benchmarks.running import Bench, BenchError
from tests.benchmarks.table import Row, compared, seconds

BARE_START = Path(__file__).with_name("bare_start.py")
PRINTED = "printed; aim: "


def start(bench: Bench) -> list[Row]:
    """CPU seconds until the server has the whole POST, read from the client's CPU clock before it is answered."""
    with bench.server("chain", 2, options=["--clock"]) as server:
        clients = {
            "ours": ours(bench, server, note="ended", clock=True),
            "bare": bare(bench, server, script=BARE_START, note="ended", clock=True),
        }
        spent = bench.several(clients)
    used = {name: statistics.median(each.noted["cpu"] for each in made) for name, made in spent.items()}
    what = "start to the POST (floor: the bare script, all four dependencies imported)"
    return [compared(what, used["ours"], used["bare"], 1.6)]


def end(bench: Bench) -> list[Row]:
    """Wall seconds from the last frame's departure to the process's end, with nothing to download."""
    with bench.server("chain", 7, options=["--pace", "50"]) as server:
        clients = {"ours": ours(bench, server, note="ended"), "bare": bare(bench, server, note="ended")}
        spent = bench.several(clients)
    late = {name: statistics.median(each.end - each.noted["ended"] for each in made) for name, made in spent.items()}
    row = compared("last frame to end of process (wall)", late["ours"], late["bare"], None)
    return [row._replace(target=f"{PRINTED}100 ms")]


class _Arrivals:
    """Reads JSON lines and keeps when each step came."""

    def __init__(self) -> None:
        self.steps: dict[int, float] = {}

    def read(self, out: IO[bytes]) -> None:
        """To the end."""
        for line in iter(out.readline, b""):
            now = time.monotonic()
            if line.startswith(b'{"step":'):
                self.steps[orjson.loads(line)["step"]] = now


def latency(bench: Bench) -> list[Row]:
    """Wall seconds from a frame's departure to its line's arrival, with a message every 5 ms and three reporters."""
    count = 40 if bench.short else 1_000
    arrivals = _Arrivals()
    reporters = [
        "jsonl=-,rate=0",
        f"filelog={bench.folder / 'run.log'}",
        f"console={bench.folder / 'console.txt'}",
    ]
    with bench.server("flood", count, options=["--pace", "200"]) as server:
        spent = ours(bench, server, *reporters, note="ended", read=arrivals.read)()
    sent = spent.noted["sent"]
    begun = next(index for index, message in enumerate(flood(1).messages()) if '"progress"' in str(message))
    if len(arrivals.steps) != count:
        raise BenchError(f"{len(arrivals.steps)} lines of {count} steps")
    late = sorted(arrivals.steps[step] - sent[begun + step - 1] for step in range(1, count + 1))
    if late[0] < 0:
        raise BenchError("a line came before its frame")
    what = f"frame to its line in a pipe, 200 a second, {len(reporters)} reporters, {count:,} lines (wall)"
    told = f"median {seconds(statistics.median(late))}, 99th percentile {seconds(late[int(len(late) * 0.99)])}"
    return [Row(what, told, target=f"{PRINTED}1 ms, 5 ms")]
