"""Sockets and clients for tests of the net: servers that open WebSockets, and failures that must come soon."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import time
from typing import Any

from comfyreport.access.address import parse_address
from comfyreport.access.credentials import Access
from comfyreport.engine.sources import CallDone, CallKind, SocketClosed, Sources
from comfyreport.errors import UnreachableError
from comfyreport.net.client import Client
from comfyreport.net.websocket import Socket
from comfyreport.timing import Timing
from tests.e2e.strangers import Answer, http

# For what never answers, or byte by byte: on a busy machine an answer may take longer.
SHORT = Timing(connect_timeout=1.0, read_timeout=0.5, response_timeout=0.5)
LIMIT = 10.0


def handshake_response(request: bytes, *headers: str, rest: bytes = b"") -> bytes:
    """The right answer to a handshake."""
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
    assert key is not None
    digest = hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    accept = f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}"
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: WebSocket", "Connection: keep-alive, Upgrade", accept]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + rest


def accepts(*headers: str, rest: bytes = b"") -> Answer:
    """Opens each WebSocket and answers other requests with an empty object, all with these headers."""

    def answer(connection: socket.socket, request: bytes) -> None:
        if b"Sec-WebSocket-Key" in request:
            connection.sendall(handshake_response(request, *headers, rest=rest))
            connection.recv(1000)
        else:
            http("200 OK", b"{}", *headers)(connection, request)

    return answer


def client_of(url: str, timing: Timing | None = None, access: Access | None = None) -> Client:
    return Client(parse_address(url), timing=timing or Timing(), access=access)


def open_and_close(client: Client) -> None:
    opened = Socket(client, "me")
    opened.open()
    opened.close()


def open_error(client: Client) -> UnreachableError:
    """The error with which opening a socket fails, which must be soon."""
    sources = Sources(client, "me")
    sources.connect()
    (closed,) = until(sources, SocketClosed)
    assert closed.fault is None
    assert closed.error is not None
    sources.shut()
    client.close()
    error: UnreachableError = closed.error
    return error


def request_times_out(client: Client) -> bool:
    """Whether an HTTP request fails soon, and for the time limit."""
    sources = Sources(client, "me")
    sources.call(CallKind.LOOK, lambda: client.get("/queue"), lambda done: None)
    (done,) = until(sources, CallDone)
    client.cut()
    assert isinstance(done.error, UnreachableError)
    return done.error.code == "no_answer"


def until(sources: Sources, kind: type[Any]) -> list[Any]:
    """What comes, up to the first of *kind*, as the loop hears of it."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        items = sources.receive(0.05)
        if found := [item for item in items if isinstance(item, kind)]:
            return found
    raise AssertionError(f"no {kind.__name__} came")


def sends_byte_by_byte(beginning: bytes, seconds: float = 0.05) -> Answer:
    """Answers with *beginning*, and then endlessly one byte every so many *seconds*."""

    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(beginning)
        end = time.monotonic() + 3 * LIMIT
        while time.monotonic() < end:
            connection.sendall(b"x")
            time.sleep(seconds)

    return answer


UNFINISHED_HEAD = b"HTTP/1.1 200 OK\r\nX-A: "
UNFINISHED_SERVER_HELLO = b"\x16\x03\x03\x40\x00"
