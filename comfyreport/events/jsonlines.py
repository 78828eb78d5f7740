"""Events as JSON: one flat object each, the form that the `jsonl` reporter writes and the schema describes."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import orjson

from comfyreport.events.types import Event, NodeProgress, NodeRef
from comfyreport.text import is_safe, text_of, well_formed

_FIRST_KEYS = ("type", "seq", "time", "elapsed", "prompt_id", "source", "run_index", "worker")
_FIRST_PROGRESS_KEYS = ("step", "max_steps", "eta_seconds", "node")


def to_dict(event: Event) -> dict[str, Any]:
    """*event* as one object of the JSON stream.

    A node is flattened into `node` (class type, else the id), `node_id`, `title` and `raw_id`; what is None is
    left out, and so is a number that JSON lacks (NaN, infinity); bytes become their length under
    `NAME_bytes`. A `node_progress` begins with `step`, `max_steps`, `eta_seconds` and `node`.
    """
    return _flatten(event)


def to_line(event: Event, *, without: Collection[str] = ()) -> bytes:
    """*event* as one line of UTF-8 JSON, newline included. Never raises for what a server may have sent.

    *without* names keys to leave out, for readers that don't need them.
    """
    data = to_dict(event)
    for name in without:
        data.pop(name, None)
    return object_line(data)


def object_line(data: Mapping[str, Any]) -> bytes:
    """*data*, of which JSON can tell all, as one line in the same way."""
    try:
        line = orjson.dumps(data)
    except TypeError:
        # Integers over 64 bits, lone surrogates, or nesting too deep for orjson.
        return _dumps_lenient(data)
    return (line if line.isascii() and b"\x7f" not in line else _escaped(line)) + b"\n"


_FIELD_NAMES: dict[Any, tuple[str, ...]] = {}


def _field_names(cls: Any) -> tuple[str, ...]:
    """The field names of the dataclass *cls* in the order of the JSON stream."""
    names = _FIELD_NAMES.get(cls)
    if names is None:
        names = tuple(field.name for field in fields(cls))
        if issubclass(cls, Event):
            first = (*_FIRST_PROGRESS_KEYS, *_FIRST_KEYS) if cls is NodeProgress else _FIRST_KEYS
            names = (*first, *(name for name in names if name not in first))
        _FIELD_NAMES[cls] = names
    return names


def _flatten(value: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in _field_names(type(value)):
        item = getattr(value, name)
        if item is None:
            continue
        kind = type(item)
        if kind is str or kind is int or kind is bool:
            result[name] = item
        elif kind is float:
            if math.isfinite(item):
                result[name] = item
        elif kind is NodeRef and name == "node":
            _add_node(result, item)
        elif kind is bytes:
            result[f"{name}_bytes"] = len(item)
        else:
            result[name] = _plain(item)
    return result


def _add_node(result: dict[str, Any], ref: NodeRef) -> None:
    result["node"] = ref.class_type or ref.id
    result["node_id"] = ref.id
    result["title"] = ref.title
    if ref.raw_id is not None:
        result["raw_id"] = ref.raw_id


def _plain(item: Any) -> Any:
    if isinstance(item, NodeRef):
        node: dict[str, Any] = {}
        _add_node(node, item)
        return node
    if is_dataclass(item):
        return _flatten(item)
    if isinstance(item, tuple):
        return [_plain(each) for each in item]
    return item


def _escaped(line: bytes) -> bytes:
    """*line* with escapes for characters that end a line for some readers, or control a terminal."""
    text = line.decode()
    if text.isprintable():
        return line
    return text.translate({ord(each): json.dumps(each)[1:-1] for each in set(text) if not is_safe(each)}).encode()


def _dumps_lenient(data: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(_to_plain_json(data, 0), allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError):
        common = {key: data[key] for key in ("type", "seq", "time", "elapsed") if key in data}
        return json.dumps(common).encode() + b"\n"


def _to_plain_json(item: Any, depth: int) -> Any:
    """*item* in a form that every JSON reader takes: no NaN, limited nesting, keys that are text."""
    if depth > 64:
        return str(type(item).__name__)
    if isinstance(item, float):
        return item if math.isfinite(item) else None
    if isinstance(item, Mapping):
        return {well_formed(text_of(key)): _to_plain_json(each, depth + 1) for key, each in item.items()}
    if isinstance(item, (list, tuple)):
        return [_to_plain_json(each, depth + 1) for each in item]
    if isinstance(item, str):
        return well_formed(item)
    if item is None or isinstance(item, int):
        return item
    return well_formed(text_of(item))
