"""Files that a user names: where a path leads to, opening it to write without blocking, and each for one use only.

What systems differ in about files is asked here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from comfyreport.errors import UsageError
from comfyreport.timing import Timing

STDOUT, STDERR = 1, 2

_WINDOWS = os.name == "nt"
_LINK_LIMIT = 40
_STREAM_NAMES = {STDOUT: "stdout", STDERR: "stderr"}


class Place(NamedTuple):
    """Where a path leads to, found out once: nobody's `chdir` and no new link moves it.

    `shown` is the path as it was given, `path` the absolute one without links, `folder` the one in which the given
    name stands, which a link's target may not. `descriptor` is the descriptor of this process that it leads to, as
    `/dev/stdout` does.
    """

    shown: str
    path: str
    folder: str = ""
    descriptor: int | None = None

    @property
    def label(self) -> str:
        """Its name for messages."""
        return _STREAM_NAMES.get(self.descriptor or 0) or str(Path(self.shown))

    def at(self, number: int) -> Place:
        """The same place, where the process holds it under the descriptor *number*."""
        return self._replace(path=f"/dev/fd/{number}")


def current_folder() -> str:
    """The current folder, or nothing where it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def resolve(path: str | os.PathLike[str], folder: str = "") -> Place:
    """Where *path* leads to, seen from *folder* (the current one); `-` is stdout. OSError or ValueError if nowhere."""
    shown = os.fspath(path)
    if shown == "-":
        return Place(shown, f"/dev/fd/{STDOUT}", descriptor=STDOUT)
    if _WINDOWS:
        if is_null(shown):
            return Place(shown, os.devnull)
        _check_windows_names(shown)
    full = os.path.join(folder or current_folder(), shown)
    number = descriptor_of(full)
    if number is not None:
        if number > STDERR and not os.get_inheritable(number):
            # One of our own, which the user can't mean.
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), shown)
        return Place(shown, f"/dev/fd/{number}", descriptor=number)
    real = os.path.realpath(full)
    if os.path.islink(real):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), shown)
    if os.path.exists(full) and not (os.path.exists(real) and os.path.samefile(full, real)):
        # A link below /proc may lead to what has no name, such as another process's pipe.
        real = full
    return Place(shown, real, os.path.realpath(os.path.dirname(full)))


def descriptor_of(path: str) -> int | None:
    """The number of this process's descriptor that *path* leads to, if it does."""
    own = re.escape(os.path.realpath("/proc/self"))
    folders = re.compile(rf"{own}(/task/\d+)?/fd|/dev/fd")
    for _ in range(_LINK_LIMIT):
        parent, name = os.path.split(path)
        if name.isdecimal() and name.isascii() and parent == "/dev/fd":
            return int(name)
        parent = os.path.realpath(parent)
        if name.isdecimal() and name.isascii() and folders.fullmatch(parent):
            return int(name)
        try:
            path = os.path.join(parent, os.readlink(os.path.join(parent, name)))
        except OSError:
            return None
    return None


def open_to_write(path: str | os.PathLike[str], *, append: bool = False) -> BinaryIO:
    """A binary file, truncated unless *append*. OSError where it can't be opened; so is a FIFO that has no reader.

    A path that leads to a descriptor of this process writes to that one, as it stands.
    """
    number = descriptor_of(os.fspath(path))
    if number is not None:
        return open(_duplicate(number, os.fspath(path)), "wb")
    return open(path, "ab" if append else "wb", opener=_open_nonblocking)


def _duplicate(number: int, path: str) -> int:
    """Another descriptor of the same file. Opened anew by its path, it would be truncated, and its offset be lost."""
    try:
        import fcntl

        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "it is open for reading only", path)
        return os.dup(number)
    except ImportError:
        return os.dup(number)
    except OverflowError as error:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), path) from error


def _open_nonblocking(path: str, flags: int) -> int:
    """Open *path* without blocking, as a FIFO without a reader would for ever."""
    nonblocking: int = getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = patiently(lambda: os.open(path, flags | nonblocking, 0o666))
    except OSError as error:
        if error.errno == errno.ENXIO and is_fifo(path):
            raise OSError(errno.ENXIO, "nobody reads this FIFO", path) from error
        raise
    if nonblocking:
        os.set_blocking(descriptor, True)
    return descriptor


