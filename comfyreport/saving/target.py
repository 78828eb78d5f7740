"""Saving what a run made: where each output goes, and how it gets there whole or not at all."""

from __future__ import annotations

import base64
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
from typing import IO, BinaryIO, NamedTuple

from comfyreport.errors import UsageError
from comfyreport.events import Output
from comfyreport.files import (
    Claims,
    Place,
    is_device_name,
    is_null,
    is_read_only,
    may_be_held,
    open_to_write,
    patiently,
    resolve,
    takes_files,
)
from comfyreport.protocol.downloads import FilePlace
from comfyreport.protocol.ui_outputs import view_place, worth_saving as worth_saving
from comfyreport.saving import writing
from comfyreport.terminal import is_terminal
from comfyreport.timing import Timing

_NAME_LIMIT = 200
_LARGE = 64 * 1024 * 1024
_SUFFIX_LIMIT = 20
_WITH_ENDING = 14
_TRIES = 10
_UNSAFE = re.compile(r'[<>:"/\\|?*]')

_HINT = "name a file or a folder that can be written"

Fetch = Callable[[FilePlace], Generator[bytes, None, None]]


def safe_name(name: str) -> str:
    """The server's *name* of a file as a plain file name: no folders, no device, nothing unprintable, not too long."""
    last = re.split(r"[/\\]", name)[-1]
    clean = "".join(each if each.isprintable() else "_" for each in _UNSAFE.sub("_", last)).strip(" .") or "output"
    if is_device_name(clean):
        clean = f"_{clean}"
    stem, suffix = os.path.splitext(clean)
    suffix = suffix[:_SUFFIX_LIMIT].rstrip(" .")
    room = _NAME_LIMIT - len(suffix.encode())
    return (stem.encode()[:room].decode("utf-8", "ignore") + suffix).rstrip(" .")


class Spot(NamedTuple):
    """Where one output goes: `shown` to the user, `path` for the system.

    `named`: the user named this very file, which is replaced. Any other name is a wish: what is taken gets a number.
    """

    shown: Path
    path: Path
    named: bool


def is_folder(path: str | os.PathLike[str], place: Place) -> bool:
    """Whether `--output` *path*, which leads to *place*, means a folder: it ends in a slash or is one already."""
    return place.descriptor is None and (os.fspath(path).endswith(("/", os.sep)) or os.path.isdir(place.path))


