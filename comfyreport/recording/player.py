"""Recordings read, and played: the events of the run that was recorded. `recorder` has the format."""

from __future__ import annotations

import base64
import binascii
import contextlib
import gzip
import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast, get_args

from comfyreport import events as ev
from comfyreport.errors import ComfyReportError, UsageError
from comfyreport.events import Instant
from comfyreport.learning.expecting import expectations
from comfyreport.learning.features import features_of
from comfyreport.protocol import decode, responses
from comfyreport.recording.recorder import Record
from comfyreport.run import Run, RunInput
from comfyreport.run.verdict import BY_USER, Cancel, Verdict, without_history
from comfyreport.workflow.files import from_mapping

# The time of recordings without a header: a constant, so that their events are always the same.
_DEFAULT_TIME = 1735689600.0
_MAX_SECONDS = 1e11
# Node, name, subfolder and folder.
_FILE_PARTS = 4


class Recording(NamedTuple):
    """A recording that was read: `time` is when it began (epoch seconds), `server` the address without secrets."""

    records: tuple[Record, ...]
    time: float = _DEFAULT_TIME
    server: str = ""

    @property
    def duration(self) -> float:
        """Seconds from the beginning to the last record."""
        return max((_seconds(record) for record in self.records), default=0.0)


def read_recording(path: str | os.PathLike[str]) -> Recording:
    """Read a recording, gzip-compressed or not; UsageError where the file is none."""
    shown = os.fspath(path)
    try:
        data = Path(path).read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise _unusable(f"the recording {shown} can't be read: {reason}") from error
    return parse_recording(data, shown)


def parse_recording(data: bytes, name: str) -> Recording:
    """Read a recording's bytes. A last line that is cut off, as a killed process leaves it, is left out."""
    lines = data.splitlines()
    records: list[Record] = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            if number == len(lines) and records:
                break
            raise _unusable(f"{name} is no recording: line {number} is no JSON") from None
        if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
            raise _unusable(f"{name} is no recording: line {number} has no kind")
        if record.get("dir") not in ("in", "out", "note") and (records or record["kind"] != "header"):
            raise _unusable(f"{name} is no recording: line {number} has no dir")
        records.append(record)
    if not records:
        raise _unusable(f"the recording {name} is empty")
    header: Record = {}
    if records[0]["kind"] == "header":
        header, records = records[0], records[1:]
    server = header.get("server")
    time = _time(header.get("time"), _DEFAULT_TIME)
    return Recording(tuple(records), time, server if isinstance(server, str) else "")


def _unusable(message: str) -> UsageError:
    return UsageError(message, hint="name a file that --record wrote")


def _seconds(record: Record) -> float:
    return _time(record.get("t"), 0.0)


def _time(value: object, default: float) -> float:
    """*value* where it is a usable number of seconds: JSON files may hold NaN and 1e999."""
    return float(value) if isinstance(value, (int, float)) and 0 <= value < _MAX_SECONDS else default


# What is asked before there is a prompt: files are uploaded, and the server says what it has.
_BEFORE = ("/upload/", "/object_info")


def _socket(record: Record) -> str:
    sock = record.get("sock")
    return sock if isinstance(sock, str) else ""


def _find_submission(records: Iterable[Record]) -> tuple[Record, int | None]:
    """The request of the first prompt that was posted, and the index of its response (None: there is none)."""
    request: Record = {}
    for index, record in enumerate(records):
        if record.get("path") != "/prompt" or record.get("method") != "POST":
            continue
        if record.get("dir") == "out" and not request and isinstance(record.get("request"), dict):
            request = record["request"]
        elif record.get("dir") == "in" and request:
            return request, index
    return request, None