def write_whole(path: str | os.PathLike[str], data: bytes | bytearray | Iterable[bytes]) -> None:
    """Write *data*, or its chunks, to a file, which keeps what it had where that fails. OSError as files raise it.

    A device, a pipe or a descriptor is written to as it is; of a link, what it leads to is written.
    """
    try:
        mode: int | None = os.stat(path).st_mode
    except FileNotFoundError:
        mode = None
    target = os.path.realpath(path)
    beside = f"{target}.{os.getpid()}.part"
    if descriptor_of(os.fspath(path)) is not None or not (mode is None or stat.S_ISREG(mode)):
        beside = target = os.fspath(path)
    try:
        with open(beside, "wb") as file:
            file.writelines([data] if isinstance(data, (bytes, bytearray)) else data)
        if beside != target:
            if mode is not None:
                os.chmod(beside, stat.S_IMODE(mode))
            patiently(lambda: os.replace(beside, target))
    except BaseException:
        if beside != target:
            with contextlib.suppress(OSError):
                os.unlink(beside)
        raise


def is_fifo(path: str | os.PathLike[str]) -> bool:
    """Whether *path* leads to a FIFO."""
    return stat.S_ISFIFO(_mode(path))


def is_null(path: str | os.PathLike[str]) -> bool:
    """Whether *path* leads to the null device, whatever its name: it takes anything from anybody."""
    if _WINDOWS:
        return re.fullmatch(r"([/\\]{2}\.[/\\])?nul:?", os.fspath(path), re.IGNORECASE) is not None
    try:
        found, null = os.stat(path), os.stat(os.devnull)
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(found.st_mode) and stat.S_ISCHR(null.st_mode) and found.st_rdev == null.st_rdev


def _mode(path: str | os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_mode
    except (OSError, ValueError):
        return 0


# --- what Windows does otherwise

# Devices, whatever follows behind a dot (Microsoft's "Naming Files, Paths, and Namespaces").
_DEVICE_NAME = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]')

_Result = TypeVar("_Result")


def expanded(path: str) -> str:
    """*path* with the home folder that its `~` or `~user` means, as a POSIX shell has it; as it is where none is known.

    Other shells leave that to the command, and a POSIX shell does behind a flag's `=`.
    """
    user = re.match(r"~[^/\\]+", path)
    if _WINDOWS and user and not os.path.isdir(os.path.expanduser(user[0])):
        # Guessed from the own one. A name such as ~lock.png is nobody's.
        return path
    return os.path.expanduser(path)


def is_device_name(name: str) -> bool:
    """Whether *name* is that of a device on Windows, in whatever folder."""
    return _DEVICE_NAME.match(name) is not None


def _check_windows_names(path: str) -> None:
    """OSError where a part of *path* can't be a name, or would be another's."""
    # Not everywhere the same as `os.path`, and needed nowhere else.
    import ntpath

    for part in re.split(r"[/\\]", ntpath.splitdrive(path)[1]):
        forbidden = _FORBIDDEN.search(part)
        if forbidden:
            reason = f"{part!r} holds {forbidden[0]!r}, which no name may on Windows"
        elif is_device_name(part):
            reason = f"{part!r} is the name of a device on Windows"
        elif part.endswith((".", " ")) and part not in (".", ".."):
            reason = f"{part!r} ends in a dot or a space, which Windows leaves out"
        else:
            continue
        raise OSError(errno.EINVAL, reason, path)


def takes_files(mode: int) -> bool:
    """Whether what has this *mode*, and is no regular file, may be given one: no disk or folder, no Windows device."""
    return not (stat.S_ISBLK(mode) or stat.S_ISDIR(mode) or (_WINDOWS and stat.S_ISCHR(mode)))


def is_read_only(path: str | os.PathLike[str]) -> bool:
    """Whether *path* is a file that mustn't be replaced: elsewhere than on Windows, its folder alone decides that."""
    return _WINDOWS and os.path.isfile(path) and not os.access(path, os.W_OK)


def may_be_held(error: OSError) -> bool:
    """Whether *error* may mean that another program has the file open: on Windows that keeps it as it is.

    One that may never be written fails in the same way there.
    """
    return _WINDOWS and isinstance(error, PermissionError)


def patiently(action: Callable[[], _Result], seconds: float = Timing.held_file) -> _Result:
    """What *action* returns; it is tried again for about so many *seconds* while another program may hold its file."""
    for share in (16, 8, 4, 2):
        try:
            return action()
        except PermissionError as error:
            if not may_be_held(error):
                raise
        time.sleep(seconds / share)
    return action()


# --- one file, one use


class FileUsedTwiceError(UsageError):
    """Two uses of one file: `first` had it, `second` wants it."""

    def __init__(self, first: str, second: str, place: Place) -> None:
        super().__init__(f"{first} and {second} both use {place.label}", hint="give each of them a file of its own")
        self.first = first
        self.second = second
        self.label = place.label


