"""Runs with invented times: graphs of 1 to 1,000 nodes, a long video, long loads, a server that became faster.

Nothing sleeps: a run is written as the recording that it would have been. Times vary by a few percent from run to run.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from comfyreport.recording.player import Recording
from tests.benchmarks.estimates.series import Case

Graph = dict[str, dict[str, Any]]

WORKFLOWS = Path(__file__).resolve().parents[3] / "workflows"
PROMPT, CLIENT = "invented", "client"
SPREAD = 0.04
"""The standard deviation of a time, as a part of it."""
COUNTS = (1, 10, 100, 1_000)
WARM = ("repeat", "warm", "warm")


class Work(NamedTuple):
    """How long one node works, in seconds: `lead` before its first step, `step` for each of `steps`, `tail` behind."""

    lead: float = 0.0
    steps: int = 0
    step: float = 0.0
    tail: float = 0.0

    def scaled(self, factor: float) -> Work:
        """The same work, so many times as long."""
        return Work(self.lead * factor, self.steps, self.step * factor, self.tail * factor)


Plan = Mapping[str, Work]
"""The work of each node that runs, in the order in which they run; the others are cached."""


def cases() -> list[Case]:
    """All invented runs."""
    return [case for name, make in _SERIES.items() for case in make(name)]


def _case(name: str, group: str, number: int, graph: Graph, plan: Plan) -> Case:
    chance = random.Random(f"{name} {number}")
    records = tuple(written(graph, plan, lambda seconds: seconds * max(0.5, chance.gauss(1.0, SPREAD))))
    return Case(f"{name} #{number}", name, group, Recording(records, server="http://127.0.0.1:8188"))


# --- graphs of many nodes

# Seconds of the classes in a chain, and the steps of those that have a bar.
_CLASSES = (
    ("KSampler", Work(0.4, 20, 0.5, 0.1)),
    ("ImageScale", Work(tail=0.1)),
    ("ImageBlur", Work(tail=0.4)),
    ("VAEDecode", Work(tail=3.0)),
    ("ImageInvert", Work(tail=0.05)),
    ("ImageUpscaleWithModel", Work(0.2, 9, 0.6, 0.1)),
    ("ImageSharpen", Work(tail=0.8)),
    ("VAEEncode", Work(tail=1.5)),
)


def _chain(name: str) -> Iterator[Case]:
    count = int(name.split()[0].replace(",", ""))
    for number, group in enumerate(("first", *WARM), 1):
        graph: Graph = {}
        plan: dict[str, Work] = {}
        for place in range(count):
            class_type, work = _CLASSES[place % len(_CLASSES)]
            own = {"seed": number} if place == 0 else {"image": [str(place), 0]}
            steps = {"steps": work.steps} if class_type == "KSampler" else {}
            graph[str(place + 1)] = {"class_type": class_type, "inputs": {**own, **steps}}
            plan[str(place + 1)] = work
        yield _case(name, group, number, graph, plan)


# --- workflows that people run

_VIDEO = {
    "37": Work(tail=20.0),
    "38": Work(tail=25.0),
    "39": Work(tail=1.5),
    "6": Work(tail=12.0),
    "7": Work(tail=3.0),
    "48": Work(),
    "40": Work(tail=0.1),
    "3": Work(14.0, 50, 18.5, 0.5),
    "8": Work(tail=180.0),
    "49": Work(tail=0.1),
    "50": Work(tail=14.0),
}
_VIDEO_LOADERS = ("37", "38", "39", "7", "48", "40")
_LOADS = {
    "4": Work(tail=150.0),
    "6": Work(tail=30.0),
    "7": Work(tail=0.5),
    "5": Work(),
    "3": Work(22.0, 20, 1.6, 0.1),
    "8": Work(tail=9.0),
    "9": Work(tail=0.6),
}
_LOADS_LOADERS = ("4", "7", "5")


def _workflow(name: str, seed: int) -> Graph:
    graph: Graph = copy.deepcopy(json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8")))
    graph["3"]["inputs"]["seed"] = seed
    graph["6"]["inputs"]["text"] += f" {seed}"
    return graph


def _warm(plan: Plan, cached: tuple[str, ...], lead: float, encode: float) -> dict[str, Work]:
    """The plan of a warm run: loaders are cached, the sampler and the first encoder have nothing to load."""
    warm = {node: work for node, work in plan.items() if node not in cached}
    return {**warm, "3": warm["3"]._replace(lead=lead), "6": Work(tail=encode)}


def _video(name: str) -> Iterator[Case]:
    for number, group in enumerate(("first", *WARM), 1):
        graph = _workflow("txt2video-wan", number)
        graph["3"]["inputs"]["steps"] = 50
        graph["40"]["inputs"]["length"] = 81
        plan = _VIDEO if number == 1 else _warm(_VIDEO, _VIDEO_LOADERS, 1.0, 3.0)
        yield _case(name, group, number, graph, plan)


def _loads(name: str) -> Iterator[Case]:
    for number, group in enumerate(("first", *WARM, "cold again"), 1):
        plan = _LOADS if group in ("first", "cold again") else _warm(_LOADS, _LOADS_LOADERS, 0.4, 0.3)
        yield _case(name, group, number, _workflow("sd15-txt2img", number), plan)


def _faster(name: str) -> Iterator[Case]:
    for number, group in enumerate(("first", *WARM, "faster", "faster"), 1):
        plan = dict(_LOADS) if group == "first" else _warm(_LOADS, _LOADS_LOADERS, 0.4, 0.3)
        if group == "faster":
            plan = {node: work.scaled(0.5) for node, work in plan.items()}
        yield _case(name, group, number, _workflow("sd15-txt2img", number), plan)


_SERIES: dict[str, Callable[[str], Iterator[Case]]] = {
    **{f"{count:,} node{'s' if count > 1 else ''}": _chain for count in COUNTS},
    "video of 20 minutes": _video,
    "loads of 3 minutes": _loads,
    "twice as fast": _faster,
}


# --- as a server would have told it


def written(graph: Graph, plan: Plan, vary: Callable[[float], float]) -> Iterator[dict[str, Any]]:
    """The records of a run; a `progress_state` has the node alone of which it tells something new."""
    at = 0.01
    yield {"t": 0.0, "dir": "out", "kind": "ws-open", "path": f"/ws?clientId={CLIENT}", "sock": "A"}
    post = {"kind": "http", "method": "POST", "path": "/prompt"}
    yield {"t": at, "dir": "out", **post, "request": {"prompt": graph, "client_id": CLIENT}}
    yield {"t": at, "dir": "in", **post, "status": 200, "response": {"prompt_id": PROMPT, "number": 0}}
    yield _frame(at, "execution_start")
    yield _frame(at, "execution_cached", nodes=[node for node in graph if node not in plan])
    for node, work in plan.items():
        yield _state(at, node, "running", 0, 1)
        yield _frame(at, "executing", node=node, display_node=node)
        at += vary(work.lead) if work.lead else 0.0
        pace = vary(work.step) if work.steps else 0.0
        for step in range(1, work.steps + 1):
            at += vary(pace)
            yield _frame(at, "progress", node=node, value=step, max=work.steps)
        at += vary(work.tail) if work.tail else 0.0
        yield _state(at, node, "finished", 1, 1)
    yield _frame(at, "execution_success")
    yield _frame(at, "executing", node=None)
    entry = {"outputs": {}, "status": {"status_str": "success", "completed": True, "messages": []}}
    path = f"/history/{PROMPT}"
    yield {"t": at, "dir": "in", "kind": "http", "method": "GET", "path": path, "status": 200,
           "response": {PROMPT: entry}}  # fmt: skip


def _frame(at: float, kind: str, **data: Any) -> dict[str, Any]:
    text = json.dumps({"type": kind, "data": {**data, "prompt_id": PROMPT}})
    return {"t": at, "dir": "in", "kind": "ws-text", "sock": "A", "text": text}


def _state(at: float, node: str, state: str, value: float, most: float) -> dict[str, Any]:
    known = {"value": value, "max": most, "state": state, "node_id": node, "prompt_id": PROMPT,
             "display_node_id": node, "parent_node_id": None, "real_node_id": node}  # fmt: skip
    return _frame(at, "progress_state", nodes={node: known})
