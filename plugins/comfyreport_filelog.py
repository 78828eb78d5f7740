"""The `filelog` reporter: a log file that a person reads afterwards, one line an event."""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
import sys
from datetime import datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import cast

from comfyreport import (
    AnyEvent,
    Event,
    ReporterError,
    RunFinished,
    Stream,
    Thinner,
    describe_in_run,
    describe_node_time,
    hookimpl,
    run_name,
)

# One progress line a second for each node, and the last of each pass.
_RATE = 1.0
_LINE_LIMIT = 2_000
_LEVELS = {"WARN": logging.WARNING, "ERROR": logging.ERROR}


class _Handler(RotatingFileHandler):
    """A rotating file whose errors reach the caller; logging would print them to stderr and go on.

    What a link leads to is written and renamed, not the link. Only regular files are renamed.
    """

    def __init__(self, path: Path, max_bytes: int, backups: int) -> None:
        stream = Stream.to_path(path, append=True)
        super().__init__(stream.file_path or path, maxBytes=max_bytes, backupCount=backups, delay=True)
        self.stream = cast(TextIOWrapper, stream.file)
        if stream.file_path is None:
            self.maxBytes = 0

    def _open(self) -> TextIOWrapper:
        return cast(TextIOWrapper, Stream.to_path(self.baseFilename, append=True).file)

    def doRollover(self) -> None:  # noqa: N802  logging's name
        """Begin a new file; where somebody reads this one, which on Windows keeps its name, go on in it for now."""
        if self.stream is not None:
            self.stream.close()
            self.stream = None
        with contextlib.suppress(PermissionError):
            # Tried out first: the renamed files would move up for nothing, and the oldest be lost.
            super().rotate(self.baseFilename, self.baseFilename)
            super().doRollover()

    def rotate(self, source: str, dest: str) -> None:
        """Rename *source*; where it is a mount, which can't be renamed, copy it and begin it anew."""
        try:
            super().rotate(source, dest)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EXDEV):
                raise
            shutil.copyfile(source, dest)
            with open(source, "r+b") as file:
                file.truncate()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        error = sys.exc_info()[1]
        if error is not None:
            raise error


class FileLog:
    """Appends events to a file that is renamed to PATH.1, PATH.2, … when it grows too large."""

    def __init__(self, path: Path, max_bytes: int, backups: int) -> None:
        self._handler = _Handler(path, max_bytes, backups)
        self._thinner = Thinner(_RATE)

    @hookimpl
    def comfyreport_event(self, event: AnyEvent) -> None:
        """Write *event*, or hold it back if it is a progress that comes too soon."""
        self._write(self._thinner.feed(event))

    @hookimpl
    def comfyreport_tick(self, elapsed: float) -> None:
        """Write what was held back long enough."""
        self._write(self._thinner.tick(elapsed))

    @hookimpl
    def comfyreport_close(self) -> None:
        """Write what is still held back, and close."""
        self._write(self._thinner.flush())
        self._handler.close()

    def _write(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, RunFinished):
                run = f"{run_name(event.run_index)}: " if event.run_index is not None else ""
                for time in event.node_times:
                    self._write_line(event, logging.INFO, f"{run}Time: {describe_node_time(time)}")
            self._write_line(event, *_level_and_text(event))

    def _write_line(self, event: Event, level: int, text: str) -> None:
        line = f"{_timestamp(event.time)} {logging.getLevelName(level):<7} {text}"
        self._handler.handle(logging.LogRecord("comfyreport", level, "", 0, line, None, None))


def _timestamp(time: float) -> str:
    """*time*, in seconds since the epoch, as RFC 3339 local time with milliseconds and offset."""
    return datetime.fromtimestamp(time).astimezone().isoformat(timespec="milliseconds")


def _level_and_text(event: Event) -> tuple[int, str]:
    """The event in words, with its run, on one line, without the tag that the level replaces."""
    first, *more = describe_in_run(event)
    tag, _, text = first.removeprefix("[").partition("] ")
    text = " | ".join([text, *(line.strip() for line in more)])
    if len(text) > _LINE_LIMIT:
        text = text[: _LINE_LIMIT - 1] + "…"
    return _LEVELS.get(tag, logging.INFO), text


def filelog(path: Path, *, max_bytes: int = 10_000_000, backups: int = 3) -> FileLog:
    """A log file with one line an event: local time, level, text.

    :param max_bytes: size in bytes at which the file is renamed and begun anew; 0 lets it grow
    :param backups: how many renamed files are kept; the oldest one is removed
    """
    if max_bytes < 0 or backups < 0 or (max_bytes and not backups):
        raise ReporterError(
            f"filelog: max_bytes={max_bytes}, backups={backups} can't be used",
            hint="keep at least one backup, or let the file grow with max_bytes=0",
        )
    return FileLog(path, max_bytes, backups)
