"""The graph of a prompt: its links, the signatures that caching goes by, and the order of execution."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard

Prompt = dict[str, Any]
"""A workflow in API format: nodes by their id."""
Test = Callable[[str], bool]
"""A question about a node, by its id."""


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


def literal(prompt: Prompt, value: Any) -> Any:
    """The value itself, or what a primitive node at the end of the link holds; None where it is computed."""
    for _ in range(8):
        if not is_link(value):
            return value
        held = inputs_of(prompt.get(value[0]))
        value = held.get("value") if "value" in held else next(iter(held.values()), None)
    return None


def dependency_order(prompt: Prompt) -> list[str]:
    """All nodes, each after those that it needs (as far as a cycle allows)."""
    found: dict[str, None] = {}
    opened: set[str] = set()
    for start in prompt:
        stack = [start]
        while stack:
            node_id = stack[-1]
            opened.add(node_id)
            todo = [s for s in sources(prompt[node_id]) if s in prompt and s not in found and s not in opened]
            if todo and node_id not in found:
                stack += todo
            else:
                found[stack.pop()] = None
    return list(found)


def signatures(prompt: Prompt) -> dict[str, str]:
    """For each node a digest of its class, its inputs and all its ancestors, whatever their ids are."""
    found: dict[str, str] = {}
    for node_id in dependency_order(prompt):
        found[node_id] = _digest(prompt[node_id], found)
    return found


def _digest(node: Any, found: dict[str, str]) -> str:
    inputs = {
        name: [found.get(value[0], "?"), value[1]] if is_link(value) else {"value": value}
        for name, value in inputs_of(node).items()
    }
    kind = node.get("class_type") if isinstance(node, dict) else None
    return hashlib.sha1(json.dumps([kind, inputs], sort_keys=True, default=str).encode()).hexdigest()


class Schedule:
    """Which node comes next.

    Nodes are discovered backwards from the outputs; of those that are ready an output or asynchronous node goes
    first, then one at most two steps before an output, else the one discovered first: the real server's order, seen
    in the recordings a2 (4, 5, 7, 6, 3, 8, 9), d5 (4, 2, 3) and u (4, 3, 2).
    """

    def __init__(self, prompt: Prompt, is_done: Test, is_output: Test, is_async: Test) -> None:
        self._prompt = prompt
        self._is_done = is_done
        self._is_output = is_output
        self._is_async = is_async
        self._needs: dict[str, set[str]] = {}
        self._away: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._needs)

    def add(self, start: str) -> None:
        """Wants this node, and everything that it needs and that isn't done (or cached) yet."""
        stack = [start]
        while stack:
            node_id = stack.pop()
            if node_id in self._needs:
                continue
            wanted = [source for source in sources(self._prompt[node_id]) if not self._is_done(source)]
            self._needs[node_id] = set(wanted)
            stack += wanted

    def require(self, node_id: str, needed: list[str]) -> None:
        """Makes a node wait for others, which are wanted too."""
        needed = [other for other in needed if not self._is_done(other)]
        for other in needed:
            self.add(other)
        self._needs[node_id].update(needed)

    def suspend(self, node_id: str) -> None:
        """Leaves a node out until `resume`: it works on its own."""
        self._away.add(node_id)

    def resume(self, node_id: str) -> None:
        self._away.discard(node_id)

    def pick(self) -> str | None:
        ready = [node_id for node_id, needs in self._needs.items() if not needs and node_id not in self._away]
        return min(ready, key=self._distance, default=None)

    def done(self, node_id: str) -> None:
        del self._needs[node_id]
        for needs in self._needs.values():
            needs.discard(node_id)

    def _distance(self, node_id: str) -> int:
        if self._is_async(node_id):
            return 0
        ring = {node_id}
        for steps in range(3):
            if any(map(self._is_output, ring)):
                return steps
            ring = {waiting for waiting, needs in self._needs.items() if needs & ring}
        return 3
