"""`--profile CASE`: where comfyreport spends its CPU seconds in one case, by function and by kind of work."""

from __future__ import annotations

import json
import linecache
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from tests.benchmarks.clients import Client, ours
from tests.benchmarks.running import Bench, comfyreport

TOP = 25
SAMPLER = Path(__file__).with_name("sampler.py")

# Case: the load, and whether all lines are written.
LOADS: dict[str, tuple[list[object], bool]] = {
    "steps": (["recording", "a2_no_previews"], False),
    "nodes": (["chain", 500], False),
    "growth": (["plateau", 1_000, 1_000], False),
    "flood": (["flood", 100_000], True),
    "flood-thinned": (["flood", 100_000], False),
    "start": (["chain", 2], False),
}
COMMANDS = {"help": "--help", "reporters": "reporters"}
PROFILES = [*LOADS, *COMMANDS]

_NETWORK = re.compile(r"/(websocket|urllib3|requests|http)/|/(selectors|socket|ssl)\.py$")
_NETWORK_CALL = re.compile(r"\.(recv|recv_into|send|sendall|select|poll|connect)\(")
_PARSE = re.compile(r"loads\(")
_OURS = re.compile(r"/comfyreport/|/comfyreport_\w+\.py$")


def profile(bench: Bench, case: str) -> str:
    """The report of one run of *case* under the sampler."""
    path = bench.folder / "sampler"
    path.mkdir()
    shutil.copy2(SAMPLER, path / "sitecustomize.py")
    samples = path / "samples.json"
    more = {"PYTHONPATH": str(path), "BENCH_SAMPLES": str(samples)}
    own = Bench(bench.folder, environ={**bench.environ, **more})
    if case in COMMANDS:
        own.run([*comfyreport(), COMMANDS[case]])
        return _report(case, json.loads(samples.read_text(encoding="utf-8")))
    words, everything = LOADS[case]
    with bench.server(*words) as server:
        client: Client = ours(own, server, lines=int(str(words[-1])) if everything else None)
        client()
    return _report(case, json.loads(samples.read_text(encoding="utf-8")))


def kind_of(filename: str, line: str, importing: bool) -> str:
    """Which kind of work a line of a file is."""
    if importing:
        return "imports"
    if _PARSE.search(line):
        return "parse"
    if _NETWORK.search(filename) or _NETWORK_CALL.search(line):
        return "socket"
    return "ours" if _OURS.search(filename) else "other libraries"


def _report(case: str, known: dict[str, Any]) -> str:
    functions: Counter[str] = Counter()
    kinds: Counter[str] = Counter({"start of Python": known["started"], "the sampler": known["own"]})
    for (filename, name, first, number, importing), spent in known["found"]:
        kinds[kind_of(filename, linecache.getline(filename, number), importing)] += spent
        functions["(imports)" if importing else f"{name} ({'/'.join(Path(filename).parts[-2:])}:{first})"] += spent
    total = known["total"]
    kinds["not seen"] = max(0.0, total - sum(kinds.values()))
    run = total - known["own"]
    lines = [f"{case}: {run:.3f} s of CPU without the sampler's {known['own']:.3f} s; own time, all threads", ""]
    lines += [f"{spent / run:6.1%}  {name}" for name, spent in kinds.most_common() if name != "the sampler"]
    lines += ["", *(f"{spent / run:6.1%}  {name}" for name, spent in functions.most_common(TOP))]
    return "\n".join(lines)
