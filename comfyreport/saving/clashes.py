"""Whether several runs of one command would save to one name: found out before anything is submitted."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from comfyreport.errors import UsageError
from comfyreport.files import Claims, FileUsedTwiceError, Place, folded, is_null, resolve
from comfyreport.saving.target import is_folder, usable
from comfyreport.saving.template import Template, read_output
from comfyreport.text import printable

_HINT = "name a folder, such as made/, or a template, such as 'made/{run:03}-{node}.{ext}'"


class _Output(NamedTuple):
    """What `--output` means: where it leads to, and the names below that. `is_free`: what is there takes several."""

    place: Place
    template: Template | None
    is_free: bool


def check_clashes(
    outputs: Iterable[tuple[int, str | os.PathLike[str] | None, int | None]], *, folder: str = "", strict: bool = False
) -> None:
    """UsageError where two runs would write to one name. Takes each run's index, its `--output` and its seed, if known.

    In a folder names get numbers, and so do those that a server chose; `{run}` and `{prompt_id}` tell all runs apart.

    :param folder: where relative paths start; none: the current one.
    :param strict: a name that a server chose may be chosen again by another one, and then replaces the first: several
        servers, and `--overwrite`.
    """
    first: dict[str, int] = {}
    alike: dict[str, str] = {}

    @lru_cache(maxsize=1000)
    def read(text: str) -> _Output:
        return _read(text, folder, strict=strict)

    for index, path, seed in outputs:
        if path is None:
            continue
        output = read(os.fspath(path))
        if output.is_free:
            continue
        name = _name(output, seed)
        other = first.setdefault(name, index)
        if other == index:
            similar = alike.setdefault(folded(name), name)
            if similar == name or not _are_one(similar, name):
                continue
            other = first[similar]
        raise _clash(os.fspath(path), output, other, index, strict=strict)


def _read(text: str, folder: str, *, strict: bool) -> _Output:
    wanted = read_output(text)
    with usable("--output", wanted.path):
        place = resolve(wanted.path, folder)
    template = wanted.template
    if template is not None:
        is_free = template.has_field("run", "prompt_id") or (template.has_field("filename") and not strict)
    else:
        is_free = is_null(place.path) or (is_folder(wanted.path, place) and not strict)
    return _Output(place, template, is_free)


def _name(output: _Output, seed: int | None) -> str:
    """What is the same for two runs only where they write to one name."""
    if output.template is None:
        return output.place.path
    return os.path.join(output.place.path, output.template.outline({"seed": seed}))


def _are_one(first: str, second: str) -> bool:
    """Whether the file system takes two paths for one that differ in case, say."""
    claims = Claims()
    try:
        for path in (first, second):
            claims.claim("--output", Place(path, path))
    except FileUsedTwiceError:
        return True
    return False


def _clash(text: str, output: _Output, first: int, second: int, *, strict: bool) -> UsageError:
    shown, runs = printable(text, 200), f"run {first} from run {second}"
    if output.template is None and strict and is_folder(text, output.place):
        return UsageError(
            f"--output {shown}: servers may choose one name twice, and --overwrite would replace the first",
            hint="tell runs apart by a template, such as 'made/{run:03}-{filename}', or leave out --overwrite",
        )
    if output.template is None:
        return UsageError(f"--output {shown} is one file for several runs ({first} and {second})", hint=_HINT)
    hint = "add a field that does, such as {run:03}"
    return UsageError(f"--output {shown}: no field in it tells {runs}", hint=hint)
