"""A workflow file of the editor as typed data: graphs, their nodes and links, the definitions of subgraphs. Pure.

Both versions of the file give the same: 0.4 has its links as lists, 1 and subgraphs as objects. What doesn't count for
a prompt (groups, positions, native reroutes, floating links, state) isn't read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from comfyreport.workflow.convert.refusals import refused, shown

MUTED, BYPASSED = 2, 4
"""Modes of a node (LGraphEventMode in litegraph's globalEnums.ts); all others run."""

SUBGRAPH_INPUTS, SUBGRAPH_OUTPUTS = "-10", "-20"
"""The ids of the two nodes inside a subgraph that stand for its own inputs and outputs."""

ANY = "*"

# Classes that had another name once; the front end repairs them (app.ts, loadGraphData).
_RENAMED = {
    "T2IAdapterLoader": "ControlNetLoader",
    "ConditioningAverage ": "ConditioningAverage",
    "SDV_img2vid_Conditioning": "SVD_img2vid_Conditioning",
}


class Slot(NamedTuple):
    """An input of a node; `link` is the id of its link, `widget` the name of the widget that it stands for."""

    name: str
    type: str
    link: str | None = None
    widget: str | None = None


class Link(NamedTuple):
    """From an output of a node to an input of another."""

    origin: str
    origin_slot: int
    target: str
    target_slot: int


class Port(NamedTuple):
    """An input or an output of a subgraph, with the links inside that begin or end there."""

    name: str
    type: str
    links: tuple[str, ...]


@dataclass(slots=True)
class Node:
    """A node as the file has it; `stored` is its `widgets_values`."""

    id: str
    kind: str
    title: str
    mode: int
    inputs: list[Slot]
    outputs: list[str]
    output_links: list[tuple[str, ...]]
    stored: Any
    properties: Mapping[str, Any]

    @property
    def runs(self) -> bool:
        """Whether it is neither muted nor bypassed."""
        return self.mode not in (MUTED, BYPASSED)

    @property
    def place(self) -> str:
        """The node for messages: its id, and what the user sees in the editor."""
        title = f'"{shown(self.title)}", ' if self.title and self.title != self.kind else ""
        return f"node {shown(self.id)} ({title}{shown(self.kind)})"


@dataclass(slots=True, eq=False)
class Graph:
    """The nodes and links of a workflow or of a subgraph; `inputs` and `outputs` are a subgraph's own."""

    name: str
    nodes: dict[str, Node]
    links: dict[str, Link]
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)


class Editor(NamedTuple):
    """A whole file: the graph that one sees first, and the definitions of subgraphs by their ids."""

    root: Graph
    subgraphs: Mapping[str, Graph]


def read(ui: Mapping[str, Any]) -> Editor:
    """The content of a file. Raises WorkflowError where it isn't one that the editor wrote."""
    definitions: dict[str, Mapping[str, Any]] = {}
    for each in _definitions(ui):
        key = each.get("id")
        if not isinstance(key, str) or not key:
            raise refused(_name(each), f"its id is {shown(key)}", "Save it once more in ComfyUI")
        if definitions.setdefault(key, each) != each:
            cause = f"the file has another subgraph of the id {shown(key)}"
            raise refused(_name(each), cause, "Copy its nodes into a new subgraph")
    return Editor(_graph(ui, "the workflow"), {key: _graph(each, _name(each)) for key, each in definitions.items()})


