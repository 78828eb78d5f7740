"""What is expected of a node of which nothing was learned: a small table by kind of node. Pure.

The figures follow runs of a real ComfyUI 0.3.75 on one core of a processor, of small Stable Diffusion models
(`tests/recordings/timings`), but that a decoder has a third less, for beside the steps of larger models it takes less.
Only their ratios count: as soon as a run's own steps were timed, the rest of it is scaled by them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from comfyreport.estimates.expected import Duration, Expected

USUAL_UNITS = 512.0 * 512.0
"""Pixels that are assumed where a workflow doesn't tell."""
USUAL_STEPS = 20.0
"""Steps that are assumed where a workflow doesn't tell."""

# Standard deviation as a part of the whole: a prior may well be wrong by half.
_SPREAD = 0.8


class Kind(NamedTuple):
    """One kind of node: seconds of a step or, without steps, of the whole: *fixed*, and *scaled* at `USUAL_UNITS`."""

    fixed: float
    scaled: float = 0.0
    steps: bool = False


LOADER = Kind(1.0)
SAMPLER = Kind(0.05, 2.0, steps=True)
TEXT_ENCODER = Kind(0.35)
DECODER = Kind(0.2, 10.0)
ENCODER = Kind(0.1, 5.0)
UPSCALER = Kind(0.5, 15.0)
SAVER = Kind(0.02, 0.1)
OTHER = Kind(0.005)

# The first line of which all words of a group occur in a node's class, in small letters, is its kind.
_KINDS: tuple[tuple[Kind, tuple[tuple[str, ...], ...]], ...] = (
    (
        OTHER,
        (
            ("samplerselect",),
            ("sigmas",),
            ("schedule",),
            ("guider",),
            ("noise",),
            ("conditioning",),
            ("controlnetapply",),
        ),
    ),
    (ENCODER, (("vae", "encode"),)),
    (DECODER, (("vae", "decode"),)),
    (OTHER, (("loadimage",), ("loadvideo",), ("loadaudio",), ("loadlatent",))),
    (LOADER, (("load",),)),
    (TEXT_ENCODER, (("text", "encod"), ("clipvision",))),
    (SAMPLER, (("sampler",), ("detailer",), ("ultimatesdupscale",))),
    (UPSCALER, (("upscale", "model"), ("interpolat",), ("rife",))),
    (SAVER, (("save",), ("preview",), ("combine",), ("createvideo",))),
)


@lru_cache(maxsize=256)
def kind_of(class_type: str) -> Kind:
    """The kind of a node, by the words in its class."""
    name = class_type.lower()
    for kind, groups in _KINDS:
        if any(all(word in name for word in words) for words in groups):
            return kind
    return OTHER


def prior(class_type: str, *, steps: float = 0.0, units: float = 0.0, scale: float = 1.0) -> Duration:
    """What is expected of a node of *class_type* of which nothing was learned.

    :param steps: of its sampling, 0 where that isn't known.
    :param units: pixels times frames times batch that it works on, 0 where that isn't known.
    :param scale: how slow the server is beside the one that the table was made with.
    """
    kind = kind_of(class_type)
    seconds = scale * (kind.fixed + kind.scaled * (units or USUAL_UNITS) / USUAL_UNITS)
    if kind.steps:
        return Duration(0.0, seconds, steps or USUAL_STEPS, 0.0, _SPREAD, "prior")
    return Duration(0.0, 0.0, 0.0, seconds, _SPREAD, "prior")


@lru_cache(maxsize=256)
def unknown(class_type: str) -> Expected:
    """What is expected of a node of which nothing but its class is known."""
    duration = prior(class_type)
    return Expected(duration, duration, paced=kind_of(class_type) is not LOADER)
