"""Loads: what a server says of a run, with PROMPT in the prompt id's place, and the workflow that it belongs to."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Load(NamedTuple):
    """The messages of one run, in order, and what goes with them."""

    workflow: dict[str, Any]
    messages: list[str]
    outputs: dict[str, Any]


def _message(kind: str, **data: Any) -> str:
    return json.dumps({"type": kind, "data": data})


def _state(node: str, state: str, value: float, maximum: float) -> dict[str, Any]:
    return {
        "value": value,
        "max": maximum,
        "state": state,
        "node_id": node,
        "prompt_id": "PROMPT",
        "display_node_id": node,
        "parent_node_id": None,
        "real_node_id": node,
    }


def chain(nodes: int, steps: int = 0) -> Load:
    """A chain of *nodes* nodes, the last an output; each with *steps* steps, told as ComfyUI 0.3.64 tells them.

    Every `progress_state` repeats all nodes that began, so that the whole grows with the square of their number.
    """
    names = [str(number) for number in range(1, nodes + 1)]
    workflow: dict[str, Any] = {}
    for index, name in enumerate(names):
        inputs: dict[str, Any] = {} if index == 0 else {"image": [names[index - 1], 0]}
        kind = "SaveImage" if index == nodes - 1 else "KSampler" if steps else "ImageInvert"
        workflow[name] = {"class_type": kind, "inputs": inputs}
    return Load(workflow, list(_told(names, steps)), _outputs(names[-1]))


def _outputs(node: str) -> dict[str, Any]:
    return {node: {"images": [{"filename": "bench_00001_.png", "subfolder": "", "type": "output"}]}}


def _told(names: list[str], steps: int) -> Any:
    states: dict[str, dict[str, Any]] = {}
    yield _message("status", status={"exec_info": {"queue_remaining": 1}})
    yield _message("execution_start", prompt_id="PROMPT", timestamp=1)
    yield _message("execution_cached", nodes=[], prompt_id="PROMPT", timestamp=1)
    for name in names:
        states[name] = _state(name, "running", 0, 1)
        yield _message("progress_state", prompt_id="PROMPT", nodes=states)
        yield _message("executing", node=name, display_node=name, prompt_id="PROMPT")
        for step in range(1, steps + 1):
            states[name] = _state(name, "running", step, steps)
            yield _message("progress_state", prompt_id="PROMPT", nodes=states)
            yield _message("progress", value=step, max=steps, prompt_id="PROMPT", node=name)
        if name == names[-1]:
            yield _message("executed", node=name, display_node=name, output=_outputs(name)[name], prompt_id="PROMPT")
        states[name] = _state(name, "finished", steps or 1, steps or 1)
        yield _message("progress_state", prompt_id="PROMPT", nodes=states)
    yield _message("execution_success", prompt_id="PROMPT", timestamp=2)
    yield _message("status", status={"exec_info": {"queue_remaining": 0}})
    yield _message("executing", node=None, prompt_id="PROMPT")


def flood(count: int) -> Load:
    """One node that tells *count* progress messages, without the states between them."""
    load = chain(1)
    begin = next(index for index, message in enumerate(load.messages) if '"executing"' in message) + 1
    steps = [_message("progress", value=step, max=count, prompt_id="PROMPT", node="1") for step in range(1, count + 1)]
    return load._replace(messages=[*load.messages[:begin], *steps, *load.messages[begin:]])
