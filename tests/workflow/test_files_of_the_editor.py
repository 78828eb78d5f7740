"""Files of the editor: what becomes of them is a workflow like any other, and what the user sees there can be set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from comfyreport.errors import UsageError, WorkflowError
from comfyreport.workflow.convert import Converted, EditorNode, convert
from comfyreport.workflow.files import from_mapping, load
from comfyreport.workflow.settings import Settings, find_settings, nodes_named
from tests.workflow.convert.files import HOST, File, Link, server

GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 1}, "_meta": {"title": "Sampler"}},
    "7:8": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512}},
    "9:8": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512}},
    "9:5": {"class_type": "Text", "inputs": {"text": "a"}, "_meta": {"title": "Inner"}},
}
SHOWN = (
    EditorNode("7", "Latents", {"width": (("7:8", "width"), ("7:8", "height"))}),
    EditorNode("9", "Latents", {"width": (("9:8", "width"),)}),
    EditorNode("2", "Seed", {"value": (("3", "seed"),)}),
)


def by_server(ui: Mapping[str, Any]) -> Converted:
    return convert(ui, server())


def settings(*assignments: str) -> dict[tuple[str, str], Any]:
    found = find_settings(GRAPH, Settings(assignments=assignments), str, SHOWN)
    return {(target.node, target.name): setting.value for target, setting in found.items()}


def refusal(*assignments: str) -> str:
    with pytest.raises(UsageError) as caught:
        settings(*assignments)
    return caught.value.message


@pytest.mark.parametrize("name", ["content", "workflow", "prompt"])
def test_a_file_is_converted_and_submitted_with_it(name: str, tmp_path: Path) -> None:
    ui = File().node(4, "EmptyLatentImage", [64, 32, 1], title="Size").content()
    path = tmp_path / "w.json"
    path.write_text(json.dumps(ui if name == "content" else {name: ui, "extra_data": {"a": 1}}), encoding="utf-8")
    found = load(path, convert=by_server)
    assert found.graph["4"]["inputs"] == {"width": 64, "height": 32, "batch_size": 1}
    assert found.graph["4"]["_meta"] == {"title": "Size"}
    assert found.converted
    extra = found.body({})["extra_data"]
    assert extra["extra_pnginfo"] == {"workflow": ui}
    assert found.wrapping.left_out == ()


def test_an_object_of_python_stays_as_it_is() -> None:
    ui = File().node(4, "EmptyLatentImage", (64, 32, 1)).content()
    found = from_mapping({**ui, "nodes": tuple(ui["nodes"])}, by_server)
    assert found.graph["4"]["inputs"]["height"] == 32
    assert isinstance(ui["nodes"][0]["widgets_values"], tuple)


def test_what_json_can_not_hold_is_refused() -> None:
    ui = File().node(4, "EmptyLatentImage", [object()]).content()
    with pytest.raises(WorkflowError, match="the workflow holds a value that isn't JSON"):
        from_mapping(ui, by_server)


def test_a_number_of_thousands_of_digits_is_refused_wherever_it_stands() -> None:
    for ui in (File().node(10**5000, "EmptyLatentImage").content(), {"nodes": [], "links": [[10**5000, 1, 0, 1, 0]]}):
        with pytest.raises(WorkflowError, match="the workflow holds a number with thousands of digits"):
            from_mapping(ui, by_server)


def test_a_refusal_names_the_file_and_the_node(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text(json.dumps(File().node(4, "Nothing", title="Mine").content()), encoding="utf-8")
    with pytest.raises(WorkflowError, match=r'w\.json: node 4 \("Mine", Nothing\) can\'t be converted') as caught:
        load(path, convert=by_server)
    assert caught.value.hint


def test_a_file_in_which_nothing_runs_is_refused() -> None:
    with pytest.raises(WorkflowError, match="the workflow has no nodes that run"):
        from_mapping(File().node(4, "EmptyLatentImage", [64, 32, 1], mode=2).content(), by_server)


def test_nodes_in_a_subgraph_are_set_from_its_node() -> None:
    inner = File().node(1, "EmptyLatentImage", [64, 32, 1], inputs={"width": None}, widgets=("width",), types="INT")
    file = File().subgraph(inner, {"size": ("INT", [Link(1, 0)])}, {})
    file.node(5, HOST, [128], inputs={"size": None}, widgets=("size",), types="INT", title="Canvas")
    found = from_mapping(file.content(), by_server)
    changed = found.with_settings(
        find_settings(found.graph, Settings(assignments=("Canvas.size=256",)), str, found.editor_nodes)
    )
    assert changed.graph["5:1"]["inputs"]["width"] == 256


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("7.width=64", {("7:8", "width"): 64, ("7:8", "height"): 64}),
        ("9.width=64", {("9:8", "width"): 64}),
        ("Seed.value=5", {("3", "seed"): 5}),
        ("seed.value=5", {("3", "seed"): 5}),
        ("2.value=5", {("3", "seed"): 5}),
        ("5.text=b", {("9:5", "text"): "b"}),
        ("9:5.text=b", {("9:5", "text"): "b"}),
        ("3.seed=6", {("3", "seed"): 6}),
    ],
)
def test_what_the_editor_shows_can_be_set(assignment: str, expected: dict[tuple[str, str], Any]) -> None:
    assert settings(assignment) == expected


def test_what_is_not_clear_is_refused() -> None:
    lines = refusal("Latents.width=64").splitlines()
    assert lines[1:] == ['  7 ("Latents")', '  9 ("Latents")']
    assert refusal("8.width=64").count("EmptyLatentImage") == 4
    assert refusal("Seed.seed=1").endswith(
        "node 2 (\"Seed\") has no value 'seed' that reaches the prompt; it has value"
    )
    assert "near is Latents" in refusal("Latent.width=1")


def test_an_inner_id_names_a_node_unless_something_else_is_called_so() -> None:
    assert nodes_named(GRAPH, "8") == ["7:8", "9:8"]
    assert nodes_named(GRAPH, "5", SHOWN) == ["9:5"]
    assert nodes_named(GRAPH, "7", SHOWN) == ["7"]
    named_eight = {**GRAPH, "1": {"class_type": "Text", "inputs": {}, "_meta": {"title": "8"}}}
    assert nodes_named(named_eight, "8") == ["1"]
