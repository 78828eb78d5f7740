"""A workflow's graph as it stands in API format: nodes, links, and the literals that links lead to. Pure.

Every walk is a loop over a queue and visits a link once, so that cycles end and long chains don't exhaust the stack.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from comfyreport.events import NodeRef
from comfyreport.protocol.responses import node_ref

Graph = Mapping[str, Mapping[str, Any]]

# What primitive nodes call their value.
_VALUE_NAMES = ("value", "int", "number", "float", "string")
# Inputs through which no number or text is passed on.
OTHER_DATA = re.compile(r"model|clip|vae|latent|image|pixels|samples|mask|audio|video")


class Link(NamedTuple):
    """The output of a node that feeds an input."""

    node: str
    slot: float


class Target(NamedTuple):
    """An input that holds a literal, which can be set."""

    node: str
    name: str


def inputs_of(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """The node's inputs, empty where it has none."""
    inputs = node.get("inputs")
    return inputs if isinstance(inputs, Mapping) else {}


def class_of(node: Mapping[str, Any]) -> str:
    """The node's class type, empty where it has none."""
    return str(node.get("class_type", ""))


def ref_of(graph: Graph, node_id: str) -> NodeRef:
    """The node as events name it."""
    return node_ref(node_id, graph[node_id])


def as_link(value: object) -> Link | None:
    """The value as a link, if the server would take it for one."""
    if isinstance(value, list) and len(value) == 2:
        node, slot = value
        if isinstance(node, str) and isinstance(slot, int | float):
            return Link(node, slot)
    return None


def links_of(node: Mapping[str, Any]) -> dict[str, Link]:
    """The node's linked inputs."""
    return {name: link for name, value in inputs_of(node).items() if (link := as_link(value))}


def value_at(graph: Graph, target: Target) -> Any:
    """What stands at *target*."""
    return inputs_of(graph[target.node]).get(target.name)


def is_number(value: object) -> bool:
    """Whether *value* is a number, as JSON has them."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_LONGEST_CHAIN = 100


def literal_source(graph: Graph, start: Target, accepts: Callable[[object], bool] = is_number) -> Target | None:
    """The literal that feeds the input *start*: its own, or that of the primitive that is linked to it.

    A node that hands on an input of the same name, such as a width, is a source as well. None where it is computed, and
    behind more nodes than anybody puts in a row: each input of a long chain would be followed to its end.
    """
    node_id, name = start
    for _ in range(_LONGEST_CHAIN):
        if node_id not in graph:
            return None
        inputs, links = inputs_of(graph[node_id]), links_of(graph[node_id])
        if node_id == start.node:
            if accepts(inputs.get(name)):
                return start
            found = links.get(name)
        elif name in inputs and accepts(inputs[name]):
            return Target(node_id, name)
        elif not links:
            return next((Target(node_id, each) for each in _VALUE_NAMES if accepts(inputs.get(each))), None)
        else:
            found = _passed_on(inputs, links)
        if found is None:
            return None
        node_id = found.node
    return None


def _passed_on(inputs: Mapping[str, Any], links: Mapping[str, Link]) -> Link | None:
    """The one input of a node that passes on a number or a text, such as a reroute: with others it is computed."""
    name = next(iter(links)).lower()
    return next(iter(links.values())) if len(inputs) == 1 and not OTHER_DATA.search(name) else None


def takers(graph: Graph, node_id: str) -> set[str]:
    """The names of the inputs that take what a node gives, also through reroutes."""
    users: dict[str, list[tuple[str, str]]] = {}
    for user, node in graph.items():
        for name, link in links_of(node).items():
            users.setdefault(link.node, []).append((user, name))
    todo, seen, names = deque([node_id]), set[str](), set[str]()
    while todo:
        giving = todo.popleft()
        if giving in seen:
            continue
        seen.add(giving)
        for user, name in users.get(giving, ()):
            passes = len(inputs_of(graph[user])) == 1 and user in users
            if passes:
                todo.append(user)
            else:
                names.add(name.lower())
    return names


def upward(graph: Graph, starts: Iterable[str], follow: Callable[[Mapping[str, Any]], Iterable[Link]]) -> Iterator[str]:
    """The nodes *starts* and those above them, each once, the nearest first; *follow* gives the links that count."""
    todo, seen = deque(starts), set[str]()
    while todo:
        node_id = todo.popleft()
        if node_id in seen or node_id not in graph:
            continue
        seen.add(node_id)
        yield node_id
        todo.extend(link.node for link in follow(graph[node_id]))
