"""Whether a prompt is accepted, and what the answer says if not: the facts of recording e."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from .graph import Prompt, dependency_order, inputs_of, is_link, upstream
from .specs import SPECS, Config, declared, is_installed, is_output

Error = dict[str, Any]
LONG_LIST = 20
"""A choice of more values than this is told by its length alone."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`outputs` are the output nodes to run; a prompt with an `error` is refused, `node_errors` are told anyhow."""

    outputs: list[str]
    error: Error | None
    node_errors: dict[str, Any]


class _Crash(Exception):  # noqa: N818 - what would be an exception inside the real server
    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def _error(kind: str, message: str, details: str, **extra: Any) -> Error:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


NO_PROMPT = _error("no_prompt", "No prompt provided", "No prompt provided")


def validate(prompt: Any, files: Collection[str] | None, targets: Collection[str] | None = None) -> Verdict:
    """Judges a prompt. `files` are the files that there are (None: all that are asked for), `targets` the outputs
    that are wanted (None: all). Raises TypeError for a prompt that the real server chokes on."""
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
        return Verdict([], _error("prompt_no_outputs", "Prompt has no outputs", ""), {})
    return _Check(prompt, files).outputs(outputs)


def _invalid(message: str, node_id: str) -> Verdict:
    return Verdict([], _error("invalid_prompt", message, f"Node ID '#{node_id}'"), {})


class _Check:
    def __init__(self, prompt: Prompt, files: Collection[str] | None) -> None:
        self.prompt = prompt
        self.files = files
        self.order = dependency_order(prompt)
        self.valid: dict[str, bool] = {}
        self.errors: dict[str, list[Error]] = {}

    def outputs(self, outputs: list[str]) -> Verdict:
        good = []
        node_errors: dict[str, Any] = {}
        for output in outputs:
            if self._output(output):
                good.append(output)
                continue
            for node_id, errors in self.errors.items():
                told = node_errors.setdefault(
                    node_id,
                    {
                        "errors": errors,
                        "dependent_outputs": [],
                        "class_type": self.prompt[node_id]["class_type"],
                    },
                )
                told["dependent_outputs"].append(output)
        if good:
            return Verdict(good, None, node_errors)
        # Only the output nodes' own errors are repeated here; for all others this is empty (recording e).
        own = [f"{e['message']}: {e['details']}" for output in outputs for e in self.errors.get(output, [])]
        failed = _error("prompt_outputs_failed_validation", "Prompt outputs failed validation", "\n".join(own))
        return Verdict([], failed, node_errors)

    def _output(self, output: str) -> bool:
        needed = set(upstream(self.prompt, [output]))
        try:
            # Sources first, so that a long chain of nodes isn't a deep recursion.
            for node_id in self.order:
                if node_id in needed:
                    with contextlib.suppress(_Crash):
                        self._node(node_id)
            return self._node(output)
        except RecursionError:
            # A cycle; the real server gives no reason for it either.
            return False
        except _Crash as crash:
            told = {"exception_type": crash.kind, "traceback": []}
            error = _error("exception_during_validation", "Exception when validating node", str(crash), **told)
            self.errors[output] = [error]
            return False

    def _node(self, node_id: str) -> bool:
        if node_id in self.valid:
            return self.valid[node_id]
        node = self.prompt[node_id]
        if "inputs" not in node:
            raise _Crash("KeyError", "'inputs'")
        inputs = inputs_of(node)
        spec = SPECS.get(node["class_type"])
        configs = dict(spec.inputs) if spec else {}
        valid = True
        errors: list[Error] = []
        for name in [*configs, *(name for name in inputs if name not in configs)]:
            config = declared(configs.get(name, ["*", {}]), sorted(self.files or ()))
            if name not in inputs:
                errors.append(_error("required_input_missing", "Required input is missing", name, input_name=name))
            elif is_link(inputs[name]):
                valid &= self._link(name, inputs[name], config, errors)
            elif name in configs:
                errors += self._value(inputs, name, configs[name], config)
        if errors:
            self.errors[node_id] = errors
        self.valid[node_id] = valid and not errors
        return self.valid[node_id]

    def _link(self, name: str, link: list[Any], config: Config, errors: list[Error]) -> bool:
        """Whether the node at the other end is valid. An exception there is blamed on that node, but with the
        name of this input (recording e, link_to_missing_node)."""
        source, index = link
        if source not in self.prompt:
            raise _Crash("KeyError", f"'{source}'")
        spec = SPECS.get(self.prompt[source]["class_type"])
        if spec is not None:
            if index >= len(spec.outputs):
                raise _Crash("IndexError", "tuple index out of range")
            given, wanted = spec.outputs[index], config[0]
            if wanted != "*" and given != wanted:
                told = {"input_config": config, "received_type": given, "linked_node": link}
                details = f"{name}, received_type({given}) mismatch input_type({wanted})"
                message = "Return type mismatch between linked nodes"
                errors.append(_error("return_type_mismatch", message, details, input_name=name, **told))
                return False
        try:
            return self._node(source)
        except _Crash as crash:
            told = {
                "input_config": config,
                "exception_message": str(crash),
                "exception_type": crash.kind,
                "traceback": [f'  File "simulator", in validate\n    {crash.kind}: {crash}\n'],
                "linked_node": link,
            }
            message = "Exception when validating inner node"
            error = _error("exception_during_inner_validation", message, str(crash), input_name=name, **told)
            self.errors[source] = [error]
            self.valid[source] = False
            return False

    def _value(self, inputs: dict[str, Any], name: str, own: Config, config: Config) -> list[Error]:
        """What is wrong with a literal value; a number is converted in place, as the real server does."""
        value = inputs[name]
        told = {"input_name": name, "input_config": config, "received_value": value}
        kind, options = config
        if isinstance(value, list):
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            return [_error("bad_linked_input", message, name, **told)]
        if own[0] == "UPLOAD":
            if self.files is None or value in self.files:
                return []
            details = f"{name} - Invalid image file: {value}"
            message = "Custom validation failed for node"
            return [_error("custom_validation_failed", message, details, input_name=name)]
        if isinstance(kind, list):
            return self._choice(name, value, kind, told, any_file=own is not config and self.files is None)
        convert = {"INT": int, "FLOAT": float, "STRING": str}.get(kind)
        if convert is None:
            return []
        try:
            value = inputs[name] = convert(value)
        except (ValueError, TypeError) as problem:
            message = f"Failed to convert an input value to a {kind} value"
            told["exception_message"] = str(problem)
            return [_error("invalid_input_type", message, f"{name}, {value}, {problem}", **told)]
        if "min" in options and value < options["min"]:
            message = f"Value {value} smaller than min of {options['min']}"
            return [_error("value_smaller_than_min", message, name, **told)]
        if "max" in options and value > options["max"]:
            message = f"Value {value} bigger than max of {options['max']}"
            return [_error("value_bigger_than_max", message, name, **told)]
        return []

    def _choice(self, name: str, value: Any, values: list[Any], told: dict[str, Any], *, any_file: bool) -> list[Error]:
        if any_file or value in values:
            return []
        among = str(values)
        if len(values) > LONG_LIST:
            among = f"(list of length {len(values)})"
            told["input_config"] = None
        return [_error("value_not_in_list", "Value not in list", f"{name}: '{value}' not in {among}", **told)]
