"""What Windows does otherwise with sockets: a refusal takes two seconds, and one that is shut down wakes nobody."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

import pytest

from comfyreport.errors import UnreachableError
from comfyreport.net.websocket import TURN, Socket
from comfyreport.timing import Timing
from tests.e2e.strangers import hang, http, stranger
from tests.net.sockets import LIMIT, accepts, client_of


def test_localhost_is_found_though_its_other_address_refuses_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, which tries a refused connection again for two seconds."""
    resolve = socket.getaddrinfo

    def answer(host: str, port: int, *args: Any, **options: Any) -> Any:
        return resolve("127.0.0.1" if host == "localhost" else host, port, *args, **options)

    def both(host: str, port: int, *args: Any, **options: Any) -> Any:
        first = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))] if host == "localhost" else []
        return first + answer(host, port, *args, **options)

    class Slow(socket.socket):
        def connect(self, address: Any) -> None:
            if address[0] == "::1":
                time.sleep(min(self.gettimeout() or 60, 2))
                raise TimeoutError
            super().connect(address)

    monkeypatch.setattr(socket, "getaddrinfo", both)
    monkeypatch.setattr(socket, "socket", Slow)
    with stranger(http("200 OK", b"{}")) as server:
        client = client_of(server.url.replace("127.0.0.1", "localhost"))
        began = time.monotonic()
        assert client.get("/queue").body == {}
        assert time.monotonic() - began < 1.5
        client.close()


def test_a_socket_that_is_shut_ends_its_reader_soon() -> None:
    """On each system: not every one wakes a thread that waits in it."""
    with stranger(accepts()) as server:
        client = client_of(server.url)
        opened = Socket(client, "me")
        opened.open()
        ended: list[float] = []

        def read() -> None:
            with contextlib.suppress(UnreachableError):
                list(opened.frames())
            ended.append(time.monotonic())

        thread = threading.Thread(target=read)
        thread.start()
        time.sleep(2 * TURN)
        began = time.monotonic()
        opened.shut()
        thread.join(LIMIT)
        assert ended[0] - began < LIMIT / 2
        opened.close()
        client.close()


def test_a_call_that_is_cut_needs_no_waiting_for_where_the_system_wakes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: its thread ends with its read, which has a timeout."""
    monkeypatch.setattr("comfyreport.net.client.shut_down", lambda raw: None)
    errors: list[UnreachableError] = []

    def work() -> None:
        try:
            client.get("/queue")
        except UnreachableError as error:
            errors.append(error)

    with stranger(hang) as server:
        client = client_of(server.url, timing=Timing(read_timeout=2.0))
        thread = threading.Thread(target=work)
        thread.start()
        while not server.requests:
            time.sleep(0.01)
        client.cut()
        assert client.cut_late(thread.ident) > 0
        thread.join(10)
        assert not thread.is_alive()
        assert errors[0].code == "no_answer"
        client.close()
