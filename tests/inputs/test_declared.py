"""What a server declares of its classes, and what of a workflow doesn't fit it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from comfyreport.inputs.declared import (
    Declared,
    declared_inputs,
    describe,
    fault,
    fitted,
    offline_problems,
    problems,
)

INFO: dict[str, Any] = {
    "KSampler": {
        "input": {
            "required": {
                "model": ["MODEL"],
                "seed": ["INT", {"default": 0, "min": 0, "max": 100}],
                "cfg": ["FLOAT", {"min": 0.0, "max": 100.0}],
                "sampler_name": [["euler", "heun", "dpmpp_2m"]],
                "scheduler": ["COMBO", {"options": ["normal", "karras"]}],
                "on": ["BOOLEAN", {}],
                "text": ["STRING", {"multiline": True}],
            },
            "optional": {"denoise": ["FLOAT", {"default": 1.0}]},
            "hidden": {"prompt": "PROMPT"},
        }
    },
    "Loader": {"input": {"required": {"name": [["a.safetensors", "b.safetensors"]]}}},
    "LoadImage": {"input": {"required": {"image": [["x.png"], {"image_upload": True}]}}},
}
INPUTS = declared_inputs(INFO, "KSampler") or {}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("seed", 5, ""),
        ("seed", 5.0, ""),
        ("seed", 5.5, "takes a whole number, not 5.5"),
        ("seed", "x", "takes a whole number, not x"),
        ("seed", True, "takes a whole number"),
        ("seed", -1, "is at least 0, not -1"),
        ("seed", 101, "is at most 100, not 101"),
        ("cfg", 7, ""),
        ("cfg", "7", "takes a number, not 7"),
        ("sampler_name", "heun", ""),
        ("sampler_name", "dpmpp_2n", "can't be dpmpp_2n; nearest: dpmpp_2m"),
        ("scheduler", "nothing like it", "can't be nothing like it; allowed: normal, karras"),
        ("model", ["4", 0], ""),
        ("model", "x", "takes a link to a MODEL, not x"),
        ("seed", float("inf"), "takes a whole number, not inf"),
        ("text", "anything", ""),
    ],
)
def test_what_is_wrong_with_a_value(name: str, value: object, words: str) -> None:
    found = fault(value, INPUTS[name])
    assert (found[0] if found else "").startswith(words) if words else found is None


@pytest.mark.parametrize(
    ("name", "text", "value", "typed"),
    [
        ("text", "5", 5, "5"),
        ("seed", "5", "5", 5),
        ("seed", "x", "x", "x"),
        ("cfg", "0.5", "0.5", 0.5),
        ("on", "TRUE", "TRUE", True),
        ("on", "maybe", "maybe", "maybe"),
        ("sampler_name", "heun", "heun", "heun"),
        ("model", '["4", 0]', ["4", 0], ["4", 0]),
    ],
)
def test_a_value_becomes_what_is_declared(name: str, text: str, value: object, typed: object) -> None:
    assert fitted(text, value, INPUTS[name]) == typed


def test_what_a_workflow_lacks() -> None:
    graph = {
        "1": {"class_type": "Loder", "inputs": {}},
        "2": {"class_type": "Loader", "inputs": {"name": "c.safetensors"}},
        "3": {"class_type": "KSampler", "inputs": {"model": ["77", 0], "seed": -1, "cfg": 1, "sampler_name": "heun"}},
        "4": {"class_type": "LoadImage", "inputs": {"image": "mine.png"}},
        "5": {"class_type": "LoadImage", "inputs": {"image": "sub/mine.png"}},
    }
    found = [(each.node, each.input_name, each.code) for each in problems(graph, INFO)]
    assert found == [
        ("1", "", "missing_node"),
        ("2", "name", "missing_model"),
        ("3", "model", "bad_link"),
        ("3", "seed", "bad_value"),
        ("3", "scheduler", "missing_input"),
        ("3", "on", "missing_input"),
        ("3", "text", "missing_input"),
        ("4", "image", "missing_file"),
    ]
    lines = [describe(graph, each) for each in problems(graph, INFO)]
    assert lines[0] == "1 (Loder) the server has no class Loder; near is Loader"
    assert lines[1] == "2.name (Loader) can't be c.safetensors; nearest: b.safetensors, a.safetensors"


def test_what_a_server_converts_is_no_problem_and_a_link_has_a_type() -> None:
    required = {"seed": ["INT", {"min": 0}], "cfg": ["FLOAT", {}], "model": ["MODEL", {}]}
    info = {
        "K": {"input": {"required": required}, "output": ["LATENT"]},
        "L": {"input": {"required": {}}, "output": ["MODEL", "CLIP"]},
    }
    usual = {"seed": "20", "cfg": "7.5", "model": ["2", 0]}

    def found(**inputs: Any) -> list[str]:
        graph = {"1": {"class_type": "K", "inputs": {**usual, **inputs}}, "2": {"class_type": "L", "inputs": {}}}
        return [describe(graph, each) for each in problems(graph, info)]

    assert found() == found(seed=20.5) == []
    assert found(seed="many") == ["1.seed (K) takes a whole number, not many"]
    assert found(seed=["2", 0]) == ["1.seed (K) takes a INT, and is linked to a MODEL"]
    assert found(model=["2", 1]) == ["1.model (K) takes a MODEL, and is linked to a CLIP"]
    assert found(model=["2", 2]) == ["1.model (K) is linked to output 2 of node 2, which has 2"]


def test_what_no_server_takes() -> None:
    graph: dict[str, Any] = {
        "1": {"class_type": "A", "inputs": {"x": ["2", 0], "y": ["gone", 0]}},
        "2": {"class_type": "A", "inputs": {"x": ["3", 0]}},
        "3": {"class_type": "A", "inputs": {"x": ["2", 1], "z": 1}},
        "4": {"class_type": "A", "inputs": {"x": ["1", 0]}},
    }
    found = [(each.node, each.code) for each in offline_problems(graph)]
    assert found[0] == ("1", "bad_link")
    assert [code for _, code in found] == ["bad_link", "cycle"]
    del graph["3"]["inputs"]["x"]
    del graph["1"]["inputs"]["y"]
    assert list(offline_problems(graph)) == []
    chain = {str(n): {"class_type": "A", "inputs": {"x": [str(n + 1), 0]}} for n in range(50_000)}
    chain["50000"] = {"class_type": "A", "inputs": {}}
    assert list(offline_problems(chain)) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
GROUPS = st.dictionaries(st.sampled_from(["required", "optional"]), st.dictionaries(st.sampled_from("ab"), JSON) | JSON)


@given(info=JSON | st.fixed_dictionaries({"A": st.fixed_dictionaries({"input": GROUPS | JSON}) | JSON}), value=JSON)
def test_whatever_a_server_declares(info: Any, value: Any) -> None:
    graph = {"1": {"class_type": "A", "inputs": {"a": value}}}
    for problem in problems(graph, info):
        assert describe(graph, problem)
    for declared in (declared_inputs(info, "A") or {}).values():
        assert isinstance(declared, Declared)
        fitted("5", 5, declared)
