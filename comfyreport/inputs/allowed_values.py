"""Allowed values that a refusal leaves out: ComfyUI tells the values of a choice only where there are at most 20."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from comfyreport.errors import UnreachableError
from comfyreport.inputs.classes import ask_class
from comfyreport.inputs.declared import input_specs
from comfyreport.net.client import Client
from comfyreport.protocol.messages import Json
from comfyreport.protocol.statuses import Response
from comfyreport.text import NAME_LIMIT

_MAX_CLASSES = 3
"""Of so many classes the values are asked for: one wrong model is the usual case, and each class is a request."""


class _Gap(NamedTuple):
    """A refused input whose allowed values aren't told."""

    class_type: str
    input_name: str
    extra_info: dict[str, Any]


def add_allowed_values(client: Client, answer: Response) -> Response:
    """*answer* to a submission; in a refusal, `input_config` is filled in where the server left it out.

    The server is asked for the values by `/object_info`; where it doesn't tell them, nothing changes.
    """
    gaps = list(_gaps(answer.body)) if answer.status in (400, 422) else []
    for class_type in list(dict.fromkeys(gap.class_type for gap in gaps))[:_MAX_CLASSES]:
        try:
            info = ask_class(client, class_type)
        except UnreachableError:
            break
        for gap in gaps:
            config = _config(info, gap) if gap.class_type == class_type else None
            if config is not None:
                gap.extra_info["input_config"] = config
    return answer


def _gaps(body: Json) -> Iterator[_Gap]:
    node_errors = body.get("node_errors") if isinstance(body, dict) else None
    for entry in node_errors.values() if isinstance(node_errors, dict) else ():
        class_type, errors = (entry.get("class_type"), entry.get("errors")) if isinstance(entry, dict) else (None, None)
        if not isinstance(class_type, str) or not 0 < len(class_type) <= NAME_LIMIT or not isinstance(errors, list):
            continue
        for error in errors:
            extra = error.get("extra_info") if isinstance(error, dict) else None
            if not isinstance(extra, dict) or error.get("type") != "value_not_in_list":
                continue
            name = extra.get("input_name")
            if isinstance(name, str) and extra.get("input_config") is None:
                yield _Gap(class_type, name, extra)


def _config(info: Json, gap: _Gap) -> Json:
    """How a class declares an input, in the body of `/object_info/CLASS`."""
    specs = input_specs(info, gap.class_type) or ()
    return next((spec for _, name, spec in specs if name == gap.input_name), None)
