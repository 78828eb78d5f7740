"""Whether a prompt is accepted: cycles, strict servers, retired classes."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport.sim_nodes.node_classes import NODE_CLASSES, RETIRED, core_classes
from comfyreport.sim_nodes.settings import Settings
from comfyreport.sim_nodes.validation import ValidationResult, replace_retired, validate

OLDER, NEWER, STRICT = Settings(version="0.3.64"), Settings(), Settings(strict=True)


def check(prompt: dict[str, Any], settings: Settings) -> ValidationResult:
    return validate(prompt, settings, settings.present)


def node(class_type: str, title: str = "", **inputs: Any) -> dict[str, Any]:
    meta = {"_meta": {"title": title}} if title else {}
    return {"class_type": class_type, "inputs": inputs, **meta}


def shown(**nodes: dict[str, Any]) -> dict[str, Any]:
    """The nodes, of which the first is shown by an output."""
    ids = {name.strip("_"): each for name, each in nodes.items()}
    return {**ids, "out": node("PreviewAny", source=[next(iter(ids)), 0])}


@pytest.mark.parametrize("settings", [OLDER, NEWER])
def test_long_chain_is_no_cycle(settings: Settings) -> None:
    chain = {str(n): node("ImageInvert", image=[str(n + 1), 0]) for n in range(3000)}
    chain["0"]["class_type"], chain["0"]["inputs"] = "PreviewImage", {"images": ["1", 0]}
    chain["3000"] = node("EmptyImage", width=8, height=8, batch_size=1)
    assert check(chain, settings).error is None
    chain["3000"] = node("ImageInvert", image=["1", 0])
    verdict = check(chain, settings)
    assert verdict.error is not None
    assert set(verdict.node_errors) == ({str(n) for n in range(1, 3001)} if settings.newer else set())


def test_a_class_that_is_missing_is_told_by_its_title() -> None:
    prompt = shown(_1=node("SomethingNotInstalled", "My node"))
    error = check(prompt, NEWER).error
    assert error is not None
    assert error["message"] == "Node 'My node' not found. The custom node may not be installed."
    assert error["extra_info"]["class_type"] == "SomethingNotInstalled"
    older = check(prompt, OLDER).error
    assert older is not None
    assert older["type"] == "invalid_prompt"


@pytest.mark.parametrize("class_type", ["ProbeRaise", "VHS_VideoCombine", "Nonsense", "ksampler"])
def test_a_strict_server_has_the_classes_of_comfyui_alone(class_type: str) -> None:
    assert check(shown(_1=node(class_type)), NEWER).error is None
    error = check(shown(_1=node(class_type)), STRICT).error
    assert error is not None
    assert error["type"] == "missing_node_type"


@pytest.mark.parametrize("class_type", ["ModelSamplingFlux", "SaveVideo", "SimulateError", "SimulateBlock"])
def test_what_a_strict_server_has(class_type: str) -> None:
    assert check(shown(_1=node(class_type)), STRICT).error is None


def test_the_declared_classes_are_classes_of_comfyui() -> None:
    assert {name for name in NODE_CLASSES if not name.startswith("Simulate")} <= core_classes()
    assert not core_classes() & set(RETIRED)
    assert {new for new, _ in RETIRED.values()} <= core_classes()


@pytest.mark.parametrize(
    ("loader", "fits"),
    [
        (node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"), True),
        (node("UNETLoader", unet_name="mine.safetensors", weight_dtype="default"), False),
        (node("LoraLoader", lora_name="sub/mine.SAFETENSORS", strength_model=1.0), False),
        (node("UnetLoaderGGUF", unet_name="x.gguf"), False),
        (node("CheckpointLoaderSimple", ckpt_name="mine.ckpt"), False),
        (node("LoadImage", image="example.png"), True),
        (node("LoadImage", image="mine.png"), False),
    ],
)
def test_a_strict_server_has_few_models(loader: dict[str, Any], fits: bool) -> None:
    assert check(shown(_1=loader), NEWER).error is None
    assert (check(shown(_1=loader), STRICT).error is None) == fits


def test_a_strict_server_with_files_of_its_own() -> None:
    settings = Settings(strict=True, files=["mine.safetensors"])
    for name, fits in (("mine.safetensors", True), ("flux1-dev.safetensors", False)):
        assert (check(shown(_1=node("UNETLoader", unet_name=name)), settings).error is None) == fits


def test_what_is_retired_is_replaced_with_the_inputs_that_are_known() -> None:
    prompt = shown(_1=node("T2IAdapterLoader", "Mine", t2i_adapter_name="x.pth", more=1))
    replace_retired(prompt, NEWER)
    assert prompt["1"] == node("ControlNetLoader", "Mine", control_net_name="x.pth")
    replace_retired(prompt, OLDER)
    with pytest.raises(KeyError, match="_meta"):
        replace_retired(shown(_1=node("T2IAdapterLoader", t2i_adapter_name="x.pth")), NEWER)


def test_a_version_is_a_version() -> None:
    assert [Settings(version=text).newer for text in ("0.3.0", "0.3.75", "0.4.0", "0.33.0", "1.0")] == [
        False,
        False,
        True,
        True,
        True,
    ]
    for text in ("", "new", "0.33.0-x"):
        with pytest.raises(ValueError, match="no version"):
            Settings(version=text)
