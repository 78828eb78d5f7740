"""Opening files to write, without ever waiting."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO


def open_to_write(path: str | os.PathLike[str], *, append: bool = False) -> BinaryIO:
    """A binary file, made anew unless *append*. OSError where it can't be opened, a FIFO that nobody reads too."""
    return open(path, "ab" if append else "wb", opener=_open_at_once)


def _open_at_once(path: str, flags: int) -> int:
    """Open *path* without waiting: where nobody reads a FIFO, that would be for ever."""
    at_once: int = getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags | at_once, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO and is_fifo(path):
            raise OSError(errno.ENXIO, "nobody reads this FIFO", path) from error
        raise
    if at_once:
        os.set_blocking(descriptor, True)
    return descriptor


def is_fifo(path: str | os.PathLike[str]) -> bool:
    """Whether *path* leads to a FIFO."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False
