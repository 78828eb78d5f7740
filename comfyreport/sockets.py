"""One WebSocket connection: its handshake, its messages, its end."""

from __future__ import annotations

import base64
import os
import selectors
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import certifi
import websocket

from comfyreport.client import Client, proxy_of, read_cookies, shown_proxy
from comfyreport.frames import Frames, Message, Skipped
from comfyreport.limits import Call, shut_down
from comfyreport.refusals import NETWORK_ERRORS, no_answer, refusal, unreachable

FEATURE_FLAGS = '{"type": "feature_flags", "data": {"supports_preview_metadata": true}}'


class Socket:
    """One WebSocket connection, made and read by one thread, shut down by another."""

    def __init__(self, client: Client, client_id: str) -> None:
        self._client = client
        self._client_id = client_id
        self._tap = client.tap
        self._socket: websocket.WebSocket | None = None
        self._selector: selectors.BaseSelector | None = None
        # A TLS connection must not be read and written at the same time.
        self._lock = threading.Lock()
        self._shut = False

    def open(self) -> dict[str, str]:
        """Connect, and send the feature flags, which count only as the first message (ComfyUI server.py).

        Returns the cookies that the handshake's answer set. Raises UnreachableError.
        """
        client, timing = self._client, self._client.timing
        self._record({"dir": "out", "kind": "ws-open", "path": f"/ws?clientId={self._client_id}"})
        url = client.address.socket_url(self._client_id)
        place, proxy = client.address.base, proxy_of(client.address.url("/ws"))
        with Call.within(timing.connect + timing.answer) as call:
            try:
                self._socket = call.connection = websocket.WebSocket(
                    enable_multithread=False, skip_utf8_validation=True, sslopt=_tls_options(client.verify)
                )
                self._socket.settimeout(timing.connect)
                self._connect(self._socket, url, proxy)
                self._socket.send(FEATURE_FLAGS)
                self._socket.settimeout(0)
                self._selector = selectors.DefaultSelector()
                self._selector.register(self._socket.fileno(), selectors.EVENT_READ)  # type: ignore[no-untyped-call]
            except NETWORK_ERRORS as error:
                raise no_answer(place) if call.cut_off else unreachable(error, place, shown_proxy(proxy)) from error
        self._record({"dir": "out", "kind": "ws-text", "text": FEATURE_FLAGS})
        if self._shut:
            self.shut()
        return read_cookies(str((self._socket.getheaders() or {}).get("set-cookie", "")))

    def _connect(self, connection: websocket.WebSocket, url: str, proxy: str) -> None:
        """The handshake. Redirects are not followed: credentials must not go elsewhere."""
        headers = self._client.headers()
        cookie = headers.pop("Cookie", None)
        try:
            # No Origin: ComfyUI answers 403 where it doesn't match the host (server.py, origin_only_middleware).
            connection.connect(  # type: ignore[no-untyped-call]
                url, suppress_origin=True, redirect_limit=0, header=headers, cookie=cookie, **_proxy_options(proxy)
            )
        except websocket.WebSocketException:
            if not 300 <= (connection.getstatus() or 0) < 400:
                raise
        status = connection.getstatus() or 0
        if status != 101:
            location = self._client.hiding.text(str((connection.getheaders() or {}).get("location", "")))
            raise refusal(status, location, self._client.address.base)

    def ping(self) -> None:
        """Send a ping, which keeps proxies from closing a quiet connection; OSError where it is broken."""
        self._send(b"", websocket.ABNF.OPCODE_PING)

    def _send(self, payload: bytes, opcode: int) -> None:
        with self._lock:
            if self._socket is not None and self._socket.sock is not None:
                self._socket.send(payload, opcode)

    def frames(self) -> Iterator[list[Message] | Skipped]:
        """The messages as they come, those together that came together; ends when the connection does.

        Raises OSError or websocket's exceptions when the connection breaks.
        """
        hiding = self._client.hiding
        for batch in Frames(self._receive, lambda payload: self._send(payload, websocket.ABNF.OPCODE_PONG)):
            if isinstance(batch, Skipped):
                yield batch
                continue
            if hiding.anything:
                batch = [(text, hiding.body(data) if text else hiding.binary(data)) for text, data in batch]
            if self._tap is not None:
                for message in batch:
                    self._record(_recorded(*message))
            yield batch
            # The next one may be large: this one must not be held until it is there.
            del batch

    def _receive(self, most: int) -> bytes:
        """Up to so many bytes, as soon as there are some; none at the end."""
        assert self._socket is not None
        assert self._selector is not None
        raw = self._socket.sock
        while raw is not None:
            try:
                with self._lock:
                    return bytes(raw.recv(most))
            except (BlockingIOError, ssl.SSLWantReadError):
                self._selector.select()
        return b""

    def _record(self, record: Mapping[str, Any]) -> None:
        if self._tap is not None:
            self._tap({**record, "sock": "A"})

    def shut(self) -> None:
        """Wake the reading thread and end the connection; may be called from any thread, returns at once.

        websocket-client's own `close` would wait for the lock that a reading thread holds.
        """
        self._shut = True
        connection = self._socket
        raw = None if connection is None else connection.sock
        if raw is not None:
            shut_down(raw)

    def close(self) -> None:
        """Free the connection; only from the thread that reads it."""
        self._record({"dir": "in", "kind": "ws-close"})
        if self._selector is not None:
            self._selector.close()
        with self._lock:
            if self._socket is not None:
                self._socket.shutdown()  # type: ignore[no-untyped-call]


def _recorded(text: bool, data: bytes) -> dict[str, Any]:
    """A message in the form of a recording."""
    if text:
        return {"dir": "in", "kind": "ws-text", "text": data.decode("utf-8", "replace")}
    return {"dir": "in", "kind": "ws-binary", "b64": base64.b64encode(data).decode()}


def _tls_options(verify: bool | str) -> dict[str, Any]:
    """What requests is told of certificates, as websocket-client takes it."""
    if verify is False:
        return {"cert_reqs": ssl.CERT_NONE, "check_hostname": False}
    if verify is True:
        return {"ca_certs": certifi.where()}
    return {"ca_cert_path" if os.path.isdir(verify) else "ca_certs": verify}


def _proxy_options(proxy: str) -> dict[str, Any]:
    """A proxy as websocket-client takes it."""
    if not proxy:
        # An empty list would let websocket-client read the environment by rules of its own.
        return {"http_no_proxy": ["*"]}
    parts = urlsplit(proxy)
    return {
        "http_proxy_host": parts.hostname,
        "http_proxy_port": parts.port or 80,
        "http_proxy_auth": (unquote(parts.username), unquote(parts.password or "")) if parts.username else None,
        "proxy_type": parts.scheme if parts.scheme in ("http", "socks4", "socks5", "socks5h") else "http",
        # An empty list would leave out 127.0.0.1, which requests doesn't.
        "http_no_proxy": ["none.invalid"],
    }
