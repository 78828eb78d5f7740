"""What the values of flags are: functions for argparse that turn a word into a value, or say what is wrong with it."""

from __future__ import annotations

import argparse
import re

_LARGEST_SEED = 2**64 - 1


def path(text: str) -> str:
    """A path, in which `~` is a home folder."""
    # Not for those who only ask for help.
    from comfyreport.files import expanded

    return expanded(text)


def paths(text: str) -> str:
    """FILE,KEY."""
    return ",".join(map(path, text.split(",", 1)))


def header(text: str) -> str:
    """A header, or @FILE."""
    return f"@{path(text[1:])}" if text.startswith("@") else text


def prompt_id(text: str) -> str:
    """A prompt's id."""
    # In a URL dots would lead to another route, even quoted.
    if not text.strip() or text in (".", ".."):
        raise argparse.ArgumentTypeError(f"{text!r} is no prompt's id")
    return text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


def not_negative(text: str) -> float:
    """A finite number from 0."""
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0")
    return value


def positive(text: str) -> float:
    """A finite number over 0."""
    value = not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number over 0")
    return value


def count(text: str) -> int:
    """A whole number from 0."""
    return int(not_negative(str(_integer(text))))


def port(text: str) -> int:
    """A port; 0 for any free one."""
    value = _integer(text)
    if not 0 <= value < 65536:
        raise argparse.ArgumentTypeError(f"{text} is no port")
    return value


def seed(text: str) -> int | str:
    """A seed, or how one is found."""
    if text in ("random", "keep"):
        return text
    if not re.fullmatch(r"[0-9]{1,20}", text) or int(text) > _LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is no seed: give a whole number from 0 to 2^64-1, random or keep")
    return int(text)


def at_least_one(text: str) -> int:
    """A whole number from 1."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """WxH: width and height in pixels."""
    match = re.fullmatch(r"([0-9]{1,9})[xX]([0-9]{1,9})", text)
    if match is None or 0 in (int(match[1]), int(match[2])):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: give width and height in pixels, such as 1024x768")
    return int(match[1]), int(match[2])
