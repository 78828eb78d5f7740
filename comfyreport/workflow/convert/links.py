"""Where an input's value comes from, through all that a prompt lacks: reroutes, bypassed nodes, subgraphs. Pure.

The source of the rules is ExecutableNodeDTO in ComfyUI_frontend src/lib/litegraph/src/subgraph/ExecutableNodeDTO.ts.
Every walk is a loop, so that long chains don't exhaust the stack.
"""

from __future__ import annotations

from typing import NamedTuple

from comfyreport.workflow.convert.editor import ANY, BYPASSED, MUTED, SUBGRAPH_INPUTS, Graph, Link
from comfyreport.workflow.convert.nodes import Prepared, Scope
from comfyreport.workflow.convert.refusals import refused, shown

_DRAW = "Remove the link, or draw it again"


class Output(NamedTuple):
    """An output of a node that is in the prompt, unless the node is muted."""

    node: Prepared
    scope: Scope
    slot: int


class HostInput(NamedTuple):
    """An input of a subgraph that isn't linked: the value of its widget counts, where it has one."""

    host: Prepared
    scope: Scope
    name: str


class _Place(NamedTuple):
    """An input that is being followed; `type` is what the input wants at which a reroute's chain began."""

    scope: Scope
    node: Prepared
    slot: int
    type: str | None = None


Source = Output | HostInput | None


class Sources:
    """What feeds inputs. Each place on the way is followed once, however many inputs lead through it."""

    def __init__(self) -> None:
        self._known: dict[_Place, Source] = {}

    def of(self, scope: Scope, node: Prepared, slot: int) -> Source:
        """What feeds the input *slot* of *node*; None where nothing does. WorkflowError: nowhere, or a circle."""
        place = _Place(scope, node, slot)
        seen: dict[_Place, None] = {}
        while place not in self._known:
            if place in seen:
                raise refused(place.node.place, "its links lead in a circle that no node stands in", _DRAW)
            seen[place] = None
            found = _followed(place)
            if not isinstance(found, _Place):
                self._known[place] = found
                break
            place = found
        source = self._known[place]
        self._known.update(dict.fromkeys(seen, source))
        return source


def _followed(place: _Place) -> Source | _Place:
    """What feeds the input at *place*, or the place from which that is handed on."""
    wanted = place.node.inputs[place.slot]
    if wanted.link is None:
        return None
    link = _link(place.scope.graph, wanted.link, place.node, wanted.name)
    if link.origin == SUBGRAPH_INPUTS and place.scope.host is not None and place.scope.parent is not None:
        host, parent = place.scope.host, place.scope.parent
        if not 0 <= link.origin_slot < len(host.inputs):
            raise refused(host.place, f"it has no input {link.origin_slot}, which is linked inside", _DRAW)
        if host.inputs[link.origin_slot].link is None:
            return HostInput(host, parent, host.inputs[link.origin_slot].name)
        return _Place(parent, host, link.origin_slot)
    return _upward(place, link, place.type or wanted.type)


def _link(graph: Graph, link_id: str, node: Prepared, name: str) -> Link:
    link = graph.links.get(link_id)
    if link is None:
        raise refused(node.place, f"the link {shown(link_id)} of its input {shown(name)} leads to nowhere", _DRAW)
    return link


def _upward(place: _Place, link: Link, wanted: str) -> Output | _Place | None:
    """The output at which *link* begins, or the input from which a node without effect hands it on."""
    scope, slot = place.scope, link.origin_slot
    origin = scope.nodes.get(link.origin)
    while True:
        if origin is None:
            cause = f"one of its links begins at node {shown(link.origin)}, which isn't there"
            raise refused(place.node.place, cause, _DRAW)
        if origin.mode == BYPASSED:
            index = _bypass(origin, slot, wanted)
            return None if index is None else _Place(scope, origin, index)
        if origin.subgraph is not None and origin.mode != MUTED:
            inner = scope.inside(origin)
            ports = origin.subgraph.outputs
            if not 0 <= slot < len(ports):
                raise refused(origin.place, f"it has no output {slot}, which is linked", _DRAW)
            begin = next((inner.graph.links[each] for each in ports[slot].links if each in inner.graph.links), None)
            if begin is None:
                return None
            if begin.origin == SUBGRAPH_INPUTS:
                cause = f"its output {shown(ports[slot].name)} is linked to an input of its own inside"
                raise refused(origin.place, cause, "Put a reroute between them")
            scope, slot, link = inner, begin.origin_slot, begin
            origin = scope.nodes.get(begin.origin)
            continue
        if origin.is_virtual:
            return _Place(scope, origin, slot, wanted) if slot < len(origin.inputs) else None
        return Output(origin, scope, slot)


def _bypass(node: Prepared, slot: int, wanted: str) -> int | None:
    """The input that a bypassed node hands on to its output *slot*."""
    inputs = node.inputs
    if wanted == ANY:
        return (slot if slot < len(inputs) else 0) if inputs else None
    given = node.outputs[slot] if slot < len(node.outputs) else ANY

    def fits(kind: str) -> bool:
        return compatible(kind, given) and compatible(kind, wanted)

    if slot < len(inputs) and fits(inputs[slot].type):
        return slot
    exact = next((index for index, each in enumerate(inputs) if each.type == wanted), None)
    return exact if exact is not None else next((index for index, each in enumerate(inputs) if fits(each.type)), None)


def compatible(one: str, other: str) -> bool:
    """Whether an output of the one type may be linked to an input of the other; a type may be a list."""
    if ANY in (one, other) or not one or not other:
        return True
    return bool(set(one.lower().split(",")) & set(other.lower().split(",")))
