"""What the front end replaces in texts before it sends them: choices and comments in prompts, `%…%` in names of files.

Pure: chance and the time are passed in. Sources: ComfyUI_frontend src/utils/formatUtil.ts (processDynamicPrompt,
formatDate) and src/utils/searchAndReplace.ts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from random import Random
from typing import Any, TypeGuard

_COMMENT = re.compile(r"/[*/]")
# JavaScript's dot ends at these.
_LINE_END = re.compile(r"[\n\r\u2028\u2029]")
_BRACE = re.compile(r"\\[\s\S]|[{}]")
_MAX_BRACES = 50
_ESCAPED = re.compile(r"\\([{}|])")
_PLACE = re.compile(r"%([^%]+)%")
_DATE = re.compile(r"dd?|MM?|hh?|mm?|ss?|yyy?y?")
_NOT_IN_A_NAME = re.compile(r'[/?<>\\:*|"\x00-\x1F\x7F]')


def dynamic_prompt(text: str, chance: Random) -> str:
    """*text* without its comments, with one of the choices of each `{a|b}`; a backslash makes `{`, `|`, `}` text.

    Raises RecursionError where too many braces stand in each other.
    """
    text = _without_comments(text)
    _check_braces(text)
    return _chosen(text, chance)


def _without_comments(text: str) -> str:
    kept, index, last_end = [], 0, text.rfind("*/")
    while match := _COMMENT.search(text, index):
        start = match.start()
        is_block = match[0] == "/*"
        if is_block and last_end < start + 2:
            kept.append(text[index : start + 1])
            index = start + 1
            continue
        kept.append(text[index:start])
        index = text.index("*/", start + 2) + 2 if is_block else _line_end(text, start)
    return "".join(kept) + text[index:]


def _line_end(text: str, index: int) -> int:
    end = _LINE_END.search(text, index)
    return len(text) if end is None else end.start()


def _check_braces(text: str) -> None:
    depth = 0
    for match in _BRACE.finditer(text):
        depth = max(0, depth + (match[0] == "{") - (match[0] == "}"))
        if depth > _MAX_BRACES:
            raise RecursionError


def _chosen(text: str, chance: Random) -> str:
    result, index = [], 0
    while index < len(text):
        char = text[index]
        if char == "\\":
            result.append(_escape(text, index))
            index += 2
        elif char == "{":
            choices, index = _choices(text, index + 1)
            result.append(_chosen(_without_comments(chance.choice(choices)), chance))
        else:
            result.append(char)
            index += 1
    return _ESCAPED.sub(r"\1", "".join(result))


def _escape(text: str, index: int) -> str:
    # Behind the last character JavaScript finds `undefined`, and the front end sends that word.
    return text[index : index + 2] if index + 1 < len(text) else "\\undefined"


def _choices(text: str, index: int) -> tuple[list[str], int]:
    """The choices of the braces that were opened before *index*, and where the text goes on."""
    choices, choice, depth = [], "", 0
    while index < len(text):
        char = text[index]
        if char == "\\":
            choice += _escape(text, index)
            index += 2
            continue
        index += 1
        if char == "}" and not depth:
            break
        if char == "|" and not depth:
            choices.append(choice)
            choice = ""
            continue
        depth += (char == "{") - (char == "}")
        choice += char
    return [*choices, choice], index


def replaced(text: str, value_of: Callable[[str, str], tuple[Any] | None], now: datetime) -> str:
    """*text* with the values for `%Node.widget%` and the time for `%date:…%`; what is unknown stays.

    :param value_of: the value of a node's widget, as a tuple of one; None where there is none.
    """

    def replacement(match: re.Match[str]) -> str:
        parts = match[1].split(".")
        if len(parts) != 2:
            return _date(parts[0][len("date:") :], now) if parts[0].startswith("date:") else match[0]
        found = value_of(*parts)
        return match[0] if found is None else _NOT_IN_A_NAME.sub("_", as_text(found[0]))

    return _PLACE.sub(replacement, text)


def _date(pattern: str, now: datetime) -> str:
    values = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def part(match: re.Match[str]) -> str:
        letters = match[0]
        if letters[0] in values:
            return str(values[letters[0]]).rjust(len(letters), "0")
        return {"yy": str(now.year)[2:], "yyyy": str(now.year)}.get(letters, letters)

    return _DATE.sub(part, pattern)


def as_text(value: object) -> str:
    """*value* as JavaScript makes it text; null is empty."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return _number(value) if is_number(value) else "NaN" if value != value else "Infinity"
    if isinstance(value, list):
        return ",".join(map(as_text, value))
    return "[object Object]"


def _number(value: float) -> str:
    text = repr(float(value))
    if value == int(value) and abs(value) < 1e21:
        return str(int(Decimal(text)))
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return text
    return f"{Decimal(text):f}" if -7 < int(exponent) < 21 else f"{mantissa}e{int(exponent):+d}"


def is_number(value: object) -> TypeGuard[float]:
    """Whether *value* is a number that JavaScript can hold."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def as_javascript_has_it(value: Any) -> Any:
    """*value* with the digits that JavaScript keeps of large integers: it has no others than floating-point numbers."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53:
        try:
            return int(Decimal(repr(float(value))))
        except OverflowError:
            return None  # its JSON has null for an infinite number
    if isinstance(value, list):
        return [as_javascript_has_it(each) for each in value]
    if isinstance(value, dict):
        return {key: as_javascript_has_it(each) for key, each in value.items()}
    return value


def copied(value: Any) -> Any:
    """A copy of what JSON can hold."""
    return json.loads(json.dumps(value)) if isinstance(value, (list, dict)) else value
