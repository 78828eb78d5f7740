"""What servers declare of their classes, kept for an hour in the user's cache folder: it is megabytes.

Whatever is wrong with the folder or with a file, nothing is raised: there is nothing kept then.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import re
import stat
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from comfyreport.files import patiently
from comfyreport.protocol.messages import Json

KEPT_SECONDS = 3600.0
"""For so long an answer is used again."""

FILES = 8
"""So many answers are kept: of that many servers, or versions."""

SIZE_LIMIT = 64 * 1024 * 1024
"""Bytes of an answer: a larger one isn't kept."""

_FOLDER = "object_info"
_NAME = re.compile(r"[0-9a-f]{32}\.json\.gz|\.[0-9a-z_]+\.part")
_PATIENCE = 0.2


class InfoCache:
    """Answers to `/object_info`, each a file of its own in a folder below *folder*. Safe for many processes.

    :param clock: the time of day.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder / _FOLDER
        self._clock = clock

    def read(self, server: str, version: str) -> Json | None:
        """What *server* declared lately, when it was a ComfyUI of that *version*; None where nothing is kept."""
        try:
            with open(self._path(server, version), "rb", opener=_open_nonblocking) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode) or not _is_own(status) or status.st_size > SIZE_LIMIT:
                    return None
                text = gzip.GzipFile(fileobj=file).read(SIZE_LIMIT + 1)
            kept = json.loads(text) if len(text) <= SIZE_LIMIT else None
        except (OSError, EOFError, ValueError, RecursionError, zlib.error):
            return None
        if not isinstance(kept, dict) or (kept.get("server"), kept.get("version")) != (server, version):
            return None
        written, info = kept.get("time"), kept.get("object_info")
        if not isinstance(written, (int, float)) or not 0 <= self._clock() - written <= KEPT_SECONDS:
            return None
        return info if isinstance(info, dict) and info else None

    def write(self, server: str, version: str, info: Json) -> None:
        """Keep what *server* declares; what is too old, or too much, goes."""
        # RecursionError, ValueError: what came from elsewhere may be nested without end, or hold half a character.
        with contextlib.suppress(OSError, ValueError, RecursionError):
            kept = {"server": server, "version": version, "time": self._clock(), "object_info": info}
            text = json.dumps(kept).encode()
            if len(text) > SIZE_LIMIT:
                return
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Its mode is the user's own alone.
            number, beside = tempfile.mkstemp(prefix=".", suffix=".part", dir=self.folder)
            try:
                with open(number, "wb") as file:
                    file.write(gzip.compress(text, 3))
                patiently(lambda: os.replace(beside, self._path(server, version)), _PATIENCE)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(beside)
                raise
            self._tidy()

    def _path(self, server: str, version: str) -> Path:
        key = hashlib.sha256(f"{server}\n{version}".encode("utf-8", "replace")).hexdigest()
        return self.folder / f"{key[:32]}.json.gz"

    def _tidy(self) -> None:
        """Remove what is of no use any more, and what other processes left that were ended while they wrote."""
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                # Another process may have been faster.
                with contextlib.suppress(FileNotFoundError):
                    if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        found.append((entry.stat(follow_symlinks=False).st_mtime, entry))
        found.sort(key=lambda each: each[0], reverse=True)
        kept = 0
        for written, entry in found:
            kept += entry.name.endswith(".gz")
            if kept > FILES or not abs(self._clock() - written) <= KEPT_SECONDS:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _is_own(status: os.stat_result) -> bool:
    """Whether it is this user's: what others may have written isn't read."""
    return not hasattr(os, "getuid") or status.st_uid == os.getuid()
