"""`--grid NAME=VALUES`: an axis of the runs, its values listed or counted. Pure, but for the files that are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from comfyreport.errors import UsageError
from comfyreport.planning.columns import AXES, FILE_NAMES, MAX_SHOWN, named, nearest, parsed
from comfyreport.text import printable
from comfyreport.workflow.settings import file_text

MAX_VALUES = 1_000_000
"""Values of an axis, and runs of a plan."""

_HINT = "such as --grid seed=1..20, --grid 3.cfg=5.0..8.0..0.5 or --grid 'prompt=\"a jar, of stone\",a bowl'"
_ITEM = re.compile(r' *(?:"((?:[^"]|"")*)" *|([^,]*))(,|$)', re.DOTALL)
# With no more digits than a Decimal keeps.
_NUMBER = r"-?[0-9]{1,20}(?:\.[0-9]{1,8})?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?:\.\.({_NUMBER}))?")
_NO_NUMBERS = ("prompt", "negative", "size", "model", *FILE_NAMES)
_TEXTS = ("prompt", "negative")


class Axis(NamedTuple):
    """What one `--grid` varies: a short name or NODE.INPUT, and its values in their order."""

    name: str
    values: tuple[Any, ...]


class _Item(NamedTuple):
    text: str
    quoted: bool


def parse_grids(texts: Iterable[str], read: Callable[[str], str]) -> tuple[Axis, ...]:
    """The axes of all `--grid`. Raises UsageError, also where two are of one name.

    :param read: the text of a file, for `@FILE`.
    """
    axes: list[Axis] = []
    for text in texts:
        axis = parse_grid(text, read)
        if any(axis.name == each.name for each in axes):
            raise UsageError(f"--grid {_shown(axis.name)} is given twice", hint="list all its values in one --grid")
        axes.append(axis)
    return tuple(axes)


def parse_grid(text: str, read: Callable[[str], str]) -> Axis:
    """The axis that `NAME=VALUES` asks for. Raises UsageError.

    :param read: the text of a file, for `@FILE`.
    """
    name, listed = _split(text)
    if not listed.strip():
        raise UsageError(f"--grid {_shown(name)} has no values", hint=_HINT)
    values: list[Any] = []
    for item in _items(name, listed):
        count, texts = _counted(name, item)
        if len(values) + count > MAX_VALUES:
            raise UsageError(
                f"--grid {_shown(name)} has over {MAX_VALUES:,} values", hint="make several commands of it"
            )
        values += [_value(name, _Item(each, item.quoted), read) for each in texts]
    return Axis(name, tuple(values))


def reads_stdin(text: str) -> int:
    """How often the values of `NAME=VALUES` read stdin."""
    return grid_files(text).count("-")


def grid_files(text: str) -> list[str]:
    """The files whose texts are values of `NAME=VALUES`, as far as that can be read: `@FILE`."""
    try:
        name, listed = _split(text)
        items = list(_items(name, listed))
    except UsageError:
        return []
    if not _reads_files(name):
        return []
    return [item.text[1:] for item in items if re.match("@[^@]", item.text) and not item.quoted]


def _split(text: str) -> tuple[str, str]:
    """NAME and VALUES: at the first `=` behind a name, for titles may have one."""
    for match in re.finditer("=", text):
        name = named(text[: match.start()], AXES)
        if name is not None and '"' not in name:
            return name, text[match.end() :]
    name, equals, _ = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"--grid {_shown(text)} isn't NAME=VALUES", hint=_HINT)
    raise UsageError(
        f"--grid: {_shown(name)} is neither a short name nor NODE.INPUT; {nearest(name, AXES)}", hint=_HINT
    )


def _items(name: str, listed: str) -> Iterator[_Item]:
    """The values between commas; in quotes, as in CSV, one may hold commas, and a quote twice is one."""
    start, more = 0, True
    while more:
        match = _ITEM.match(listed, start)
        text = None if match is None else match[2]
        if match is None or (text is not None and text.startswith('"')):
            where = _shown(listed[start:].strip())
            raise UsageError(
                f"--grid {_shown(name)}: the quotes of {where} aren't closed before a comma or the end",
                hint='write a quote inside of quotes twice: "a ""good"" jar, of stone"',
            )
        if text is not None and not text.strip():
            raise UsageError(f"--grid {_shown(name)}: a value is empty", hint='write "" where it is meant to be empty')
        yield _Item(match[1].replace('""', '"'), True) if text is None else _Item(text.strip(), False)
        start, more = match.end(), match[3] == ","


def _counted(name: str, item: _Item) -> tuple[int, Iterable[str]]:
    """How many values a range stands for, and what they are; what is none is one value, the text itself."""
    match = None if item.quoted or name in _NO_NUMBERS else _RANGE.fullmatch(item.text)
    if match is None:
        return 1, (item.text,)
    shown = f"--grid {_shown(name)}={_shown(item.text)}"
    whole = "." not in item.text.replace("..", "")
    if not whole and match[3] is None:
        raise UsageError(f"{shown} has no step", hint=f"add one: {item.text}..0.5")
    first, last, step = Decimal(match[1]), Decimal(match[2]), Decimal(match[3] or 1)
    if step == 0 or (step < 0 and last > first):
        raise UsageError(f"{shown} never gets from {match[1]} to {match[2]} in steps of {match[3]}", hint=_HINT)
    count = int(abs(last - first) / abs(step)) + 1
    step = abs(step) if last >= first else -abs(step)
    if whole:
        return count, map(str, range(int(first), int(last) + (1 if step > 0 else -1), int(step)))
    return count, (format(first + index * step, "f") for index in range(count))


def _value(name: str, item: _Item, read: Callable[[str], str]) -> Any:
    text = item.text
    try:
        if not item.quoted and _reads_files(name):
            text = file_text(text, read)
        return parsed(name, text)
    except ValueError as error:
        raise UsageError(f"--grid {_shown(name)}: {error}", hint=_HINT) from None
    except UsageError as error:
        raise UsageError(f"--grid {_shown(name)}: {error.message}", hint=error.hint) from error


def _reads_files(name: str) -> bool:
    return name in _TEXTS or "." in name


def _shown(text: str) -> str:
    return printable(text, MAX_SHOWN)
