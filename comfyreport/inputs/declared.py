"""What a server declares of its node classes (`/object_info`), and what of a workflow doesn't fit it. Pure.

The form is that of ComfyUI's `node_info` (server.py): `input` has `required` and `optional`, each an object of
`[type, options]`; a choice is a list in the type's place, or `COMBO` with `options`.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from comfyreport.protocol.messages import Json
from comfyreport.protocol.refusals import find_cycle
from comfyreport.text import printable
from comfyreport.workflow.graph import Graph, Link, as_link, class_of, inputs_of, is_number

_MAX_SHOWN = 60
_VALUES_SHOWN = 5
# Files that are uploaded: the server takes those of its folders, too, which the list doesn't have.
_UPLOADS = ("image_upload", "video_upload", "audio_upload", "file_upload")
# What no widget holds.
_LINKED = frozenset((
    "MODEL", "CLIP", "VAE", "CONDITIONING", "LATENT", "IMAGE", "MASK", "CONTROL_NET", "NOISE", "GUIDER", "SAMPLER",
    "SIGMAS", "CLIP_VISION", "STYLE_MODEL",
))  # fmt: skip
MODEL_FILE = re.compile(r"\.(safetensors|sft|gguf|ckpt|pth?|bin|onnx)$", re.IGNORECASE)
"""How the names of models' files end."""


class Declared(NamedTuple):
    """An input as a class declares it; `choices`: None where any value of the type will do.

    `files` are those in the server's input folder, of an input that takes a file that users upload.
    """

    kind: str
    options: Mapping[str, Any]
    choices: tuple[Any, ...] | None
    required: bool
    files: tuple[Any, ...] | None = None


class Problem(NamedTuple):
    """What of a workflow a server would refuse.

    `code` is missing_node, missing_model, missing_file, missing_input, bad_link, bad_value or cycle.
    """

    node: str
    input_name: str
    code: str
    message: str
    nearest: tuple[str, ...] = ()


def declared_inputs(info: Json, class_type: str) -> dict[str, Declared] | None:
    """The inputs of a class in the body of `/object_info`, or of `/object_info/CLASS`; None where it isn't there."""
    specs = input_specs(info, class_type)
    if specs is None:
        return None
    return {
        name: declared
        for group, name, spec in specs
        if (declared := _declared(spec, required=group == "required")) is not None
    }


def input_specs(info: Json, class_type: str) -> list[tuple[str, str, Json]] | None:
    """The inputs of a class as a server declares them: group, name, and what stands there."""
    entry = info.get(class_type) if isinstance(info, dict) else None
    groups = entry.get("input") if isinstance(entry, dict) else None
    if not isinstance(groups, dict):
        return None
    return [
        (group, name, spec)
        for group in ("required", "optional")
        if isinstance(inputs := groups.get(group), dict)
        for name, spec in inputs.items()
    ]


def _declared(spec: Json, *, required: bool) -> Declared | None:
    if not isinstance(spec, list) or not spec:
        return None
    options = spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}
    kind, choices = spec[0], None
    if isinstance(kind, list):
        kind, choices = "COMBO", tuple(kind)
    elif kind == "COMBO":
        listed = options.get("options")
        choices = tuple(listed) if isinstance(listed, list) else None
    if not isinstance(kind, str):
        return None
    if any(options.get(name) for name in _UPLOADS):
        return Declared(kind, options, None, required, choices)
    return Declared(kind, options, None if "remote" in options else choices, required)


def fitted(text: str | None, value: Any, declared: Declared) -> Any:
    """*value* as the type that is declared, from *text*, as it was written, where there is one."""
    if text is None or as_link(value):
        return value
    if declared.kind == "STRING":
        return text
    if declared.kind == "COMBO" and declared.choices is not None:
        return next((choice for choice in declared.choices if str(choice) == text), value)
    if declared.kind == "BOOLEAN" and not isinstance(value, bool):
        return {"true": True, "false": False, "1": True, "0": False}.get(text.strip().lower(), value)
    if declared.kind in ("INT", "FLOAT") and not is_number(value):
        try:
            number = json.loads(text)
        except (ValueError, RecursionError):
            return value
        return number if is_number(number) else value
    return value


def fault(value: Any, declared: Declared) -> tuple[str, tuple[str, ...]] | None:
    """What is wrong with a literal for an input, in words behind its name, and the nearest allowed values, if any."""
    if as_link(value) is not None:
        return None
    kind, options = declared.kind, declared.options
    shown = printable(str(value), _MAX_SHOWN)
    if declared.choices is not None:
        return None if value in declared.choices else _not_in_list(shown, value, declared.choices)
    if kind in _LINKED:
        return f"takes a link to a {kind}, not {shown}", ()
    if kind == "INT" and not (is_number(value) and math.isfinite(value) and int(value) == value):
        return f"takes a whole number, not {shown}", ()
    if kind == "FLOAT" and not is_number(value):
        return f"takes a number, not {shown}", ()
    if kind in ("INT", "FLOAT"):
        low, high = options.get("min"), options.get("max")
        if is_number(low) and value < low:
            return f"is at least {low}, not {shown}", ()
        if is_number(high) and value > high:
            return f"is at most {high}, not {shown}", ()
    return None


