"""The conversion itself: a node of the prompt for each that runs, subgraphs opened, links followed to their sources."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from random import Random
from typing import Any, NamedTuple

from comfyreport.workflow.convert.classes import CAPTURED, Classes, Widget
from comfyreport.workflow.convert.editor import read
from comfyreport.workflow.convert.links import HostInput, Sources
from comfyreport.workflow.convert.nodes import PRIMITIVE, Preparation, Prepared, Scope
from comfyreport.workflow.convert.primitives import apply_primitives, fed_by
from comfyreport.workflow.convert.refusals import refused, shown
from comfyreport.workflow.convert.texts import as_javascript_has_it, copied, dynamic_prompt, replaced

_MAX_NODES = 100_000
# The editor makes the id of a subgraph so; no class is called so.
_SUBGRAPH = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NAME_PROPERTY = "Node name for S&R"
_PREFIX = "filename_prefix"
# The classes of the package cg-use-everywhere, whose script adds links to what the front end sends.
_BROADCASTING = "Everywhere"
# Classes in whose file names the front end fills in values (saveImageExtraOutput.ts). They have no name of their own.
_SAVING = frozenset((
    "SaveImage", "SaveImageAdvanced", "SaveSVGNode", "SaveVideo", "SaveAnimatedWEBP", "SaveWEBM", "SaveAudio",
    "SaveAudioMP3", "SaveAudioOpus", "SaveAudioAdvanced", "SaveGLB", "Save3DAdvanced", "SaveGaussianSplat",
    "SavePointCloud", "SaveAnimatedPNG", "CLIPSave", "VAESave", "ModelSave", "LoraSave", "SaveLatent",
))  # fmt: skip

Target = tuple[str, str]


class EditorNode(NamedTuple):
    """A node that the editor shows and the prompt lacks: one that opens a subgraph, or a primitive.

    `inputs` has for each of its widgets the inputs in the prompt (node id and name) that hold the widget's value: all
    of them are set where a user sets it. `id` and `title` are those of the editor, `a:b` below a subgraph.
    """

    id: str
    title: str
    inputs: Mapping[str, tuple[Target, ...]]


class Converted(NamedTuple):
    """A prompt in API format, and what the editor shows beside."""

    prompt: dict[str, dict[str, Any]]
    editor_nodes: tuple[EditorNode, ...]


def convert(
    ui: Mapping[str, Any],
    object_info: Mapping[str, Any],
    *,
    chance: Random | None = None,
    now: datetime | None = None,
) -> Converted:
    """Turn the editor's workflow *ui* into what ComfyUI's front end would have sent to the server of *object_info*.

    Each node has its title in `_meta`, as the front end's has it; inside of subgraphs ids are `outer:inner`. Neither
    mapping is changed, nor shared with the result.

    :param object_info: the body of a server's `/object_info`.
    :param chance: what chooses where a prompt has `{a|b}`.
    :param now: the local time for `%date:…%` in names of files.
    :raises WorkflowError: for a graph that can't be converted faithfully, with the node (id and title) and what to do.
    """
    try:
        editor = read(ui)
        classes = Classes(object_info)
        root = Scope(Preparation(editor, classes), editor.root)
        return _Conversion(root, classes, chance or Random(), now or datetime.now()).converted()
    except RecursionError:
        raise refused("the workflow", "a value in it is nested too deep", "Look for it in the file") from None


@dataclass
class _Conversion:
    root: Scope
    classes: Classes
    chance: Random
    now: datetime
    prompt: dict[str, dict[str, Any]] = field(default_factory=dict)
    shown_by: dict[tuple[str, str], list[Target]] = field(default_factory=dict)
    sources: Sources = field(default_factory=Sources)

    def converted(self) -> Converted:
        applied = set()
        scopes = list(self._scopes())
        for scope in scopes:
            if id(scope.graph) not in applied:
                applied.add(id(scope.graph))
                apply_primitives(scope.graph, scope.nodes, self._replaced)
        for scope in scopes:
            for node in scope.nodes.values():
                if node.runs and not node.is_virtual and node.subgraph is None:
                    node_id = scope.id_of(node)
                    if node_id in self.prompt:
                        raise refused(node.place, f"two nodes have the id {shown(node_id)}", "Copy it, and remove it")
                    self.prompt[node_id] = self._entry(scope, node)
        self._drop_links_to_muted()
        editor_nodes = tuple(each for scope in scopes for each in self._editor_nodes(scope))
        return Converted(dict(sorted(self.prompt.items(), key=_javascript_order)), editor_nodes)

    def _scopes(self) -> Iterator[Scope]:
        """The graphs that run, each in each place where it is open."""
        todo, count = [self.root], 0
        while todo:
            scope = todo.pop()
            count += len(scope.nodes)
            if count > _MAX_NODES:
                raise refused("the workflow", f"its subgraphs open into more than {_MAX_NODES} nodes", "Take some away")
            yield scope
            hosts = [node for node in scope.nodes.values() if _opens(scope, node)]
            todo.extend(scope.inside(host) for host in reversed(hosts))

    def _entry(self, scope: Scope, node: Prepared) -> dict[str, Any]:
        if node.node_class is None:
            raise self._unknown(node)
        if _BROADCASTING in node.node.kind:
            cause = "it has invisible links, which its package draws in the browser when it queues the prompt"
            raise refused(node.place, cause, "Turn them into real links in ComfyUI")
        inputs = {}
        for name, widget in node.widgets.items():
            if widget.kind in CAPTURED:
                cause = f"its input {shown(name)} is what the browser captures when it queues the prompt"
                raise refused(node.place, cause, "Load a file in its place")
            if widget.sent and name in node.values:
                value = self._sent(node, widget)
                typed = widget.kind == "CURVE" and value is not None
                inputs[name] = {"__type__": "CURVE", "__value__": value} if typed else _wrapped(value)
        for index, slot in enumerate(node.inputs):
            source = self.sources.of(scope, node, index)
            if isinstance(source, HostInput):
                if source.name in source.host.values:
                    inputs[slot.name] = _wrapped(copied(source.host.values[source.name]))
                    target = (scope.id_of(node), slot.name)
                    self.shown_by.setdefault((source.scope.id_of(source.host), source.name), []).append(target)
            elif source is not None:
                inputs[slot.name] = [source.scope.id_of(source.node), source.slot]
        return {
            "inputs": as_javascript_has_it(inputs),
            "class_type": node.node_class.name,
            "_meta": {"title": node.title},
        }

    def _unknown(self, node: Prepared) -> Exception:
        if _SUBGRAPH.fullmatch(node.node.kind):
            cause = f"the file lacks the subgraph {shown(node.node.kind)}, which it opens"
            return refused(node.place, cause, "Save the file once more in the ComfyUI that has it")
        near = difflib.get_close_matches(node.node.kind[:200], self.classes.names(), 1, 0.8)
        also = f"; near is {shown(near[0])}" if near else ""
        return refused(
            node.place,
            f"the server has no class {shown(node.node.kind)}{also}",
            "Install the package that it comes from, or remove or mute that node",
        )

    def _sent(self, node: Prepared, widget: Widget) -> Any:
        value = node.values[widget.name]
        if isinstance(value, str) and widget.options.get("dynamicPrompts") is True:
            try:
                return dynamic_prompt(value, self.chance)
            except RecursionError:
                cause = f"too many braces stand in each other in its input {shown(widget.name)}"
                raise refused(node.place, cause, "Write a backslash before those that are text") from None
        if isinstance(value, str) and widget.name == _PREFIX and node.node.kind in _SAVING:
            return self._replaced(value)
        return copied(value)

    def _drop_links_to_muted(self) -> None:
        for entry in self.prompt.values():
            inputs = entry["inputs"]
            for name in [name for name, value in inputs.items() if _is_link(value) and value[0] not in self.prompt]:
                del inputs[name]

    def _replaced(self, text: str) -> str:
        return replaced(text, self._value_of, self.now)

    def _value_of(self, name: str, widget: str) -> tuple[Any] | None:
        """The value of a widget, by its node's name for search and replace, else by its title."""
        node = self._named.get(name)
        return (node.values[widget],) if node is not None and widget in node.values else None

    @cached_property
    def _named(self) -> Mapping[str, Prepared]:
        """The first node of each name for search and replace, and of each title that isn't such a name."""
        nodes = list(_all_nodes(self.root, set()))
        titled = {node.title: node for node in reversed(nodes)}
        return titled | {name: node for node in reversed(nodes) if isinstance(name := _name(node), str)}

    def _editor_nodes(self, scope: Scope) -> Iterator[EditorNode]:
        for node in scope.nodes.values():
            node_id = scope.id_of(node)
            if _opens(scope, node):
                inputs = {name: tuple(self.shown_by.get((node_id, name), ())) for name in node.widgets}
                yield EditorNode(node_id, node.title, {name: targets for name, targets in inputs.items() if targets})
            elif node.node.kind == PRIMITIVE:
                targets = tuple(self._primitive_targets(scope, node))
                if targets:
                    yield EditorNode(node_id, node.title, {"value": targets})

    def _primitive_targets(self, scope: Scope, primitive: Prepared) -> Iterator[Target]:
        for fed, widget in fed_by(scope.graph, scope.nodes, primitive):
            if widget is None:
                continue
            fed_id = scope.id_of(fed)
            if fed.subgraph is not None:
                yield from self.shown_by.get((fed_id, widget.name), ())
            elif fed_id in self.prompt and not _is_link(self.prompt[fed_id]["inputs"].get(widget.name)):
                yield fed_id, widget.name


