"""The nodes of a file together with their classes: inputs, widgets, values; and the subgraphs they open. Pure.

A definition of a subgraph is prepared once, however many nodes open it: what its nodes hold is the same in all. What
differs (the values of the widgets that the opening node shows) belongs to that node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from comfyreport.workflow.convert.classes import Classes, Input, NodeClass, Widget
from comfyreport.workflow.convert.editor import Editor, Graph, Node, Port, Slot
from comfyreport.workflow.convert.refusals import refused
from comfyreport.workflow.convert.values import check_explained, stored_values

REROUTE, PRIMITIVE = "Reroute", "PrimitiveNode"
VIRTUAL = {REROUTE: "Reroute", PRIMITIVE: "Primitive", "Note": "Note", "MarkdownNote": "Markdown Note"}
"""The nodes that exist in the editor alone, with the titles that they have there."""

_MAX_DEPTH = 50


@dataclass(eq=False)
class Prepared:
    """A node of the file with what its class says; `subgraph` is the graph that it opens, if it does."""

    node: Node
    inputs: list[Slot]
    outputs: list[str]
    title: str
    node_class: NodeClass | None = None
    subgraph: Graph | None = None
    widgets: dict[str, Widget] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The node's id in its own graph."""
        return self.node.id

    @property
    def mode(self) -> int:
        """Whether it is muted or bypassed."""
        return self.node.mode

    @property
    def runs(self) -> bool:
        """Whether the node is neither muted nor bypassed."""
        return self.node.runs

    @property
    def is_virtual(self) -> bool:
        """Whether it exists in the editor alone."""
        return self.node.kind in VIRTUAL

    @property
    def place(self) -> str:
        """The node for messages."""
        return self.node.place


Nodes = Mapping[str, Prepared]


class Preparation:
    """The nodes of each graph of a file, prepared when they are asked for."""

    def __init__(self, editor: Editor, classes: Classes) -> None:
        self._editor = editor
        self._classes = classes
        self._done: dict[int, Nodes] = {}
        self._opening: list[Graph] = []

    def nodes(self, graph: Graph) -> Nodes:
        """The nodes of *graph* by their ids; those of the subgraphs that it opens are prepared as well."""
        key = id(graph)
        if key not in self._done:
            self._opening.append(graph)
            self._done[key] = {node.id: self._prepared(node) for node in graph.nodes.values()}
            self._opening.pop()
        return self._done[key]

    def _prepared(self, node: Node) -> Prepared:
        subgraph = self._editor.subgraphs.get(node.kind)
        if subgraph is not None:
            return self._host(node, subgraph)
        node_class = self._classes.get(node.kind)
        if node_class is None or node.kind in VIRTUAL:
            title = node.title or VIRTUAL.get(node.kind, node.kind)
            return Prepared(node, node.inputs, node.outputs, title)
        found = stored_values(node, node_class)
        inputs = _merged(node, [Slot(*each) for each in found.sockets], found.linkable.values(), found.widgets)
        title = node.title or node_class.title
        return Prepared(node, inputs, node_class.outputs, title, node_class, None, found.widgets, found.values)

    def _host(self, node: Node, subgraph: Graph) -> Prepared:
        if subgraph in self._opening:
            raise refused(node.place, "it opens a subgraph that it stands in itself", "Remove that node")
        if len(self._opening) > _MAX_DEPTH:
            raise refused(node.place, f"more than {_MAX_DEPTH} subgraphs stand in each other", "Unpack some of them")
        inner = self.nodes(subgraph)
        host = Prepared(node, [], [port.type for port in subgraph.outputs], node.title or subgraph.name, None, subgraph)
        for port in subgraph.inputs:
            found = _shown_widget(port, subgraph, inner)
            if found is not None:
                target, name = found
                host.widgets[port.name] = target.widgets[name]._replace(name=port.name)
                if name in target.values:
                    host.values[port.name] = target.values[name]
        host.inputs = _merged(node, [Slot(port.name, port.type) for port in subgraph.inputs], [], host.widgets)
        _restore(host)
        return host


def _merged(node: Node, sockets: list[Slot], linkable: Iterable[Input], widgets: Mapping[str, Widget]) -> list[Slot]:
    """The inputs of the class, in its order, with the links of the file; then those that the file has beside.

    An input that stands for a widget which isn't there any more goes with its link (widgetInputs.ts).
    """
    stored = {slot.name: slot for slot in node.inputs}
    defined = [*sockets, *(Slot(each.name, each.type, None, each.name) for each in linkable)]
    names = {slot.name for slot in defined}
    merged = [slot._replace(link=stored[slot.name].link) if slot.name in stored else slot for slot in defined]
    extra = [slot for slot in node.inputs if slot.name not in names and (not slot.widget or slot.widget in widgets)]
    return [*merged, *extra]


def _shown_widget(port: Port, graph: Graph, nodes: Nodes) -> tuple[Prepared, str] | None:
    """The widget inside that an input of a subgraph shows outside: the first one that it is linked to."""
    for link_id in port.links:
        link = graph.links.get(link_id)
        target = nodes.get(link.target) if link is not None else None
        name = next((slot.name for slot in target.inputs if slot.link == link_id), "") if target is not None else ""
        if target is not None and name in target.widgets:
            return target, name
    return None


def _restore(host: Prepared) -> None:
    """Give the widgets of a node that opens a subgraph the values of the file."""
    stored = host.node.stored
    if isinstance(stored, Mapping):
        host.values.update({name: value for name, value in stored.items() if name in host.widgets})
    elif isinstance(stored, (list, tuple)) and stored:
        if len(stored) != len(host.widgets):
            check_explained(host.node, list(host.widgets.values()), list(stored))
        host.values.update(zip(host.widgets, stored, strict=False))


@dataclass(eq=False)
class Scope:
    """A graph as it is open in one place: *prefix* is that of its nodes' ids, *host* the node that opens it."""

    preparation: Preparation
    graph: Graph
    prefix: str = ""
    host: Prepared | None = None
    parent: Scope | None = None
    _inside: dict[str, Scope] = field(default_factory=dict)

    @property
    def nodes(self) -> Nodes:
        """The nodes of the graph."""
        return self.preparation.nodes(self.graph)

    def inside(self, host: Prepared) -> Scope:
        """What *host*, a node of this graph, opens."""
        if host.id not in self._inside:
            assert host.subgraph is not None
            self._inside[host.id] = Scope(self.preparation, host.subgraph, self.id_of(host) + ":", host, self)
        return self._inside[host.id]

    def id_of(self, node: Prepared) -> str:
        """The id that *node* has in the prompt."""
        return self.prefix + node.id
