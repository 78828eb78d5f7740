"""Opens files for writing without ever blocking."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO


def open_to_write(path: str | os.PathLike[str], *, append: bool = False) -> BinaryIO:
    """A binary file, truncated unless *append*. OSError where it can't be opened; so is a FIFO that has no reader."""
    return open(path, "ab" if append else "wb", opener=_open_nonblocking)


def _open_nonblocking(path: str, flags: int) -> int:
    """Open *path* without blocking, as a FIFO without a reader would for ever."""
    nonblocking: int = getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags | nonblocking, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO and is_fifo(path):
            raise OSError(errno.ENXIO, "nobody reads this FIFO", path) from error
        raise
    if nonblocking:
        os.set_blocking(descriptor, True)
    return descriptor


def is_fifo(path: str | os.PathLike[str]) -> bool:
    """Whether *path* leads to a FIFO."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False