def _opens(scope: Scope, node: Prepared) -> bool:
    """Whether what stands in the subgraph of *node* is in the prompt, where it runs itself.

    In the workflow that takes a node which runs. Inside of another subgraph the front end doesn't look at its mode.
    """
    return node.subgraph is not None and (node.runs or scope.host is not None)


def _name(node: Prepared) -> object:
    otherwise = None if node.node_class is None or node.node.kind in _SAVING else node.node.kind
    return node.node.properties.get(_NAME_PROPERTY, otherwise)


def _all_nodes(scope: Scope, seen: set[int]) -> Iterator[Prepared]:
    """Each node of the file once, those inside before the one that opens them."""
    seen.add(id(scope.graph))
    for node in scope.nodes.values():
        if node.subgraph is not None and id(node.subgraph) not in seen:
            yield from _all_nodes(scope.inside(node), seen)
        yield node


def _wrapped(value: Any) -> Any:
    """Lists are links in a prompt; those that are values stand in an object, which the server unpacks."""
    return {"__value__": value} if isinstance(value, list) else value


def _is_link(value: object) -> bool:
    return isinstance(value, list)


def _javascript_order(item: tuple[str, object]) -> tuple[int, int]:
    """Whole numbers come first among the keys of an object there, in their order; the others stay as they are."""
    key = item[0]
    return (0, int(key)) if key.isascii() and key.isdigit() and len(key) < 10 else (1, 0)
