"""Refusals: what `extra_info` adds to the server's words (the bodies are those of ComfyUI 0.33.0)."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport.events import ErrorInfo, NodeRef
from comfyreport.protocol.refusals import read_refused
from tests.protocol.test_responses import DEEP

FAILED = {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation", "details": ""}
BLUR = {name: NodeRef(id=name, class_type="ImageBlur", title="Blur") for name in ("1", "2")}


def refused(error: dict[str, Any], node_errors: Any = None, refs: Any = None, graph: Any = None) -> ErrorInfo:
    response = read_refused({"error": error, "node_errors": node_errors or {}}, refs or {}, graph)
    assert response is not None
    return response.error


def at_node(node_id: str, class_type: str, *errors: dict[str, Any]) -> dict[str, Any]:
    return {node_id: {"errors": list(errors), "dependent_outputs": ["9"], "class_type": class_type}}


def missing(title: str, class_type: str | None) -> dict[str, Any]:
    what = f"Node '{title}' not found. The custom node may not be installed."
    extra = {"node_id": "2", "class_type": class_type, "node_title": title}
    return {"type": "missing_node_type", "message": what, "details": "Node ID '#2'", "extra_info": extra}


def test_a_missing_class_is_named_beside_the_title() -> None:
    ref = NodeRef(id="2", class_type="NoSuchNode", title="My nice title")
    error = refused(missing("My nice title", "NoSuchNode"), refs={"2": ref})
    assert error.code == "missing_node"
    assert error.message.endswith("(class NoSuchNode, node 2)")
    assert error.node == ref


def test_a_missing_class_that_the_message_names_is_told_once() -> None:
    error = refused(missing("NoSuchNode", "NoSuchNode"))
    assert error.message == "Node 'NoSuchNode' not found. The custom node may not be installed. (node 2)"
    assert error.node == NodeRef(id="2", class_type="NoSuchNode", title="NoSuchNode")


@pytest.mark.parametrize("extra", [None, [], {}, {"node_id": 7, "class_type": None}, {"node_id": DEEP}])
def test_a_missing_class_without_its_facts(extra: Any) -> None:
    assert refused({**missing("X", None), "extra_info": extra}).code == "missing_node"


def cycle(details: str) -> dict[str, Any]:
    return {"type": "dependency_cycle", "message": "Dependency cycle detected", "details": details, "extra_info": {}}


def test_a_cycle_is_named() -> None:
    told = "2 (ImageBlur) -> 1 (ImageBlur) -> 2 (ImageBlur)"
    both = at_node("2", "ImageBlur", cycle(told)) | at_node("1", "ImageBlur", cycle(told))
    error = refused(FAILED, both, BLUR)
    assert error.code == "invalid_workflow"
    assert told in error.message
    assert "links" in error.hint


@pytest.mark.parametrize(
    ("links", "told"),
    [
        ({"1": "2", "2": "1", "3": "2"}, "1 (ImageBlur) -> 2 (ImageBlur) -> 1 (ImageBlur)"),
        ({"3": "1", "1": "1"}, "1 (ImageBlur) -> 1 (ImageBlur)"),
        ({"3": "2", "2": "1"}, ""),
        ({"3": "7"}, ""),
    ],
)
def test_a_cycle_is_found_where_the_server_gives_no_reason(links: dict[str, str], told: str) -> None:
    graph = {key: {"class_type": "ImageBlur", "inputs": {"image": [link, 0]}} for key, link in links.items()}
    error = refused(FAILED, {}, BLUR, graph)
    assert error.code == "invalid_workflow"
    assert ("cycle" in error.message) == bool(told)
    assert told in error.message


def test_a_cycle_of_very_many_nodes() -> None:
    graph = {str(number): {"inputs": {"a": [str((number + 1) % 20_000), 0]}} for number in range(20_000)}
    assert refused(FAILED, {}, {}, graph).message.endswith("-> 19999 -> 0")


@pytest.mark.parametrize(
    ("details", "name", "told"),
    [
        ("bit_depth", "format.bit_depth", "format.bit_depth"),
        ("bit_depth: 'x' not in ['8']", "format.bit_depth", "format.bit_depth: 'x' not in ['8']"),
        ("image0, received_type(A)", "images.image0", "images.image0, received_type(A)"),
        ("steps", "steps", "steps"),
        ("bit_depths", "format.bit_depth", "bit_depths"),
        ("format.bit_depth", "format.bit_depth", "format.bit_depth"),
    ],
)
def test_an_input_has_its_whole_name(details: str, name: str, told: str) -> None:
    wrong = {"type": "required_input_missing", "message": "m", "details": details, "extra_info": {"input_name": name}}
    (error,) = refused(FAILED, at_node("2", "SaveImageAdvanced", wrong)).node_errors
    assert error.details == told


def not_in_list(value: Any, config: Any, listed: str = "[…]", name: str = "sampler_name") -> dict[str, Any]:
    extra = {"input_name": name, "input_config": config, "received_value": value}
    details = f"{name}: '{value}' not in {listed}"
    return {"type": "value_not_in_list", "message": "Value not in list", "details": details, "extra_info": extra}


MANY = ["ddim", "euler", "euler_ancestral", "heun", "lcm", "uni_pc", "dpm_2"]


@pytest.mark.parametrize("config", [[MANY, {"tooltip": "t"}], ["COMBO", {"options": MANY}]])
def test_the_nearest_and_the_first_allowed_values_are_told(config: Any) -> None:
    (error,) = refused(FAILED, at_node("3", "KSampler", not_in_list("Eulr", config))).node_errors
    assert error.details == (
        "sampler_name: 'Eulr' not in 'ddim', 'euler', 'euler_ancestral', 'heun', 'lcm' and 2 more; nearest: 'euler'"
    )


def test_several_wrong_values_have_a_nearest_each() -> None:
    (error,) = refused(FAILED, at_node("3", "K", not_in_list(["eulr", "lcm", "hen"], [MANY, {}]))).node_errors
    assert error.details.endswith("; nearest: 'euler', 'heun'")


def test_values_that_the_server_does_not_tell() -> None:
    wrong = not_in_list("eulr", None, "(list of length 44)")
    (error,) = refused(FAILED, at_node("3", "KSampler", wrong)).node_errors
    assert error.details == wrong["details"]


def test_a_missing_model_stays_one() -> None:
    wrong = not_in_list("a, not in.safetensors", [["b.safetensors"], {}], name="ckpt_name")
    assert refused(FAILED, at_node("4", "CheckpointLoaderSimple", wrong)).code == "missing_model"


@pytest.mark.parametrize("config", [DEEP, [DEEP, {}], ["COMBO", {"options": DEEP}], [[{}, None, 7, "a" * 10_000], 3]])
@pytest.mark.parametrize("value", ["x", 7, None, DEEP, ["x", DEEP]])
def test_allowed_values_of_any_form(config: Any, value: Any) -> None:
    wrong = not_in_list("x", config) | {"extra_info": {"input_config": config, "received_value": value}}
    (error,) = refused(FAILED, at_node("3", "K", wrong)).node_errors
    assert len(error.details) < 1000


def test_a_class_that_the_server_replaced_is_named_with_both_names() -> None:
    refs = {"2": NodeRef(id="2", class_type="T2IAdapterLoader", title="Adapter")}
    wrong = {"type": "required_input_missing", "message": "Required input is missing", "details": "control_net_name"}
    error = refused(FAILED, at_node("2", "ControlNetLoader", wrong), refs)
    assert error.node_errors[0].details == (
        "control_net_name (the server has replaced T2IAdapterLoader by ControlNetLoader)"
    )
    assert error.node_errors[0].node == refs["2"]
    assert "replaced" in error.hint


@pytest.mark.parametrize("more", [{"input_name": "images", "exception_message": "'99'"}, {"traceback": []}])
def test_a_link_to_a_node_that_is_not_there(more: dict[str, Any]) -> None:
    """Of an inner node, and of an output itself."""
    extra = {"exception_type": "KeyError", **more}
    wrong = {"type": "exception_during_validation", "message": "m", "details": "'99'", "extra_info": extra}
    (error,) = refused(FAILED, at_node("2", "ImageBlur", wrong), BLUR).node_errors
    assert error.details == "a link leads to node 99, which the workflow doesn't have"


def test_a_node_without_inputs_is_no_link_to_nowhere() -> None:
    extra = {"exception_message": "'inputs'", "exception_type": "KeyError"}
    wrong = {"type": "exception_during_inner_validation", "message": "m", "details": "'inputs'", "extra_info": extra}
    (error,) = refused(FAILED, at_node("2", "ImageBlur", wrong), BLUR).node_errors
    assert error.details == "'inputs'"