class Target:
    """What `--output` asks for: one file, or a folder.

    A path that ends in a slash or that is a folder already is a folder; anything else is a file, and where a run makes
    several, the later ones get a number (`sunset-2.png`). Files in a folder keep the server's names. Only the very
    file that was named is ever replaced. `single`: a pipe or a device, which takes one output as a whole.

    :param place: where *path* leads to; None: that is found out now.
    :param claims: files that have another use: none of them is an output.
    :param patience: seconds for another program to let go of a file that it has open.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        place: Place | None = None,
        *,
        claims: Claims | None = None,
        patience: float = Timing.held_file,
    ) -> None:
        self._shown = Path(path)
        self._place = place or resolve(path)
        self._path = Path(self._place.path)
        self._claims = claims or Claims()
        self._patience = patience
        self._sink: BinaryIO | None = None
        self._parts: dict[Path, BinaryIO] = {}
        self._named_is_free = True
        self._last: dict[Path, int] = {}
        self.folder = is_folder(path, self._place)
        self.single = False

    def __str__(self) -> str:
        return str(self._shown)

    def prepare(self) -> None:
        """Make the folder and see that it can be written to; UsageError if not. Nothing is left behind in it."""
        with usable("--output", self._shown):
            if not self.folder and self._is_special():
                self._open_special()
                return
            if not self.folder and is_read_only(self._path):
                raise PermissionError(errno.EACCES, "the file is read-only", str(self._path))
            folder = self._path if self.folder else self._path.parent
            folder.mkdir(parents=True, exist_ok=True)
            try:
                with tempfile.TemporaryFile(dir=folder):
                    pass
            except OSError as error:
                if self.folder or not writing.cant_replace(error, self._path):
                    raise

    def _is_special(self) -> bool:
        return self._place.descriptor is not None or (self._path.exists() and not self._path.is_file())

    def _open_special(self) -> None:
        """Open what isn't to be replaced, and hold it: a FIFO's reader would see its end."""
        # The path of a descriptor is its name among ours; not every system has it.
        if self._place.descriptor is None and not takes_files(os.stat(self._path).st_mode):
            raise UsageError(f"--output {self} is neither a file nor a folder", hint=_HINT)
        self._sink = open_to_write(self._place.path)
        if is_terminal(self._sink):
            # What a server sends may hold escape sequences.
            raise UsageError(f"--output {self} leads to a terminal, and outputs are no text", hint=_HINT)
        self.single = not is_null(self._place.path)

    def close(self) -> None:
        """Close what `prepare` opened, and remove what isn't whole: a thread that was given up may not have done so."""
        if self._sink is not None:
            self._sink.close()
        for part, file in list(self._parts.items()):
            with contextlib.suppress(OSError):
                try:
                    os.unlink(part)
                except PermissionError:
                    # On Windows that thread holds it.
                    file.close()
                    os.unlink(part)

    def spot(self, output: Output) -> Spot:
        """Where *output* is to go: the name is taken only when it gets there."""
        if self._sink is not None:
            return Spot(self._shown, self._path, named=True)
        if self.folder:
            name = _in_file_system(safe_name(output.filename or "output"))
            return Spot(self._shown / name, self._path / name, named=False)
        if self._named_is_free:
            self._named_is_free = False
            return Spot(self._shown, self._path, named=True)
        suffix = _in_file_system(Path(safe_name(output.filename or "")).suffix) or self._path.suffix
        shown = self._shown.with_suffix(suffix)
        return Spot(shown, Path(self._place.folder, shown.name), named=False)

    def save(
        self, output: Output, spot: Spot, chunks: Fetch, *, wait: Callable[[], None] = lambda: None, limit: float = 60.0
    ) -> Output:
        """Fetch *output* to *spot*, whole or not at all; the output with its path and size in bytes.

        Raises OSError, and what *chunks* and *wait* raise.

        :param wait: called several times a second while a pipe takes nothing.
        :param limit: seconds in which its reader takes at least something.
        """
        place = FilePlace(*view_place(output.filename or "", output.subfolder or ""), output.folder or "output")
        with contextlib.closing(chunks(place)) as got:
            if self._sink is not None:
                with writing.spool() as file:
                    size = _write(file.write, got)
                    writing.copy_out(file, self._sink, wait=wait, limit=limit)
                return _saved(output, spot.shown, size)
            with self._part_of(spot) as (file, part):
                size = _write(file.write, got)
                file.flush()
                if part is None:
                    writing.overwrite(file, spot.path)
                    return _saved(output, spot.shown, size)
                file.close()
                if not spot.named:
                    return _saved(output, spot.shown.with_name(self._take(part, spot.path)), size)
                return _saved(output, spot.shown.with_name(self._put(part, spot)), size)

    @contextlib.contextmanager
    def _part_of(self, spot: Spot) -> Iterator[tuple[IO[bytes], Path | None]]:
        """A file for what isn't whole yet, and its name, if it can stand where *spot* is; removed unless renamed."""
        spot.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = _unfinished(spot.path)
        except OSError as error:
            if not spot.named or not writing.cant_replace(error, spot.path):
                raise
            with writing.spool() as nameless:
                yield nameless, None
            return
        part = spot.path.with_name(os.path.basename(file.name))
        self._parts[part] = file
        try:
            with file:
                yield file, part
        finally:
            self._remove(part)

    def _remove(self, part: Path) -> None:
        with contextlib.suppress(OSError):
            patiently(lambda: os.unlink(part), self._patience)
        self._parts.pop(part, None)

    def _put(self, part: Path, spot: Spot) -> str:
        """Put *part* in the place of the file that was named, or beside it while another program holds it; its name."""
        try:
            writing.put(part, spot.path, self._patience)
        except PermissionError as error:
            if not may_be_held(error):
                raise
            return self._take(part, Path(self._place.folder, spot.shown.name))
        return spot.shown.name

    def _take(self, part: Path, wanted: Path) -> str:
        """Give *part* the wanted name with the first free number; that name. Beside FILE itself the first one is 2."""
        # Lower ones were found taken before: for many equal names they must not be tried again each time.
        number = self._last.get(wanted, 0 if self.folder else 1) + 1
        while True:
            path = _numbered(wanted, number)
            if not self._claims.has_path(str(path)):
                with contextlib.suppress(FileExistsError):
                    writing.take(part, path, self._patience)
                    self._last[wanted] = number
                    return path.name
            number += 1


@contextlib.contextmanager
def usable(flag: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Make what goes wrong with the path of *flag* a UsageError."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{flag} {Path(path)}: can't write there: {reason}", hint=_HINT) from error


def check_room(spot: Spot, size: int) -> None:
    """OSError where a large file of *size* bytes can't fit, if the system tells sizes that make sense."""
    special = spot.path.exists() and not spot.path.is_file()
    if size < _LARGE or special:
        return
    try:
        usage = shutil.disk_usage(spot.path.parent)
    except OSError:
        return
    if 0 < usage.free <= usage.total and usage.free < size:
        raise OSError(errno.ENOSPC, f"it has {size} bytes, and there is room for {usage.free}")


def _in_file_system(name: str) -> str:
    """*name* so that the file system takes it, whatever encoding the locale has: as UTF-8."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return os.fsdecode(name.encode())
    return name


def _unfinished(path: Path) -> BinaryIO:
    """A new file beside *path* for what will be there; its name isn't longer, for there may be no room for more."""
    tries = 0
    while True:
        # All short names may be taken.
        part = path.with_name(_random_name(len(path.name) + tries // _TRIES))
        if part.name != path.name.lower():
            with contextlib.suppress(FileExistsError):
                return open(part, "xb")
        tries += 1


def _random_name(length: int) -> str:
    """A name for a file that isn't whole; hidden on most systems, and known by its ending, where *length* allows it."""
    random = uuid.uuid4().hex
    if length < _WITH_ENDING:
        return f".{random}"[:length] if length > 1 else random[0]
    return f".{random[: length - len('..part')]}.part"


def _numbered(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def _write(write: Callable[[bytes], int], chunks: Iterable[bytes]) -> int:
    size = 0
    for chunk in chunks:
        write(chunk)
        size += len(chunk)
    return size


def _saved(output: Output, path: Path, size: int) -> Output:
    raw = os.fsencode(path)
    try:
        raw.decode()
    except UnicodeDecodeError:
        return replace(output, path=str(path), path_bytes=base64.b64encode(raw).decode(), bytes=size)
    return replace(output, path=str(path), bytes=size)
