"""Finding the prompt: where the walk starts, what it goes through, where it ends, and what it says if it's unclear."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from comfyreport.errors import WorkflowError
from comfyreport.workflow.files import from_mapping, load
from comfyreport.workflow.names import changes, find

GRAPHS = Path(__file__).parents[1] / "data" / "graphs"
NO_PLACE = "no place for --prompt"
NODE = {"class_type": "EmptyImage", "inputs": {}}


def node(class_type: str, title: str = "", /, **inputs: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"class_type": class_type, "inputs": inputs}
    return {**entry, "_meta": {"title": title}} if title else entry


def text(content: str, title: str = "") -> dict[str, Any]:
    return node("CLIPTextEncode", title, text=content, clip=["1", 1])


def sampler(positive: object, **inputs: object) -> dict[str, Any]:
    return node("KSampler", positive=positive, negative=["neg", 0], **inputs)


def places(graph: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(target.node, target.name) for target in find(from_mapping(graph).graph, "prompt").targets}


def ambiguity(graph: Mapping[str, Any]) -> WorkflowError:
    with pytest.raises(WorkflowError) as caught:
        changes(from_mapping(graph).graph, "prompt", "a dog")
    return caught.value


CONDITIONED = {
    "ControlNetApply": (node("ControlNetApply", conditioning=["pos", 0], control_net=["c", 0]), 0),
    "ControlNetApplyAdvanced": (node("ControlNetApplyAdvanced", positive=["pos", 0], negative=["neg", 0]), 0),
    "FluxGuidance": (node("FluxGuidance", conditioning=["pos", 0], guidance=["g", 0]), 0),
    "ConditioningSetArea": (node("ConditioningSetArea", conditioning=["pos", 0]), 0),
    "WanImageToVideo": (node("WanImageToVideo", positive=["pos", 0], negative=["neg", 0], vae=["v", 0]), 0),
    "PairConditioningCombine": (node("PairConditioningCombine", positive_A=["pos", 0], negative_A=["neg", 0]), 0),
    "Reroute": (node("Reroute", **{"": ["pos", 0]}), 0),
    "a custom node": (node("MyConditioner", cond=["pos", 0], uncond=["neg", 0], image=["i", 0]), 0),
    "unCLIPConditioning": (node("unCLIPConditioning", conditioning=["pos", 0], clip_vision_output=["c", 0]), 0),
    "a GLIGEN box": (node("GLIGENTextBoxApply", conditioning_to=["pos", 0], text="a box", clip=["1", 1]), 0),
    "a pipe": (node("FromBasicPipe", basic_pipe=["pipe", 0]), 3),
    "an Impact switch": (node("ImpactSwitch", select=2, input1=["neg", 0], input2=["pos", 0]), 0),
    "a core switch": (node("ComfySwitchNode", switch=True, on_true=["pos", 0], on_false=["neg", 0]), 0),
    "an rgthree switch": (node("Any Switch (rgthree)", any_10=["neg", 0], any_2=["pos", 0]), 0),
    "an if": (node("easy ifElse", boolean=False, on_true=["neg", 0], on_false=["pos", 0]), 0),
    "another sampler": (node("KSampler (Efficient)", positive=["pos", 0], negative=["neg", 0]), 1),
}


@pytest.mark.parametrize("name", CONDITIONED)
def test_the_walk_goes_through(name: str) -> None:
    between, slot = CONDITIONED[name]
    graph = {
        "between": between,
        "pipe": node("ToBasicPipe", positive=["pos", 0], negative=["neg", 0], model=["1", 0]),
        "neg": text("blurry"),
        "pos": text("a cat"),
        "s": sampler(["between", slot]),
    }
    assert places(graph) == {("pos", "text")}


def test_the_output_decides_between_positive_and_negative() -> None:
    apply = node("ControlNetApplyAdvanced", positive=["pos", 0], negative=["neg", 0])
    graph = {"a": apply, "pos": text("a cat"), "neg": text("blurry"), "s": sampler(["a", 1])}
    assert places(graph) == {("neg", "text")}


SAMPLERS = {
    "KSamplerAdvanced": {"s": node("KSamplerAdvanced", positive=["pos", 0], negative=["neg", 0])},
    "SamplerCustom": {"s": node("SamplerCustom", positive=["pos", 0], negative=["neg", 0])},
    "BasicGuider": {
        "s": node("SamplerCustomAdvanced", guider=["g", 0], noise=["n", 0]),
        "g": node("BasicGuider", conditioning=["pos", 0], model=["1", 0]),
    },
    "CFGGuider": {
        "s": node("SamplerCustomAdvanced", guider=["g", 0]),
        "g": node("CFGGuider", positive=["pos", 0], negative=["neg", 0]),
    },
    "DualCFGGuider": {
        "s": node("SamplerCustomAdvanced", guider=["g", 0]),
        "g": node("DualCFGGuider", cond1=["pos", 0], cond2=["neg", 0], negative=["neg", 0]),
    },
    "PerpNegGuider": {
        "s": node("SamplerCustomAdvanced", guider=["g", 0]),
        "g": node("PerpNegGuider", positive=["pos", 0], negative=["neg", 0], empty_conditioning=["neg", 0]),
    },
    "a sampler of another pack": {"s": node("XlabsSampler", conditioning=["pos", 0], neg_conditioning=["neg", 0])},
    "a basic pipe": {
        "s": node("ImpactKSamplerBasicPipe", basic_pipe=["p", 0]),
        "p": node("ToBasicPipe", positive=["pos", 0], negative=["neg", 0]),
    },
    "no sampler by name": {"s": node("UltimateSDUpscale", positive=["pos", 0], negative=["neg", 0], model=["1", 0])},
    "a hires fix": {"s": sampler(["pos", 0]), "t": sampler(["pos", 0], latent_image=["s", 0])},
    "a detailer with a text of its own": {
        "s": sampler(["pos", 0]),
        "f": node("FaceDetailer", positive=["face", 0], negative=["neg", 0]),
        "face": text("a face"),
    },
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_walk_starts_at(name: str) -> None:
    graph = {**SAMPLERS[name], "neg": text("blurry"), "pos": text("a cat")}
    assert places(graph) == {("pos", "text")}


ENCODERS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "SDXL": (node("CLIPTextEncodeSDXL", text_g="a", text_l="b", clip=["1", 1]), {"text_g", "text_l"}),
    "SD3": (node("CLIPTextEncodeSD3", clip_l="a", clip_g="b", t5xxl="c"), {"clip_l", "clip_g", "t5xxl"}),
    "Hunyuan DiT": (node("CLIPTextEncodeHunyuanDiT", bert="a", mt5xl="b"), {"bert", "mt5xl"}),
    "Lumina": (node("CLIPTextEncodeLumina2", user_prompt="a", system_prompt="alignment"), {"user_prompt"}),
    "Qwen": (node("TextEncodeQwenImageEdit", prompt="", clip=["1", 0]), {"prompt"}),
    "ACE": (node("TextEncodeAceStepAudio", tags="pop", lyrics="[intro]"), {"tags"}),
    "Wan wrapper": (node("WanVideoTextEncode", positive_prompt="a", negative_prompt="b"), {"positive_prompt"}),
    "Efficient Loader": (node("Efficient Loader", positive="a", negative="b", clip_skip=-1), {"positive"}),
    "unknown": (node("MyEncoder", clip=["1", 0], system_prompt="s", main_prompt="a"), {"main_prompt"}),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_the_text_is_set_in(name: str) -> None:
    encoder, fields = ENCODERS[name]
    assert places({"pos": encoder, "s": sampler(["pos", 0])}) == {("pos", field) for field in fields}


STRINGS: dict[str, tuple[dict[str, Any], set[tuple[str, str]]]] = {
    "a string": ({"a": node("StringConstant", string="a cat")}, {("a", "string")}),
    "a text box": ({"a": node("DF_Text_Box", Text="a cat")}, {("a", "Text")}),
    "a numbered box": ({"a": node("TextBox1", text1="a cat")}, {("a", "text1")}),
    "a node that shows text": (
        {"a": node("ShowText|pysssss", text=["b", 0], text_0="old"), "b": node("PrimitiveString", value="a cat")},
        {("b", "value")},
    ),
    "a node that changes text": (
        {"a": node("StringReplace", string=["b", 0], find="x", replace="y"), "b": node("CR Text", text="a cat")},
        {("b", "text")},
    ),
    "a language model": ({"a": node("GeminiNode", prompt="tell of a cat", model="m")}, {("a", "prompt")}),
    "wildcards": (
        {"a": node("ImpactWildcardProcessor", wildcard_text="{a|b}", populated_text="a")},
        {("a", "wildcard_text"), ("a", "populated_text")},
    ),
    "a switch": (
        {
            "a": node("ImpactSwitch", select=1, input1=["b", 0], input2=["c", 0]),
            "b": node("CR Text", text="a cat"),
            "c": node("CR Text", text="no"),
        },
        {("b", "text")},
    ),
    "a caption": ({"a": node("Florence2Run", image=["b", 0]), "b": node("LoadImage", image="x")}, {("pos", "text")}),
    "a missing node": ({}, {("pos", "text")}),
}


@pytest.mark.parametrize("name", STRINGS)
def test_a_linked_text_is_set_at(name: str) -> None:
    nodes, expected = STRINGS[name]
    graph = {**nodes, "pos": node("CLIPTextEncode", text=["a", 0]), "s": sampler(["pos", 0])}
    assert places(graph) == expected


def test_both_texts_of_an_encoder_are_followed() -> None:
    graph = {
        "g": node("PrimitiveString", value="a"),
        "pos": node("CLIPTextEncodeSDXL", text_g=["g", 0], text_l="b"),
        "s": sampler(["pos", 0]),
    }
    assert places(graph) == {("g", "value"), ("pos", "text_l")}


def test_zeroed_text_is_no_prompt() -> None:
    zero = {"z": node("ConditioningZeroOut", conditioning=["low", 0]), "low": text("a cow")}
    both = node("ConditioningCombine", conditioning_1=["z", 0], conditioning_2=["pos", 0])
    assert NO_PLACE in ambiguity({**zero, "s": sampler(["z", 0])}).message
    assert places({**zero, "pos": text("a cat"), "c": both, "s": sampler(["c", 0])}) == {("pos", "text")}


def test_a_sampler_without_positive_input_does_not_get_the_negative_text() -> None:
    graph = {"neg": text("blurry"), "s": node("KSampler", negative=["neg", 0])}
    assert NO_PLACE in ambiguity(graph).message
    assert find(graph, "negative").targets == (("neg", "text"),)


@pytest.mark.parametrize("name", ["model", "clip", "image", "latent_image", "negative"])
def test_what_is_no_conditioning_is_not_followed(name: str) -> None:
    graph = {"pos": text("no"), "x": node("Custom", **{name: ["pos", 0]}), "s": sampler(["x", 0])}
    assert NO_PLACE in ambiguity(graph).message


def test_without_sampler_the_text_of_what_makes_the_output_is_taken() -> None:
    graph = {
        "1": node("LoadImage", image="a.png"),
        "2": node("KlingImage2VideoNode", prompt="a cat", negative_prompt="blurry", start_frame=["1", 0]),
        "3": node("SaveVideo", video=["2", 0], filename_prefix="x"),
        "4": node("GeminiNode", prompt="a dog"),
    }
    assert places(graph) == {("2", "prompt")}
    assert find(graph, "negative").targets == (("2", "negative_prompt"),)
    graph["1"] = node("GeminiImage", prompt="a cow")
    assert "several inputs" in ambiguity(graph).message


def test_a_switch_that_cannot_be_read_leaves_all_its_inputs() -> None:
    switch = node("ImpactSwitch", sel_mode=True, select=["n", 0], input1=["1", 0], input2=["2", 0])
    graph = {"1": text("a cat"), "2": text("a dog"), "x": switch, "s": sampler(["x", 0])}
    assert "several inputs" in ambiguity(graph).message
    graph["x"]["inputs"]["select"] = 3
    assert "several inputs" in ambiguity(graph).message


def test_titles_decide_nothing() -> None:
    graph = {"1": node("PrimitiveString", "Prompt", value="a"), "2": node("Show", source=["1", 0])}
    assert NO_PLACE in ambiguity(graph).message
    assert "several inputs" in ambiguity(combined(text("a cat", "Prompt"), text("a dog", "Negative"))).message
    crossed = {"s": sampler(["1", 0]), "1": text("a", "Negative"), "neg": text("b", "Positive")}
    assert places(crossed) == {("1", "text")}


def combined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    both = node("ConditioningCombine", conditioning_1=["1", 0], conditioning_2=["2", 0])
    return {"1": first, "2": second, "c": both, "s": sampler(["c", 0])}


def test_the_same_text_in_several_nodes_is_one() -> None:
    assert places(combined(text("a cat"), text(" a cat"))) == {("1", "text"), ("2", "text")}
    assert "several" in ambiguity(combined(text(""), text(""))).message


def test_several_texts_are_listed() -> None:
    graph = combined(text("a\tcat\x1b[0m\u202e" + "x" * 50, "Left"), text("a dog"))
    error = ambiguity({**graph, "neg": text("blurry")})
    assert error.message.splitlines() == [
        "--prompt could mean several inputs of the workflow:",
        r'  1.text (CLIPTextEncode "Left"): a\tcat\x1b[0m\u202e' + "x" * 20 + "…",
        '  2.text (CLIPTextEncode "CLIPTextEncode"): a dog',
    ]
    assert error.hint == "Name what is meant: --set 1.text=VALUE"


def test_a_text_that_is_joined_from_literals_is_listed_and_left() -> None:
    found = find(load(GRAPHS / "made_11_links_on_widgets.json").graph, "prompt")
    assert found.targets == ()
    assert found.candidates == (("11", "string_a"), ("11", "string_b"))


def test_a_long_list_is_cut() -> None:
    texts = {str(n): text(f"text {n}") for n in range(30)}
    joined = node("ConditioningCombineMany", **{f"conditioning_{n}": [str(n), 0] for n in range(30)})
    lines = ambiguity({**texts, "c": joined, "s": sampler(["c", 0])}).message.splitlines()
    assert (len(lines), lines[-1]) == (22, "  and 10 more")


def test_cycles_end() -> None:
    graph = {
        "a": node("FluxGuidance", conditioning=["b", 0]),
        "b": node("FluxGuidance", conditioning=["a", 0]),
        "s": sampler(["a", 0]),
        "x": node("CLIPTextEncode", text=["y", 0]),
        "y": node("ShowText", text=["z", 0]),
        "z": node("ShowText", text=["y", 0]),
        "t": sampler(["x", 0]),
        "self": sampler(["self", 0]),
    }
    assert places(graph) == {("x", "text")}


@pytest.mark.parametrize("kind", ["conditioning", "text"])
def test_long_chains_are_walked(kind: str) -> None:
    length = 10_000
    graph = {str(n): node("Step", **{kind: [str(n + 1), 0]}) for n in range(length)}
    graph[str(length)] = text("a cat")
    graph["s"] = sampler(["0", 0])
    assert places(graph) == {(str(length), "text")}


def test_many_encoders_of_one_text_are_quick() -> None:
    count = 2_000
    graph: dict[str, Any] = {str(n): node("ShowText", text=[str(n + 1), 0]) for n in range(count)}
    graph[str(count)] = node("PrimitiveString", value="a cat")
    for n in range(count):
        graph[f"e{n}"] = node("CLIPTextEncode", text=["0", 0])
        graph[f"s{n}"] = sampler([f"e{n}", 0])
    assert places(graph) == {(str(count), "value")}
