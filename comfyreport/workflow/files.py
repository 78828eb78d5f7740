"""Workflows in ComfyUI's API format, or made of the editor's: read, checked, and changed where the user asks for it.

What is checked here is what a server would refuse without a useful message, or what isn't a workflow at all.
The rest (unknown classes, missing links, no outputs) is left to the server: it knows its own nodes.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from comfyreport.errors import WorkflowError
from comfyreport.events import NodeRef
from comfyreport.protocol.responses import manifest_of
from comfyreport.text import printable
from comfyreport.workflow.embedded import MAGIC_BYTES, MAX_BYTES, embedded, media_of
from comfyreport.workflow.graph import Target
from comfyreport.workflow.names import seeds
from comfyreport.workflow.settings import Setting, apply
from comfyreport.workflow.wrapping import Wrapping, is_editors, unwrap, with_workflow

# Loaded where there is something to convert.
if TYPE_CHECKING:
    from comfyreport.workflow.convert import Converted, EditorNode

__all__ = ["Converter", "Workflow", "from_mapping", "load"]

Converter = Callable[[Mapping[str, Any]], "Converted"]
"""Turns what the editor saved into a prompt, for one server. It may ask that: it raises what asking raises."""

STDIN = "-"

MAX_DEPTH = 100  # of one node's values; the files that ComfyUI writes stay below 10
_MAX_BITS = 10_000  # of an integer: Python writes no larger ones

_EXPORT_HINT = (
    "In ComfyUI choose Workflow > Export (API); in older versions enable the dev mode options "
    "in the settings and choose Save (API Format)."
)


@dataclass(frozen=True, slots=True)
class Workflow:
    """A checked workflow; `graph` maps node ids to nodes, in the order of the file; `wrapping` stands around it.

    `settings` are the inputs that the user set, and those that plugins changed. `rebuilt`: other nodes than the file's
    are in it, so that they don't tell all. `converted`: it was in the editor's format; then `editor_nodes` are those
    that only the editor shows.
    """

    graph: dict[str, dict[str, Any]]
    wrapping: Wrapping = field(default_factory=Wrapping)
    settings: Mapping[Target, Setting] = field(default_factory=dict)
    rebuilt: bool = False
    converted: bool = False
    editor_nodes: tuple[EditorNode, ...] = ()

    def body(self, extra_data: Mapping[str, Any]) -> dict[str, Any]:
        """What is posted to a server, without ids; *extra_data* beats that of the file.

        Each node has a `_meta`: ComfyUI 0.33.0 answers 500 where it replaces a retired node that has none.
        """
        graph = {
            key: node if isinstance(node.get("_meta"), dict) else {**node, "_meta": {}}
            for key, node in self.graph.items()
        }
        extra = {**self.wrapping.extra_data, **extra_data}
        return {"prompt": graph, **self.wrapping.options, **({"extra_data": extra} if extra else {})}

    def manifest(self) -> tuple[NodeRef, ...]:
        """The nodes in file order; a node without a title is called by its class."""
        return manifest_of(self.graph)

    def with_settings(self, settings: Mapping[Target, Setting]) -> Workflow:
        """A copy with what is to be set."""
        encodable = {target: setting._replace(value=_json_copy(setting.value)) for target, setting in settings.items()}
        return replace(self, graph=apply(self.graph, encodable), settings={**self.settings, **encodable})

    def seed(self) -> int | None:
        """The seed of the samplers, where they have just one; without a sampler that of what makes the outputs.

        A sampler that adds no noise, such as a refiner, only counts if there is no other.
        """
        of_nodes = seeds(self.graph)
        found = {value for value, adds_noise in of_nodes if adds_noise} or {value for value, _ in of_nodes}
        return found.pop() if len(found) == 1 else None


def load(path: str | os.PathLike[str], *, shown: str | None = None, convert: Converter | None = None) -> Workflow:
    """Read a workflow file, `-` for stdin, or the workflow in a picture, a video or a sound of ComfyUI's.

    `{"prompt": {…}, …}`, as it is posted to a server, is taken too, and so is `{"workflow": …, "output": {…}}`.

    :param shown: the path for messages, where that is another.
    :param convert: for a file in the editor's format; None: it is a WorkflowError.
    """
    name = "stdin" if os.fspath(path) == STDIN else printable(os.fspath(path) if shown is None else shown, 4096) or '""'
    text = _read(path, name)
    if isinstance(text, dict):
        return _check(text, name, convert)
    if not text.strip():
        raise WorkflowError(f"{name} is empty", hint=_EXPORT_HINT)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise WorkflowError(
            f"{name} isn't JSON: {error.msg} in line {error.lineno}, column {error.colno}",
            hint=f"Export the workflow again, or mend that line. {_EXPORT_HINT}",
        ) from None
    except RecursionError:
        raise _too_deep_error(name) from None
    except ValueError:  # Python's limit for the digits of an integer
        raise WorkflowError(
            f"{name} holds a number with thousands of digits", hint="Export the workflow again."
        ) from None
    return _check(content, name, convert)


def from_mapping(graph: Mapping[Any, Any], convert: Converter | None = None) -> Workflow:
    """A workflow from a Python object, checked like a file; the object stays as it is."""
    return _check(graph, "the workflow", convert)


def _read(path: str | os.PathLike[str], name: str) -> str | dict[str, Any]:
    """The file's text; of a picture and the like, what is embedded in it."""
    try:
        stdin = os.fspath(path) == STDIN
        with open(0, "rb", closefd=False) if stdin else open(path, "rb") as file:
            data = file.read(MAGIC_BYTES)
            media = media_of(data)
            if media is not None and not stdin and file.seekable():
                return embedded(media, file, name)
            data += file.read(MAX_BYTES + 1 - len(data))
    except FileNotFoundError:
        raise WorkflowError(
            f"{name} doesn't exist",
            hint="Check the path; a relative one starts at the current folder.",
        ) from None
    except (IsADirectoryError, PermissionError):
        if os.path.isdir(path):  # on Windows it is forbidden to open one
            raise WorkflowError(f"{name} is a folder, not a file", hint="Name a workflow file in it.") from None
        raise WorkflowError(f"{name} may not be read", hint="Check the permissions of the file.") from None
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise WorkflowError(f"{name} can't be read: {cause}", hint="Check the path and the disk.") from None
    if len(data) > MAX_BYTES:
        raise WorkflowError(
            f"{name} is larger than {MAX_BYTES // 1024 // 1024} MiB",
            hint=f"Check that it is a workflow; pictures belong in files of their own. {_EXPORT_HINT}",
        )
    if media is not None:
        return embedded(media, io.BytesIO(data), name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WorkflowError(
            f"{name} isn't UTF-8 text (byte {error.start})",
            hint=f"Save it as UTF-8; if it is a picture of a kind in which ComfyUI saves no workflow, export that. "
            f"{_EXPORT_HINT}",
        ) from None


def _check(content: object, name: str, convert: Converter | None) -> Workflow:
    """The graph in `content`, copied, after the checks that a file and an object have in common."""
    if not isinstance(content, Mapping):
        kind = "null" if content is None else type(content).__name__
        raise WorkflowError(f"{name} holds no object of nodes but a {kind}", hint=_EXPORT_HINT)
    graph, wrapping = unwrap(content)
    if is_editors(graph):
        return _converted(graph, wrapping, name, convert)
    if not graph:
        raise WorkflowError(f"{name} has no nodes", hint=f"Export a workflow that has some. {_EXPORT_HINT}")
    return Workflow(_nodes(graph, name), _check_wrapping(wrapping, name))


def _converted(graph: Mapping[Any, Any], wrapping: Wrapping, name: str, convert: Converter | None) -> Workflow:
    """What becomes of the editor's *graph*, which is submitted beside it, as the editor does it."""
    if convert is None:
        raise WorkflowError(f"{name} is in the editor's format, not in the API format", hint=_EXPORT_HINT)
    beside = _check_wrapping(wrapping, name)
    workflow: dict[str, Any] = _copied(graph, name, name)
    try:
        converted = convert(workflow)
    except WorkflowError as error:
        raise WorkflowError(f"{name}: {error.message}", hint=error.hint) from error
    if not converted.prompt:
        raise WorkflowError(f"{name} has no nodes that run", hint="Add some, or unmute those that are there.")
    beside = replace(beside, extra_data=with_workflow(beside.extra_data, workflow))
    nodes = _nodes(converted.prompt, name)
    return Workflow(nodes, beside, converted=True, editor_nodes=converted.editor_nodes)


def _nodes(graph: Mapping[Any, Any], name: str) -> dict[str, dict[str, Any]]:
    nodes: dict[str, dict[str, Any]] = {}
    for key, entry in graph.items():
        if not isinstance(key, (str, int)):
            kind = type(key).__name__
            raise WorkflowError(f"{name} has a node id that isn't text but a {kind}", hint="Use text as node ids.")
        node_id = _encodable(str(key))
        nodes[node_id] = _check_node(entry, f"{name}: node {printable(node_id, 40)}", name)
    return nodes


def _check_wrapping(wrapping: Wrapping, name: str) -> Wrapping:
    """What stands around a workflow, copied, in a form that JSON can hold."""
    if not isinstance(wrapping.extra_data, Mapping):
        raise WorkflowError(f"{name}: extra_data isn't an object", hint="Remove it, or make it an object.")
    place = f"{name}: what stands beside the nodes"
    return replace(
        wrapping,
        extra_data=_copied(wrapping.extra_data, place, name),
        options=_copied(wrapping.options, place, name),
    )


def _check_node(entry: object, place: str, name: str) -> dict[str, Any]:
    hint = f"A ComfyUI server refuses such a node. {_EXPORT_HINT}"
    if not isinstance(entry, Mapping):
        raise WorkflowError(f"{place} isn't an object", hint=hint)
    node: dict[str, Any] = _copied(entry, place, name)
    kind = node.get("class_type")
    if not isinstance(kind, str) or not kind.strip():
        raise WorkflowError(
            f"{place} has no class_type",
            hint=f"A ComfyUI server refuses it. The editor exports a node like that if its type isn't installed: "
            f"install it, or remove the node, and export again. {_EXPORT_HINT}",
        )
    if not isinstance(node.setdefault("inputs", {}), dict):
        raise WorkflowError(f"{place} ({printable(kind, 40)}) has inputs that aren't an object", hint=hint)
    return node


def _copied(value: object, place: str, name: str) -> Any:
    """A copy of what stands at *place* of the workflow *name*. Raises WorkflowError where JSON can't hold it."""
    try:
        return _json_copy(value)
    except RecursionError:
        raise _too_deep_error(name) from None
    except TypeError as error:
        raise WorkflowError(f"{place} holds {error}", hint="Use what JSON can hold.") from None


def _json_copy(value: object, depth: int = 0) -> Any:
    """A copy that JSON can hold: NaN and the infinities become null, halves of a surrogate pair a "?"."""
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        raise TypeError("a number with thousands of digits")
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return _encodable(value)
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("an object with keys that aren't text")
        return {_encodable(key): _json_copy(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_copy(inner, depth + 1) for inner in value]
    raise TypeError(f"a value that isn't JSON ({type(value).__name__})")


def _encodable(text: str) -> str:
    """The text with a "?" for each half of a surrogate pair, which UTF-8 lacks."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _too_deep_error(name: str) -> WorkflowError:
    return WorkflowError(f"{name} is nested too deep to be a workflow", hint=_EXPORT_HINT)
