"""What is measured: each case runs its clients in turn and makes rows of the table."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.benchmarks import peers
from tests.benchmarks.clients import bare, ours, plain
from tests.benchmarks.moments import end, latency, start
from tests.benchmarks.pictures import pictures
from tests.benchmarks.running import Bench, Server, Spent, comfyreport, median
from tests.benchmarks.table import Row, compared
from tests.benchmarks.weights import installed, memory, ten

Case = Callable[[Bench], list[Row]]

RECORDING = "a2_no_previews"
STEPS = 20
PEER = f"comfy-cli {peers.VERSION}"


def _beside(bench: Bench, server: Server, what: str, most: float, lines: int) -> list[Row]:
    """comfyreport and the bare script on one load."""
    clients = {"ours": ours(bench, server), "bare": bare(bench, server, lines=lines)}
    if bench.peers:
        clients |= {PEER: peers.follower(bench, server)}
    return _rows(what, bench.several(clients), most)


def _rows(what: str, spent: dict[str, list[Spent]], most: float) -> list[Row]:
    floor = median(spent["bare"])
    rows = [compared(what, median(spent["ours"]), floor, most)]
    if PEER in spent:
        rows.append(compared(f"the same with {PEER}", median(spent[PEER]), floor, None))
    return rows


def steps(bench: Bench) -> list[Row]:
    """A real run of 20 steps, played at once."""
    with bench.server("recording", RECORDING) as server:
        return _beside(bench, server, "20-step run, jsonl to a file", 1.5, STEPS)


def nodes(bench: Bench) -> list[Row]:
    """A large graph, whose states outweigh everything else."""
    count = 20 if bench.short else 500
    with bench.server("chain", count) as server:
        return _beside(bench, server, f"{count}-node run", 1.5, 0)


def _flood(bench: Bench, what: str, most: float, lines: int | None) -> list[Row]:
    count = 2_000 if bench.short else 100_000
    with bench.server("flood", count) as server:
        clients = {
            "ours": ours(bench, server, lines=None if lines is None else count),
            "bare": bare(bench, server, lines=count),
        }
        spent = bench.several(clients)
    told = f"{count:,} progress messages, {what}" + ("" if lines is None else f", {count:,} lines")
    return [compared(told, median(spent["ours"]), median(spent["bare"]), most)]


def flood(bench: Bench) -> list[Row]:
    """Very many steps, each of them written."""
    return _flood(bench, "`rate=0`", 2.5, 1)


def flood_thinned(bench: Bench) -> list[Row]:
    """Very many steps, ten a second written."""
    return _flood(bench, "the default rate", 1.7, None)


def growth(bench: Bench) -> list[Row]:
    """What a message costs beyond its parsing must not depend on how many nodes are done."""
    few, many, told = (10, 50, 50) if bench.short else (100, 1_000, 1_000)
    beyond = {}
    for count in (few, many):
        extra = {}
        for messages in (1, told):
            with bench.server("plateau", count, messages) as server:
                spent = bench.several({"ours": ours(bench, server), "bare": bare(bench, server)})
            extra[messages] = median(spent["ours"]) - median(spent["bare"])
        # A step is two messages.
        beyond[count] = (extra[told] - extra[1]) / (told - 1) / 2
    low, high = beyond[few], beyond[many]
    what = f"beyond the bare script, a message, {many:,} nodes done, {many // 5:,} kB a state (floor: {few} nodes)"
    missed = not bench.short and high > max(1.25 * low, low + 5e-6)
    ratio = f"{high / low:.2f}" if low > 0 else ""
    return [Row(what, f"{high * 1e6:.1f} µs", f"{low * 1e6:.1f} µs", ratio, "doesn't grow", missed)]


def help_(bench: Bench) -> list[Row]:
    """Commands that do nothing of weight."""
    told = {"--help": 4, "--version": 4, "reporters": 12}
    clients = {word: plain(bench, *comfyreport(), word) for word in told}
    clients["pass"] = plain(bench, sys.executable, "-c", "pass")
    if bench.peers:
        clients[PEER] = peers.client(bench, "--help")
    spent = bench.several(clients)
    floor = median(spent["pass"])
    rows = [
        compared(f"`comfyreport {word}` (floor: `python -c pass`)", median(spent[word]), floor, most)
        for word, most in told.items()
    ]
    if bench.peers:
        rows.append(compared(f"`comfy --help` of {PEER}", median(spent[PEER]), floor, None))
    return rows


CASES: dict[str, Case] = {
    "steps": steps,
    "nodes": nodes,
    "growth": growth,
    "flood": flood,
    "flood-thinned": flood_thinned,
    "help": help_,
    "start": start,
    "ten": ten,
    "memory": memory,
    "pictures": pictures,
    "installed": installed,
    "end": end,
    "latency": latency,
}
