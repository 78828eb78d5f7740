"""The nodes of a workflow that load files, and which of them a file is for. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from comfyreport.errors import UsageError
from comfyreport.inputs.declared import declared_inputs
from comfyreport.inputs.local_files import Kind
from comfyreport.protocol.messages import Json
from comfyreport.protocol.responses import needed_nodes, node_ref
from comfyreport.text import printable
from comfyreport.workflow.graph import Graph, as_link, class_of, inputs_of
from comfyreport.workflow.settings import nodes_named

_MAX_LISTED = 20
_MAX_SHOWN = 60

# nodes.py, comfy_extras; VideoHelperSuite.
_KNOWN: Mapping[str, tuple[Kind, str]] = {
    "LoadImage": ("image", "image"),
    "LoadImageOutput": ("image", "image"),
    "LoadImageMask": ("mask", "image"),
    "LoadVideo": ("video", "file"),
    "LoadAudio": ("audio", "audio"),
    "VHS_LoadVideo": ("video", "video"),
    "VHS_LoadVideoFFmpeg": ("video", "video"),
    "VHS_LoadAudioUpload": ("audio", "audio"),
}
_WITH_MASK = ("LoadImage", "LoadImageOutput")
# Of other classes by their names; what loads from elsewhere than the server's input folder is none of them.
_NAMES: Mapping[Kind, tuple[str, ...]] = {
    "mask": ("image", "mask"),
    "video": ("video", "file"),
    "audio": ("audio", "file"),
    "image": ("image",),
}
_ELSEWHERE = re.compile(r"url|path|base64|folder|dir|batch|list|sequence|http")
_FLAGS: Mapping[str, Kind] = {"image_upload": "image", "video_upload": "video", "audio_upload": "audio"}
"""How `/object_info` marks an input into which the editor uploads."""

Declared = Mapping[str, tuple[Kind, str]]
"""What the server says of classes: which kind they load, and by which input."""


class Loader(NamedTuple):
    """An input that names a file of the server's input folder."""

    node: str
    name: str
    kind: Kind


def find_loader(graph: Graph, kind: Kind, node: str, declared: Declared = _KNOWN) -> Loader | None:
    """The loader that a file of that kind is for; UsageError where it isn't clear; None where none is known.

    :param node: an id, a title or a class; empty for the one that leads to an output.
    :param declared: what is known of classes, beside what their names say.
    """
    if node:
        named = _named(graph, node)
        # A picture may stand where a mask is taken from, and the other way round.
        kinds = ("image", "mask") if kind in ("image", "mask") else (kind,)
        found = [each for each in loaders(graph, declared) if each.node in named and each.kind in kinds]
    else:
        named = list(graph)
        reaching = leading_to_outputs(graph)
        found = [each for each in loaders(graph, declared) if each.kind == kind and each.node in reaching]
    if len(found) > 1 or (not found and node and len(named) > 1):
        listed = _listed(graph, [each.node for each in found] or named)
        raise UsageError(
            f"--{kind} could mean several nodes: {listed}",
            hint=f"name one by its id: --{kind} {printable((found[0].node if found else named[0]), 40)}=FILE",
        )
    return found[0] if found else None


def no_loader(graph: Graph, kind: Kind, node: str) -> UsageError:
    """The error where neither the class nor the server says that there is such a loader."""
    if node:
        return UsageError(
            f"--{kind}: node {_listed(graph, _named(graph, node))} loads no {kind} file",
            hint="name the node that loads it",
        )
    others = [each.node for each in loaders(graph)]
    hint = "add a node that loads it, and export it again"
    if others:
        hint = f"name one of its loaders if it is meant: --{kind} NODE=FILE; they are {_listed(graph, others)}"
    return UsageError(f"--{kind}: no node of the workflow that leads to an output loads a file of that kind", hint=hint)


def loaders(graph: Graph, declared: Declared = _KNOWN) -> Iterator[Loader]:
    """All loaders whose file stands in the node itself."""
    slots = _used_slots(graph)
    for node_id, node in graph.items():
        kind_name = _KNOWN.get(class_of(node)) or declared.get(class_of(node)) or _guess(node)
        if kind_name is None or not isinstance(inputs_of(node).get(kind_name[1], ""), str):
            continue
        kind, name = kind_name
        if class_of(node) in _WITH_MASK and slots.get(node_id) == {1}:
            kind = "mask"
        yield Loader(node_id, name, kind)


def leading_to_outputs(graph: Graph) -> set[str]:
    """The nodes that something is made of: those above a node that takes what others make, and gives to none."""
    linked = _used_slots(graph)
    ends = [
        node_id
        for node_id, node in graph.items()
        if node_id not in linked and any(as_link(value) for value in inputs_of(node).values())
    ]
    return set(needed_nodes(dict(graph), ends))


def declared_loader(info: Json, class_type: str) -> tuple[Kind, str] | None:
    """The kind that a class loads and the input for it, from the body of `/object_info/CLASS`."""
    for name, declared in (declared_inputs(info, class_type) or {}).items():
        for flag, kind in _FLAGS.items():
            if declared.options.get(flag) is True:
                return kind, name
    return None


def unknown_classes(graph: Graph, node: str) -> list[str]:
    """The classes that the server has to be asked of, to find the loader *node*, or any where that is empty."""
    nodes = _named(graph, node) if node else leading_to_outputs(graph)
    kinds = (class_of(graph[each]) for each in graph if each in nodes and _has_text(graph[each]))
    return [kind for kind in dict.fromkeys(kinds) if kind not in _KNOWN]


def _has_text(node: Mapping[str, Any]) -> bool:
    return any(isinstance(value, str) for value in inputs_of(node).values())


def _guess(node: Mapping[str, Any]) -> tuple[Kind, str] | None:
    lower, inputs = class_of(node).lower(), inputs_of(node)
    if "load" not in lower or _ELSEWHERE.search(lower):
        return None
    for kind, names in _NAMES.items():
        if kind in lower:
            return next(((kind, name) for name in names if isinstance(inputs.get(name), str)), None)
    return None


def _used_slots(graph: Graph) -> dict[str, set[float]]:
    slots: dict[str, set[float]] = {}
    for node in graph.values():
        for link in filter(None, map(as_link, inputs_of(node).values())):
            slots.setdefault(link.node, set()).add(link.slot)
    return slots


def _named(graph: Graph, name: str) -> list[str]:
    """The nodes that a name means. UsageError where there is none."""
    found = nodes_named(graph, name)
    if not found:
        raise UsageError(
            f"the workflow has no node {printable(name, _MAX_SHOWN)!r}",
            hint=f"name one by its id, title or class; its loaders: {_listed(graph, [e.node for e in loaders(graph)])}",
        )
    return found


def _listed(graph: Graph, nodes: Iterable[str]) -> str:
    """Nodes for people: ids, classes and titles."""
    names = list(dict.fromkeys(nodes))
    refs = [node_ref(each, graph[each]) for each in names[:_MAX_LISTED]]
    shown = [
        f"{ref.id} ({ref.class_type})" if ref.title == ref.class_type else f'{ref.id} ({ref.class_type} "{ref.title}")'
        for ref in refs
    ]
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(printable(each, 2 * _MAX_SHOWN) for each in shown) + more or "none"
