"""Subgraphs: opened, nested, muted and bypassed; the values of the widgets that they show outside."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport.workflow.convert import convert
from tests.workflow.convert.files import HOST, File, Link, refusal, server

SAMPLER = [1, "fixed", 24, 6.5, "euler", "normal", 1]
LATENT = ("LATENT", Link(5))


def inner(**more: Any) -> File:
    """Inside: a sampler whose latent image and steps come from outside."""
    names: dict[str, Link | None] = {"latent_image": None, "steps": None}
    return File().node(5, "KSampler", SAMPLER, inputs=names, widgets=("steps",), outputs="LATENT", **more)


def outer(stored: Any = None, *, inside: File | None = None, host: Any = None, steps: Link | None = None) -> File:
    """Outside: an empty latent, what opens the subgraph, and a decoder behind it."""
    file = File().node(1, "EmptyLatentImage", [512, 512, 1], outputs="LATENT")
    file.subgraph(
        inside or inner(), {"latent": ("LATENT", [Link(5, 0)]), "steps": ("INT", [Link(5, 1)])}, {"LATENT": LATENT}
    )
    inputs = {"latent": Link(1), "steps": steps}
    file.node(8, HOST, stored, inputs=inputs, types="LATENT", outputs="LATENT", widgets=("steps",), **(host or {}))
    return file.node(9, "VAEDecode", inputs={"samples": Link(8)}, types="LATENT")


def test_nodes_inside_have_the_ids_of_both() -> None:
    prompt = outer().converted().prompt
    assert list(prompt) == ["1", "9", "8:5"]
    assert prompt["9"]["inputs"] == {"samples": ["8:5", 0]}
    assert prompt["8:5"]["inputs"]["latent_image"] == ["1", 0]


@pytest.mark.parametrize(("stored", "steps"), [(None, 24), ([], 24), ([7], 7), ([7, "more"], 7), ({"steps": 9}, 9)])
def test_the_value_outside_counts(stored: Any, steps: int) -> None:
    assert outer(stored).inputs("8:5")["steps"] == steps


def test_a_link_outside_beats_the_value() -> None:
    file = outer([7], steps=Link(2)).node(2, "PrimitiveInt", [3, "fixed"], outputs="INT")
    assert file.inputs("8:5")["steps"] == ["2", 0]


def test_two_nodes_may_open_it_with_values_of_their_own() -> None:
    file = outer([7])
    file.node(10, HOST, [8], inputs={"latent": Link(8)}, types="LATENT", outputs="LATENT", title="Second")
    converted = file.converted()
    assert [converted.prompt[key]["inputs"]["steps"] for key in ("8:5", "10:5")] == [7, 8]
    assert converted.prompt["10:5"]["inputs"]["latent_image"] == ["8:5", 0]
    assert converted.editor_nodes == (
        ("8", "Inner", {"steps": (("8:5", "steps"),)}),
        ("10", "Second", {"steps": (("10:5", "steps"),)}),
    )


def test_a_widget_that_is_linked_outside_sets_nothing_inside() -> None:
    file = outer([7], steps=Link(2)).node(2, "PrimitiveInt", [3, "fixed"], outputs="INT")
    assert file.converted().editor_nodes == (("8", "Inner", {}),)


def test_a_primitive_outside_sets_what_is_inside() -> None:
    file = outer([7], steps=Link(2)).node(2, "PrimitiveNode", [30, "fixed"], title="Steps")
    # A primitive's link is none in the prompt: the widget outside holds its value.
    assert file.inputs("8:5")["steps"] == 24


def test_a_text_that_is_shown_outside_is_sent_as_it_stands() -> None:
    inside = File().node(5, "CLIPTextEncode", ["x"], inputs={"text": None}, widgets=("text",), outputs="CONDITIONING")
    file = File().subgraph(inside, {"text": ("STRING", [Link(5, 0)])}, {"out": ("CONDITIONING", Link(5))})
    assert file.node(8, HOST, ["{a|b} // c"]).inputs("8:5") == {"text": "{a|b} // c"}


def test_muted_it_goes_with_all_that_is_inside() -> None:
    prompt = outer(host={"mode": 2}).converted().prompt
    assert {key: node["inputs"] for key, node in prompt.items() if key != "1"} == {"9": {}}


def test_bypassed_it_hands_on_what_comes_from_outside() -> None:
    prompt = outer(host={"mode": 4}).converted().prompt
    assert list(prompt) == ["1", "9"]
    assert prompt["9"]["inputs"] == {"samples": ["1", 0]}


def test_bypassed_and_muted_nodes_inside() -> None:
    assert outer(inside=inner(mode=4)).inputs(9) == {"samples": ["1", 0]}
    assert outer(inside=inner(mode=2)).inputs(9) == {}


def nested(mode: int = 0) -> dict[str, Any]:
    """A file with a subgraph in a subgraph: `8:3:5` is the sampler; *mode* is that of `8:3`."""
    file = outer([7])
    middle = "22222222-2222-3333-4444-555555555555"
    content = file.content()
    link = {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 3, "target_slot": 0}
    shown = {"id": 2, "origin_id": -10, "origin_slot": 1, "target_id": 3, "target_slot": 1}
    back = {"id": 3, "origin_id": 3, "origin_slot": 0, "target_id": -20, "target_slot": 0}
    opens = {
        "id": 3, "type": HOST, "mode": mode, "widgets_values": [6], "outputs": [{"type": "LATENT"}],
        "inputs": [{"name": "latent", "link": 1}, {"name": "steps", "link": 2, "widget": {"name": "steps"}}],
    }  # fmt: skip
    content["definitions"]["subgraphs"].append({
        "id": middle, "nodes": [opens], "links": [link, shown, back], "name": "Middle",
        "inputs": [{"name": "latent", "type": "LATENT", "linkIds": [1]}, {"name": "s", "type": "INT", "linkIds": [2]}],
        "outputs": [{"name": "LATENT", "type": "LATENT", "linkIds": [3]}],
    })  # fmt: skip
    next(node for node in content["nodes"] if node["id"] == 8)["type"] = middle
    return content


def test_subgraphs_in_each_other() -> None:
    content = nested()
    converted = convert(content, server())
    assert converted.prompt["9"]["inputs"] == {"samples": ["8:3:5", 0]}
    assert converted.prompt["8:3:5"]["inputs"]["latent_image"] == ["1", 0]
    assert converted.prompt["8:3:5"]["inputs"]["steps"] == 7
    assert converted.editor_nodes[0] == ("8", "Middle", {"s": (("8:3:5", "steps"),)})
    # Where the definition stands makes no difference.
    first, second = content["definitions"]["subgraphs"]
    inside = {**content, "definitions": {"subgraphs": [{**second, "definitions": {"subgraphs": [first]}}]}}
    assert convert(inside, server()) == converted


@pytest.mark.parametrize(("mode", "samples"), [(2, {}), (4, {"samples": ["1", 0]})])
def test_in_a_subgraph_what_is_muted_or_bypassed_is_opened_all_the_same(mode: int, samples: Any) -> None:
    converted = convert(nested(mode), server())
    assert list(converted.prompt) == ["1", "9", "8:3:5"]
    assert converted.prompt["9"]["inputs"] == samples
    assert converted.editor_nodes[0] == ("8", "Middle", {"s": (("8:3:5", "steps"),)})


def test_a_subgraph_in_itself_is_refused() -> None:
    inside = inner().node(6, HOST, title="Again")
    error = refusal(outer(inside=inside).content())
    assert error.message.startswith('node 6 ("Again", 11111111-')
    assert "it opens a subgraph that it stands in itself" in error.message


def test_values_that_don_t_fit_what_is_shown_are_refused() -> None:
    error = refusal(outer(["flow", 7], host={"title": "Mine"}).content())
    assert error.message.startswith('node 8 ("Mine", ')
    assert "2 values where" in error.message
