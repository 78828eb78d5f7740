"""Whether a prompt is accepted, and what the answer says if not: the facts of the recordings e and e33."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from .graph import Prompt, cycle, dependency_order, inputs_of, is_link, upstream
from .node_classes import (
    MODEL_FILE,
    MODEL_SUFFIXES,
    NODE_CLASSES,
    RETIRED,
    UPLOADED_FILE,
    InputConfig,
    is_installed,
    is_output,
    public_config,
)
from .settings import Settings

Error = dict[str, Any]
LONG_CHOICE = 20
"""A choice of more values than this is listed by its length alone."""


def is_job_id(given: Any) -> bool:
    """Whether an id is a UUID in the one form that a newer server takes."""
    try:
        return isinstance(given, str) and str(uuid.UUID(given)) == given
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """`outputs` are the output nodes to run; a prompt with an `error` is refused, others may have `node_errors`."""

    outputs: list[str]
    error: Error | None
    node_errors: dict[str, Any]


class _ValidationException(Exception):  # noqa: N818 - what would be an exception inside the real server
    def __init__(self, exception_type: str, text: str) -> None:
        super().__init__(text)
        self.exception_type = exception_type


def _error(error_type: str, message: str, details: str, **extra_info: Any) -> Error:
    return {"type": error_type, "message": message, "details": details, "extra_info": extra_info}


_UUID_HINT = (
    "prompt_id must be a UUID string in canonical lowercase hyphenated form; omit it to let the server generate one"
)
INVALID_PROMPT_ID = _error("invalid_prompt_id", "prompt_id must be a valid UUID", _UUID_HINT)
NO_PROMPT = _error("no_prompt", "No prompt provided", "No prompt provided")


def validate(
    prompt: Any, settings: Settings, files: Collection[str] | None, targets: Collection[str] | None = None
) -> ValidationResult:
    """Checks a prompt. `files` are the files that there are (None: every one that is named), `targets` the output
    nodes that are wanted (None: all). Raises what the real server's
    handler does, which is answered with a 500, for a prompt that has no workflow's form."""
    outputs = []
    for node_id in prompt:
        node = prompt[node_id]
        if "class_type" not in node:
            return _not_installed(node_id, node, None, settings)
        class_type = node["class_type"]
        if not isinstance(class_type, str) or not is_installed(class_type, settings):
            return _not_installed(node_id, node, str(class_type), settings)
        if is_output(class_type) and (targets is None or node_id in targets):
            outputs.append(node_id)
    if not outputs:
        return ValidationResult([], _error("prompt_no_outputs", "Prompt has no outputs", ""), {})
    return _Validator(prompt, settings, files).validate_outputs(outputs)


def replace_retired(prompt: Any, settings: Settings) -> None:
    """Puts in the place of nodes whose class is gone what takes it, with those of their inputs that are known there.

    Raises KeyError for one without `_meta`, as the real server does.
    """
    if not settings.newer:
        return
    for node_id, node in prompt.items():
        if "class_type" not in node or "inputs" not in node or node["class_type"] not in RETIRED:
            continue
        class_type, names = RETIRED[node["class_type"]]
        inputs = {new: node["inputs"][old] for new, old in names.items() if old in node["inputs"]}
        prompt[node_id] = {**node, "class_type": class_type, "inputs": inputs, "_meta": dict(node["_meta"])}


def _not_installed(node_id: str, node: Any, class_type: str | None, settings: Settings) -> ValidationResult:
    details = f"Node ID '#{node_id}'"
    if not settings.newer:
        missing = "a node is missing the class_type property"
        words = missing if class_type is None else f"node {class_type} does not exist"
        return ValidationResult([], _error("invalid_prompt", f"Cannot execute because {words}.", details), {})
    title = node.get("_meta", {}).get("title", class_type)
    words = "not found. The custom node may not be installed."
    if class_type is None:
        words = "has no class_type. The workflow may be corrupted or a custom node is missing."
    message = f"Node '{title or f'ID #{node_id}'}' {words}"
    about = {"node_id": node_id, "class_type": class_type, "node_title": title}
    return ValidationResult([], _error("missing_node_type", message, details, **about), {})


