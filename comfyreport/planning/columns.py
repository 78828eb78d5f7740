"""What may differ from run to run, by the names of a grid's axes and a prompts file's columns: short names and inputs.

Pure, but for `~`. A value is parsed once, as the flag of the same name would be.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from comfyreport.files import expanded
from comfyreport.inputs.local_files import KINDS
from comfyreport.text import printable
from comfyreport.workflow import values
from comfyreport.workflow.names import NAMES

FILE_NAMES: tuple[str, ...] = KINDS
"""The columns that name files for loaders."""
AXES = (*NAMES, *FILE_NAMES)
"""The short names of a grid's axes; NODE.INPUT is one too."""
COLUMNS = (*AXES, "output", "workflow")
"""The short names of a prompts file's columns."""

MAX_SHOWN = 60


def named(text: str, names: tuple[str, ...]) -> str | None:
    """The name that *text* is, one of *names* or NODE.INPUT; None where it is neither."""
    name = text.strip()
    if name.lower() in names:
        return name.lower()
    node, _, input_name = name.partition(".")
    return name if node and input_name else None


def nearest(text: str, names: tuple[str, ...]) -> str:
    """Words behind an unknown name: which are near, or which there are."""
    near = difflib.get_close_matches(text.strip().lower()[:200], names, 3, 0.6)
    listed = ", ".join(near or names)
    return f"{'near is' if near else 'there are'} {listed}" + ("" if near else ", or NODE.INPUT")


def parsed(name: str, value: Any) -> Any:
    """*value*, a text or what JSON has, as what *name* takes. Raises ValueError that says what is wrong with it."""
    parse = _PARSERS.get(name)
    return value if parse is None else parse(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{printable(str(value), MAX_SHOWN)} is no text")
    return value


def _named(value: Any) -> str:
    text = _text(value).strip()
    if not text:
        raise ValueError("it is empty")
    return text


def _path(value: Any) -> str:
    return expanded(_named(value))


def _from_text(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    """*parse* for whole numbers as well, which JSON has."""

    def parse_any(value: Any) -> Any:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        text = str(value) if is_number else _text(value).strip()
        if len(text) > MAX_SHOWN:
            raise ValueError(f"{printable(text, MAX_SHOWN)!r} is too long")
        return parse(text)

    return parse_any


def _size(value: Any) -> tuple[int, int]:
    if isinstance(value, list) and len(value) == 2:
        value = "x".join(map(str, value))
    return values.size(_text(value).strip())


_PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "prompt": _text,
    "negative": _text,
    "seed": _from_text(values.seed),
    "steps": _from_text(values.at_least_one),
    "size": _size,
    "batch": _from_text(values.at_least_one),
    "model": _named,
    **dict.fromkeys(FILE_NAMES, _named),
    "output": _path,
    "workflow": _path,
}