class Player:
    """Makes the events of a recording's run again; of several prompts, those of the first that was posted."""

    def __init__(self, recording: Recording, *, sequence: Iterator[int] | None = None, previews: bool = True) -> None:
        self._recording = recording
        request, self._response_index = _find_submission(recording.records)
        graph = request.get("prompt")
        try:
            workflow = from_mapping(graph) if isinstance(graph, dict) else None
        except ComfyReportError:
            workflow = None
        response = recording.records[self._response_index].get("response") if self._response_index is not None else None
        assigned = response.get("prompt_id") if isinstance(response, dict) else None
        prompt_id = assigned if isinstance(assigned, str) else str(request.get("prompt_id", ""))
        client_id = request.get("client_id")
        self._end_note: Record = {}
        self._connections = 0
        self._socket = f"clientId={client_id}"
        self._sockets: set[str] = set()
        self.run = Run(
            prompt_id,
            workflow.manifest() if workflow is not None else (),
            base_url=recording.server,
            client_id=client_id if isinstance(client_id, str) else None,
            seed=workflow.seed() if workflow is not None else None,
            sequence=itertools.count(1) if sequence is None else sequence,
            previews=previews,
        )
        if workflow is not None:
            self.run.expect(expectations(features_of(workflow.graph), ()))

    def events(self, wait: Callable[[float], bool] = lambda seconds: True) -> Iterator[ev.Event]:
        """All events up to `run_finished`, in order.

        *wait* is called before each record with its time in seconds since the beginning; False ends the play there.
        """
        at = self._instant(0.0)
        for index, record in enumerate(self._recording.records):
            if not wait(_seconds(record)):
                break
            at = self._instant(max(at.elapsed, _seconds(record)))
            yield from self._play(index, record, at)
        recorded = self._recorded_verdict()
        if recorded is not None and (self.run.verdict is None or self.run.verdict.status != recorded.status):
            # That outputs couldn't be saved, a time limit, and a stop by the user are in no response of the server.
            self.run.verdict = recorded
        if self.run.verdict is None:
            message = "the recording ends before the run did"
            self.run.conclude(without_history(self.run.outcome, self.run.nodes, "prompt_vanished", message, ""))
        yield from self.run.finish(at)

    def _instant(self, seconds: float) -> Instant:
        return Instant(self._recording.time + seconds, seconds)

    def _play(self, index: int, record: Record, at: Instant) -> Iterator[ev.Event]:
        kind, direction = record.get("kind"), record.get("dir")
        if kind == "ws-open" and str(record.get("path", "")).endswith(self._socket):
            self._sockets.add(_socket(record))
            self._connections += 1
            state = "connected" if self._connections == 1 else "restored"
            yield from self.run.emit(ev.ConnectionChanged, at, state=state)
        elif kind == "ws-close" and direction == "in" and _socket(record) in self._sockets:
            if self.run.verdict is not None or self.run.ending:
                return
            self.run.miss_messages()
            yield from self.run.emit(ev.ConnectionChanged, at, state="lost", detail="the connection was closed")
        elif kind == "note":
            yield from self._note(record, at)
        elif direction == "out" and kind == "http" and not str(record.get("path", "")).startswith(_BEFORE):
            # The submission, or the first request about a prompt that was there already: events have its id from here.
            self.run.sent = True
        elif direction == "in":
            run_input = self._decode(index, record)
            if run_input is not None:
                yield from self.run.feed(run_input, at)

    def _note(self, record: Record, at: Instant) -> Iterator[ev.Event]:
        note = record.get("note")
        if note == "cancel":
            reason, hint = (str(record.get(name) or "") for name in ("reason", "hint"))
            self.run.outcome.cancel = Cancel("timeout", "time_limit", reason, hint) if reason else BY_USER
        elif note == "end":
            self._end_note = record
        elif note == "saved":
            yield from self._saved(record, at)

    def _saved(self, record: Record, at: Instant) -> Iterator[ev.Event]:
        """An output was saved: one of history's, or one that the socket alone had told of by then."""
        index, file, size = record.get("index"), record.get("file"), record.get("bytes")
        output: ev.Output | None = None
        if isinstance(index, int) and 0 <= index < len(self.run.outputs):
            output = self.run.outputs[index]
        elif index is None and isinstance(file, list) and len(file) == _FILE_PARTS and isinstance(file[0], str):
            index, output = None, self.run.output_like(*file)
        if output is not None:
            size = size if isinstance(size, int) else None
            yield from self.run.saved(index, replace(output, path=str(record.get("path")), bytes=size), at)

    def _decode(self, index: int, record: Record) -> RunInput | None:
        kind = record.get("kind")
        if kind == "ws-text" and _socket(record) in self._sockets:
            return decode.decode_text(str(record.get("text", "")))
        if kind == "ws-binary" and _socket(record) in self._sockets:
            with contextlib.suppress(binascii.Error, TypeError, ValueError):
                return decode.decode_binary(base64.b64decode(record.get("b64", "")))
        if kind == "http":
            return self._decode_response(index, record)
        return None

    def _decode_response(self, index: int, record: Record) -> RunInput | None:
        path, status, body = str(record.get("path", "")), record.get("status"), record.get("response")
        if index == self._response_index:
            refs = self.run.nodes.refs()
            return responses.read_accepted(body, refs) if status == 200 else responses.read_refused(body, refs)
        if status == 200 and record.get("method") == "GET":
            if path.startswith("/history/"):
                return responses.read_history(body, self.run.prompt_id)
            if path == "/queue":
                return responses.read_queue(body)
        return None

    def _recorded_verdict(self) -> Verdict | None:
        """The verdict of the recorded run, if the recording has it."""
        status, state, submitted = (self._end_note.get(name) for name in ("status", "prompt_state", "submitted"))
        if not isinstance(status, str) or status not in ev.EXIT_CODES:
            return None
        error = self._end_note.get("error")
        info = None
        if isinstance(error, dict):
            code, message, hint = (str(error.get(name, "")) for name in ("code", "message", "hint"))
            info = ev.ErrorInfo(code=code if code in ev.ERROR_CODES else "internal", message=message, hint=hint)
        return Verdict(
            cast(ev.Status, status),
            info,
            cast(ev.PromptState, state) if state in get_args(ev.PromptState) else "unknown",
            cast(ev.Submitted, submitted) if submitted in get_args(ev.Submitted) else "unknown",
            self._end_note.get("retryable") is True,
        )
