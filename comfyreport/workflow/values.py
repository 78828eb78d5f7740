"""What the values of short names are: functions that turn a text into one, or say what is wrong with it. Pure."""

from __future__ import annotations

import re
from typing import Literal

LARGEST_SEED = 2**64 - 1
"""The largest seed that ComfyUI takes."""


def seed(text: str) -> int | Literal["random", "keep"]:
    """A seed, or how one is found. Raises ValueError."""
    if text == "random" or text == "keep":
        return "random" if text == "random" else "keep"
    if not re.fullmatch(r"[0-9]{1,20}", text) or int(text) > LARGEST_SEED:
        raise ValueError(f"{text!r} is no seed: give a whole number from 0 to 2^64-1, random or keep")
    return int(text)


def at_least_one(text: str) -> int:
    """A whole number from 1. Raises ValueError."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise ValueError(f"{text!r} is no whole number from 1")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """WxH: width and height in pixels. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,9})[xX]([0-9]{1,9})", text)
    if match is None or 0 in (int(match[1]), int(match[2])):
        raise ValueError(f"{text!r} is no size: give width and height in pixels, such as 1024x768")
    return int(match[1]), int(match[2])
