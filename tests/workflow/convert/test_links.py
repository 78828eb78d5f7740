"""Links: through reroutes and bypassed nodes, from muted ones, in both versions of the file."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport.workflow.convert import convert
from comfyreport.workflow.convert.links import compatible
from tests.workflow.convert.files import File, Link, server

SIZE = [512, 512, 1]


def decoding(source: Link, **more: Any) -> File:
    """A file with a node whose input is linked to *source*."""
    return File().node(9, "VAEDecode", inputs={"samples": source, "vae": None}, types="LATENT", **more)


def latent(file: File, node_id: int = 1, **more: Any) -> File:
    return file.node(node_id, "EmptyLatentImage", SIZE, outputs="LATENT", **more)


def test_a_link_is_the_node_and_the_slot() -> None:
    assert latent(decoding(Link(1))).inputs(9) == {"samples": ["1", 0]}


def test_links_as_objects_are_the_same() -> None:
    content = latent(decoding(Link(1))).content()
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    content["links"] = [dict(zip(names, link, strict=True)) for link in content["links"]]
    content["version"] = 1
    assert convert(content, server()).prompt["9"]["inputs"] == {"samples": ["1", 0]}


def test_reroutes_are_passed_through_however_many() -> None:
    file = latent(decoding(Link(1000)))
    for index in range(10, 1001):
        file.node(index, "Reroute", inputs={"": Link(index - 1 if index > 10 else 1)})
    assert file.inputs(9) == {"samples": ["1", 0]}


def test_a_reroute_without_a_source_gives_nothing() -> None:
    assert decoding(Link(2)).node(2, "Reroute", inputs={"": None}).inputs(9) == {}


@pytest.mark.parametrize("mode", [0, 1, 3])
def test_other_modes_run(mode: int) -> None:
    assert latent(decoding(Link(1)), mode=mode).inputs(9) == {"samples": ["1", 0]}


def test_a_muted_node_goes_with_the_links_to_it() -> None:
    file = latent(decoding(Link(1)), mode=2)
    assert list(file.converted().prompt) == ["9"]
    assert file.inputs(9) == {}


def test_a_widget_that_is_linked_to_a_muted_node_goes_as_well() -> None:
    file = File().node(1, "PrimitiveInt", [5, "fixed"], outputs="INT", mode=2)
    file.node(2, "EmptyLatentImage", SIZE, inputs={"width": Link(1)}, widgets=("width",), types="INT")
    assert file.inputs(2) == {"height": 512, "batch_size": 1}


def test_a_widget_that_is_linked_to_a_bypassed_node_without_a_match_keeps_its_value() -> None:
    file = File().node(1, "PrimitiveInt", [5, "fixed"], outputs="INT", mode=4)
    file.node(2, "EmptyLatentImage", SIZE, inputs={"width": Link(1)}, widgets=("width",), types="INT")
    assert file.inputs(2)["width"] == 512


def test_a_bypassed_node_hands_on_the_same_slot_if_its_type_fits() -> None:
    file = latent(latent(decoding(Link(3)), 1), 2)
    file.node(3, "LatentBlend", [0.5], inputs={"samples1": Link(1), "samples2": Link(2)}, types="LATENT", mode=4)
    assert file.inputs(9) == {"samples": ["1", 0]}


def test_else_the_first_input_of_that_very_type() -> None:
    file = latent(decoding(Link(3)))
    more = {"model": None, "positive": None, "negative": None, "latent_image": Link(1)}
    file.node(3, "KSampler", [1, "fixed", 20, 8, "euler", "normal", 1], inputs=more, types="LATENT", mode=4)
    assert file.inputs(9) == {"samples": ["1", 0]}


def test_a_bypassed_node_without_a_fitting_input_gives_nothing() -> None:
    file = decoding(Link(3)).node(3, "CheckpointLoaderSimple", ["a.ckpt"], outputs="MODEL CLIP VAE", mode=4)
    assert file.inputs(9) == {}


@pytest.mark.parametrize(
    ("one", "other", "fits"),
    [
        ("IMAGE", "IMAGE", True),
        ("IMAGE", "image", True),
        ("IMAGE", "MASK", False),
        ("*", "MASK", True),
        ("IMAGE,MASK", "MASK", True),
        ("IMAGE,MASK", "LATENT,MASK", True),
        ("IMAGE,MASK", "LATENT", False),
    ],
)
def test_types_may_be_lists(one: str, other: str, fits: bool) -> None:
    assert compatible(one, other) is compatible(other, one) is fits


def test_inputs_that_the_class_lacks_are_sent_where_they_are_linked() -> None:
    file = latent(File()).node(9, "VAEDecode", inputs={"more": Link(1), "nothing": None})
    assert file.inputs(9) == {"more": ["1", 0]}


def test_inputs_for_widgets_that_the_class_lacks_are_left_out() -> None:
    file = latent(File()).node(9, "VAEDecode", inputs={"more": Link(1)}, widgets=("more",))
    assert file.inputs(9) == {}


def test_an_unknown_class_may_be_bypassed_or_muted() -> None:
    file = latent(decoding(Link(5)))
    file.node(5, "NobodyHasIt", inputs={"any": Link(1)}, types="LATENT", outputs="LATENT", mode=4)
    assert file.inputs(9) == {"samples": ["1", 0]}
    file.nodes[-1]["mode"] = 2
    assert file.inputs(9) == {}
