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
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from comfyreport._version import __version__
from comfyreport.errors import UsageError
from comfyreport.files import open_to_write
from comfyreport.net.redaction import Redactor

FORMAT = 1

Record = Mapping[str, Any]


class Recorder:
    """Writes a recording. Its methods may be called from any thread and raise nothing.

    A write that fails ends the recording; `failure` then says why.

    :param secrets: texts that are removed wherever they occur.
    :param on_failure: called with the reason at most once, on the thread that wrote.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        server: str,
        secrets: Iterable[str] = (),
        on_failure: Callable[[str], None] = lambda why: None,
    ) -> None:
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._file = open_to_write(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"the recording {os.fspath(path)} can't be written: {reason}", hint="--record FILE"
            ) from error
        self._lock = threading.Lock()
        self._started_at = time.monotonic()
        self._redactor = Redactor(secrets)
        self._on_failure = on_failure
        self.failure: str | None = None
        header = {"recording": FORMAT, "comfyreport": __version__, "server": server, "time": time.time()}
        self._write({"kind": "header", **header})

    def tap(self, record: Record) -> None:
        """Record one thing that crossed the wire."""
        self._write({"t": round(time.monotonic() - self._started_at, 6), **record})

    def note(self, note: str, **fields: Any) -> None:
        """Record what doesn't cross the wire."""
        self.tap({"dir": "note", "kind": "note", "note": note, **fields})

    def _write(self, record: Record) -> None:
        line = self._redactor.body(_dumps(record)) + b"\n"
        with self._lock:
            if self._file.closed or self.failure is not None:
                return
            try:
                self._file.write(line)
                # So that nothing is missing if the process is killed.
                self._file.flush()
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        if self.failure is None:
            self.failure = error.strerror or str(error)
            self._on_failure(self.failure)

    def close(self) -> None:
        """Flush and close the file."""
        with self._lock:
            try:
                self._file.close()
            except OSError as error:
                self._fail(error)


def _dumps(record: Record) -> bytes:
    """*record* as JSON; what no JSON can hold (a body nested too deeply, for one) is left out."""
    try:
        return json.dumps(record, default=str).encode()
    except (TypeError, ValueError, RecursionError):
        plain = {key: value for key, value in record.items() if isinstance(value, (str, int, float))}
        return json.dumps(plain).encode()
