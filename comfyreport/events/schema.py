"""The JSON Schema (2020-12) of the event stream, made from the event dataclasses.

It describes what `jsonlines.to_dict` makes of an event: nodes flattened, None left out, bytes as their length.
Descriptions come from the `Annotated` texts and the docstrings, so that they are written once.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal

from comfyreport.events import codes, types as ev

STATUSES: Mapping[str, str] = {
    "success": "everything that was asked for was made",
    "error": "a node failed",
    "interrupted": "somebody else interrupted it",
    "usage": "bad flags, an unusable workflow or reporter; nothing was submitted",
    "unreachable": "no usable ComfyUI there; nothing was submitted; retryable says whether trying again can help",
    "rejected": "the server refused the workflow; error.node_errors tells why",
    "lost": "the prompt is gone, or its fate can't be learned",
    "timeout": "a time limit of the user's was reached, or would be; prompt_state says what became of the prompt",
    "partial": "some outputs are missing: dropped by the server, blocked, not saved, or fewer than expected",
    "cancelled": "stopped by the user, and the prompt was cancelled",
    "detached": "stopped by the user, and the prompt was left running on request",
    "internal": "a fault of comfyreport; stderr says where to report it",
}

DESCRIPTION = """\
The event stream of comfyreport: one JSON object a line, UTF-8, each line flushed as it is written.

What a reader can rely on:
- The first line is stream_started, with the version of this schema; the last line is stream_finished, with the \
process's exit code. A stream without its last line was cut off: treat the run as failed, its state as unknown.
- Each run has exactly one run_finished, whatever happened; its status and error.code say what to do next.
- seq strictly increases. A stream that is thinned (detail=, rate=) has gaps; they are no loss of anything else.
- Every node_started is followed by a node_finished of the same node or by run_finished.
- fraction never falls within a run, and is 1 only at a success.
- step occurs in node_progress lines only, and such a line begins with step, max_steps, eta_seconds, node.
- What isn't known is left out: there is no null among the described fields, and no NaN.
- A node is always told by the same keys: node (class type, else the id), node_id, title, raw_id.

What a reader must do: ignore event types, fields and codes that it doesn't know. Adding one is a minor version of \
the schema; anything else is a major one."""

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}

# Values from closed lists that the dataclasses hold as plain text or number.
_STATUSES = {status: f"{meaning} (exit code {codes.EXIT_CODES[status]})" for status, meaning in STATUSES.items()}
_CLOSED_LISTS: Mapping[tuple[type, str], Mapping[str, str]] = {
    (ev.RunFinished, "status"): _STATUSES,
    (ev.StreamFinished, "status"): _STATUSES,
    (ev.ErrorInfo, "code"): codes.ERROR_CODES,
    (ev.Warning, "code"): codes.WARNING_CODES,
}
_EXIT_CODES = sorted(set(codes.EXIT_CODES.values()))
_LIMITS: Mapping[tuple[type, str], Mapping[str, Any]] = {
    (ev.Event, "seq"): {"minimum": 0},
    (ev.Event, "elapsed"): {"minimum": 0},
    (ev.ProgressEvent, "fraction"): {"minimum": 0, "maximum": 1},
    (ev.NodeTime, "share"): {"minimum": 0, "maximum": 1},
    (ev.NodeProgress, "step"): {"exclusiveMinimum": 0},
    (ev.NodeProgress, "max_steps"): {"exclusiveMinimum": 0},
    (ev.NodeProgress, "pass_number"): {"minimum": 1},
    (ev.RunFinished, "exit_code"): {"enum": _EXIT_CODES},
    (ev.StreamFinished, "exit_code"): {"enum": sorted({*_EXIT_CODES, codes.EXIT_REPORTER_FAILED})},
}
# Written by to_dict whenever there is a value, and left out by the jsonl reporter at detail=summary.
_OPTIONAL = frozenset({(ev.RunQueued, "nodes"), (ev.RunFinished, "node_seconds"), (ev.RunFinished, "node_times")})

