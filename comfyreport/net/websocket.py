"""One WebSocket connection: its handshake, its messages, its end."""

from __future__ import annotations

import base64
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from websocket import ABNF

from comfyreport.errors import UnreachableError
from comfyreport.net import handshake
from comfyreport.net.client import Client
from comfyreport.net.failures import NETWORK_ERRORS, no_answer, no_websocket, status_error, unreachable
from comfyreport.net.frames import FrameError, Frames, Message, Skipped
from comfyreport.net.limits import Call, shut_down
from comfyreport.net.proxies import Proxy, proxy_of

UNANSWERED_PINGS = 3
"""With at least so many, and nothing received for `Timing.pong_timeout`, a connection counts as lost."""

FEATURE_FLAGS = '{"type": "feature_flags", "data": {"supports_preview_metadata": true}}'


class Socket:
    """One WebSocket connection: opened and read by one thread, pinged and shut down by another."""

    def __init__(self, client: Client, client_id: str) -> None:
        self._client = client
        self._client_id = client_id
        self._tap = client.tap
        self._raw: socket.socket | None = None
        self._call: Call | None = None
        self._buffered = b""
        self._selector: selectors.BaseSelector | None = None
        # A TLS connection must not be read and written at the same time.
        self._lock = threading.Lock()
        self._shut = False
        self._received_at = 0.0
        self._unanswered_pings = 0
        self._silent_seconds: float | None = None

    def open(self) -> None:
        """Connect, and send the feature flags, which count only as the first message (ComfyUI server.py).

        Raises UnreachableError.
        """
        client, timing = self._client, self._client.timing
        self._record({"dir": "out", "kind": "ws-open", "path": f"/ws?clientId={self._client_id}"})
        server, proxy = client.address.base, proxy_of(client.address.url("/ws"))
        with Call.within(timing.connect_timeout + timing.read_timeout) as call:
            self._call = call
            if self._shut:
                call.cut()
            try:
                self._connect(proxy)
            except NETWORK_ERRORS as error:
                raise no_answer(server) if call.cut_off else unreachable(error, server, proxy) from error
        self._record({"dir": "out", "kind": "ws-text", "text": FEATURE_FLAGS})
        if self._shut:
            self.shut()

    def _connect(self, proxy: Proxy | None) -> None:
        """The handshake. Redirects are not followed: credentials must not go to another host."""
        client = self._client
        url = client.address.socket_url(self._client_id)
        path, server = urlsplit(url).path, client.address.base
        raw = self._raw = handshake.connect(url, proxy, client.verify, client.timing.connect_timeout)
        head = handshake.ask(raw, url, client.headers(path))
        client.cookies.take(head.headers.get("set-cookie", ()), path)
        if not head.status:
            raise no_websocket(server)
        if head.status != 101:
            is_html = "html" in head.get("content-type").lower()
            raise status_error(head.status, client.redactor.text(head.get("location")), server, is_html=is_html)
        self._buffered = head.rest
        self._received_at = time.monotonic()
        raw.sendall(ABNF.create_frame(FEATURE_FLAGS, ABNF.OPCODE_TEXT).format())
        raw.settimeout(0)
        self._selector = selectors.DefaultSelector()
        self._selector.register(raw, selectors.EVENT_READ)

    def ping(self) -> None:
        """Send a ping, which keeps proxies from closing an idle connection; OSError where it is broken.

        Where several stayed unanswered for long, the connection is ended instead, and `frames` raises.
        """
        silent = time.monotonic() - self._received_at
        if self._unanswered_pings >= UNANSWERED_PINGS and silent >= self._client.timing.pong_timeout:
            self._silent_seconds = silent
            self.shut()
            return
        self._unanswered_pings += 1
        self._send(b"", ABNF.OPCODE_PING)

    def _send(self, payload: bytes, opcode: int) -> None:
        frame = ABNF.create_frame(payload, opcode).format()
        with self._lock:
            if self._raw is not None:
                self._raw.sendall(frame)

    def frames(self) -> Iterator[list[Message] | Skipped]:
        """The messages as they come, in batches of those that came together; ends when the connection does.

        Raises OSError or UnreachableError when the connection breaks.
        """
        redactor = self._client.redactor
        try:
            for batch in Frames(self._receive, lambda payload: self._send(payload, ABNF.OPCODE_PONG)):
                if isinstance(batch, Skipped):
                    yield batch
                    continue
                if redactor.has_secrets:
                    batch = [(text, redactor.body(data) if text else redactor.binary(data)) for text, data in batch]
                if self._tap is not None:
                    for message in batch:
                        self._record(_as_record(*message))
                yield batch
                # Not held while the next one is read: it may be large too.
                del batch
        except OSError as error:
            reason: object = error
            if self._silent_seconds is not None:
                reason = f"nothing came for {self._silent_seconds:.0f} s, not even an answer to a ping"
            elif not isinstance(error, FrameError):
                raise
            raise UnreachableError(f"the connection broke: {reason}", retryable=True) from error

    def _receive(self, limit: int) -> bytes:
        """Up to *limit* bytes, as soon as there are some; none at the end."""
        raw, selector = self._raw, self._selector
        assert raw is not None
        assert selector is not None
        if self._buffered:
            buffered, self._buffered = self._buffered, b""
            return buffered
        while True:
            try:
                with self._lock:
                    data = raw.recv(limit)
            except (BlockingIOError, ssl.SSLWantReadError):
                selector.select()
            else:
                self._received_at, self._unanswered_pings = time.monotonic(), 0
                return data

    def _record(self, record: Mapping[str, Any]) -> None:
        if self._tap is not None:
            self._tap({**record, "sock": "A"})

    def shut(self) -> None:
        """End the connection, which wakes the thread that reads it; from any thread, returns at once."""
        self._shut = True
        raw, call = self._raw, self._call
        if raw is not None:
            shut_down(raw)
        if call is not None:
            # It may still be opening.
            call.cut()

    def close(self) -> None:
        """Free the connection; only from the thread that reads it."""
        self._record({"dir": "in", "kind": "ws-close"})
        if self._selector is not None:
            self._selector.close()
        with self._lock:
            raw, self._raw = self._raw, None
            if raw is not None:
                raw.close()


def _as_record(text: bool, data: bytes) -> dict[str, Any]:
    """A message in the form of a recording."""
    if text:
        return {"dir": "in", "kind": "ws-text", "text": data.decode("utf-8", "replace")}
    return {"dir": "in", "kind": "ws-binary", "b64": base64.b64encode(data).decode()}
