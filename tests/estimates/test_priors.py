"""What is expected where nothing was learned: by the words in a node's class, its steps and its size."""

from __future__ import annotations

import pytest

from comfyreport.estimates import priors


@pytest.mark.parametrize(
    ("class_type", "kind"),
    [
        ("KSampler", priors.SAMPLER),
        ("KSamplerAdvanced", priors.SAMPLER),
        ("SamplerCustomAdvanced", priors.SAMPLER),
        ("KSamplerSelect", priors.OTHER),
        ("BasicScheduler", priors.OTHER),
        ("CheckpointLoaderSimple", priors.LOADER),
        ("UNETLoader", priors.LOADER),
        ("LoraLoader", priors.LOADER),
        ("LoadImage", priors.OTHER),
        ("CLIPTextEncode", priors.TEXT_ENCODER),
        ("VAEDecode", priors.DECODER),
        ("VAEDecodeTiled", priors.DECODER),
        ("VAEEncodeForInpaint", priors.ENCODER),
        ("ImageUpscaleWithModel", priors.UPSCALER),
        ("SaveImage", priors.SAVER),
        ("VHS_VideoCombine", priors.SAVER),
        ("EmptyLatentImage", priors.OTHER),
        ("", priors.OTHER),
    ],
)
def test_kinds(class_type: str, kind: priors.Kind) -> None:
    assert priors.kind_of(class_type) is kind


def test_a_sampler_grows_with_its_steps_and_its_size() -> None:
    plain = priors.prior("KSampler")
    assert (plain.steps, plain.basis) == (priors.USUAL_STEPS, "prior")
    larger = priors.prior("KSampler", steps=40, units=4 * priors.USUAL_UNITS)
    assert larger.steps == 40
    assert plain.step < larger.step < 4 * plain.step
    assert priors.prior("KSampler", scale=3.0).seconds == pytest.approx(3 * plain.seconds)


def test_only_loaders_keep_their_own_pace() -> None:
    assert not priors.unknown("CheckpointLoaderSimple").paced
    assert priors.unknown("VAEDecode").paced
