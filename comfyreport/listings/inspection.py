"""What a workflow is made of, for people and agents: nodes, what the short names mean, outputs, files. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from comfyreport.events import NodeRef
from comfyreport.inputs.declared import MODEL_FILE
from comfyreport.workflow.convert import EditorNode
from comfyreport.workflow.graph import Graph, Target, as_link, inputs_of, links_of, ref_of, upward, value_at
from comfyreport.workflow.names import NAMES, find
from comfyreport.workflow.pipeline import outputs_of

_INPUT_FILE = re.compile(
    r"\.(png|jpe?g|webp|gif|bmp|tiff?|avif|exr|hdr|mp4|webm|mkv|mov|avi|m4v|mp3|wav|flac|ogg|opus|m4a|glb|gltf|obj|fbx|stl)"
    r"( \[(input|output|temp)\])?$",
    re.IGNORECASE,
)


def inspected(graph: Graph, editor_nodes: Iterable[EditorNode] = ()) -> dict[str, Any]:
    """What `comfyreport inspect --json` tells of *graph*, but for what a server says.

    :param editor_nodes: those that the editor shows beside.
    """
    saving, showing = outputs_of(graph)
    needed = dict.fromkeys(upward(graph, [*saving, *showing], lambda node: links_of(node).values()))
    return {
        "nodes": [_node(graph, node_id, needed=node_id in needed) for node_id in graph],
        "names": {name: _name(graph, name) for name in NAMES},
        "outputs": [told(ref_of(graph, node_id)) for node_id in [*saving, *showing]],
        "models": [_place(graph, target) for target in _literals(graph, needed, MODEL_FILE)],
        "editor_nodes": [_editor_node(graph, node) for node in editor_nodes],
        "files": [_place(graph, target) for target in _literals(graph, needed, _INPUT_FILE)],
    }


def told(ref: NodeRef) -> dict[str, str]:
    """A node as the JSON stream tells it."""
    return {"node": ref.name, "node_id": ref.id, "title": ref.title}


def _node(graph: Graph, node_id: str, *, needed: bool) -> dict[str, Any]:
    values, links = dict[str, Any](), dict[str, Any]()
    for name, value in inputs_of(graph[node_id]).items():
        link = as_link(value)
        if link is None:
            values[name] = value
        else:
            links[name] = {"node_id": link.node, "slot": link.slot}
    return {**told(ref_of(graph, node_id)), "inputs": values, "links": links, "reaches_output": needed}


def _editor_node(graph: Graph, node: EditorNode) -> dict[str, Any]:
    """A node that only the editor shows, and what setting its values sets in the prompt."""
    sets = {
        name: [_place(graph, Target(*each)) for each in targets if each[0] in graph]
        for name, targets in node.inputs.items()
    }
    return {"node_id": node.id, "title": node.title, "sets": sets}


def _name(graph: Graph, name: str) -> dict[str, Any]:
    found = find(graph, name)
    if found.targets:
        return {"sets": [_place(graph, target) for target in found.targets]}
    if found.candidates:
        return {"ambiguous": [_place(graph, target) for target in found.candidates]}
    return {}


def _place(graph: Graph, target: Target) -> dict[str, Any]:
    return {**told(ref_of(graph, target.node)), "input": target.name, "value": value_at(graph, target)}


def _literals(graph: Graph, needed: Mapping[str, None], pattern: re.Pattern[str]) -> Iterator[Target]:
    """The inputs of the nodes on which an output depends whose text looks like the name of such a file."""
    for node_id in needed:
        for name, value in inputs_of(graph[node_id]).items():
            if isinstance(value, str) and len(value) < 1000 and pattern.search(value.strip()):
                yield Target(node_id, name)
