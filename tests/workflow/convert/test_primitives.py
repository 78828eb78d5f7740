"""The editor's own primitives: their value, what the widgets that they feed make of it, and how they are told."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport.workflow.convert.classes import Widget
from comfyreport.workflow.convert.primitives import rounded
from tests.workflow.convert.files import File, Link, refusal

SAMPLER = [1, "fixed", 24, 6.5, "euler", "normal", 1]


def fed(stored: Any, *names: str, kind: str = "KSampler", values: Any = SAMPLER, **more: Any) -> File:
    """A primitive that is linked to inputs of node 1."""
    file = File().node(2, "PrimitiveNode", stored, title="Knob", **more)
    return file.node(1, kind, values, inputs=dict.fromkeys(names, Link(2)), widgets=names)


def test_its_value_replaces_the_widget_s_and_is_no_link() -> None:
    prompt = fed([30, "fixed"], "steps").converted().prompt
    assert list(prompt) == ["1"]
    assert prompt["1"]["inputs"]["steps"] == 30


@pytest.mark.parametrize("mode", [2, 4])
def test_muted_or_bypassed_it_does_the_same(mode: int) -> None:
    assert fed([30, "fixed"], "steps", mode=mode).inputs(1)["steps"] == 30


def test_without_a_value_it_has_the_widget_s() -> None:
    assert fed(None, "steps").inputs(1)["steps"] == 24


# What the real front end makes of these.
@pytest.mark.parametrize(
    ("value", "names", "wanted"),
    [
        (7.777, ["cfg"], {"cfg": 7.8}),
        (3.25, ["cfg"], {"cfg": 3.3}),
        (7.777, ["denoise"], {"denoise": 1.0}),
        (7.777, ["cfg", "denoise"], {"cfg": 7.8, "denoise": 1.0}),
        (12.6, ["steps"], {"steps": 13}),
        ("12", ["steps"], {"steps": 12}),
        (" 0x10 ", ["steps"], {"steps": 16}),
        (True, ["steps"], {"steps": 1}),
        ("", ["denoise"], {"denoise": 0}),
        (99999999, ["steps"], {"steps": 10000}),
    ],
)
def test_numbers_are_brought_onto_steps_and_within_limits(value: Any, names: list[str], wanted: Any) -> None:
    inputs = fed([value, "fixed"], *names).inputs(1)
    assert {name: inputs[name] for name in names} == wanted


@pytest.mark.parametrize(("value", "text"), [(1.5, "1.5"), (True, "true"), (2**64, "18446744073709552000")])
def test_what_feeds_a_prompt_is_text(value: Any, text: str) -> None:
    assert fed([value], "text", kind="CLIPTextEncode", values=["x"]).inputs(1) == {"text": text}


@pytest.mark.parametrize(("value", "wanted"), [(517, 520), (516, 520), (20000, 16384), (3, 16)])
def test_integers_are_brought_onto_their_own_steps(value: int, wanted: int) -> None:
    file = fed([value, "fixed"], "width", "height", kind="EmptyLatentImage", values=[512, 512, 1])
    assert file.inputs(1) == {"width": wanted, "height": wanted, "batch_size": 1}


def test_what_it_feeds_shares_limits_and_steps() -> None:
    file = File().node(2, "PrimitiveNode", [100, "fixed"])
    file.node(1, "KSampler", SAMPLER, inputs={"steps": Link(2)}, widgets=("steps",))
    file.node(3, "EmptyLatentImage", [512, 512, 1], inputs={"width": Link(2)}, widgets=("width",))
    assert (file.inputs(1)["steps"], file.inputs(3)["width"]) == (104, 104)


def test_behind_a_reroute_it_feeds_nothing() -> None:
    file = File().node(3, "PrimitiveNode", [30, "fixed"]).node(2, "Reroute", inputs={"": Link(3)})
    file.node(1, "KSampler", SAMPLER, inputs={"steps": Link(2)}, widgets=("steps",))
    assert file.inputs(1)["steps"] == 24


def test_texts_choices_and_values_that_are_filled_in() -> None:
    assert fed(["{a} // b"], "text", kind="CLIPTextEncode", values=["x"]).inputs(1) == {"text": "a "}
    assert fed(["heun", "fixed", ""], "sampler_name").inputs(1)["sampler_name"] == "heun"
    replacing = {"properties": {"Run widget replace on values": True}}
    file = fed(["%KSampler.steps%"], "value", kind="PrimitiveString", values=[""], **replacing)
    assert file.node(5, "KSampler", SAMPLER).inputs(1) == {"value": "24"}


def test_it_is_told_what_a_primitive_sets() -> None:
    file = fed([30, "fixed"], "steps", "seed")
    [found] = file.converted().editor_nodes
    assert found == ("2", "Knob", {"value": (("1", "steps"), ("1", "seed"))})


@pytest.mark.parametrize("value", ["many", "1_0", "NaN", None, [1]])
def test_what_is_no_number_is_refused_where_one_is_wanted(value: Any) -> None:
    error = refusal(fed([value, "fixed"], "steps").content())
    assert error.message.startswith('node 2 ("Knob", PrimitiveNode) can\'t be converted: it feeds a number and holds')


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("INT", {"step": 0.5, "max": 1e308, "min": 1e308}),
        ("INT", {"step": 5e-324}),
        ("FLOAT", {"step": 0, "round": -1}),
    ],
)
def test_limits_that_make_no_sense_change_nothing(kind: str, options: dict[str, float]) -> None:
    assert rounded(3, Widget("x", kind, options)) == 3
