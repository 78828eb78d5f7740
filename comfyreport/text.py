"""Text from anywhere made safe to draw, cut to a limit, and measured in columns of a terminal. Pure."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import orjson

TEXT_LIMIT = 64 * 1024
"""Characters of a text, or of a value's JSON: what is longer is cut."""
NAME_LIMIT = 1000
"""Characters of a title, a class or a type: a longer one is cut."""
FILE_NAME_LIMIT = 4096
"""Characters of a file's name or folder, beyond what any file system takes: a longer one is cut."""
ID_LIMIT = TEXT_LIMIT
"""Characters: a longer id is ignored. Those of nodes that recursion makes have thousands."""
PROMPT_ID_LIMIT = 8 * 1024
"""Characters: a longer id of a prompt or a client is ignored. Each event has a prompt's."""
DEPTH_LIMIT = 64
"""Lists and objects in one another: Python's own `str`, `==` and `copy` raise for some hundreds."""

_SURROGATE = re.compile("[\ud800-\udfff]")

_JOINER = "\u200d"


def says_no(value: str) -> bool:
    """Whether a variable of the environment that stands for yes or no is unset, empty, or says no."""
    return value.strip().lower() in ("", "0", "false", "no", "off")


def cut(text: str, limit: int) -> str:
    """*text* in at most *limit* characters, the last of them an ellipsis where it was cut."""
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


def decode_cut(data: bytes, start: int, limit: int) -> str:
    """The UTF-8 text in *data* from *start* on, cut as `cut` does, without decoding more than that needs."""
    # A character has four bytes at most: one that this cuts through is beyond the limit.
    return cut(data[start : start + 4 * (limit + 1)].decode("utf-8", "replace"), limit)


def text_of(value: object) -> str:
    """`str(value)`, also where that raises: for endless nesting, and for numbers of thousands of digits."""
    try:
        return str(value)
    except (RecursionError, ValueError):
        return f"({type(value).__name__} that is no text)"


def well_formed(text: str) -> str:
    """*text* as it can be encoded: U+FFFD for each lone surrogate, and for each byte of a file's name that is no UTF-8.

    A name that only the locale's encoding couldn't decode is decoded.
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)


def bounded(value: Any) -> Any:
    """A value from JSON, as it is; if it is too large or too deep, a text in its place."""
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


def printable(text: object, limit: int | None = None) -> str:
    """*text* as one line that is safe on a terminal: unprintable characters are shown as escapes.

    Everything that comes from a server or a workflow goes through this before it is drawn. *limit* cuts the
    result to that many characters, the last of them an ellipsis.
    """
    shown = text if isinstance(text, str) else text_of(text)
    if limit is not None and len(shown) > limit:
        # Escapes only make it longer: what is far behind the limit need not be looked at.
        shown = shown[: limit + 1]
    if not shown.isprintable():
        shown = "".join(map(_escape, shown))
    return shown if limit is None or len(shown) <= limit else cut(shown, limit)


def is_safe(character: str) -> bool:
    """Whether *character* can't move a cursor, start an escape sequence or turn the direction of text.

    Spaces of all widths are safe, and so is the joiner that emoji are made with.
    """
    return character.isprintable() or character == _JOINER or unicodedata.category(character) == "Zs"


def _escape(character: str) -> str:
    return character if is_safe(character) else character.encode("unicode_escape").decode("ascii")


def cell_width(text: str) -> int:
    """How many columns *text* takes on a terminal: wide characters and emoji sequences two, combining ones none."""
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth

    # wcswidth() gives -1 for control characters, and counts nothing of what follows a joiner, be it joined or not.
    width = -1 if _JOINER in text else wcswidth(text)
    return width if width >= 0 else sum(width for _, width in _clusters(text))


def fit(text: str, width: int) -> str:
    """*text* cut to at most *width* columns, never inside of what is drawn as one character."""
    if text.isascii():
        return text[: max(0, width)]
    # Most texts fit, and to measure one at once is several times as fast as to walk through it.
    if len(text) <= 4 * width and cell_width(text) <= width:
        return text
    end = taken = 0
    for cluster, columns in _clusters(text):
        taken += columns
        if taken > width:
            return text[:end]
        end += len(cluster)
    return text


def _clusters(text: str) -> Iterator[tuple[str, int]]:
    """What a terminal draws as one character each, with its columns; a control character counts as one."""
    from wcwidth import iter_graphemes, wcswidth

    for cluster in iter_graphemes(text):
        width = wcswidth(cluster)
        yield cluster, width if width >= 0 else len(cluster)