def _definitions(holder: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The subgraphs that *holder* defines, and those that are defined in them."""
    todo = [holder]
    while todo:
        definitions = todo.pop().get("definitions")
        for each in _items(definitions, "subgraphs", "the workflow") if isinstance(definitions, Mapping) else ():
            todo.append(each)
            yield each


def _name(definition: Mapping[str, Any]) -> str:
    return f'the subgraph "{shown(definition.get("name") or definition.get("id"))}"'


def _graph(content: Mapping[str, Any], place: str) -> Graph:
    graph = Graph(str(content.get("name") or ""), {}, {})
    for entry in _items(content, "nodes", place, needed=True):
        node = _node(entry, place)
        if node.id in graph.nodes:
            raise refused(node.place, f"{place} has two nodes of that id", "Copy its nodes into a new workflow")
        graph.nodes[node.id] = node
    links = content.get("links")
    if links is not None and not isinstance(links, (list, tuple)):
        raise refused(place, "its links aren't a list", "Save it once more in ComfyUI")
    for entry in links or ():
        if entry is not None:
            key, link = _link(entry, place)
            graph.links[key] = link
    for name, ports in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        # A workflow itself has neither.
        if "nodes" in content and "id" in content:
            ports.extend(_port(entry) for entry in _items(content, name, place))
    return graph


def _items(content: Mapping[str, Any], name: str, place: str, *, needed: bool = False) -> list[Mapping[str, Any]]:
    """The objects in a list of *content*; an empty list where there is none."""
    entries = content.get(name)
    if entries is None and not needed:
        return []
    if not isinstance(entries, (list, tuple)) or not all(isinstance(each, Mapping) for each in entries):
        raise refused(place, f"its {name} aren't a list of objects", "Save it once more in ComfyUI")
    return list(entries)


def _node(entry: Mapping[str, Any], place: str) -> Node:
    node_id, kind, title = entry.get("id"), entry.get("type"), entry.get("title")
    if not isinstance(node_id, (int, str)) or isinstance(node_id, bool) or str(node_id) in ("", "-1"):
        raise refused(f"{place}: a node {shown(kind)}", f"its id is {shown(node_id)}", "Give it an id of its own")
    named = f"node {shown(node_id)}"
    if not isinstance(kind, str) or not kind:
        raise refused(f"{place}: {named}", f"its type is {shown(kind)}", "Remove it")
    if title is not None and not isinstance(title, str):
        raise refused(f"{named} ({shown(kind)})", f"its title isn't text but {shown(title)}", "Rename it")
    mode, properties = entry.get("mode"), entry.get("properties")
    outputs = _items(entry, "outputs", named)
    return Node(
        id=str(node_id),
        kind=_RENAMED.get(kind, kind),
        title=title or "",
        mode=mode if isinstance(mode, int) else 0,
        inputs=[_slot(each) for each in _items(entry, "inputs", named)],
        outputs=[_type(each) for each in outputs],
        output_links=[_ids(each.get("links")) for each in outputs],
        stored=entry.get("widgets_values"),
        properties=properties if isinstance(properties, Mapping) else {},
    )


def _slot(entry: Mapping[str, Any]) -> Slot:
    link, widget = entry.get("link"), entry.get("widget")
    name = widget.get("name") if isinstance(widget, Mapping) else None
    return Slot(str(entry.get("name", "")), _type(entry), None if link is None else str(link), name and str(name))


def _type(entry: Mapping[str, Any]) -> str:
    kind = entry.get("type")
    if isinstance(kind, (list, tuple)):
        return "COMBO"
    return kind if isinstance(kind, str) and kind else ANY


def _port(entry: Mapping[str, Any]) -> Port:
    return Port(str(entry.get("name", "")), _type(entry), _ids(entry.get("linkIds")))


def _ids(links: object) -> tuple[str, ...]:
    return tuple(str(each) for each in links) if isinstance(links, (list, tuple)) else ()


def _link(entry: object, place: str) -> tuple[str, Link]:
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    values: list[Any] = (
        [entry.get(name) for name in names]
        if isinstance(entry, Mapping)
        else list(entry)[:5]
        if isinstance(entry, (list, tuple))
        else []
    )
    try:
        key, origin, origin_slot, target, target_slot = values
        link = Link(str(origin), int(origin_slot), str(target), int(target_slot))
        if min(link.origin_slot, link.target_slot) < 0:
            raise ValueError
        return str(key), link
    except (TypeError, ValueError, OverflowError):
        raise refused(place, f"its link {shown(entry)} makes no sense", "Draw that link again in ComfyUI") from None
