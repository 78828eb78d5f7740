"""Saving what a run made: where each output goes, and how it gets there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from comfyreport.errors import UsageError
from comfyreport.events import Output

_NAME_LIMIT = 200
_RESERVED = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$", re.IGNORECASE)
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]')

Pieces = Callable[[str, str, str], Iterator[bytes]]


def safe_name(name: str) -> str:
    """The server's *name* of a file as a plain file name: no folders, no device, nothing unprintable, not too long."""
    last = re.split(r"[/\\]", name)[-1]
    clean = _UNSAFE.sub("_", last).strip(" .") or "output"
    if _RESERVED.match(clean):
        clean = f"_{clean}"
    stem, suffix = os.path.splitext(clean)
    suffix = suffix[:20]
    while len((stem + suffix).encode()) > _NAME_LIMIT:
        stem = stem[:-1]
    return stem + suffix


class Target:
    """What `--output` asks for: one file, or a folder.

    A path that ends in a slash or that is a folder already is a folder; anything else is a file, and where a run makes
    several, the later ones get a number (`sunset-2.png`). Files in a folder keep the server's names and replace
    nothing; a file that was named is replaced.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        text = os.fspath(path)
        self._path = Path(text)
        self.folder = text.endswith(("/", os.sep)) or self._path.is_dir()
        self._used: set[Path] = set()

    def prepare(self) -> None:
        """Make the folder and see that it can be written to; UsageError if not. Nothing is left behind in it."""
        folder = self._path if self.folder else self._path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UsageError(
                f"--output {self._path}: can't write there: {error.strerror or error}",
                hint="name a file or a folder that can be written",
            ) from error

    def place(self, output: Output) -> Path:
        """Where *output* goes: a path that no other output of this run has."""
        if self.folder:
            wanted = self._path / safe_name(output.filename or "output")
            return self._free(wanted, keep_existing=True)
        if not self._used:
            self._used.add(self._path)
            return self._path
        suffix = Path(safe_name(output.filename or "")).suffix or self._path.suffix
        return self._free(self._path.with_suffix(suffix), keep_existing=False)

    def _free(self, wanted: Path, *, keep_existing: bool) -> Path:
        path, number = wanted, 1
        while path in self._used or (keep_existing and path.exists()):
            number += 1
            path = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
        self._used.add(path)
        return path


def worth_saving(outputs: Sequence[Output]) -> list[int]:
    """The indexes of the outputs to save: files; those of the temp folder only where there are no others."""
    files = [index for index, output in enumerate(outputs) if output.filename is not None]
    lasting = [index for index in files if outputs[index].folder != "temp"]
    return lasting or files


def save(output: Output, path: Path, pieces: Pieces) -> Output:
    """Fetch *output* to *path*, whole or not at all; the output with its path and size in bytes.

    Raises OSError and what *pieces* raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, part = tempfile.mkstemp(prefix=f".{path.name[:50]}.", suffix=".part", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            size = _write(file.write, pieces(output.filename or "", output.subfolder or "", output.folder or "output"))
        os.chmod(part, 0o666 & ~_umask())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
    return replace(output, path=str(path), bytes=size)


def _write(write: Callable[[bytes], int], pieces: Iterable[bytes]) -> int:
    size = 0
    for piece in pieces:
        write(piece)
        size += len(piece)
    return size


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
