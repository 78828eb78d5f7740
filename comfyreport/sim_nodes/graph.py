"""The graph of a prompt: its links, the signatures that caching goes by, inner nodes, and the order of execution."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

from .node_classes import ASYNC_CLASSES, is_output

Prompt = dict[str, Any]
"""A workflow in API format: nodes by their id."""


def is_link(value: Any) -> TypeGuard[list[Any]]:
    """Whether an input's value is `[node id, output index]`."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int


def inputs_of(node: Any) -> dict[str, Any]:
    inputs = node.get("inputs") if isinstance(node, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def sources(node: Any) -> list[str]:
    """The nodes that this one takes something from, in the order of its inputs."""
    return [value[0] for value in inputs_of(node).values() if is_link(value)]


def upstream(prompt: Prompt, start: list[str]) -> Iterator[str]:
    """These nodes and all that they need, nearest first."""
    seen = dict.fromkeys(node_id for node_id in start if node_id in prompt)
    todo = list(seen)
    for node_id in todo:
        yield node_id
        for source in sources(prompt[node_id]):
            if source in prompt and source not in seen:
                seen[source] = None
                todo.append(source)


def resolve_literal(prompt: Prompt, value: Any) -> Any:
    """The value itself, or what a primitive node at the end of the link holds; None where it is computed."""
    for _ in range(8):
        if not is_link(value):
            return value
        inputs = inputs_of(prompt.get(value[0]))
        value = inputs["value"] if "value" in inputs else next(iter(inputs.values()), None)
    return None


def dependency_order(prompt: Prompt) -> list[str]:
    """All nodes, each after those that it needs (as far as a cycle allows)."""
    ordered: dict[str, None] = {}
    opened: set[str] = set()
    for start in prompt:
        stack = [start]
        while stack:
            node_id = stack[-1]
            opened.add(node_id)
            todo = [s for s in sources(prompt[node_id]) if s in prompt and s not in ordered and s not in opened]
            if todo and node_id not in ordered:
                stack += todo
            else:
                ordered[stack.pop()] = None
    return list(ordered)


def cycle(prompt: Prompt, start: str) -> list[str]:
    """The first cycle on the way back from *start*, from a node to that node again; empty if there is none."""
    path: dict[str, Iterator[str]] = {start: iter(sources(prompt[start]))}
    done: set[str] = set()
    while path:
        node_id, waiting = path.popitem()
        source = next(waiting, None)
        if source is None:
            done.add(node_id)
            continue
        path[node_id] = waiting
        if source in path:
            ids = list(path)
            return [*ids[ids.index(source) :], source]
        if source in prompt and source not in done:
            path[source] = iter(sources(prompt[source]))
    return []


def signatures(prompt: Prompt) -> dict[str, str]:
    """For each node a digest of its class, its inputs and all its ancestors, whatever their ids are."""
    digests: dict[str, str] = {}
    for node_id in dependency_order(prompt):
        digests[node_id] = _digest(prompt[node_id], digests)
    return digests


def _digest(node: Any, digests: dict[str, str]) -> str:
    inputs = {
        name: [digests.get(value[0], "?"), value[1]] if is_link(value) else {"value": value}
        for name, value in inputs_of(node).items()
    }
    class_type = node.get("class_type") if isinstance(node, dict) else None
    return hashlib.sha1(json.dumps([class_type, inputs], sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class NodeIds:
    """The ids that messages have for a node: the one that it is shown as, the node whose expansion made it, the node
    of the submitted prompt."""

    display: str
    parent: str | None
    real: str


class DynamicPrompt:
    """The nodes of a submitted prompt, and the inner ones that come while it is executed."""

    def __init__(self, prompt: Prompt) -> None:
        self.nodes: Prompt = dict(prompt)
        self._inner: dict[str, NodeIds] = {}

    def class_type(self, node_id: str) -> str:
        return str(self.nodes[node_id]["class_type"])

    def ids(self, node_id: str) -> NodeIds:
        return self._inner.get(node_id) or NodeIds(node_id, None, node_id)

    def expand(self, node_id: str, graph: Prompt, display: dict[str, str]) -> dict[str, str]:
        """Adds *graph* as the inner nodes of a node and returns their new ids; `display` has the nodes that some of
        them are shown as, if it isn't the outer one."""
        outer = self.ids(node_id)
        inner_ids = {inner: f"{node_id}.0.0.{inner}" for inner in graph}
        for inner, node in graph.items():
            inputs = {
                name: [inner_ids[value[0]], value[1]] if is_link(value) and value[0] in graph else value
                for name, value in inputs_of(node).items()
            }
            self.nodes[inner_ids[inner]] = {**node, "inputs": inputs}
            self._inner[inner_ids[inner]] = NodeIds(display.get(inner, outer.display), node_id, outer.real)
        return inner_ids


class ExecutionList:
    """The nodes that are still to be executed, and which comes next.

    Nodes are discovered backwards from the outputs; of those that are ready an output or asynchronous node goes
    first, then one at most two steps before an output, else the one discovered first: the real server's order, seen
    in the recordings a2 (4, 5, 7, 6, 3, 8, 9), d5 (4, 2, 3) and u (4, 3, 2).
    """

    def __init__(self, prompt: DynamicPrompt, is_done: Callable[[str], bool]) -> None:
        self._prompt = prompt
        self._is_done = is_done
        self._blocked_by: dict[str, set[str]] = {}
        self._suspended: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._blocked_by)

    def add(self, start: str) -> None:
        """Adds this node, and everything that it needs and that isn't done (or cached) yet."""
        stack = [start]
        while stack:
            node_id = stack.pop()
            if node_id in self._blocked_by:
                continue
            missing = [source for source in sources(self._prompt.nodes[node_id]) if not self._is_done(source)]
            self._blocked_by[node_id] = set(missing)
            stack += missing

    def require(self, node_id: str, needed: list[str]) -> None:
        """Makes a node wait for others, which are added too."""
        missing = [other for other in needed if not self._is_done(other)]
        for other in missing:
            self.add(other)
        self._blocked_by[node_id].update(missing)

    def suspend(self, node_id: str) -> None:
        """Leaves a node out until `resume`: it runs as a task of its own."""
        self._suspended.add(node_id)

    def resume(self, node_id: str) -> None:
        self._suspended.discard(node_id)

    def next_node(self) -> str | None:
        ready = [node_id for node_id, needs in self._blocked_by.items() if not needs and node_id not in self._suspended]
        return min(ready, key=self._distance_to_output, default=None)

    def complete(self, node_id: str) -> None:
        del self._blocked_by[node_id]
        for needs in self._blocked_by.values():
            needs.discard(node_id)

    def _distance_to_output(self, node_id: str) -> int:
        if self._prompt.class_type(node_id) in ASYNC_CLASSES:
            return 0
        ring = {node_id}
        for steps in range(3):
            if any(is_output(self._prompt.class_type(each)) for each in ring):
                return steps
            ring = {waiting for waiting, needs in self._blocked_by.items() if needs & ring}
        return 3
