"""What may stand around a workflow in a file: the body of a POST to a server, or what the editor gives. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_IDS = frozenset(("client_id", "prompt_id"))

# What ComfyUI's POST /prompt reads beside the workflow (server.py), and the types that it can take.
_OPTIONS: Mapping[str, type | tuple[type, ...]] = {
    "front": bool,
    "number": (int, float),
    "partial_execution_targets": (list, tuple),
}


@dataclass(frozen=True, slots=True)
class Wrapping:
    """What stands around a workflow.

    `extra_data` and `options` are submitted with it; `left_out` are the names of what a server wouldn't read.
    """

    extra_data: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def unwrap(content: Mapping[Any, Any]) -> tuple[Mapping[Any, Any], Wrapping]:
    """The workflow in *content*, and what stands around it, not checked yet.

    `prompt` has it in the body of a POST, `output` in `{"workflow": …, "output": …}`, as the editor's `graphToPrompt`
    gives it. As the editor does, its `workflow` is submitted in `extra_data`, from where ComfyUI writes it into
    pictures. Where there is nothing else, `workflow` itself is the one. The ids of a body are another client's: a run
    has its own.
    """
    if is_editors(content):
        return content, Wrapping()
    key = next((key for key in ("prompt", "output") if _holds_graph(content, key)), None)
    if key is None and is_editors(content.get("workflow")):
        key = "workflow"
    if key is None:
        return content, Wrapping()
    extra, left_out = content.get("extra_data"), []
    extra_data: Any = {} if extra is None else extra
    options: dict[str, Any] = {}
    for name, value in content.items():
        if name in (key, "extra_data") or name in _IDS or value is None:
            continue
        if name == "workflow" and isinstance(value, Mapping) and isinstance(extra_data, Mapping):
            extra_data = with_workflow(extra_data, value)
        elif name in _OPTIONS and isinstance(value, _OPTIONS[name]):
            options[name] = value
        else:
            left_out.append(str(name))
    return content[key], Wrapping(extra_data, options, tuple(left_out))


def is_editors(content: object) -> bool:
    """Whether *content* is a workflow in the editor's format: it has its nodes in a list."""
    return isinstance(content, Mapping) and isinstance(content.get("nodes"), (list, tuple))


def with_workflow(extra_data: Mapping[str, Any], workflow: Mapping[str, Any]) -> Mapping[str, Any]:
    """*extra_data* with the editor's *workflow*, unless there is one in it."""
    info = extra_data.get("extra_pnginfo") or {}
    if not isinstance(info, Mapping):
        return extra_data
    return {**extra_data, "extra_pnginfo": {"workflow": workflow, **info}}


def _holds_graph(content: Mapping[Any, Any], key: str) -> bool:
    """Whether the workflow is *content*'s entry *key*, rather than *content* itself with a node of that id."""
    inner = content.get(key)
    if not isinstance(inner, Mapping) or "class_type" in inner:
        return False
    others = (entry for name, entry in content.items() if name != key)
    return not any(isinstance(entry, Mapping) and "class_type" in entry for entry in others)
