"""Saving what a run made: where each output goes, and how it gets there whole or not at all."""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

from comfyreport.errors import UsageError
from comfyreport.events import Output
from comfyreport.files import (
    Claims,
    Place,
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
from comfyreport.saving.names import in_file_system, numbered, safe_name
from comfyreport.saving.origin import Origin
from comfyreport.saving.template import Template
from comfyreport.terminal import is_terminal
from comfyreport.timing import Timing

_LARGE = 64 * 1024 * 1024
_WITH_ENDING = 14
_TRIES = 10
_PROBE = b"\0" * 65536

_HINT = "name a file or a folder that can be written"

Fetch = Callable[[FilePlace], Generator[bytes, None, None]]


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


class Part(NamedTuple):
    """An output that was fetched and has no name yet: `path` is where it is, None for a `file` without one."""

    size: int
    path: Path | None
    file: IO[bytes] | None = None
    error: OSError | None = None


class Target:
    """What `--output` asks for: one file, a folder, or a name for each file.

    A path that ends in a slash or that is a folder already is a folder; anything else is a file, and where a run makes
    several, the later ones get a number (`sunset-2.png`). Files in a folder keep the server's names. Only the very
    file that was named is replaced, unless *overwrite* is set. `single`: a pipe or a device, which takes one output as
    a whole.

    An output is fetched to a `Part`, several at once if need be; then it gets its name, one after the other.

    :param place: where *path* leads to; None: that is found out now.
    :param template: the names below the folder *path*.
    :param overwrite: replace files that were there before, none of which this run made.
    :param origin: what the files beside the saved ones tell of; None: there are none.
    :param claims: files that have another use: none of them is an output.
    :param found_again: an earlier command may have saved some of it: a file with the same content is taken for that.
    :param patience: seconds for another program to let go of a file that it has open.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        place: Place | None = None,
        *,
        template: Template | None = None,
        overwrite: bool = False,
        origin: Origin | None = None,
        claims: Claims | None = None,
        found_again: bool = False,
        patience: float = Timing.held_file,
    ) -> None:
        self._shown = Path(path)
        self._place = place or resolve(path)
        self._path = Path(self._place.path)
        self._claims = claims or Claims()
        self._patience = patience
        self._found_again = found_again
        self._template = template
        self._overwrite = overwrite
        self.origin = origin
        self._date = time.strftime("%Y-%m-%d")
        self._made: set[tuple[int, int]] = set()
        self._sink: BinaryIO | None = None
        self._parts: dict[Path, BinaryIO] = {}
        self._named_is_free = True
        self._last: dict[Path, int] = {}
        self.folder = template is not None or is_folder(path, self._place)
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
                with tempfile.TemporaryFile(dir=folder) as probe:
                    # A disk that is full takes names, and nothing else.
                    probe.write(_PROBE)
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

    @property
    def waiting_room(self) -> Spot | None:
        """Where an output can wait of which it isn't known yet whether it is the file that was named."""
        # The others of a link's target stand beside the link, which may be another disk.
        beside = self._sink is None and self._place.folder == str(self._path.parent)
        return Spot(self._shown, self._path, named=True) if beside else None

    def spot(self, output: Output, fields: Mapping[str, object] | None = None) -> Spot:
        """Where *output* is to go: the name is taken only when it gets there. *fields* are what a template needs."""
        if self._template is not None:
            names = self._template.names(output, {**(fields or {}), "date": self._date})
            return Spot(self._shown.joinpath(*names), self._path.joinpath(*names), named=False)
        if self._sink is not None:
            return Spot(self._shown, self._path, named=True)
        if self.folder:
            name = in_file_system(safe_name(output.filename or "output"))
            return Spot(self._shown / name, self._path / name, named=False)
        if self._named_is_free:
            self._named_is_free = False
            return Spot(self._shown, self._path, named=True)
        suffix = in_file_system(Path(safe_name(output.filename or "")).suffix) or self._path.suffix
        shown = self._shown.with_suffix(suffix)
        return Spot(shown, Path(self._place.folder, shown.name), named=False)

    def fetch(self, output: Output, spot: Spot, chunks: Fetch) -> Part:
        """Fetch *output* for *spot*. Raises OSError, and what *chunks* raises; then nothing of it is left."""
        place = FilePlace(*view_place(output.filename or "", output.subfolder or ""), output.folder or "output")
        with contextlib.closing(chunks(place)) as got:
            return self.receive(spot, got)

    def receive(self, spot: Spot, chunks: Iterable[bytes]) -> Part:
        """The same of what is there already."""
        error: OSError | None = None
        file: IO[bytes]
        try:
            file, path = self._open(spot)
        except OSError as raised:
            if not spot.named or not writing.cant_replace(raised, spot.path):
                raise
            file, path, error = writing.spool(), None, raised
        try:
            size = _write(file.write, chunks)
            file.flush()
            if path is None:
                return Part(size, None, file, error)
            file.close()
            return Part(size, path)
        except BaseException:
            file.close()
            if path is not None:
                self._remove(path)
            raise

    def _open(self, spot: Spot) -> tuple[IO[bytes], Path | None]:
        """A file for what isn't whole yet, and its name, if it can stand where *spot* is."""
        if self._sink is not None:
            return writing.spool(), None
        spot.path.parent.mkdir(parents=True, exist_ok=True)
        file = _unfinished(spot.path)
        part = spot.path.with_name(os.path.basename(file.name))
        self._parts[part] = file
        return file, part

    def put(
        self, output: Output, part: Part, spot: Spot, *, wait: Callable[[], None] = lambda: None, limit: float = 60.0
    ) -> Output:
        """Give *part* the name that it has at *spot*, and no other time; the output with its path and size in bytes.

        Raises OSError, and what *wait* raises; then nothing of it is left.

        :param wait: called several times a second while a pipe takes nothing.
        :param limit: seconds in which its reader takes at least something.
        """
        try:
            if part.path is None:
                assert part.file is not None
                return _saved(output, self._put_nameless(part, part.file, spot, wait, limit), part.size)
            name = self._put(part.path, spot) if spot.named else self._take(part.path, spot.path)
            return _saved(output, spot.shown.with_name(name), part.size)
        finally:
            self.drop(part)

    def _put_nameless(self, part: Part, file: IO[bytes], spot: Spot, wait: Callable[[], None], limit: float) -> Path:
        if self._sink is not None:
            writing.copy_out(file, self._sink, wait=wait, limit=limit)
        elif spot.named:
            writing.overwrite(file, spot.path)
        elif part.error is not None:
            raise part.error
        return spot.shown

    def drop(self, part: Part) -> None:
        """Leave nothing of *part* but what has a name."""
        if part.file is not None:
            part.file.close()
        if part.path is not None:
            self._remove(part.path)

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
        """Give *part* the wanted name with the first number that is free; that name. Beside FILE the first one is 2."""
        # Lower ones were found taken before: for many equal names they must not be tried again each time.
        number = self._last.get(wanted, 0 if self.folder else 1) + 1
        while True:
            path = numbered(wanted, number)
            if self._found_again and writing.is_same(part, path):
                return path.name
            if not self._claims.has_path(str(path)) and self._taken(part, path):
                self._last[wanted] = number
                return path.name
            number += 1

    def _taken(self, part: Path, path: Path) -> bool:
        """Whether *part* has the name *path* now: one that is free, or one of a file that may be replaced."""
        if not self._overwrite:
            with contextlib.suppress(FileExistsError):
                writing.take(part, path, self._patience)
                return True
            return False
        try:
            if not os.path.lexists(path):
                writing.take(part, path, self._patience)
            elif path.is_file() and self._identity(path) not in self._made:
                writing.put(part, path, self._patience)
            else:
                return False
        except FileExistsError:
            return False
        except PermissionError as error:
            if not may_be_held(error):
                raise
            return False
        # Whatever the case of its letters: where a file system takes two names for one, the second leads here.
        self._made.add(self._identity(path))
        return True

    @staticmethod
    def _identity(path: Path) -> tuple[int, int]:
        status = path.stat()
        return status.st_dev, status.st_ino

    def write_beside(self, saved: Output, text: str) -> None:
        """Write *text* beside the file that was *saved*, under its name with `.json` behind it. Raises OSError."""
        shown, folder = Path(saved.path or ""), Path(self._place.folder)
        folder = self._path.joinpath(shown.relative_to(self._shown)).parent if self.folder else folder
        spot = Spot(shown, folder / f"{shown.name}.json", named=False)
        part = self.receive(spot, [text.encode()])
        try:
            if part.path is not None:
                self._take_beside(part.path, spot.path)
        finally:
            self.drop(part)

    def _take_beside(self, part: Path, wanted: Path) -> None:
        name, number = wanted, 1
        # That of the file that was replaced tells of that one.
        while self._claims.has_path(str(name)) or not (writing.replaced_sidecar(part, name) or self._taken(part, name)):
            number += 1
            name = numbered(wanted, number)


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
