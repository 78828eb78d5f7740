"""`--manifest FILE`: JSON lines, one object for each run as it ends."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from comfyreport.access.secret_keys import hide_inputs
from comfyreport.errors import UsageError
from comfyreport.events import RunFinished
from comfyreport.events.jsonlines import object_line
from comfyreport.files import open_to_write, resolve, write_whole
from comfyreport.ledger.state import State
from comfyreport.protocol.ui_outputs import worth_saving
from comfyreport.text import bounded, printable

_START = b'{"index":'
"""What each line begins with, and so what makes a file a manifest."""

_LINE_LIMIT = 64 * 2**20
"""Bytes of a line: so long comfyreport writes none."""


class ManifestError(UsageError):
    """The manifest can't be used as it is (exit code 2)."""


class ManyRun(Protocol):
    """What a manifest tells of a run that was planned: its index from 1, and the inputs that were set for it."""

    @property
    def index(self) -> int:
        """The run's index."""

    @property
    def inputs(self) -> Collection[tuple[str, Any]] | Mapping[str, Any]:
        """The inputs by NODE.INPUT, or a short name."""


def record_of(result: RunFinished, run: ManyRun, attempts: int, *, include_temp: bool = False) -> dict[str, Any]:
    """What the manifest tells of the end of *run*, without secrets; what is None is left out. Pure.

    `outputs` are the paths of what was saved, else the URLs.

    :param attempts: how many attempts there were.
    :param include_temp: whether temporary outputs are results.
    """
    indexes = worth_saving(result.outputs, include_temp=include_temp)
    places = [result.outputs[index].path or result.outputs[index].url for index in indexes]
    error = result.error
    record = {
        "index": run.index,
        "inputs": {name: bounded(value) for name, value in hide_inputs(dict(run.inputs)).items()},
        "seed": result.seed,
        "server": result.server,
        "worker": result.worker,
        "prompt_id": result.prompt_id,
        "status": result.status,
        "exit_code": result.exit_code,
        "seconds": result.seconds,
        "attempts": attempts,
        # A picture that came over the socket, and wasn't saved, is nowhere.
        "outputs": [place for place in places if place],
        "error": None if error is None else {"code": error.code, "message": error.message},
    }
    return {key: value for key, value in record.items() if value is not None}


class Manifest:
    """The file, open to be written on: a line for each run, none for a run that is still to be done.

    Where *state* goes on, so does the manifest: it is written anew with the lines that the state knows, for what a
    process left that was killed may lack some, and end in half a line. Else a file that is there is replaced. Raises
    ManifestError where there is something else, or nothing can be written.

    :param only_failed: this command does the failed runs again.
    :param folder: where a relative path starts; none: the current one.
    """

    def __init__(
        self, path: str | os.PathLike[str], state: State | None = None, *, only_failed: bool = False, folder: str = ""
    ) -> None:
        self._shown = printable(os.fspath(path), 4096) or '""'
        self._waiting = bytearray()
        try:
            self._path = self._locate(path, folder)
            goes_on = state is not None and state.goes_on
            if not goes_on:
                self._check_replaced()
            if state is not None and goes_on:
                self._check_content(state)
                write_whole(self._path, _encoded(state.kept_lines(only_failed=only_failed)))
            self._file: BinaryIO = open_to_write(self._path, append=goes_on)
            # Of what isn't made again after all, the lines are put back.
            self._state = state if goes_on and only_failed else None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise self._unusable(reason, "name a file that can be written") from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Add the line of one run, which is the system's when this returns. Raises OSError where that fails.

        What could not be written is kept, and written with the next one or at the end.
        """
        self._waiting += object_line(record)
        self._flush()

    def close(self) -> None:
        """Write what waits, if there is room for it now: `write` has told of it. Close the file."""
        with contextlib.suppress(OSError):
            self._flush()
        with contextlib.suppress(OSError):
            self._file.close()
        if self._state is not None:
            with contextlib.suppress(OSError, UsageError):
                write_whole(self._path, _encoded(self._state.all_lines()))

    def _flush(self) -> None:
        while self._waiting:
            # Not through a buffer: of what a full disk took only a part, the rest must follow.
            written = os.write(self._file.fileno(), self._waiting)
            del self._waiting[:written]

    def _locate(self, path: str | os.PathLike[str], folder: str) -> Path:
        place = resolve(path, folder)
        found = Path(place.path)
        if place.descriptor is not None:
            raise self._unusable(f"{place.label} is no file", "name a file; --reporter jsonl writes events to stdout")
        if found.exists() and not found.is_file():
            # A pipe can't be gone on with, and may have a reader that never reads.
            kind = "a folder" if found.is_dir() else "no regular file"
            raise self._unusable(f"it is {kind}", "name a file")
        found.parent.mkdir(parents=True, exist_ok=True)
        return found

    def _check_content(self, state: State) -> None:
        """See that what is there is the manifest of this very command, or nothing."""
        try:
            with open(self._path, "rb") as file:
                for number, line in enumerate(iter(lambda: file.readline(_LINE_LIMIT), b""), 1):
                    self._check_line(line, number, state)
        except FileNotFoundError:
            return

    def _check_replaced(self) -> None:
        """See that what is replaced is a manifest, or nothing."""
        with contextlib.suppress(FileNotFoundError), open(self._path, "rb") as file:
            start = file.read(len(_START))
            if not _START.startswith(start):
                raise self._unusable("it is no manifest, which this would replace", "name another file with --manifest")

    def _check_line(self, line: bytes, number: int, state: State) -> None:
        start, whole = line[: len(_START)], line.endswith(b"\n")
        if not (start == _START or (not whole and _START.startswith(start))):
            raise self._unusable(f"it is no manifest (line {number})", "name another file with --manifest")
        if not whole:
            return
        try:
            index = json.loads(line)["index"]
        except (ValueError, RecursionError):
            index = None
        # Of larger numbers SQLite knows none.
        if not (isinstance(index, int) and 0 < index < 2**63) or not state.has_ended(index):
            reason = f"line {number} tells of a run that the state file doesn't know"
            raise self._unusable(reason, "it belongs to another command: name another file with --manifest")

    def _unusable(self, reason: str, hint: str) -> ManifestError:
        return ManifestError(f"--manifest {self._shown} can't be used: {reason}", hint=hint)


def _encoded(lines: Iterable[str]) -> Iterator[bytes]:
    for line in lines:
        yield line.encode() + b"\n"
