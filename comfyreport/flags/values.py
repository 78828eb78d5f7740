"""What the values of flags are: functions for argparse that turn a word into a value, or say what is wrong with it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TypeVar

from comfyreport.workflow import values as workflow_values

_Value = TypeVar("_Value")


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


def engine(text: str) -> str:
    """The address of what hands out the runs."""
    if not re.fullmatch(r"dask(\+tls)?://[^\s/@]+:[0-9]{1,5}/?", text):
        # Not shown where it has what may be a password.
        shown = "that" if "@" in text else repr(text)
        raise argparse.ArgumentTypeError(f"{shown} is no engine: give the scheduler's address, dask://HOST:PORT")
    return text


def _told(read: Callable[[str], _Value]) -> Callable[[str], _Value]:
    """*read* for argparse, which shows the message of an error of its own alone."""

    def told(text: str) -> _Value:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return told


seed = _told(workflow_values.seed)
at_least_one = _told(workflow_values.at_least_one)
size = _told(workflow_values.size)
