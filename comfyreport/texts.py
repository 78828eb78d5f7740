"""How much of what a server says is kept, and how it becomes text without raising. Pure."""

from __future__ import annotations

import json
from typing import Any

import orjson

TEXT_LIMIT = 64 * 1024
"""Characters of a text, or of a value's JSON: what is longer is cut."""
NAME_LIMIT = 1000
"""Characters of a title, a class or a type: a longer one is cut."""
FILE_NAME_LIMIT = 4096
"""Characters of a file's name or folder, beyond what any file system takes: a longer one is cut."""
ID_LIMIT = TEXT_LIMIT
"""Characters: a longer id is none. Those of nodes that recursion makes have thousands."""
PROMPT_ID_LIMIT = 8 * 1024
"""Characters: a longer id of a prompt or a client is none. Each event bears a prompt's."""
DEPTH_LIMIT = 64
"""Lists and objects in one another: Python's own `str`, `==` and `copy` raise for some hundreds."""


def cut(text: str, limit: int) -> str:
    """*text* in at most *limit* characters, the last of them an ellipsis where it was cut."""
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


def decode_cut(data: bytes, start: int, limit: int) -> str:
    """The UTF-8 text that *data* holds from *start* on, cut as `cut` does; no more is looked at than that needs."""
    # A character has four bytes at most: one that this cuts through is beyond the limit.
    return cut(data[start : start + 4 * (limit + 1)].decode("utf-8", "replace"), limit)


def text_of(value: object) -> str:
    """`str(value)`, also where that raises: for endless nesting, and for numbers of thousands of digits."""
    try:
        return str(value)
    except (RecursionError, ValueError):
        return f"({type(value).__name__} that is no text)"


def bounded(value: Any) -> Any:
    """A value that JSON told, as it is; a text in its place, if it is too large or too deep."""
    if isinstance(value, str):
        return cut(value, TEXT_LIMIT)
    if not isinstance(value, (list, dict)):
        return value
    deep = _is_deep(value)
    try:
        text = orjson.dumps(value).decode()
    except TypeError:
        # orjson reads what is far deeper than what it writes; and recordings may hold numbers over 64 bits.
        text = f"({type(value).__name__} that is nested too deeply)" if deep else json.dumps(value, default=text_of)
    return cut(text, TEXT_LIMIT) if deep or len(text) > TEXT_LIMIT else value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH_LIMIT):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for several in inner for each in several if isinstance(each, (list, dict))]
        if not level:
            return False
    return True
