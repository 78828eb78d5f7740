"""Why a server refused a workflow, or outputs of it: the body of a refusal from POST /prompt, typed. Pure.

ComfyUI words an error in `message` and `details`; what these leave out stands in `extra_info`: the class that is
missing, the whole name of an input, the allowed values. Sources: ComfyUI 0.3.64 and 0.33.0, `execution.py`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from comfyreport.events import ErrorInfo, NodeError, NodeRef
from comfyreport.protocol.decode import read_id, read_text
from comfyreport.protocol.messages import Json
from comfyreport.text import ID_LIMIT, NAME_LIMIT, cut, text_of

# Refused inputs that are kept; a workflow that is wrong throughout has a few for each of its nodes.
_MAX_NODE_ERRORS = 1000
# Characters of the message of one; some list all models of the server.
_DETAIL_LIMIT = 8 * 1024
# Allowed values that are shown, characters of each, and how many are compared with the one that was refused.
_SHOWN_VALUES = 5
_VALUE_LIMIT = 80
_MAX_COMPARED = 5000

_MODEL_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".sft", ".onnx")


class Refused(NamedTuple):
    """The server refused the workflow."""

    error: ErrorInfo


class _Refusal(NamedTuple):
    """What was refused at one node; `value`: what the input had, `replacement`: the class that the server put there."""

    error: NodeError
    value: Json = None
    replacement: str = ""


def read_refused(body: Json, refs: Mapping[str, NodeRef], graph: Json = None) -> Refused | None:
    """The body of a refusal from POST /prompt; None if it is none of ComfyUI's.

    *graph* is the workflow that was submitted, to name a cycle in it where the server doesn't.
    """
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        return None
    refusals = tuple(_refusals(body.get("node_errors"), refs))
    node_errors = tuple(refusal.error for refusal in refusals)
    kind = read_text(error.get("type"))
    message = read_text(error.get("message"), _DETAIL_LIMIT) or "the server refused the workflow"
    details = read_text(error.get("details"), _DETAIL_LIMIT)
    unnamed = find_cycle(graph) if not node_errors and kind == _FAILED else []
    cycle = _told_cycle(node_errors) or " -> ".join(_name(each, refs) for each in unnamed)
    if cycle:
        hint = "remove one of these links: a node can't need its own result"
        message = f"the links of the workflow form a cycle: {cycle}"
        return Refused(ErrorInfo(code="invalid_workflow", message=message, hint=hint, node_errors=node_errors))
    facts, node = _missing_class(error.get("extra_info"), message, refs) if kind == "missing_node_type" else ("", None)
    message = _join(message, facts or details)
    code, hint = _classify(kind, message, refusals)
    return Refused(ErrorInfo(code=code, message=message, hint=hint, node=node, node_errors=node_errors))


def read_node_errors(body: Json, refs: Mapping[str, NodeRef]) -> tuple[NodeError, ...]:
    """`node_errors` of an answer: what was refused at which node."""
    return tuple(refusal.error for refusal in _refusals(body, refs))


# What a node itself may lack.
_NODE_KEYS = ("class_type", "inputs")

_FAILED = "prompt_outputs_failed_validation"


def _join(message: str, details: str) -> str:
    return f"{message} ({details})" if details and details != message else message


def _missing_class(extra: Json, message: str, refs: Mapping[str, NodeRef]) -> tuple[str, NodeRef | None]:
    """The class that the server lacks and its node, as far as the message doesn't name them; and the node."""
    extra = extra if isinstance(extra, dict) else {}
    class_type = read_text(extra.get("class_type"), NAME_LIMIT)
    node_id = read_id(extra.get("node_id"))
    facts = [f"class {class_type}"] if class_type and f"'{class_type}'" not in message else []
    if node_id is None:
        return ", ".join(facts), None
    title = read_text(extra.get("node_title"), NAME_LIMIT) or class_type or node_id
    node = refs.get(node_id) or NodeRef(id=node_id, class_type=class_type, title=title)
    return ", ".join([*facts, f"node {node_id}"]), node


# --- what was refused at the nodes


def _refusals(body: Json, refs: Mapping[str, NodeRef]) -> Iterator[_Refusal]:
    return islice(_all_refusals(body, refs), _MAX_NODE_ERRORS)


def _all_refusals(body: Json, refs: Mapping[str, NodeRef]) -> Iterator[_Refusal]:
    for node_id, entry in body.items() if isinstance(body, dict) else ():
        if not isinstance(entry, dict) or len(node_id) > ID_LIMIT:
            continue
        class_type = read_text(entry.get("class_type"), NAME_LIMIT)
        ref = refs.get(node_id) or NodeRef(id=node_id, class_type=class_type, title=class_type or node_id)
        replacement = class_type if ref.class_type and class_type != ref.class_type else ""
        errors = entry.get("errors")
        for error in errors if isinstance(errors, list) else ():
            if isinstance(error, dict):
                yield _refusal(error, ref, replacement, refs)


