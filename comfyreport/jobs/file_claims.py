"""The files that a job reads and writes, each for one use: claimed before those of reporters, before any is opened."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from comfyreport.errors import UsageError
from comfyreport.files import Claims, Place, resolve
from comfyreport.inputs.local_files import Given
from comfyreport.saving.target import is_folder
from comfyreport.saving.template import Wanted, read_output

FilePath = str | os.PathLike[str]


def claim_files(
    reads: Iterable[tuple[str, FilePath]],
    *,
    output: FilePath | None,
    writes: Iterable[tuple[str, FilePath | None]] = (),
    claims: Claims | None = None,
) -> tuple[Claims, UsageError | None]:
    """Claims of a command's files, and the error where two uses are of one file.

    :param reads: files that are read, with what for.
    :param writes: files that are written beside the *output*, likewise.
    :param claims: what is claimed already; these files are added to it.
    """
    claims = claims or Claims()
    error: UsageError | None = None
    for use, path, written in (
        *((use, path, False) for use, path in reads),
        ("--output", output, True),
        *((use, path, True) for use, path in writes),
    ):
        if path is None:
            continue
        # A path that leads nowhere is told by whoever opens it.
        with contextlib.suppress(OSError, ValueError):
            try:
                wanted = read_output(path) if use == "--output" else Wanted(os.fspath(path))
                place = _read_place(path) if not written else resolve(wanted.path)
                if use == "--output" and (wanted.template is not None or is_folder(wanted.path, place)):
                    continue
                claims.claim(use, place)
            except UsageError as raised:
                error = error or raised
    return claims, error


def check_apart(reads: Iterable[tuple[str, FilePath | None]], use: str, path: FilePath | None) -> None:
    """UsageError where *path*, which is written for *use*, is one of the files that are read."""
    claims = Claims()
    for each, place in (*reads, (use, path)):
        # A path that leads nowhere is told by whoever opens it.
        with contextlib.suppress(OSError, ValueError):
            if place is not None:
                claims.claim(each, resolve(place) if each == use else _read_place(place))


def input_reads(files: Iterable[Given], workflows: Iterable[FilePath]) -> list[tuple[str, FilePath]]:
    """Files for loaders as `claim_files` takes what is read: each once, and none that is a workflow too."""
    seen = {None, *map(_identity, workflows)}
    reads: list[tuple[str, FilePath]] = []
    for given in files:
        identity = _identity(given.path)
        if identity not in seen:
            seen.add(identity)
            reads.append((f"--{given.kind}", given.path))
    return reads


def _identity(path: FilePath) -> tuple[int, int] | None:
    """What is the same for all names of a file; None where there is none."""
    try:
        status = os.fstat(0) if os.fspath(path) == "-" else os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _read_place(path: FilePath) -> Place:
    return Place("-", "/dev/fd/0", descriptor=0) if os.fspath(path) == "-" else resolve(path)
