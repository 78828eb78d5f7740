"""What was set, against what a server declares: typed, refused with the nearest, or left where it isn't told."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport.access.address import parse_address
from comfyreport.errors import UnreachableError, UsageError
from comfyreport.inputs.checking import check_settings
from comfyreport.net.client import Client
from comfyreport.protocol.statuses import Response
from comfyreport.timing import Timing
from comfyreport.workflow.files import Workflow, from_mapping
from comfyreport.workflow.settings import Settings, find_settings

INPUTS = {
    "required": {
        "steps": ["INT", {"min": 1, "max": 100}],
        "name": [["a.safetensors", "b.safetensors"]],
        "t": ["STRING"],
    },
    "optional": {"denoise": ["FLOAT", {"min": 0, "max": 1}]},
}
GRAPH = {
    "3": {"class_type": "K/S", "inputs": {"steps": 20, "name": "a.safetensors"}},
    "4": {"class_type": "Other", "inputs": {"x": 1}},
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The routes that a client asks for; what it answers declares the class of node 3 alone."""
    paths: list[str] = []

    def get(self: Client, path: str) -> Response:
        paths.append(path)
        return Response(200, {"K/S": {"input": INPUTS}} if path.endswith("K%2FS") else {}, "")

    monkeypatch.setattr(Client, "get", get)
    return paths


def checked(*assignments: str) -> dict[str, Any]:
    workflow = from_mapping(GRAPH)
    workflow = workflow.with_settings(find_settings(workflow.graph, Settings(assignments=assignments), str))
    client = Client(parse_address("http://127.0.0.1:8188"), timing=Timing())
    result: Workflow = check_settings(client, workflow)
    return {f"{key}.{name}": value for key, node in result.graph.items() for name, value in node["inputs"].items()}


def test_values_become_what_is_declared(asked: list[str]) -> None:
    values = checked("3.steps=8", "3.t=5", "3.denoise=1", "4.x=2")
    assert values == {"3.steps": 8, "3.name": "a.safetensors", "3.t": "5", "3.denoise": 1, "4.x": 2}
    assert asked == ["/object_info/K%2FS", "/object_info/Other"]


def test_nothing_is_asked_where_nothing_is_set(asked: list[str]) -> None:
    checked()
    assert asked == []


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("3.steps=0.5", "3.steps takes a whole number, not 0.5"),
        ("3.steps=500", "3.steps is at most 100, not 500"),
        ("3.name=c.safetensors", "3.name can't be c.safetensors; nearest: b.safetensors, a.safetensors"),
        ("3.stepz=5", "node 3 (K/S) has no input 'stepz'; near is steps"),
        ("4.y=5", "node 4 (Other) has no input 'y'; it has x"),
    ],
)
def test_what_does_not_fit_is_refused(assignment: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked(assignment)
    assert caught.value.message == words
    assert caught.value.hint


def test_a_server_that_is_not_there_is_left_to_the_submission(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(self: Client, path: str) -> Response:
        raise UnreachableError("gone")

    monkeypatch.setattr(Client, "get", get)
    assert checked("3.steps=500")["3.steps"] == 500
