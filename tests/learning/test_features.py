"""What drives a node's time: sizes, steps, models and samplers, handed down the links; no text, no seed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from comfyreport.learning.features import features_of

WORKFLOWS = Path(__file__).parents[2] / "workflows"
Graph = dict[str, dict[str, Any]]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def txt2img(**changes: Any) -> Graph:
    """The usual workflow, with inputs changed by `NODE_INPUT`."""
    graph = {
        "ckpt": node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
        "pos": node("CLIPTextEncode", text="a cat", clip=["ckpt", 1]),
        "empty": node("EmptyLatentImage", width=512, height=768, batch_size=2),
        "sampler": node(
            "KSampler", seed=1, steps=20, cfg=7.0, sampler_name="euler", scheduler="normal", denoise=1.0,
            model=["ckpt", 0], positive=["pos", 0], negative=["pos", 0], latent_image=["empty", 0],
        ),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=["ckpt", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="x"),
    }  # fmt: skip
    for name, value in changes.items():
        key, _, of = name.partition("_")
        graph[key]["inputs"][of] = value
    return graph


def test_what_is_handed_down() -> None:
    features = features_of(txt2img())
    assert {key: each.units for key, each in features.items()} == {
        "ckpt": 0.0,
        "pos": 0.0,
        **dict.fromkeys(("empty", "sampler", "decode", "save"), 512.0 * 768 * 2),
    }
    assert [key for key, each in features.items() if each.loaders == {"ckpt"}] == [
        key for key in features if key != "empty"
    ]
    assert (features["sampler"].steps, features["decode"].steps) == (20, 0)


@pytest.mark.parametrize(
    "changes",
    [{"sampler_seed": 2}, {"pos_text": "a dog, sleeping"}, {"pos_text": "dog"}, {"save_filename_prefix": "y"}],
)
def test_what_costs_no_time_is_left_out(changes: dict[str, Any]) -> None:
    assert features_of(txt2img(**changes)) == features_of(txt2img())


@pytest.mark.parametrize(
    ("changes", "affected", "alike"),
    [
        ({"sampler_steps": 30}, {"sampler"}, True),
        ({"sampler_cfg": 1.0}, {"sampler"}, True),
        ({"empty_width": 1024}, {"empty", "sampler", "decode", "save"}, True),
        ({"ckpt_ckpt_name": "b.safetensors"}, {"ckpt", "pos", "sampler", "decode", "save"}, False),
        ({"sampler_sampler_name": "heun"}, {"sampler", "decode", "save"}, False),
    ],
)
def test_what_costs_time(changes: dict[str, Any], affected: set[str], alike: bool) -> None:
    before, after = features_of(txt2img()), features_of(txt2img(**changes))
    assert {key for key in before if before[key].exact != after[key].exact} == affected
    assert all((before[key].like == after[key].like) is alike for key in affected)


def test_two_nodes_that_look_alike_have_a_place_each() -> None:
    graph = txt2img()
    graph["neg"] = node("CLIPTextEncode", text="blurred", clip=["ckpt", 1])
    features = features_of(graph)
    assert features["pos"].exact != features["neg"].exact
    assert features["pos"].like == features["neg"].like
    assert features["pos"].exact == features_of(txt2img())["pos"].exact


def test_a_size_comes_with_what_is_worked_on() -> None:
    graph = txt2img()
    graph["pos"]["inputs"] |= {"width": 4096, "height": 4096}
    assert features_of(graph)["sampler"].units == 512.0 * 768 * 2


def test_another_picture_is_another_node_where_nothing_tells_its_size() -> None:
    def of(picture: str, **scale: Any) -> dict[str, str]:
        graph = {
            "load": node("LoadImage", image=picture),
            "scale": node("ImageScale", image=["load", 0], **scale),
            "up": node("ImageUpscaleWithModel", image=["scale", 0]),
        }
        return {key: each.exact for key, each in features_of(graph).items()}

    assert of("a.png")["up"] != of("b.png")["up"]
    assert of("a.png", width=64, height=64)["up"] == of("b.png", width=64, height=64)["up"]


def test_words_in_names_are_whole_words_and_primitives_count() -> None:
    def of(**inputs: Any) -> str:
        graph = {
            "n": node("PrimitiveFloat", value=inputs.pop("given", 1.0)),
            "a": node("A", denoise=["n", 0], **inputs),
        }
        return features_of(graph)["a"].exact

    assert of(context_length=16) != of(context_length=32)
    assert of(noise_seed=1, text_g="cat") == of(noise_seed=2, text_g="dog")
    assert of(given=0.5) != of(given=1.0)


def test_scales_frames_and_megapixels() -> None:
    graph = {
        "video": node("EmptyHunyuanLatentVideo", width=640, height=480, length=81, batch_size=1),
        "by": node("LatentUpscaleBy", samples=["video", 0], scale_by=1.5),
        "to": node("LatentUpscale", samples=["by", 0], width=100, height=100),
        "mp": node("ImageScaleToTotalPixels", image=["to", 0], megapixels=2.0),
        "many": node("RepeatLatentBatch", samples=["mp", 0], amount=4),
    }
    units = {key: each.units for key, each in features_of(graph).items()}
    video = 640.0 * 480 * 81
    assert units == {"video": video, "by": video * 2.25, "to": 10_000.0, "mp": 2e6, "many": 8e6}


def test_a_size_may_come_from_a_primitive() -> None:
    graph = {
        "n": node("PrimitiveInt", value=640),
        "empty": node("EmptyLatentImage", width=["n", 0], height=["n", 0], batch_size=1),
    }
    assert features_of(graph)["empty"].units == 640.0 * 640


def test_steps_of_a_schedule() -> None:
    graph = {
        "sigmas": node("BasicScheduler", steps=12, scheduler="simple", denoise=1.0),
        "one": node("SamplerCustomAdvanced", sigmas=["sigmas", 0]),
        "two": node("SamplerCustomAdvanced", latent_image=["one", 0]),
        "part": node("KSamplerAdvanced", steps=20, start_at_step=15, end_at_step=10000),
    }
    assert {key: each.steps for key, each in features_of(graph).items()} == {
        "sigmas": 12,
        "one": 12,
        "two": 0,
        "part": 5,
    }


@pytest.mark.parametrize(
    "value", [None, [], {}, "x", True, -1, 0, 1e300, 10**400, float("inf"), float("nan"), ["no", 0]]
)
@pytest.mark.parametrize(
    "name", ["width", "batch_size", "steps", "scale_by", "megapixels", "sampler_name", "ckpt_name"]
)
def test_whatever_stands_there(name: str, value: object) -> None:
    graph = {"a": node("A", width=512, height=512), "b": node("B", **{"x": ["a", 0], name: value})}
    features = features_of(graph)["b"]
    assert 0 <= features.units <= 1e12
    assert 0 <= features.steps <= 1e6


def test_cycles_end_and_long_chains_are_quick() -> None:
    graph: Graph = {"a": node("A", x=["b", 0]), "b": node("B", x=["a", 0])}
    before = "ckpt"
    graph["ckpt"] = node("Loader", name="a.ckpt", width=10, height=10)
    for number in range(5000):
        graph[str(number)] = node("Next", x=[before, 0])
        before = str(number)
    features = features_of(graph)
    assert set(features) == set(graph)
    assert (features[before].units, features[before].loaders) == (100.0, frozenset({"ckpt"}))


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.json")), ids=lambda path: path.stem)
def test_workflows_that_ship(path: Path) -> None:
    graph = json.loads(path.read_text(encoding="utf-8"))
    features = features_of(graph)
    assert set(features) == set(graph)
    assert features_of(copy.deepcopy(graph)) == features
    samplers = [each for each in features.values() if "KSampler" in each.class_type and each.steps]
    assert all(each.units for each in samplers)