_NODE = {
    "node": "the node's class type, else its id",
    "node_id": "id of the node in the submitted workflow",
    "title": "the node's title, else its class, else its id",
    "raw_id": "the server's id of the node, where it differs (expanded nodes)",
}
_DEFINITIONS: Mapping[type, str] = {
    ev.NodeRef: "node_ref",
    ev.Output: "output",
    ev.NodeError: "node_error",
    ev.NodeTime: "node_time",
    ev.InputValue: "input_value",
    ev.ErrorInfo: "error_info",
}


def json_schema() -> dict[str, Any]:
    """The schema of one line of the stream, as a new dict that is ready for `json.dumps`."""
    definitions = {name: _event(cls) for name, cls in ev.EVENT_TYPES.items()}
    definitions.update({name: _object(cls) for cls, name in _DEFINITIONS.items()})
    return {
        "$schema": _DIALECT,
        "$id": f"urn:comfyreport:events:{ev.SCHEMA}",
        "title": f"comfyreport event stream {ev.SCHEMA}",
        "description": DESCRIPTION,
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": list(ev.EVENT_TYPES)}},
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in ev.EVENT_TYPES],
        "$defs": definitions,
    }


def _event(cls: type[ev.Event]) -> dict[str, Any]:
    schema = _object(cls)
    if cls is not ev.NodeProgress:
        schema["properties"]["step"] = False
    return schema


def _object(cls: type) -> dict[str, Any]:
    """The object that a dataclass becomes: what may be None isn't required, what is unknown is allowed."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    if cls is ev.NodeRef:
        _add_node(properties, required, "", optional=False)
    else:
        hints = typing.get_type_hints(cls, include_extras=True)
        for field in fields(cls):
            _add(properties, required, cls, field.name, hints[field.name])
    return {
        "description": " ".join((cls.__doc__ or cls.__name__).split()),
        "type": "object",
        "required": required,
        "properties": properties,
    }


def _add(properties: dict[str, Any], required: list[str], cls: type, name: str, hint: Any) -> None:
    hint, description = _split_annotated(hint)
    if name == "type" and issubclass(cls, ev.Event):
        description = "which event this is"
    inner, optional = _without_none(hint)
    optional = optional or inner is Any or (cls, name) in _OPTIONAL
    if inner is ev.NodeRef and name == "node":
        _add_node(properties, required, description, optional=optional)
        return
    if inner is bytes:
        name, inner, description = f"{name}_bytes", int, f"length in bytes: {description}"
    properties[name] = {
        **_value(inner),
        **_constraints(cls, name),
        **({"description": description} if description else {}),
    }
    if not optional:
        required.append(name)


def _add_node(properties: dict[str, Any], required: list[str], role: str, *, optional: bool) -> None:
    """A node's four keys; *role* says what the node is to the object that they stand in."""
    for key, description in _NODE.items():
        text = f"{role}: {description}" if role not in ("", "the node") else description
        properties[key] = {"type": "string", "description": text}
    if not optional:
        required += [key for key in _NODE if key != "raw_id"]


def _constraints(cls: type, name: str) -> dict[str, Any]:
    closed = _CLOSED_LISTS.get((cls, name))
    if closed is not None:
        return {"type": "string", "oneOf": [{"const": key, "description": text} for key, text in closed.items()]}
    for base in cls.__mro__:
        limits = _LIMITS.get((base, name))
        if limits is not None:
            return dict(limits)
    return {}


def _value(hint: Any) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _JSON_TYPES:
        return {"type": _JSON_TYPES[hint]}
    if hint in _DEFINITIONS:
        return {"$ref": f"#/$defs/{_DEFINITIONS[hint]}"}
    if origin is Literal:
        return {"const": arguments[0]} if len(arguments) == 1 else {"type": "string", "enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _value(arguments[0])}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _value(arguments[1])}
    if hint is Any:
        return {}
    raise TypeError(f"no JSON type for {hint}")


def _split_annotated(hint: Any) -> tuple[Any, str]:
    """The type and the text of an `Annotated` hint."""
    if typing.get_origin(hint) is Annotated:
        inner, *texts = typing.get_args(hint)
        return inner, str(texts[0])
    return hint, ""


def _without_none(hint: Any) -> tuple[Any, bool]:
    """The type without None, and whether it had it."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint, False
    kinds: Iterable[Any] = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    (inner,) = kinds
    return inner, True
