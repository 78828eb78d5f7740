"""A file of prompts: text with one a line, CSV, or JSON; each row is what one run sets. All rows are read at once.

Pure: in goes what the file holds, out come its rows, or a UsageError that tells the numbers of the bad ones.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, NoReturn

from comfyreport.errors import UsageError
from comfyreport.jobs.workflow import decoded, shown_path
from comfyreport.planning.columns import AXES, COLUMNS, MAX_SHOWN, named, nearest, parsed
from comfyreport.planning.faults import MEND, Faults
from comfyreport.text import DEPTH_LIMIT, printable
from comfyreport.workflow.files import STDIN

MAX_BYTES = 64 * 1024 * 1024
"""Bytes of a prompts file."""

_JSON_HINT = 'each line is an object, such as {"prompt": "a stone jar", "seed": 7}'
_SEPARATORS = (",", ";", "\t")


class Row(NamedTuple):
    """What one row sets: *values* under *names*, parsed. `number` is that of its line, or of its item in a list."""

    number: int
    names: tuple[str, ...]
    values: tuple[Any, ...]


class Rows(NamedTuple):
    """The rows of a prompts file; `shown` is its name for messages, `unit` what its numbers count.

    `digest` is the SHA-256 of what it holds, in hexadecimal.
    """

    shown: str
    unit: str
    rows: tuple[Row, ...]
    digest: str = ""

    def faults(self) -> Faults:
        """A place for what is wrong with some."""
        return Faults(self.shown)

    def where(self, row: Row) -> str:
        """Where *row* stands."""
        return f"{self.unit} {row.number}"


def read_rows(path: str, data: bytes) -> Rows:
    """The rows in *data*, which the prompts file *path* holds. Raises UsageError where one can't be used, or none is.

    The name's ending says what it holds; what comes through stdin is JSON where its first line is an object.
    """
    shown, digest = shown_path(path), hashlib.sha256(data).hexdigest()
    text = decoded(data, path)
    # It may be large.
    del data
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UsageError(f"{shown}, line {line}: there is a NUL byte", hint="save it as UTF-8 text")
    ending = os.path.splitext(path)[1].lower()
    if ending in (".csv", ".tsv"):
        rows = _csv_rows(shown, text)
    elif ending in (".jsonl", ".ndjson", ".json") or (path == STDIN and _begins_with_object(text)):
        listed = _listed(shown, text) if ending == ".json" else None
        rows = _object_lines(shown, text) if listed is None else _objects(shown, "item", enumerate(listed, 1))
    else:
        _check_no_columns(shown, text)
        rows = Rows(shown, "line", tuple(_text_rows(text)))
    if not rows.rows:
        raise UsageError(f"{shown} has no rows", hint="write a prompt a line, or CSV or JSON with a column prompt")
    return rows._replace(digest=digest)


def _lines(text: str) -> Iterator[str]:
    """The lines of *text*, one at a time, with their ends."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def _check_no_columns(shown: str, text: str) -> None:
    """UsageError where the first line of a text names columns, and isn't a prompt."""
    first = next((line for line in _lines(text) if line.strip()), "")
    if any(set(_columns(first, each)) & set(AXES) and len(_columns(first, each)) > 1 for each in _SEPARATORS):
        raise UsageError(
            f"{shown}, line 1: it names columns, and text has a prompt a line", hint="give its name the ending .csv"
        )


def _text_rows(text: str) -> Iterator[Row]:
    for number, line in enumerate(_lines(text), 1):
        if line.strip():
            yield Row(number, ("prompt",), (line.strip(),))


# --- CSV


def _csv_rows(shown: str, text: str) -> Rows:
    names: tuple[str, ...] = ()
    rows: list[Row] = []
    faults = Faults(shown)
    shapes: dict[tuple[str, ...], tuple[str, ...]] = {}
    for number, cells in _records(shown, text):
        if not any(cell.strip() for cell in cells):
            continue
        if not names:
            names = _header(shown, number, cells)
            continue
        while len(cells) > len(names) and not cells[-1].strip():
            cells.pop()
        if len(cells) > len(names):
            message = f"there are {len(cells)} cells, and {len(names)} columns"
            faults.add(f"line {number}", message, "put a text that holds a comma into quotes")
            continue
        filled = [(name, cell) for name, cell in zip(names, cells, strict=False) if cell.strip()]
        if any(not name for name, _ in filled):
            faults.add(f"line {number}", "there is a cell in a column without a name", "name it in the first line")
            continue
        _add_row(rows, shapes, number, filled, partial(faults.add, f"line {number}"))
    faults.raise_any()
    return Rows(shown, "line", tuple(rows))