def _refusal(error: dict[str, Json], ref: NodeRef, replacement: str, refs: Mapping[str, NodeRef]) -> _Refusal:
    extra = error.get("extra_info")
    extra = extra if isinstance(extra, dict) else {}
    kind = read_text(error.get("type"), NAME_LIMIT)
    details = _with_whole_name(
        read_text(error.get("details"), _DETAIL_LIMIT), read_text(extra.get("input_name"), NAME_LIMIT)
    )
    if kind == "value_not_in_list":
        details = _with_allowed_values(details, extra)
    elif extra.get("exception_type") == "KeyError":
        # Where an output itself has the link, it stands in the details alone.
        missing = read_text(extra.get("exception_message") or error.get("details"), NAME_LIMIT).strip("'\"")
        if missing and refs and missing not in refs and missing not in _NODE_KEYS:
            details = f"a link leads to node {missing}, which the workflow doesn't have"
    if replacement:
        # Its inputs are those of the class that the server knows, not those of the workflow.
        details = f"{details} (the server has replaced {ref.class_type} by {replacement})".strip()
    node_error = NodeError(
        node=ref,
        type=kind,
        message=read_text(error.get("message"), _DETAIL_LIMIT),
        details=cut(details, _DETAIL_LIMIT),
    )
    return _Refusal(node_error, extra.get("received_value"), replacement)


def _with_whole_name(details: str, name: str) -> str:
    """*details* with the whole *name* of an input, such as `format.bit_depth`, where they begin with its last part."""
    last = name.rpartition(".")[2]
    if last == name or not details.startswith(last) or details[len(last) : len(last) + 1] not in ("", ":", ",", " "):
        return details
    return name + details[len(last) :]


def _with_allowed_values(details: str, extra: Mapping[str, Json]) -> str:
    """*details* with the nearest of the allowed values and the first few, where the server tells them."""
    values = _allowed_values(extra.get("input_config"))
    if not values:
        return details
    received = extra.get("received_value")
    given = [each for each in (received if isinstance(received, list) else [received]) if isinstance(each, str)]
    names = [text_of(value) for value in values]
    compared = {name.casefold(): name for name in reversed(names[:_MAX_COMPARED])}
    nearest = []
    for wrong in [each for each in given if each not in names][:_SHOWN_VALUES]:
        near = difflib.get_close_matches(cut(wrong, _VALUE_LIMIT).casefold(), compared, 1)
        nearest += [_quote(compared[each]) for each in near]
    shown = ", ".join(_quote(name) for name in names[:_SHOWN_VALUES])
    if len(names) == 1:
        nearest = []
    more = f" and {len(names) - _SHOWN_VALUES} more" if len(names) > _SHOWN_VALUES else ""
    start = details.partition(" not in ")[0]
    return f"{start} not in {shown}{more}" + (f"; nearest: {', '.join(nearest)}" if nearest else "")


def _quote(name: str) -> str:
    return f"'{cut(name, _VALUE_LIMIT)}'"


def _allowed_values(config: Json) -> list[Json]:
    """The values of a choice: `[[value, …], {…}]`, or in the newer form `["COMBO", {"options": [value, …]}]`."""
    first, second = [*config, None, None][:2] if isinstance(config, list) else (None, None)
    options = second.get("options") if isinstance(second, dict) else None
    values = first if isinstance(first, list) else options
    return values if isinstance(values, list) else []


# --- cycles


def _told_cycle(node_errors: tuple[NodeError, ...]) -> str:
    return next((error.details for error in node_errors if error.type == "dependency_cycle"), "")


def find_cycle(graph: Json) -> list[str]:
    """The nodes of a cycle among the links of a workflow, the first one once more behind the last; empty if none is."""
    if not isinstance(graph, Mapping):
        return []
    done: set[str] = set()
    for start in graph:
        path: dict[str, Iterator[str]] = {start: _linked(graph, start)} if start not in done else {}
        while path:
            node_id, above = next(reversed(path.items()))
            following = next(above, None)
            if following is None:
                done.add(node_id)
                del path[node_id]
            elif following in path:
                ids = list(path)
                return [*ids[ids.index(following) :], following]
            elif following not in done:
                path[following] = _linked(graph, following)
    return []


def _linked(graph: Mapping[str, Any], node_id: str) -> Iterator[str]:
    """The nodes whose results a node takes."""
    node = graph.get(node_id)
    inputs = node.get("inputs") if isinstance(node, Mapping) else None
    for value in inputs.values() if isinstance(inputs, Mapping) else ():
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and value[0] in graph:
            yield value[0]


def _name(node_id: str, refs: Mapping[str, NodeRef]) -> str:
    ref = refs.get(node_id)
    return node_id if ref is None or not ref.class_type else f"{node_id} ({ref.class_type})"


# --- the code and the next step


def _classify(kind: str, message: str, refusals: tuple[_Refusal, ...]) -> tuple[str, str]:
    """The error code and the next step for a refused workflow."""
    if kind == "missing_node_type" or "does not exist" in message:
        return "missing_node", "install the custom node on the server and restart it, or use another workflow"
    if kind == "prompt_no_outputs":
        return "invalid_workflow", "add a node that makes an output, such as SaveImage"
    if any(_names_missing_file(refusal) for refusal in refusals):
        return "missing_model", "put the file into the server's folder for it, or name one that is there"
    if any(refusal.replacement for refusal in refusals):
        return "invalid_input", "use the new class in the workflow: the server has replaced a node class that is gone"
    if refusals:
        return "invalid_input", "correct the inputs named above"
    if kind == _FAILED:
        return "invalid_workflow", "the server gives no reason; its log may tell more"
    return "invalid_workflow", "open the workflow in ComfyUI and export it anew with Workflow > Export (API)"


def _names_missing_file(refusal: _Refusal) -> bool:
    error, value = refusal.error, refusal.value
    if error.type != "value_not_in_list":
        return error.type == "custom_validation_failed" and "file" in error.details
    if not isinstance(value, str):
        value = error.details.partition(": ")[2].partition(" not in ")[0].strip("'\"")
    return value.lower().endswith(_MODEL_FILES)
