"""`--output` with fields in braces: a name for each output, made of what is known of it and of its run. Pure."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from comfyreport.errors import UsageError
from comfyreport.events import Output
from comfyreport.saving.names import in_file_system, safe_name, safe_part

FIELDS = ("prompt_id", "run", "node", "title", "index", "seed", "date", "filename", "ext")
"""The fields; `Template.names` has what they stand for."""

_NUMBERS = ("run", "index", "seed")
_WIDTH = re.compile(r"0?[1-9][0-9]?d?")
_ENDING = re.compile(r"\.[^.\s]+\Z")

_Piece = tuple[str, str | None, str]
"""A literal, the field behind it, and how that is formatted."""


@dataclass(frozen=True)
class Template:
    """What a path looks like below the folder in which its first field stands: the pieces of each of its parts."""

    parts: tuple[tuple[_Piece, ...], ...]

    def names(self, output: Output, fields: Mapping[str, object]) -> list[str]:
        """The folders and the name of *output*; *fields* are those of its run: `prompt_id`, `run`, `seed`, `date`.

        Where the name has no ending, it gets the output's own.
        """
        # The name alone: an ending is no more to be trusted than the rest.
        stem, ending = os.path.splitext(safe_name(output.filename or "output"))
        values = {
            "prompt_id": fields.get("prompt_id") or "unknown",
            "run": fields.get("run") or 1,
            "node": output.node.id,
            "title": output.node.title or output.node.name,
            "index": output.index,
            "seed": fields.get("seed"),
            "date": fields.get("date") or "",
            "filename": stem,
            "ext": ending[1:],
        }
        made = self._made(values)
        if not self._has_ending:
            made[-1] = made[-1].rstrip(" .") + ending
        return [in_file_system(safe_name(name)) for name in made]

    def outline(self, fields: Mapping[str, object]) -> str:
        """What is the same in all names where *fields* are: for a field that isn't among them stands its name."""
        names = {name: f"{{{name}}}" for name in FIELDS}
        return "/".join(self._made({**names, **fields}))

    def has_field(self, *names: str) -> bool:
        """Whether one of these fields is in it."""
        return any(field in names for part in self.parts for _, field, _ in part)

    def _made(self, values: Mapping[str, object]) -> list[str]:
        return ["".join(literal + _shown(field, how, values) for literal, field, how in part) for part in self.parts]

    @property
    def _has_ending(self) -> bool:
        last = self.parts[-1]
        return any(field == "ext" for _, field, _ in last) or (
            last[-1][1] is None and bool(_ENDING.search(last[-1][0]))
        )


class Wanted(NamedTuple):
    """What `--output` asks for: a path, or the folder above a template's first field."""

    path: str
    template: Template | None = None


def read_output(path: str | os.PathLike[str]) -> Wanted:
    """*path* as `--output` takes it; UsageError where it has braces that can't be understood. Doubled ones are braces.

    A template that ends in a slash keeps the server's names in the folder that it makes.
    """
    text = os.fspath(path)
    if "{" not in text and "}" not in text:
        return Wanted(text)
    parts = [_pieces(text, part) for part in re.split(r"[/\\]" if os.name == "nt" else "/", text)]
    first = next((number for number, part in enumerate(parts) if any(field for _, field, _ in part)), None)
    if first is None:
        return Wanted("/".join(_literal(part) for part in parts))
    root = "/".join(_literal(part) for part in parts[:first])
    if text.endswith(("/", os.sep)):
        parts[-1] = (("", "filename", ""),)
    # Two slashes are one.
    below = tuple(part for part in parts[first:] if part != (("", None, ""),))
    return Wanted(f"{root}/" if first else f".{os.sep}", Template(below))


def _pieces(text: str, part: str) -> tuple[_Piece, ...]:
    try:
        pieces = list(string.Formatter().parse(part))
    except ValueError as error:
        raise UsageError(
            f"--output {text}: {error}", hint="a brace that is meant as one is doubled: {{ or }}"
        ) from None
    for _, field, how, conversion in pieces:
        if field is not None and field not in FIELDS:
            raise UsageError(f"--output {text}: there is no field {{{field}}}", hint=_HINT)
        if field is not None and (conversion or (how and (field not in _NUMBERS or not _WIDTH.fullmatch(how)))):
            raise UsageError(
                f"--output {text}: {{{field}}} can't be formatted so",
                hint="run, index and seed may have a width, such as {index:03}; the other fields take none",
            )
    return tuple((literal, field, how or "") for literal, field, how, _ in pieces) or (("", None, ""),)


_HINT = f"fields are {', '.join(f'{{{name}}}' for name in FIELDS)}; a brace that is meant as one is doubled"


def _literal(part: tuple[_Piece, ...]) -> str:
    return "".join(literal for literal, _, _ in part)


def _shown(field: str | None, how: str, values: Mapping[str, object]) -> str:
    if field is None:
        return ""
    value = values[field]
    if isinstance(value, int):
        return format(value, how)
    # There may be no seed, or several.
    return safe_part(str("none" if value is None else value))
