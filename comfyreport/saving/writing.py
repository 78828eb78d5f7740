"""How a file gets its name: taken where it is free, replaced or written in place where it was named; and how one goes
to a pipe. What is under a final name is whole."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import select
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, BinaryIO

from comfyreport.files import may_be_held, patiently
from comfyreport.timing import Timing

_CHUNK = 1024 * 1024

# A pipe that takes anything at all takes so much at once.
_PIPE_CHUNK: int = getattr(select, "PIPE_BUF", 512)

_LOOK_EVERY = 0.1

# A file can't be put in the place of another: that is a mount, or nothing may be added to or taken from its folder.
_CANT_REPLACE = frozenset(
    {errno.EBUSY, errno.EPERM, errno.EACCES, errno.EROFS, errno.EXDEV, errno.ETXTBSY, errno.ENAMETOOLONG}
)


SIDECAR_BEGINS = b'{\n  "comfyreport": "'


def cant_replace(error: OSError, path: Path) -> bool:
    """Whether *error* means that *path*, a file that can be written, must be written in place."""
    return error.errno in _CANT_REPLACE and path.is_file() and os.access(path, os.W_OK)


def take(part: Path, path: Path, patience: float = Timing.held_file) -> None:
    """Give the file *part* the name *path*, if nothing has it; FileExistsError if something has, whoever else tries.

    :param patience: seconds for another program to let go of *part*.
    """
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError, AttributeError):
        # A file system without hard links.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            patiently(lambda: os.replace(part, path), patience)
        except BaseException:
            os.unlink(path)
            raise
    else:
        # It has its name, whoever holds the other one.
        with contextlib.suppress(PermissionError):
            patiently(lambda: os.unlink(part), patience)


def put(part: Path, path: Path, patience: float = Timing.held_file) -> None:
    """Put the file *part* in the place of *path*; a file that is there keeps its owner and its rights.

    Where it can't be replaced (a mount, a folder that is read-only), it is written in place; but not under the eyes of
    another program that holds it (Windows): after *patience* seconds that is a PermissionError.
    """
    if not path.exists():
        patiently(lambda: os.replace(part, path), patience)
        return
    if not path.is_file():
        raise OSError(errno.EISDIR, "it is no file any more", str(path))
    try:
        if _keep_attributes(part, path) or not os.access(path, os.W_OK):
            patiently(lambda: os.replace(part, path), patience)
            return
    except OSError as error:
        if may_be_held(error) or not cant_replace(error, path):
            raise
    with open(part, "rb") as source:
        overwrite(source, path)
    os.unlink(part)


def _keep_attributes(part: Path, path: Path) -> bool:
    """Give *part* the owner, the rights and the extended attributes of *path*; False where it can't have the owner."""
    before, now = path.stat(), part.stat()
    if (before.st_uid, before.st_gid) != (now.st_uid, now.st_gid):
        try:
            os.chown(part, before.st_uid, before.st_gid)
        except PermissionError:
            return False
    os.chmod(part, stat.S_IMODE(before.st_mode))
    with contextlib.suppress(OSError, AttributeError):
        for name in os.listxattr(path):
            with contextlib.suppress(OSError):
                os.setxattr(part, name, os.getxattr(path, name))
    return True


def overwrite(source: IO[bytes], path: Path) -> None:
    """Write *source* over the content of the file *path*, if there is room for it."""
    size = source.seek(0, os.SEEK_END)
    source.seek(0)
    with open(path, "wb", opener=lambda name, _: os.open(name, os.O_WRONLY)) as file:
        _reserve(file.fileno(), size)
        shutil.copyfileobj(source, file, _CHUNK)
        file.truncate()


def _reserve(descriptor: int, size: int) -> None:
    """Make room for *size* bytes, or raise OSError and leave the file as it is."""
    before = os.fstat(descriptor).st_size
    if size <= before or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        os.ftruncate(descriptor, before)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise


def copy_out(source: IO[bytes], sink: BinaryIO, *, wait: Callable[[], None], limit: float) -> None:
    """Write *source* to a pipe, a device or an open file.

    :param wait: called several times a second meanwhile; what it raises ends the copying.
    :param limit: seconds in which a reader takes at least something; OSError after that.
    """
    source.seek(0)
    descriptor = sink.fileno()
    regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    while data := source.read(_CHUNK):
        rest = memoryview(data)
        while rest:
            if not regular:
                _wait_for(descriptor, wait, limit)
            with contextlib.suppress(BlockingIOError):
                rest = rest[os.write(descriptor, rest if regular else rest[:_PIPE_CHUNK]) :]
        wait()


def _wait_for(descriptor: int, wait: Callable[[], None], limit: float) -> None:
    """Return once *descriptor* takes something."""
    if not hasattr(select, "poll"):
        return
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    deadline = time.monotonic() + limit
    while not poll.poll(_LOOK_EVERY * 1000):
        wait()
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, f"nobody has read from it for {limit:.0f} s")


def spool() -> IO[bytes]:
    """A file without a name, for what must be whole before it goes anywhere."""
    return tempfile.TemporaryFile(prefix="comfyreport-")


def replaced_sidecar(part: Path, name: Path) -> bool:
    """Put *part* in the place of the sidecar *name*, if there is one that comfyreport wrote."""
    try:
        with open(name, "rb") as file:
            if file.read(len(SIDECAR_BEGINS)) != SIDECAR_BEGINS:
                return False
        os.replace(part, name)
    except OSError:
        return False
    return True


def is_same(first: Path, second: Path) -> bool:
    """Whether both files hold the same."""
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:
        return False