class _Identity(NamedTuple):
    """What makes two places one: the nearest thing above that exists, and the names below it that don't yet."""

    device: int
    number: int
    names: tuple[str, ...]
    folder: str


class _Claim:
    def __init__(self, use: str, place: Place, identities: Iterable[_Identity], *, numbered: bool) -> None:
        self.use = use
        self.place = place
        self.identities = list(identities)
        self.disputed = False
        self._numbered = numbered

    def has_path(self, path: str) -> bool:
        """Whether *path*, absolute and without links, is its file, or one that this one is renamed to: PATH.1, …"""
        own = self.place.path
        return path == own or (self._numbered and re.fullmatch(re.escape(own) + r"\.\d+", path) is not None)

    def look_again(self) -> None:
        """A file that wasn't there may be by now: under a number, which its other names have too."""
        if any(identity.names for identity in self.identities):
            self.identities += _identities(self.place)

    def is_one_with(self, other: _Claim) -> bool:
        """Whether both are one file. What two standard streams share (`2>&1`) isn't asked for by either."""
        mine, theirs = self.place.descriptor, other.place.descriptor
        if mine is not None and mine == theirs:
            return True
        if mine in _STREAM_NAMES and theirs in _STREAM_NAMES:
            return False
        if self.has_path(other.place.path) or other.has_path(self.place.path):
            return True
        return any(_are_one(first, second) for first in self.identities for second in other.identities)


class Claims:
    """The files of one command, by what each is used for. All are claimed before any is opened to write."""

    def __init__(self) -> None:
        self._claims: list[_Claim] = []
        # As they are at first: the command moves them.
        places = {number: Place(name, "", descriptor=number) for number, name in _STREAM_NAMES.items()}
        self._streams = {number: list(_identities(place)) for number, place in places.items()}

    def claim(self, use: str, place: Place, *, numbered: bool = False) -> None:
        """Claim *place* for *use*; FileUsedTwiceError where it has another use already.

        :param numbered: whether it may be renamed to PATH.1, PATH.2, …, which are claimed with it.
        """
        if place.descriptor is None and is_null(place.path):
            return
        known = self._streams.get(-1 if place.descriptor is None else place.descriptor)
        claim = _Claim(use, place, _identities(place) if known is None else known, numbered=numbered)
        for other in self._claims:
            other.look_again()
            if claim.is_one_with(other):
                other.disputed = True
                raise FileUsedTwiceError(other.use, use, place)
        self._claims.append(claim)

    def release(self, place: Place) -> None:
        """*place* isn't used after all."""
        self._claims = [claim for claim in self._claims if claim.place != place]

    def is_disputed(self, place: Place) -> bool:
        """Whether something else wanted *place* too: then nobody writes there."""
        return any(claim.disputed for claim in self._claims if claim.place == place)

    def has_descriptor(self, number: int) -> bool:
        """Whether something writes to this descriptor."""
        return any(claim.place.descriptor == number for claim in self._claims)

    def has_path(self, path: str) -> bool:
        """Whether *path*, absolute and without links, is used, be it there yet or not."""
        return any(claim.has_path(path) for claim in self._claims)


def _identities(place: Place) -> Iterator[_Identity]:
    path, names = place.path, list[str]()
    while True:
        try:
            status = os.stat(path) if place.descriptor is None else os.fstat(place.descriptor)
        except (OSError, OverflowError):
            parent, name = os.path.split(path)
            if parent == path or place.descriptor is not None:
                return
            path = parent
            names.insert(0, name)
            continue
        # Terminals and pipes may be shared by streams; their paths are claimed as any other.
        if place.descriptor is None or stat.S_ISREG(status.st_mode):
            yield _Identity(status.st_dev, status.st_ino, tuple(names), path)
        return


def _are_one(first: _Identity, second: _Identity) -> bool:
    if first[:2] != second[:2]:
        return False
    return first.names == second.names or (
        bool(first.names)
        and list(map(folded, first.names)) == list(map(folded, second.names))
        and _folds_names(first.folder, "".join(first.names), "".join(second.names))
    )


def folded(name: str) -> str:
    """What is the same for all names that some file system takes for *name*: whatever its case and its normal form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _folds_names(folder: str, first: str, second: str) -> bool:
    """Whether the file system takes two names for one that differ in case or in Unicode's normal form: tried out."""
    with contextlib.suppress(OSError, ValueError), tempfile.TemporaryDirectory(dir=folder, prefix=".") as inner:
        open(os.path.join(inner, first), "xb").close()
        return os.path.exists(os.path.join(inner, second))
    return False
