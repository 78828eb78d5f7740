"""One WebSocket connection: its handshake, its messages, its end. The protocol is websocket-client's."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.client import HTTPException
from types import SimpleNamespace
from typing import Any

from urllib3.connection import HTTPConnection
from websocket import ABNF, WebSocket, WebSocketException, WebSocketTimeoutException

from comfyreport.access.address import path_and_query
from comfyreport.errors import UnreachableError
from comfyreport.net.client import Client
from comfyreport.net.connection import FinalResponse, shut_down
from comfyreport.net.failures import NETWORK_ERRORS, no_answer, unreachable
from comfyreport.net.frames import Frames, Message, Parts, Skipped
from comfyreport.protocol.statuses import no_websocket

UNANSWERED_PINGS = 3
"""With at least so many, and nothing received for `Timing.pong_timeout`, a connection counts as lost."""
BATCH = 250
"""Messages that are given together, at most."""
TURN = 0.25
"""Seconds that a reader waits before it looks whether it was shut down: not every system wakes it for that. A TLS
connection can't be written to meanwhile."""

FEATURE_FLAGS = '{"type": "feature_flags", "data": {"supports_preview_metadata": true}}'

# websocket-client has one jar of cookies for all of a process, by host, and fails at odd ones (its issue 1061). No
# cookie is for this host, and none comes with the heads that `_Wire` shows it. The true host is given beside.
_NO_HOST = "host.invalid"
# What of an answer's head WebSocket is about.
_HANDSHAKE = ("Upgrade", "Connection", "Sec-WebSocket-Accept")
_NOT_NOW = (TimeoutError, BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Socket:
    """One WebSocket connection: opened and read by one thread, pinged and shut down by another."""

    def __init__(self, client: Client, client_id: str) -> None:
        self._client = client
        self._client_id = client_id
        self._connection: HTTPConnection | None = None
        self._websocket = _WebSocket(skip_utf8_validation=True)
        self._websocket.cont_frame = Parts(fire_cont_frame=False, skip_utf8_validation=True)
        self._wire: _Wire | None = None
        self._shut = False
        self._silent_seconds: float | None = None

    def open(self) -> None:
        """Connect, and send the feature flags, which count only as the first message (ComfyUI server.py).

        Raises UnreachableError.
        """
        client = self._client
        self._record({"dir": "out", "kind": "ws-open", "path": f"/ws?clientId={self._client_id}"})
        proxy = client.connector.proxy()
        try:
            self._connection = connection = client.connector.connection(proxy, tunnel=True)
            connection.connect()
            if self._shut:
                raise ConnectionAbortedError
            self._wire = wire = _Wire(connection.sock, client.timing.read_timeout)
            self._websocket.frame_buffer = self._frames = Frames(wire.recv)
            self._handshake(wire)
            self._websocket.send(FEATURE_FLAGS)
        except NETWORK_ERRORS as error:
            client.connector.forget()
            server = client.address.base
            raise (no_answer(server) if self._shut else unreachable(error, server, proxy)) from error
        self._record({"dir": "out", "kind": "ws-text", "text": FEATURE_FLAGS})

    def _handshake(self, wire: _Wire) -> None:
        """The handshake. Redirects are not followed: credentials must not go to another host."""
        client = self._client
        url = client.address.url("/ws", clientId=self._client_id)
        headers = client.headers(url)
        host = headers.pop(next(name for name in headers if name.lower() == "host"))
        try:
            # ComfyUI answers 403 to an Origin that doesn't match the host (server.py, origin_only_middleware).
            self._websocket.connect(  # type: ignore[no-untyped-call]
                f"ws://{_NO_HOST}{path_and_query(url)}",
                socket=wire,
                host=host,
                header=[f"{name}: {value}" for name, value in headers.items()],
                suppress_origin=True,
            )
        except (WebSocketException, HTTPException) as error:
            if isinstance(error, (OSError, WebSocketTimeoutException)):
                # No answer, or the connection ended without one.
                raise
            answer, server = wire.answer, client.address.base
            if answer is None or answer.status == HTTPStatus.SWITCHING_PROTOCOLS:
                raise no_websocket(server) from error
            raise client.response(answer.status, answer.headers, bytearray()).as_error(server) from error
        finally:
            if wire.answer is not None:
                client.cookies.take(wire.answer, url)

    def ping(self) -> None:
        """Send a ping, which keeps proxies from closing an idle connection; OSError where it is broken.

        Where several stayed unanswered for long, the connection is ended instead, and `frames` raises.
        """
        wire = self._wire
        if wire is None:
            return
        silent = time.monotonic() - wire.received_at
        if wire.unanswered_pings >= UNANSWERED_PINGS and silent >= self._client.timing.pong_timeout:
            self._silent_seconds = silent
            self.shut()
            return
        wire.unanswered_pings += 1
        try:
            self._websocket.ping()
        except NETWORK_ERRORS:
            # A part of it may have been sent, behind which nothing else can be.
            self.shut()
            raise

    def frames(self) -> Iterator[list[Message] | Skipped]:
        """The messages as they come, in batches of those that came together; ends when the connection does.

        Raises UnreachableError when the connection breaks.
        """
        wire = self._wire
        assert wire is not None
        batch: list[Message] = []
        broken: Exception | None = None
        over = False
        wire.turn = TURN
        while not over:
            message: Message | Skipped | None = None
            wire.patient = not batch
            try:
                message = self._next()
                over = message is None
            except _NOT_NOW:
                pass
            except (OSError, WebSocketException) as error:
                broken, over = error, True
            if message is not None and not isinstance(message, Skipped):
                batch.append(message)
            if batch and (len(batch) >= BATCH or message is not batch[-1]):
                yield self._tapped(batch)
                batch = []  # not held while the next one is read: it may be large too
            if isinstance(message, Skipped):
                yield message
        if broken is not None:
            reason: object = broken
            if self._silent_seconds is not None:
                reason = f"nothing came for {self._silent_seconds:.0f} s, not even an answer to a ping"
            raise UnreachableError(f"the connection broke: {reason}", retryable=True) from broken

    def _next(self) -> Message | Skipped | None:
        """The next message; None at the end. Raises one of `_NOT_NOW` where nothing more has come yet."""
        opcode, frame = self._websocket.recv_data_frame()
        if opcode == ABNF.OPCODE_CLOSE:
            return None
        size = self._frames.size
        return (opcode == ABNF.OPCODE_TEXT, bytes(frame.data)) if len(frame.data) == size else Skipped(size)

    def _tapped(self, batch: list[Message]) -> list[Message]:
        """What is shown of *batch*, without secrets."""
        redactor = self._client.redactor
        if not (all(text for text, _ in batch) and redactor.leaves([data for _, data in batch])):
            batch = [(text, redactor.body(data) if text else redactor.binary(data)) for text, data in batch]
        for text, data in batch if self._client.tap is not None else ():
            content = {"text": data.decode("utf-8", "replace")} if text else {"b64": base64.b64encode(data).decode()}
            self._record({"dir": "in", "kind": "ws-text" if text else "ws-binary", **content})
        return batch

    def _record(self, record: Mapping[str, Any]) -> None:
        if self._client.tap is not None:
            self._client.tap({**record, "sock": "A"})

    def shut(self) -> None:
        """End the connection, and soon the thread that reads it; from any thread, returns at once."""
        self._shut = True
        if self._connection is not None:
            shut_down(self._connection.sock)

    def close(self) -> None:
        """Free the connection; only from the thread that reads it."""
        self._record({"dir": "in", "kind": "ws-close"})
        if self._connection is not None:
            self._connection.close()


class _WebSocket(WebSocket):
    def send_close(self, *args: Any, **options: Any) -> None:
        """Answer a close frame, if the other end still listens."""
        with contextlib.suppress(OSError):
            super().send_close(*args, **options)


class _Wire:
    """What websocket-client takes for a socket: safe with TLS, and its answer to the handshake is read by http.client.

    :param timeout: seconds for the answer to begin, and for the other end to take what is sent.
    """

    def __init__(self, raw: socket.socket, timeout: float) -> None:
        self.answer: FinalResponse | None = None
        self.received_at = time.monotonic()
        self.unanswered_pings = 0
        self._raw = raw
        # Seconds that `recv` may wait, and whether it may at all.
        self.turn = timeout
        self.patient = True
        self._head = b""
        self._timeout = timeout
        self._drained = False
        # A TLS connection must not be read and written at the same time.
        self._lock = threading.Lock()
        raw.settimeout(timeout)

    def gettimeout(self) -> float:
        """That websocket-client needn't wait: this does."""
        return 0.0

    def recv(self, size: int) -> bytes:
        """Up to *size* bytes; none at the end. Raises one of `_NOT_NOW` where nothing comes in time."""
        if self.answer is None:
            self._head = self._read_answer()
        if self._head:
            piece, self._head = self._head[:size], self._head[size:]
            return piece
        if self._drained and not self.patient:
            # The last reading took all that had come: asking the system again would cost more than a message.
            raise BlockingIOError
        with self._lock:
            if self._raw.gettimeout() != self.turn:
                self._raw.settimeout(self.turn)
            data = self._raw.recv(size)
        self._drained = len(data) < size
        self.received_at, self.unanswered_pings = time.monotonic(), 0
        return data

    def _read_answer(self) -> bytes:
        """Read the server's answer to the handshake: what of its head the protocol is about, and what came behind."""
        # Buffered, for a head may be long, and a system call a byte is slow.
        reader = self._raw.makefile("rb")
        source: Any = SimpleNamespace(makefile=lambda mode: reader)
        frames = b""
        with contextlib.closing(FinalResponse(source)) as answer:
            answer.begin()
            self._raw.setblocking(False)
            with contextlib.suppress(*_NOT_NOW):
                frames = reader.peek()
        self.answer = answer
        if answer.status != HTTPStatus.SWITCHING_PROTOCOLS:
            raise WebSocketException("refused")
        lines = [f"{name}: {' '.join(answer.getheader(name, '').split())}\r\n" for name in _HANDSHAKE]
        return "".join(["HTTP/1.1 101\r\n", *lines, "\r\n"]).encode() + frames

    def send(self, data: bytes) -> int:
        """Send all of *data*. TimeoutError where the other end doesn't take it in time."""
        with self._lock:
            self._raw.settimeout(self._timeout)
            self._raw.sendall(data)
        return len(data)

    def close(self) -> None:
        """Nothing: the connection is closed by who made it."""
