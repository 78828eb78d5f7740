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

    In a folder names get numbers, and so do those that a server chose; `{prompt_id}` tells all runs apart.

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
        name = _name(output, index, seed)
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
        is_free = template.has_field("prompt_id") or (template.has_field("filename") and not strict)
    else:
        is_free = is_null(place.path) or (is_folder(wanted.path, place) and not strict)
    return _Output(place, template, is_free)


def _name(output: _Output, index: int, seed: int | None) -> str:
    """What is the same for two runs only where they write to one name."""
    if output.template is None:
        return output.place.path
    return os.path.join(output.place.path, output.template.outline({"run": index, "seed": seed}))


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


def check_uses(
    outputs: Iterable[str | os.PathLike[str] | None],
    reads: Iterable[str | os.PathLike[str]],
    claims: Claims,
    *,
    own: str | os.PathLike[str] | None,
    folder: str = "",
) -> None:
    """UsageError where an output of a run would replace a file that the command reads or writes itself.

    :param reads: files that runs read, beside those that are claimed.
    :param own: the output that is claimed as what it is.
    :param folder: where relative paths start.
    """
    read = {_identity(os.path.join(folder, each)) for each in reads} - {None}
    for path in dict.fromkeys(os.fspath(each) for each in outputs if each not in (None, own)):
        wanted = read_output(path)
        with usable("--output", wanted.path):
            place = resolve(wanted.path, folder)
        if wanted.template is not None or is_null(place.path) or is_folder(wanted.path, place):
            continue
        if claims.has_path(place.path) or _identity(place.path) in read:
            raise UsageError(
                f"the output {printable(path, 200)} is a file that this command uses itself",
                hint="give it a name of its own",
            )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
