"""Values of widgets: by place and by name, old files, new servers, inputs that come with a choice."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport.workflow.convert import convert
from tests.workflow.convert.files import File, refusal, server

SAMPLER = [7, "randomize", 24, 6.5, "dpmpp_2m", "karras", 0.5]
WANTED = {"seed": 7, "steps": 24, "cfg": 6.5, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 0.5}


def values(kind: str, stored: Any) -> Any:
    return File().node(1, kind, stored).inputs(1)


def test_the_control_behind_a_seed_is_no_input() -> None:
    assert values("KSampler", SAMPLER) == WANTED


@pytest.mark.parametrize("old", [True, False])
def test_old_files_have_true_or_false_there(old: bool) -> None:
    assert values("KSampler", [7, old, *SAMPLER[2:]]) == WANTED


def test_a_class_may_have_two_seeds() -> None:
    seed = ["INT", {"control_after_generate": True}]
    info = {"Two": {"input": {"required": {"one": seed, "other": seed, "text": ["STRING", {}]}}}}
    file = File().node(1, "Two", [1, "fixed", 2, "randomize", "x"])
    assert convert(file.content(), info).prompt["1"]["inputs"] == {"one": 1, "other": 2, "text": "x"}


def test_values_by_name() -> None:
    assert values("KSampler", WANTED) == WANTED
    assert values("KSampler", {"steps": 3})["steps"] == 3


def test_names_that_no_class_declares_are_sent_and_state_of_the_editor_is_not() -> None:
    stored = {"width": 64, "crf": 19, "videopreview": {"hidden": False}, "empty": None}
    assert values("EmptyLatentImage", stored) == {"width": 64, "height": 512, "batch_size": 1, "crf": 19}


@pytest.mark.parametrize("stored", [None, [], [64], [64, 512]])
def test_what_is_missing_at_the_end_takes_the_default(stored: Any) -> None:
    assert values("EmptyLatentImage", stored) == {"width": 64 if stored else 512, "height": 512, "batch_size": 1}


def test_what_is_left_at_the_end_is_ignored() -> None:
    assert values("CFGNorm", [0.5, False]) == {"strength": 0.5}


@pytest.mark.parametrize(
    ("stored", "named"),
    [
        ([7, 24, 6.5, "dpmpp_2m", "karras", 0.5], "control_after_generate"),  # without the control
        ([7], "control_after_generate"),
        ([7, "randomize", 24, "dpmpp_2m", "karras", 0.5], "cfg"),
        ([7, "randomize", "new", *SAMPLER[2:]], "steps"),
    ],
)
def test_a_list_whose_length_nothing_explains_is_refused(stored: list[Any], named: str) -> None:
    error = refusal(File().node(5, "KSampler", stored, title="Mine").content())
    assert error.message.startswith('node 5 ("Mine", KSampler) can\'t be converted: its widgets_values has ')
    assert f"{len(stored)} values where the server's class takes 7" in error.message
    assert named in error.message


def test_of_a_muted_node_it_does_not_matter() -> None:
    assert File().node(5, "KSampler", [7], mode=2).converted().prompt == {}


def test_a_list_as_a_value_is_wrapped() -> None:
    assert values("EmptyLatentImage", [[1, 2], 512, 1])["width"] == {"__value__": [1, 2]}


def test_the_place_of_an_upload_button_is_no_input() -> None:
    assert values("LoadImage", ["a.png", "image"]) == {"image": "a.png"}
    assert values("LoadAudio", ["a.mp3", None, ""]) == {"audio": "a.mp3"}


def test_files_that_an_earlier_run_left_are_named_as_such() -> None:
    assert values("LoadImageOutput", ["a.png", "image"]) == {"image": "a.png [output]"}
    assert values("LoadImageOutput", ["a.png [temp]", "image"]) == {"image": "a.png [temp]"}


def test_old_files_have_values_for_inputs_that_are_sockets_today() -> None:
    # RecraftTextToImageNode: the last one, `negative_prompt`, is linked alone today.
    assert values("RecraftTextToImageNode", ["a", "1024x1024", 1, 5, "fixed", "not this"]) == {
        "prompt": "a", "size": "1024x1024", "n": 1, "seed": 5,
    }  # fmt: skip


def test_models_that_the_server_lacks_stay() -> None:
    assert values("CheckpointLoaderSimple", ["mine.safetensors"]) == {"ckpt_name": "mine.safetensors"}


def test_classes_that_had_another_name() -> None:
    prompt = File().node(1, "T2IAdapterLoader", ["a.pth"]).converted().prompt
    assert prompt["1"]["class_type"] == "ControlNetLoader"


def test_large_numbers_are_those_that_the_browser_can_hold() -> None:
    assert values("KSampler", [18446744073709551615, *SAMPLER[1:]])["seed"] == 18446744073709552000


COLOURS = {"Colours": {
    "input": {
        "required": {
            "mode": ["COMFY_DYNAMICCOMBO_V3", {"options": [
                {"key": "size", "inputs": {"required": {"width": ["INT", {}], "mask": ["MASK", {}]}}},
                {"key": "more", "inputs": {"required": {"how": ["COMFY_DYNAMICCOMBO_V3", {"options": [
                    {"key": "deep", "inputs": {"optional": {"x": ["FLOAT", {"default": 0.5}]}}},
                ]}]}}},
            ]}],
            "images": ["COMFY_AUTOGROW_V3", {"template": {
                "input": {"required": {"image": ["IMAGE", {}]}}, "prefix": "image", "min": 1,
            }}],
            "last": ["INT", {}],
            "curve": ["CURVE", {"default": {"points": []}, "socketless": True}],
        },
    },
    "input_order": {"required": ["images", "mode", "last", "curve"]},
    "output": ["IMAGE"],
}}  # fmt: skip


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        (["size", 5, 6], {"mode": "size", "mode.width": 5, "last": 6}),
        (["more", "deep", 0.25, 6], {"mode": "more", "mode.how": "deep", "mode.how.x": 0.25, "last": 6}),
        ([], {"mode": "size", "mode.width": 0, "last": 0}),
    ],
)
def test_inputs_that_come_with_a_choice(stored: list[Any], wanted: dict[str, Any]) -> None:
    prompt = convert(File().node(1, "Colours", stored).content(), COLOURS).prompt
    assert prompt["1"]["inputs"] == {**wanted, "curve": {"__type__": "CURVE", "__value__": {"points": []}}}


def test_inputs_that_grow_with_their_links() -> None:
    from tests.workflow.convert.files import Link

    file = File().node(1, "Colours").node(2, "Colours", inputs={"images.image0": Link(1), "images.image1": None})
    assert convert(file.content(), COLOURS).prompt["2"]["inputs"]["images.image0"] == ["1", 0]


def test_a_choice_that_the_server_lacks_is_refused() -> None:
    error = refusal(File().node(1, "Colours", ["newer", 5]).content(), COLOURS)
    assert "no choice newer for its input mode" in error.message


def test_what_the_browser_captures_is_refused() -> None:
    error = refusal(File().node(3, "WebcamCapture", ["", 0, 0, False]).content())
    assert error.message.startswith("node 3 (WebcamCapture) can't be converted: its input image is what the browser")


def test_a_class_may_have_been_declared_by_a_stranger() -> None:
    odd: Any = {"A": {"input": {"required": {"x": "INT", "y": [], "z": [7], "u": ["INT", 5], "v": [["p", "q"]]}}}}
    assert convert(File().node(1, "A").content(), odd).prompt["1"]["inputs"] == {"u": 0, "v": "p"}
    assert "LoadImage" in server()
