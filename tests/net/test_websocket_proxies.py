"""WebSocket connections through HTTP and SOCKS proxies."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from comfyreport.errors import UnreachableError
from tests.e2e.strangers import http, stranger
from tests.net.sockets import (
    LIMIT,
    SHORT,
    UNFINISHED_HEAD,
    accepts,
    client_of,
    open_and_close,
    open_error,
    request_times_out,
    sends_byte_by_byte,
)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.slow
def test_a_proxy_that_answers_byte_by_byte(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    with stranger(sends_byte_by_byte(UNFINISHED_HEAD)) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
        url = f"{scheme}://comfy.invalid"
        assert open_error(client_of(url, SHORT)).code == "no_answer"
        assert request_times_out(client_of(url, SHORT))


def socks_proxy(server_url: str, seen: list[bytes], *, byte_by_byte: bool = False) -> Callable[[socket.socket], None]:
    """A SOCKS5 proxy that takes every name for *server_url*, with the user `kim` and the password `pw:1`."""
    host, port = re.findall(r"//(.*):(\d+)", server_url)[0]

    def receive(client: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            chunk = client.recv(count - len(data))
            if not chunk:
                raise ConnectionError
            data += chunk
        return data

    def forward(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def serve(client: socket.socket) -> None:
        receive(client, receive(client, 2)[1])
        if byte_by_byte:
            client.sendall(b"\x05\x00")
            client.recv(1000)
            sends_byte_by_byte(b"\x05\x00\x00\x03\xff")(client, b"")
        client.sendall(b"\x05\x02")
        user = receive(client, receive(client, 2)[1])
        seen.append(user + b":" + receive(client, receive(client, 1)[0]))
        client.sendall(b"\x01\x00")
        assert receive(client, 4)[3] == 3
        seen.append(receive(client, receive(client, 1)[0]))
        receive(client, 2)
        with socket.create_connection((host, int(port))) as server:
            client.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            thread = threading.Thread(target=forward, args=(server, client))
            thread.start()
            forward(client, server)
            thread.join(LIMIT)

    return serve


@pytest.fixture
def start_server() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Serves connections, each on a thread of its own; returns the port."""
    listeners: list[socket.socket] = []

    def accept(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        def serve_one(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                serve(connection)

        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve_one, args=(connection,), daemon=True).start()

    def start(serve: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=accept, args=(listener, serve), daemon=True).start()
        port: int = listener.getsockname()[1]
        return port

    yield start
    for listener in listeners:
        with contextlib.suppress(OSError):  # on Windows `close` is enough
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_through_socks(monkeypatch: pytest.MonkeyPatch, start_server: Any) -> None:
    pytest.importorskip("socks", reason="SOCKS NOT TESTED: PySocks isn't installed")
    seen: list[bytes] = []
    with stranger(accepts()) as server:
        port = start_server(socks_proxy(server.url, seen))
        monkeypatch.setenv("ALL_PROXY", f"socks5h://kim:pw%3A1@localhost:{port}")
        client = client_of("http://comfy.invalid:8188")
        open_and_close(client)
        assert client.get("/queue").body == {}
        client.close()
    assert seen == [b"kim:pw:1", b"comfy.invalid"] * 2


@pytest.mark.slow
def test_a_socks_proxy_that_answers_byte_by_byte(monkeypatch: pytest.MonkeyPatch, start_server: Any) -> None:
    pytest.importorskip("socks", reason="SOCKS NOT TESTED: PySocks isn't installed")
    port = start_server(socks_proxy("http://127.0.0.1:1", [], byte_by_byte=True))
    monkeypatch.setenv("ALL_PROXY", f"socks5h://127.0.0.1:{port}")
    for url in ("http://comfy.invalid", "https://comfy.invalid"):
        assert open_error(client_of(url, SHORT)).code == "no_answer"
        assert request_times_out(client_of(url, SHORT))


@pytest.mark.parametrize("scheme", ["socks4", "socks4a", "socks5", "socks5h"])
def test_a_socks_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    pytest.importorskip("socks", reason="SOCKS NOT TESTED: PySocks isn't installed")
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:1")
    words = "the proxy 127.0.0.1:1 does not lead to http://comfy.invalid"
    assert words in open_error(client_of("http://comfy.invalid")).message
    client = client_of("http://comfy.invalid")
    with pytest.raises(UnreachableError, match=words):
        client.get("/queue")
    client.close()


def test_a_tunnel_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with stranger(http("407 Proxy Authentication Required")) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//kim:pw@"))
        error = open_error(client_of("https://comfy.invalid"))
        assert proxy.requests[0].startswith(b"CONNECT comfy.invalid:443 HTTP/1.")
        assert b"Basic " + base64.b64encode(b"kim:pw") in proxy.requests[0]
    assert (error.code, "407" in error.message) == ("auth", True)