class _Validator:
    def __init__(self, prompt: Prompt, settings: Settings, files: Collection[str] | None) -> None:
        self.prompt = prompt
        self.settings = settings
        self.files = files
        self.order = dependency_order(prompt)
        self.valid: dict[str, bool] = {}
        self.errors: dict[str, list[Error]] = {}

    def validate_outputs(self, outputs: list[str]) -> ValidationResult:
        valid_outputs = []
        node_errors: dict[str, Any] = {}
        for output in outputs:
            if self._validate_output(output):
                valid_outputs.append(output)
                continue
            for node_id, errors in self.errors.items():
                class_type = self.prompt[node_id]["class_type"]
                entry = {"errors": errors, "dependent_outputs": [], "class_type": class_type}
                node_errors.setdefault(node_id, entry)["dependent_outputs"].append(output)
        if valid_outputs:
            return ValidationResult(valid_outputs, None, node_errors)
        # Only the output nodes' own errors are repeated here; for all others this is empty (recording e).
        reasons = [f"{e['message']}: {e['details']}" for output in outputs for e in self.errors.get(output, [])]
        failed = _error("prompt_outputs_failed_validation", "Prompt outputs failed validation", "\n".join(reasons))
        return ValidationResult([], failed, node_errors)

    def _validate_output(self, output: str) -> bool:
        if path := cycle(self.prompt, output):
            # The older server gives no reason.
            if self.settings.newer:
                self._blame_cycle(path)
            return False
        needed = set(upstream(self.prompt, [output]))
        try:
            # Sources first, so that a long chain of nodes isn't a deep recursion.
            for node_id in self.order:
                if node_id in needed:
                    with contextlib.suppress(_ValidationException):
                        self._validate_node(node_id)
            return self._validate_node(output)
        except _ValidationException as raised:
            extra_info = {"exception_type": raised.exception_type, "traceback": []}
            error = _error("exception_during_validation", "Exception when validating node", str(raised), **extra_info)
            self.errors[output] = [error]
            return False

    def _blame_cycle(self, path: list[str]) -> None:
        """Puts the error of a cycle on each of its nodes."""
        nodes = list(dict.fromkeys(path))
        details = " -> ".join(f"{node_id} ({self.prompt[node_id]['class_type']})" for node_id in path)
        for node_id in nodes:
            about = {"node_id": node_id, "cycle_nodes": nodes}
            self.errors[node_id] = [_error("dependency_cycle", "Dependency cycle detected", details, **about)]
            self.valid[node_id] = False

    def _validate_node(self, node_id: str) -> bool:
        if node_id in self.valid:
            return self.valid[node_id]
        node = self.prompt[node_id]
        if "inputs" not in node:
            raise _ValidationException("KeyError", "'inputs'")
        inputs = inputs_of(node)
        node_class = NODE_CLASSES.get(node["class_type"])
        configs = dict(node_class.inputs) if node_class else self._models(inputs)
        valid = True
        errors: list[Error] = []
        for name in [*configs, *(name for name in inputs if name not in configs)]:
            config = public_config(configs.get(name, ["*", {}]), sorted(self.files or ()))
            if name not in inputs:
                errors.append(_error("required_input_missing", "Required input is missing", name, input_name=name))
            elif is_link(inputs[name]):
                valid &= self._validate_link(name, inputs[name], config, errors)
            elif name in configs:
                errors += self._validate_value(inputs, name, configs[name], config)
        if errors:
            self.errors[node_id] = errors
        self.valid[node_id] = valid and not errors
        return self.valid[node_id]

    def _models(self, inputs: dict[str, Any]) -> dict[str, InputConfig]:
        """The inputs of an undeclared class that name models, where only those that there are can be named."""
        if not self.settings.strict:
            return {}
        named = {name: value for name, value in inputs.items() if isinstance(value, str)}
        return {name: [MODEL_FILE, {}] for name, value in named.items() if value.lower().endswith(MODEL_SUFFIXES)}

    def _validate_link(self, name: str, link: list[Any], config: InputConfig, errors: list[Error]) -> bool:
        """Whether the node at the other end is valid. An exception there is blamed on that node, but with the
        name of this input (recording e, link_to_missing_node)."""
        source, index = link
        if source not in self.prompt:
            raise _ValidationException("KeyError", f"'{source}'")
        node_class = NODE_CLASSES.get(self.prompt[source]["class_type"])
        if node_class is not None:
            if index >= len(node_class.outputs):
                raise _ValidationException("IndexError", "tuple index out of range")
            received_type, input_type = node_class.outputs[index], config[0]
            if "*" not in (input_type, received_type) and received_type != input_type:
                extra_info = {"input_config": config, "received_type": received_type, "linked_node": link}
                details = f"{name}, received_type({received_type}) mismatch input_type({input_type})"
                message = "Return type mismatch between linked nodes"
                errors.append(_error("return_type_mismatch", message, details, input_name=name, **extra_info))
                return False
        try:
            return self._validate_node(source)
        except _ValidationException as raised:
            extra_info = {
                "input_config": config,
                "exception_message": str(raised),
                "exception_type": raised.exception_type,
                "traceback": [f'  File "simulator", in validate\n    {raised.exception_type}: {raised}\n'],
                "linked_node": link,
            }
            message = "Exception when validating inner node"
            error = _error("exception_during_inner_validation", message, str(raised), input_name=name, **extra_info)
            self.errors[source] = [error]
            self.valid[source] = False
            return False

    def _validate_value(
        self, inputs: dict[str, Any], name: str, declared: InputConfig, config: InputConfig
    ) -> list[Error]:
        """What is wrong with a literal value; a number is converted in place, as the real server does."""
        value = inputs[name]
        extra_info = {"input_name": name, "input_config": config, "received_value": value}
        input_type, options = config
        if isinstance(value, list):
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            return [_error("bad_linked_input", message, name, **extra_info)]
        if declared[0] == UPLOADED_FILE:
            if self.files is None or value in self.files:
                return []
            details = f"{name} - Invalid image file: {value}"
            message = "Custom validation failed for node"
            return [_error("custom_validation_failed", message, details, input_name=name)]
        if isinstance(input_type, list):
            any_file = declared is not config and self.files is None
            return [] if any_file or value in input_type else [_not_in_list(name, value, input_type, extra_info)]
        convert = {"INT": int, "FLOAT": float, "STRING": str}.get(input_type)
        if convert is None:
            return []
        try:
            value = inputs[name] = convert(value)
        except (ValueError, TypeError) as error:
            message = f"Failed to convert an input value to a {input_type} value"
            extra_info["exception_message"] = str(error)
            return [_error("invalid_input_type", message, f"{name}, {value}, {error}", **extra_info)]
        if "min" in options and value < options["min"]:
            message = f"Value {value} smaller than min of {options['min']}"
            return [_error("value_smaller_than_min", message, name, **extra_info)]
        if "max" in options and value > options["max"]:
            message = f"Value {value} bigger than max of {options['max']}"
            return [_error("value_bigger_than_max", message, name, **extra_info)]
        return []


def _not_in_list(name: str, value: Any, values: list[Any], extra_info: dict[str, Any]) -> Error:
    listed = str(values)
    if len(values) > LONG_CHOICE:
        listed = f"(list of length {len(values)})"
        extra_info["input_config"] = None
    return _error("value_not_in_list", "Value not in list", f"{name}: '{value}' not in {listed}", **extra_info)