def _records(shown: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """The records of a CSV file, each with the line in which it begins."""
    text = text if "\n" in text else text.replace("\r", "\n")
    reader = csv.reader(_lines(text), strict=True, delimiter=_separator(text))
    csv.field_size_limit(MAX_BYTES)
    while True:
        number = reader.line_num + 1
        try:
            yield number, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UsageError(
                f"{shown}, line {number}: it isn't CSV: {error}",
                hint="in quotes a quote is written twice, and the last one stands before a comma or the line's end",
            ) from None


def _separator(text: str) -> str:
    """What separates the columns: spreadsheets write semicolons where a comma stands in numbers, or tabs."""
    first = next((line for line in _lines(text) if line.strip()), "")
    return next((each for each in _SEPARATORS if len(_columns(first, each)) > 1), ",")


def _columns(line: str, separator: str) -> list[str]:
    """The columns that *line* names, if it is such a line."""
    names = [cell.strip().strip('"') for cell in line.split(separator)]
    return names if all(named(name, COLUMNS) for name in names if name) else []


def _header(shown: str, number: int, cells: list[str]) -> tuple[str, ...]:
    place = f"{shown}, line {number}"
    names: list[str] = []
    for cell in cells:
        name = named(cell, COLUMNS) if cell.strip() else ""
        if name is None:
            raise UsageError(
                f"{place}: there is no column {printable(cell.strip(), MAX_SHOWN)!r}; {nearest(cell, COLUMNS)}",
                hint="the first line names the columns: short names of flags, output, workflow, and NODE.INPUT",
            )
        if name and name in names:
            raise UsageError(f"{place}: the column {printable(name, MAX_SHOWN)} is there twice", hint=MEND)
        names.append(name)
    return tuple(names)


# --- JSON


def _begins_with_object(text: str) -> bool:
    first = text.lstrip().partition("\n")[0]
    try:
        return first.startswith("{") and isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _listed(shown: str, text: str) -> list[Any] | None:
    """The items of a file that is one list, or one object; None where it is neither, but may be objects on lines."""
    try:
        content = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        if not text.lstrip().startswith("["):
            return None
        at = f" in line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        message = error.msg if isinstance(error, json.JSONDecodeError) else _why(error)
        raise UsageError(f"{shown} isn't JSON: {message}{at}", hint=MEND) from None
    return content if type(content) is list else [content]


class _Pairs(list[tuple[str, Any]]):
    """An object as it was read: a name may be there twice."""


def _object_lines(shown: str, text: str) -> Rows:
    def read(lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line, parse_constant=_no_constant, object_pairs_hook=_Pairs)
            except json.JSONDecodeError as error:
                yield number, ValueError(f"it isn't JSON: {error.msg} (column {error.colno})")
            except (ValueError, RecursionError) as error:
                yield number, ValueError(f"it isn't JSON: {_why(error)}")

    return _objects(shown, "line", read(_lines(text)))


def _why(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _objects(shown: str, unit: str, items: Iterable[tuple[int, Any]]) -> Rows:
    rows: list[Row] = []
    faults = Faults(shown)
    shapes: dict[tuple[str, ...], tuple[str, ...]] = {}
    known: dict[str, str] = {}
    for number, item in items:

        def tell(message: str, number: int = number) -> None:
            faults.add(f"{unit} {number}", message, _JSON_HINT)

        if not isinstance(item, _Pairs):
            tell(str(item) if isinstance(item, ValueError) else "it isn't an object")
            continue
        wrong = _unknown(item, known)
        if wrong:
            tell(wrong)
            continue
        try:
            filled = [(known[key], _plain(value)) for key, value in item if value is not None]
        except ValueError as error:
            tell(str(error))
            continue
        _add_row(rows, shapes, number, filled, tell)
    faults.raise_any()
    return Rows(shown, unit, tuple(rows))


def _unknown(item: _Pairs, known: dict[str, str]) -> str:
    """What is wrong with the keys of an object; *known* gets the names that they are."""
    names: set[str] = set()
    for key, _ in item:
        name = known.get(key) or named(key, COLUMNS)
        if name is None:
            return f"there is no {printable(key, MAX_SHOWN)!r}; {nearest(key, COLUMNS)}"
        if name in names:
            return f"{printable(name, MAX_SHOWN)} is there twice"
        known[key] = name
        names.add(name)
    return ""


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > DEPTH_LIMIT:
        raise ValueError("a value is nested too deep")
    if isinstance(value, _Pairs):
        return {key: _plain(each, depth + 1) for key, each in value}
    return [_plain(each, depth + 1) for each in value] if isinstance(value, list) else value


# --- both


def _add_row(
    rows: list[Row],
    shapes: dict[tuple[str, ...], tuple[str, ...]],
    number: int,
    filled: list[tuple[str, Any]],
    tell: Callable[[str], None],
) -> None:
    """A row of what is *filled*, unless a value is none, which is told; equal *shapes* are one."""
    values: list[Any] = []
    for name, value in filled:
        try:
            values.append(parsed(name, value))
        except ValueError as error:
            tell(f"{printable(name, MAX_SHOWN)}: {error}")
            return
    names = tuple(name for name, _ in filled)
    rows.append(Row(number, shapes.setdefault(names, names), tuple(values)))
