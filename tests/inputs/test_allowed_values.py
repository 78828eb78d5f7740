"""Allowed values that a refusal leaves out are asked for."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport.protocol.statuses import Response
from tests.engine.world import World, words

MODELS = [f"model-{number:02d}.safetensors" for number in range(30)]
DECLARED = {"Loader": {"input": {"required": {"ckpt_name": [MODELS, {}]}, "optional": {}}}}


def refusal(**changes: Any) -> Response:
    extra = {"input_name": "ckpt_name", "input_config": None, "received_value": "model-7.safetensors"} | changes
    details = "ckpt_name: 'model-7.safetensors' not in (list of length 30)"
    wrong = {"type": "value_not_in_list", "message": "Value not in list", "details": details, "extra_info": extra}
    error = {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation", "details": ""}
    nodes = {"2": {"class_type": "Loader", "dependent_outputs": ["3"], "errors": [wrong]}}
    return Response(400, {"error": error, "node_errors": nodes}, "")


def details(world: World) -> str:
    end = world.play()
    assert (end.status, end.submitted) == ("rejected", "no")
    assert end.error is not None
    assert end.error.code == "missing_model", words(end)
    return end.error.node_errors[0].details


def test_the_values_of_a_long_list_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.answers["POST /prompt"] = refusal()
    world.answers["GET /object_info/Loader"] = Response(200, DECLARED, "")
    told = details(world)
    assert told.startswith("ckpt_name: 'model-7.safetensors' not in 'model-00.safetensors', 'model-01.safetensors'")
    assert "and 25 more; nearest: 'model-" in told
    assert "7.safetensors'" in told


@pytest.mark.parametrize(
    "body", [None, [], {}, {"Loader": None}, {"Loader": {"input": []}}, {"Loader": {"input": {"required": ["x"]}}}]
)
def test_where_they_are_not_told_the_refusal_stays_as_it_is(monkeypatch: pytest.MonkeyPatch, body: Any) -> None:
    world = World(monkeypatch)
    world.answers["POST /prompt"] = refusal()
    world.answers["GET /object_info/Loader"] = Response(200, body, "")
    assert details(world).endswith("not in (list of length 30)")


def test_values_that_are_told_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.answers["POST /prompt"] = refusal(input_config=[["a.safetensors"], {}])
    assert details(world).endswith("not in 'a.safetensors'")
    assert not any("object_info" in str(request) for request in world.requests)
