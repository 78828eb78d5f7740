"""Loads: what a server says of a run, with PROMPT in the prompt id's place, and the workflow that it belongs to.

A load is named by words, such as `chain 500` or `recording a2_no_previews`: the server and the runner make it each for
itself, and messages are made only as they are asked for.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests import recordings

# As long as the ids that clients choose, so that a frame keeps its length when the true one takes its place.
PROMPT = "PROMPT-0-PROMPT-0-PROMPT-0-PROMPT-0-"
TIMESTAMP = 1795377805252

Message = str | bytes
Told = Callable[[], Iterator[Message]]


class Load(NamedTuple):
    """The messages of one run, in order, and what goes with them."""

    workflow: dict[str, Any]
    messages: Told
    outputs: dict[str, Any]


def _message(kind: str, **data: Any) -> str:
    return json.dumps({"type": kind, "data": data})


def _state(node: str, state: str, value: float, maximum: float) -> dict[str, Any]:
    return {
        "value": value,
        "max": maximum,
        "state": state,
        "node_id": node,
        "prompt_id": PROMPT,
        "display_node_id": node,
        "parent_node_id": None,
        "real_node_id": node,
    }


def _states(states: dict[str, dict[str, Any]]) -> str:
    return _message("progress_state", prompt_id=PROMPT, nodes=states)


def _progress(value: int, maximum: int, node: str) -> str:
    return _message("progress", value=value, max=maximum, prompt_id=PROMPT, node=node)


def _executing(node: str) -> str:
    return _message("executing", node=node, display_node=node, prompt_id=PROMPT)


def _status(remaining: int) -> str:
    return _message("status", status={"exec_info": {"queue_remaining": remaining}})


def _begun() -> Iterator[str]:
    yield _status(1)
    yield _status(1)
    yield _message("execution_start", prompt_id=PROMPT, timestamp=TIMESTAMP)
    yield _message("execution_cached", nodes=[], prompt_id=PROMPT, timestamp=TIMESTAMP)


def _ended() -> Iterator[str]:
    yield _message("execution_success", prompt_id=PROMPT, timestamp=TIMESTAMP)
    yield _status(0)
    yield _message("executing", node=None, prompt_id=PROMPT)


def _outputs(node: str) -> dict[str, Any]:
    return {node: {"images": [{"filename": "bench_00001_.png", "subfolder": "", "type": "output"}]}}


def _executed(node: str) -> str:
    return _message("executed", node=node, display_node=node, output=_outputs(node)[node], prompt_id=PROMPT)


def _workflow(nodes: int, kind: str) -> tuple[dict[str, Any], list[str]]:
    names = [str(number) for number in range(1, nodes + 1)]
    workflow: dict[str, Any] = {}
    for index, name in enumerate(names):
        inputs: dict[str, Any] = {} if index == 0 else {"image": [names[index - 1], 0]}
        workflow[name] = {"class_type": "SaveImage" if index == nodes - 1 else kind, "inputs": inputs}
    return workflow, names


def chain(nodes: int, steps: int = 0) -> Load:
    """A chain of *nodes* nodes, the last an output, the others with *steps* steps, told as ComfyUI 0.3.64 tells them.

    Every `progress_state` repeats all nodes that began, so that the whole grows with the square of their number.
    """
    workflow, names = _workflow(nodes, "KSampler" if steps else "ImageInvert")

    def told() -> Iterator[Message]:
        states: dict[str, dict[str, Any]] = {}
        yield from _begun()
        for name in names:
            states[name] = _state(name, "running", 0.0, 1.0)
            yield _states(states)
            yield _executing(name)
            for step in range(1, 1 if name == names[-1] else steps + 1):
                states[name] = _state(name, "running", step, steps)
                yield _states(states)
                yield _progress(step, steps, name)
            if name == names[-1]:
                yield _executed(name)
            states[name] = {**states[name], "state": "finished", "value": states[name]["max"]}
            yield _states(states)
        yield from _ended()

    return Load(workflow, told, _outputs(names[-1]))


def plateau(nodes: int, steps: int) -> Load:
    """A chain whose nodes are done at once but the last two, of which the first has *steps* steps.

    So each `progress_state` has all nodes, as behind a reconnect.
    """
    workflow, names = _workflow(nodes, "KSampler")

    def told() -> Iterator[Message]:
        slow, last = names[-2:]
        states = {name: _state(name, "finished", 1.0, 1.0) for name in names[:-2]}
        yield from _begun()
        yield _states({**states, slow: _state(slow, "running", 0.0, 1.0)})
        yield _executing(slow)
        before, behind = _states({**states, slow: _state(slow, "running", 0, 0)}).split('{"value": 0, "max": 0,')
        for step in range(1, steps + 1):
            yield f'{before}{{"value": {step}, "max": {steps},{behind}'
            yield _progress(step, steps, slow)
        states[slow] = _state(slow, "finished", steps, steps)
        yield _states(states)
        yield from _saved(states, last)
        yield from _ended()

    return Load(workflow, told, _outputs(names[-1]))


def _saved(states: dict[str, dict[str, Any]], node: str) -> Iterator[str]:
    """The output node, from its start to its end."""
    yield _states({**states, node: _state(node, "running", 0.0, 1.0)})
    yield _executing(node)
    yield _executed(node)
    yield _states({**states, node: _state(node, "finished", 1.0, 1.0)})


def flood(count: int) -> Load:
    """A node that tells *count* progress messages, without the states before each; and an output."""
    workflow, (name, last) = _workflow(2, "KSampler")

    def told() -> Iterator[Message]:
        yield from _begun()
        yield _states({name: _state(name, "running", 0.0, 1.0)})
        yield _executing(name)
        # A million times json.dumps would keep the client waiting.
        before, behind = _progress(0, count, name).split('"value": 0,')
        for step in range(1, count + 1):
            yield f'{before}"value": {step},{behind}'
        states = {name: _state(name, "finished", count, count)}
        yield _states(states)
        yield from _saved(states, last)
        yield from _ended()

    return Load(workflow, told, _outputs(last))


def pictures(count: int) -> Load:
    """One node that leaves so many files, of which the socket names the first."""
    made = chain(1)
    files = [
        {"filename": f"bench_{number:05}_.png", "subfolder": "", "type": "output"} for number in range(1, count + 1)
    ]
    return made._replace(outputs={node: {"images": files} for node in made.outputs})


def recording(name: str) -> Load:
    """What a real server sent in a recording of one prompt, from its submission on."""
    records = recordings.load(name)
    post = next(index for index, record in enumerate(records) if record.get("method") == "POST")
    prompt_id = next(
        record["response"]["prompt_id"]
        for record in records[post:]
        if record["dir"] == "in" and record.get("path") == "/prompt"
    )
    found = [record["response"][prompt_id] for record in records if prompt_id in (record.get("response") or {})]
    outputs: dict[str, Any] = found[-1]["outputs"] if found else {}

    def told() -> Iterator[Message]:
        for record in records[post:]:
            if record["dir"] == "in" and record["kind"] == "ws-text":
                yield record["text"].replace(prompt_id, PROMPT)
            elif record["dir"] == "in" and record["kind"] == "ws-binary":
                yield base64.b64decode(record["b64"]).replace(prompt_id.encode(), PROMPT.encode())

    workflow = records[post]["request"]["prompt"]
    return Load(workflow, told, outputs)


def load(words: list[str]) -> Load:
    """The load that is named so."""
    kind, *rest = words
    if kind == "recording":
        return recording(rest[0])
    makers: dict[str, Callable[..., Load]] = {"chain": chain, "plateau": plateau, "flood": flood, "pictures": pictures}
    return makers[kind](*map(int, rest))