def _not_in_list(shown: str, value: Any, choices: tuple[Any, ...]) -> tuple[str, tuple[str, ...]]:
    names = [str(choice) for choice in choices]
    near = difflib.get_close_matches(str(value), names, 3, 0.4)
    if not names:
        return f"has no value to choose from on this server, so not {shown}", ()
    listed = ", ".join(printable(each, _MAX_SHOWN) for each in near or names[:_VALUES_SHOWN])
    more = "" if near or len(names) <= _VALUES_SHOWN else f" and {len(names) - _VALUES_SHOWN} more"
    return f"can't be {shown}; {'nearest' if near else 'allowed'}: {listed}{more}", tuple(near)


def problems(graph: Graph, info: Json) -> Iterator[Problem]:
    """What in *graph* doesn't fit the classes in *info*, the whole body of `/object_info`."""
    classes = [name for name in info if isinstance(name, str)] if isinstance(info, dict) else []
    nearest: dict[str, tuple[str, ...]] = {}
    for node_id, node in graph.items():
        class_type = class_of(node)
        declared = declared_inputs(info, class_type)
        if declared is None:
            if class_type not in nearest:
                nearest[class_type] = tuple(difflib.get_close_matches(class_type[:200], classes, 3, 0.6))
            near = nearest[class_type]
            yield Problem(node_id, "", "missing_node", f"the server has no class {printable(class_type, 80)}", near)
            continue
        inputs = inputs_of(node)
        for name, each in declared.items():
            if name not in inputs:
                if each.required and not _is_dynamic(each):
                    yield Problem(node_id, name, "missing_input", "is required and missing")
                continue
            link = as_link(inputs[name])
            if link is not None and link.node not in graph:
                yield _leads_nowhere(node_id, name, link)
                continue
            wrong = (
                _wrong_link(graph, info, link, each)
                if link is not None
                else _missing_file(inputs[name], each) or fault(_converted(inputs[name], each), each)
            )
            if wrong is not None:
                is_model = each.choices is not None and bool(MODEL_FILE.search(str(inputs[name])))
                code = "missing_file" if each.files is not None else "missing_model" if is_model else "bad_value"
                yield Problem(node_id, name, code, *wrong)


def _converted(value: Any, declared: Declared) -> Any:
    """*value* as a server makes it before it looks at it (ComfyUI execution.py, validate_inputs)."""
    try:
        if declared.kind == "INT":
            return int(value)
        if declared.kind == "FLOAT":
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    return value


def _wrong_link(graph: Graph, info: Json, link: Link, declared: Declared) -> tuple[str, tuple[str, ...]] | None:
    """What is wrong with a link for an input: the output isn't there, or is of another type."""
    class_type = class_of(graph[link.node])
    entry = info.get(class_type) if isinstance(info, dict) else None
    outputs = entry.get("output") if isinstance(entry, dict) else None
    if not isinstance(outputs, list) or not outputs or declared.choices is not None:
        return None
    given = outputs[int(link.slot)] if 0 <= link.slot < len(outputs) else None
    if given is None:
        return f"is linked to output {link.slot} of node {printable(link.node, 40)}, which has {len(outputs)}", ()
    if not isinstance(given, str) or "*" in (given, declared.kind) or declared.kind.startswith("COMFY_"):
        return None
    if set(given.split(",")) & set(declared.kind.split(",")):
        return None
    return f"takes a {printable(declared.kind, 40)}, and is linked to a {printable(given, 40)}", ()


def _missing_file(value: Any, declared: Declared) -> tuple[str, tuple[str, ...]] | None:
    """What is said of an input file that the server lacks. Its list has those of the folder itself alone."""
    if declared.files is None or not isinstance(value, str) or value in declared.files:
        return None
    if "/" in value or "\\" in value or value.endswith("]"):
        return None
    near = tuple(difflib.get_close_matches(value, [str(each) for each in declared.files], 3, 0.6))
    shown = f"; near is {', '.join(printable(each, _MAX_SHOWN) for each in near)}" if near else ""
    return f"names {printable(value, _MAX_SHOWN)}, which the server's input folder doesn't have{shown}", near


def _is_dynamic(declared: Declared) -> bool:
    """Whether the input stands for several others, whose names begin with its own."""
    return declared.kind.startswith("COMFY_") or "template" in declared.options


def offline_problems(graph: Graph) -> Iterator[Problem]:
    """What is wrong with *graph* on any server: links to nowhere, and cycles."""
    for node_id, node in graph.items():
        for name, value in inputs_of(node).items():
            link = as_link(value)
            if link is not None and link.node not in graph:
                yield _leads_nowhere(node_id, name, link)
    cycle = find_cycle(graph)
    if cycle:
        yield Problem(cycle[0], "", "cycle", "depends on itself, or on nodes that do")


def _leads_nowhere(node_id: str, name: str, link: Link) -> Problem:
    return Problem(node_id, name, "bad_link", f"is linked to node {printable(link.node, 40)}, which isn't there")


def describe(graph: Graph, problem: Problem) -> str:
    """*problem* in one line, with its node."""
    name = f"{problem.node}.{problem.input_name}" if problem.input_name else problem.node
    near = (
        f"; near is {', '.join(printable(each, 80) for each in problem.nearest)}"
        if problem.code == "missing_node" and problem.nearest
        else ""
    )
    return f"{printable(name, 80)} ({printable(class_of(graph[problem.node]), 80)}) {problem.message}{near}"
