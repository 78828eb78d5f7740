"""Whether a prompt is accepted, and what the answer says if not: the facts of recording e."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from .graph import Prompt, dependency_order, inputs_of, is_link, upstream
from .node_classes import NODE_CLASSES, UPLOADED_FILE, InputConfig, is_installed, is_output, public_config

Error = dict[str, Any]
LONG_CHOICE = 20
"""A choice of more values than this is listed by its length alone."""


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


NO_PROMPT = _error("no_prompt", "No prompt provided", "No prompt provided")


def validate(prompt: Any, files: Collection[str] | None, targets: Collection[str] | None = None) -> ValidationResult:
    """Checks a prompt. `files` are the files that there are (None: every one that is named), `targets` the output
    nodes that are wanted (None: all). Raises TypeError for a prompt that crashes the real server's handler."""
    outputs = []
    for node_id in prompt:
        if "class_type" not in prompt[node_id]:
            return _invalid("Cannot execute because a node is missing the class_type property.", node_id)
        class_type = prompt[node_id]["class_type"]
        if not isinstance(class_type, str) or not is_installed(class_type):
            return _invalid(f"Cannot execute because node {class_type} does not exist.", node_id)
        if is_output(class_type) and (targets is None or node_id in targets):
            outputs.append(node_id)
    if not outputs:
        return ValidationResult([], _error("prompt_no_outputs", "Prompt has no outputs", ""), {})
    return _Validator(prompt, files).validate_outputs(outputs)


def _invalid(message: str, node_id: str) -> ValidationResult:
    return ValidationResult([], _error("invalid_prompt", message, f"Node ID '#{node_id}'"), {})


class _Validator:
    def __init__(self, prompt: Prompt, files: Collection[str] | None) -> None:
        self.prompt = prompt
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
        needed = set(upstream(self.prompt, [output]))
        try:
            # Sources first, so that a long chain of nodes isn't a deep recursion.
            for node_id in self.order:
                if node_id in needed:
                    with contextlib.suppress(_ValidationException):
                        self._validate_node(node_id)
            return self._validate_node(output)
        except RecursionError:
            # A cycle; the real server gives no reason for it either.
            return False
        except _ValidationException as raised:
            extra_info = {"exception_type": raised.exception_type, "traceback": []}
            error = _error("exception_during_validation", "Exception when validating node", str(raised), **extra_info)
            self.errors[output] = [error]
            return False

    def _validate_node(self, node_id: str) -> bool:
        if node_id in self.valid:
            return self.valid[node_id]
        node = self.prompt[node_id]
        if "inputs" not in node:
            raise _ValidationException("KeyError", "'inputs'")
        inputs = inputs_of(node)
        node_class = NODE_CLASSES.get(node["class_type"])
        configs = dict(node_class.inputs) if node_class else {}
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
            if input_type != "*" and received_type != input_type:
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
