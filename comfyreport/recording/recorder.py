"""Writing a recording: what crosses the wire, one JSON object a line, as it happens.

The first line is a header; each other line has `t` (seconds since the beginning), `dir` (`out`, `in`, `note`) and
`kind` (`http`, `http-error`, `ws-open`, `ws-text`, `ws-binary`, `ws-close`, `note`). Text frames stand in
`text`, binary ones in `b64`. Notes record what doesn't cross the wire: that the user cancelled, where an output was
saved, and how the run ended. Nothing secret is in a recording.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from comfyreport._version import __version__
from comfyreport.access.redaction import Redactor
from comfyreport.errors import UsageError
from comfyreport.files import open_to_write
from comfyreport.timing import Timing

FORMAT = 1

MOST_WAITING = 16 * 1024 * 1024
"""Bytes that may wait to be written, and one record more."""

_BATCH = 256 * 1024
_TOO_SLOW = "it takes what is written too slowly, or not at all"

_encode = json.JSONEncoder(default=str).encode

Record = Mapping[str, Any]


class Recorder:
    """Writes a recording, on a thread of its own. Its methods may be called from any thread and raise nothing.

    A file that can't be written, or that takes too little in the time of *timing*, ends the recording; `failure` then
    says why. Nobody waits for such a file: its thread is left behind. `hurry` may be set to what tells that the user
    wants to leave at once; then hardly anything is waited for.

    :param secrets: texts that are removed wherever they occur.
    :param on_failure: called with the reason at most once, on the thread that noticed it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        server: str,
        secrets: Iterable[str] = (),
        on_failure: Callable[[str], None] = lambda why: None,
        timing: Timing | None = None,
    ) -> None:
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._file = open_to_write(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"the recording {os.fspath(path)} can't be written: {reason}", hint="--record FILE"
            ) from error
        self._timing = timing or Timing()
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._unwritten = 0
        self._writing_since: float | None = None
        self._closing = self._closed = False
        self._started_at = time.monotonic()
        self._redactor = Redactor(secrets)
        self._on_failure = on_failure
        self.failure: str | None = None
        self.hurry: Callable[[], bool] = lambda: False
        threading.Thread(target=self._write_all, name="comfyreport-recorder", daemon=True).start()
        header = {"recording": FORMAT, "comfyreport": __version__, "server": server, "time": time.time()}
        self._add({"kind": "header", **header})

    def tap(self, record: Record) -> None:
        """Record one thing that crossed the wire."""
        self._add(self._timed(record))

    def note(self, note: str, **fields: Any) -> None:
        """Record what doesn't cross the wire."""
        self.tap(_note(note, fields))

    def end(self, **fields: Any) -> None:
        """Note how the run ended, as the last line: the socket may go on for a moment."""
        self._add(self._timed(_note("end", fields)), last=True)

    def flush(self) -> None:
        """Wait until all is written, for `Timing.record_limit` at most."""
        self._wait(lambda: not self._unwritten)

    def close(self) -> None:
        """Write what waits, and close the file; waits as `flush` does."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._wait(lambda: self._closed)

    def _timed(self, record: Record) -> Record:
        return {"t": round(time.monotonic() - self._started_at, 6), **record}

    def _add(self, record: Record, *, last: bool = False) -> None:
        if self.failure is not None:
            return
        line = self._redactor.body(_dumps(record)) + b"\n"
        with self._changed:
            if self._unwritten > MOST_WAITING:
                # A file that is merely slow has room again soon.
                self._changed.wait_for(lambda: self._unwritten <= MOST_WAITING, self._timing.backpressure)
            if self._closing or self.failure is not None:
                return
            since = self._writing_since
            stuck = since is not None and time.monotonic() - since > self._timing.record_limit
            if not stuck and self._unwritten <= MOST_WAITING:
                self._waiting.append(line)
                self._unwritten += len(line)
                self._closing = last
                self._changed.notify_all()
                return
        self._fail(_TOO_SLOW)

    def _wait(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._timing.record_limit
        with self._changed:
            while not self._changed.wait_for(lambda: reached() or self.failure is not None, self._timing.tick):
                if self.hurry() or time.monotonic() > deadline:
                    break
            else:
                return
        self._fail(_TOO_SLOW)

    def _fail(self, reason: str) -> None:
        with self._changed:
            if self.failure is not None:
                return
            self.failure = reason
            self._waiting.clear()
            self._changed.notify_all()
        self._on_failure(reason)

    # --- on a thread of its own

    def _write_all(self) -> None:
        try:
            with self._file as file:
                while lines := self._take():
                    file.write(lines)
                    # So that nothing is missing if the process is killed.
                    file.flush()
                    with self._changed:
                        self._unwritten -= len(lines)
                        self._writing_since = None
                        self._changed.notify_all()
        except OSError as error:
            self._fail(error.strerror or str(error))
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _take(self) -> bytes:
        """Whole lines that wait, as soon as there are some; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing or self.failure is not None)
            lines: list[bytes] = []
            size = 0
            while self._waiting and size < _BATCH:
                lines.append(self._waiting.popleft())
                size += len(lines[-1])
            self._writing_since = time.monotonic()
        return b"".join(lines)


def _note(note: str, fields: Record) -> Record:
    return {"dir": "note", "kind": "note", "note": note, **fields}


def _dumps(record: Record) -> bytes:
    """*record* as JSON; what no JSON can hold (a body nested too deeply, for one) is left out."""
    try:
        return _encode(record).encode()
    except (TypeError, ValueError, RecursionError):
        plain = {key: value for key, value in record.items() if isinstance(value, (str, int, float))}
        return json.dumps(plain).encode()
