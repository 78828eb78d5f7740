"""Saving what a run made: where each output goes, and how it gets there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from comfyreport.errors import UsageError
from comfyreport.events import Output
from comfyreport.protocol.ui_outputs import worth_saving as worth_saving

_NAME_LIMIT = 200
_SUFFIX_LIMIT = 20
# Devices on Windows, whatever follows behind a dot (Microsoft's "Naming Files, Paths, and Namespaces").
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.IGNORECASE)
_UNSAFE = re.compile(r'[<>:"/\\|?*]')

CHECK_DISK_EVERY = 16 * 1024 * 1024
KEEP_FREE = 64 * 1024 * 1024
"""Bytes: a download may leave no less of the disk. Nothing else limits its size: films and models are large."""

Fetch = Callable[[str, str, str], Generator[bytes, None, None]]


def safe_name(name: str) -> str:
    """The server's *name* of a file as a plain file name: no folders, no device, nothing unprintable, not too long."""
    last = re.split(r"[/\\]", name)[-1]
    clean = "".join(each if each.isprintable() else "_" for each in _UNSAFE.sub("_", last)).strip(" .") or "output"
    if _RESERVED.match(clean):
        clean = f"_{clean}"
    stem, suffix = os.path.splitext(clean)
    suffix = suffix[:_SUFFIX_LIMIT].rstrip(" .")
    room = _NAME_LIMIT - len(suffix.encode())
    return stem.encode()[:room].decode("utf-8", "ignore") + suffix


class Target:
    """What `--output` asks for: one file, or a folder.

    A path that ends in a slash or that is a folder already is a folder; anything else is a file, and where a run makes
    several, the later ones get a number (`sunset-2.png`). Files in a folder keep the server's names. Only the very
    file that was named is ever replaced.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        text = os.fspath(path)
        self._path = Path(text)
        self.folder = text.endswith(("/", os.sep)) or self._path.is_dir()
        self._used: set[Path] = set()
        self._last: dict[Path, int] = {}

    def prepare(self) -> None:
        """Make the folder and see that it can be written to; UsageError if not. Nothing is left behind in it."""
        folder = self._path if self.folder else self._path.parent
        hint = "name a file or a folder that can be written"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
            special = not self.folder and self._path.exists() and not self._path.is_file()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"--output {self._path}: can't write there: {reason}", hint=hint) from error
        if special:
            # The file would take the place of a device or a pipe.
            raise UsageError(f"--output {self._path} is neither a file nor a folder", hint=hint)

    def place(self, output: Output) -> Path:
        """Where *output* goes: a path that no other output of this run has."""
        if self.folder:
            wanted = self._path / safe_name(output.filename or "output")
            return self._free_name(wanted, 1)
        if not self._used:
            self._used.add(self._path)
            return self._path
        suffix = Path(safe_name(output.filename or "")).suffix or self._path.suffix
        return self._free_name(self._path.with_suffix(suffix), 2)

    def _free_name(self, wanted: Path, number: int) -> Path:
        """*wanted* with the first free number from *number* on; 1 is told as none."""
        # Lower ones were found taken before: for many equal names they must not be tried again each time.
        number = self._last.get(wanted, number - 1) + 1
        while (path := _numbered(wanted, number)) in self._used or os.path.lexists(path):
            number += 1
        self._last[wanted] = number
        self._used.add(path)
        return path


def _numbered(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def save(output: Output, path: Path, chunks: Fetch) -> Output:
    """Fetch *output* to *path*, whole or not at all; the output with its path and size in bytes.

    Raises OSError, also before the disk is full, and what *chunks* raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name[:50]}.{uuid.uuid4().hex}.part")
    try:
        got = chunks(output.filename or "", output.subfolder or "", output.folder or "output")
        with contextlib.closing(got), open(part, "xb") as file:
            size = _write(file.write, _while_disk_has_space(got, path.parent))
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
    return replace(output, path=str(path), bytes=size)


def _while_disk_has_space(chunks: Iterable[bytes], folder: Path) -> Iterator[bytes]:
    """*chunks*, as long as they leave something of the disk to others: a server may send without end."""
    since = CHECK_DISK_EVERY
    for chunk in chunks:
        since += len(chunk)
        if since >= CHECK_DISK_EVERY:
            since = 0
            if shutil.disk_usage(folder).free < KEEP_FREE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield chunk


def _write(write: Callable[[bytes], int], chunks: Iterable[bytes]) -> int:
    size = 0
    for chunk in chunks:
        write(chunk)
        size += len(chunk)
    return size
