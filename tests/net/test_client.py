"""HTTP with one server: responses, failures, downloads, the tap; no redirect is followed, no secret shown."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyreport.access.address import parse_address
from comfyreport.access.credentials import Access
from comfyreport.errors import UnreachableError
from comfyreport.net.client import Client
from comfyreport.protocol.downloads import CHUNK, FilePlace
from comfyreport.simulator import Simulator
from comfyreport.timing import Timing
from tests.e2e.comfyui_server import poll
from tests.e2e.nginx import Authority
from tests.e2e.strangers import Answer, garbage, hang, hang_up, http, stranger
from tests.systems import needs_posix

SHORT = Timing().scaled(0.02)
"""For what doesn't answer: on a busy machine an answer may take longer."""
GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}


def client_of(url: str, tap: Any = None, timing: Timing | None = None) -> Client:
    return Client(parse_address(url), timing=timing or Timing(), tap=tap)


@pytest.fixture
def records() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def client(records: list[dict[str, Any]]) -> Iterator[Client]:
    """A client of a simulated server, whose tap fills `records`."""
    with Simulator(speed=1000) as simulator:
        client = client_of(simulator.url, records.append)
        yield client
        client.close()


def test_responses_and_what_the_tap_is_given(client: Client, records: list[dict[str, Any]]) -> None:
    assert client.get("/queue").body == {"queue_running": [], "queue_pending": []}
    answer = client.post("/prompt", {"prompt": {}})
    assert answer.status == 400
    assert isinstance(answer.body, dict)
    assert [(record["dir"], record["method"], record["path"], record.get("status")) for record in records] == [
        ("out", "GET", "/queue", None),
        ("in", "GET", "/queue", 200),
        ("out", "POST", "/prompt", None),
        ("in", "POST", "/prompt", 400),
    ]
    assert records[2]["request"] == {"prompt": {}}
    assert records[3]["response"] == answer.body


def test_a_body_that_is_no_json(client: Client) -> None:
    answer = client.post("/prompt", None)
    assert (answer.status, answer.body) == (500, None)
    assert answer.text.startswith("500 Internal Server Error")


def test_integers_of_any_size(client: Client) -> None:
    graph = {**GRAPH, "1": {**GRAPH["1"], "inputs": {**GRAPH["1"]["inputs"], "seed": 2**70}}}  # type: ignore[dict-item]
    assert client.post("/prompt", {"prompt": graph}).status == 200


def test_a_download(client: Client) -> None:
    prompt_id = client.post("/prompt", {"prompt": GRAPH}).body["prompt_id"]
    poll(lambda: bool(client.get(f"/history/{prompt_id}").body), 60, "the end of the prompt")
    (image,) = client.get(f"/history/{prompt_id}").body[prompt_id]["outputs"]["2"]["images"]
    with client.download(FilePlace(image["filename"], image["subfolder"], image["type"])) as download:
        data = b"".join(download.chunks)
    assert data.startswith(b"\x89PNG")


def test_a_download_of_what_is_not_there(client: Client) -> None:
    place = FilePlace("nothing.png", "", "output")
    with pytest.raises(UnreachableError, match="no such file") as caught, client.download(place):
        pass
    assert not caught.value.retryable


@pytest.mark.parametrize(("answer", "code"), [(garbage, None), (hang_up, None), (hang, "no_answer")])
def test_every_failure_is_an_unreachable_error(answer: Answer, code: str | None) -> None:
    with stranger(answer) as server:
        client = client_of(server.url, timing=SHORT)
        with pytest.raises(UnreachableError) as caught:
            client.get("/queue")
        client.close()
    assert caught.value.hint
    assert code is None or caught.value.code == code


def test_a_refused_connection_was_not_sent() -> None:
    with stranger(hang_up) as server:
        url = server.url
    client = client_of(url)
    with pytest.raises(UnreachableError) as caught:
        client.post("/prompt", {})
    client.close()
    assert (caught.value.code, caught.value.retryable, caught.value.sent) == ("refused", True, False)


def test_redirects_are_not_followed() -> None:
    with stranger(http("200 OK", b"{}")) as other:
        redirect = http("302 Found", b"", f"Location: {other.url}/queue")
        with stranger(redirect) as server:
            client = client_of(server.url.replace("//", "//kim:hunter2@"))
            answer = client.get("/queue")
            client.close()
            assert b"Authorization: Basic " in server.requests[0]
        assert other.requests == []
    assert (answer.status, answer.location) == (302, f"{other.url}/queue")


@pytest.mark.parametrize("rest", [b"Content-Length: 100\r\n\r\nshort", b"Content-Le", b""])
def test_a_download_that_is_cut_off_is_an_error(rest: bytes) -> None:
    def cut_off(connection: Any, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n" + rest)

    with stranger(cut_off) as server:
        client = client_of(server.url)
        with pytest.raises(UnreachableError) as caught, client.download(FilePlace("x.png", "", "output")) as download:
            b"".join(download.chunks)
        assert caught.value.retryable
        client.close()


@needs_posix("the command openssl")
def test_what_broke_behind_the_request_may_have_been_sent(tmp_path: Path) -> None:
    """An error of TLS mostly means that nothing was; this one comes in place of the answer."""
    authority = Authority(tmp_path / "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.pair)

    def serve() -> None:
        raw, _ = listener.accept()
        with raw.dup() as wire, context.wrap_socket(raw, server_side=True) as connection:
            received.append(connection.recv(65536))
            # A record that isn't of this connection.
            wire.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))

    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        address = parse_address(f"https://127.0.0.1:{listener.getsockname()[1]}")
        client = Client(address, timing=Timing(), access=Access(insecure=True))
        with pytest.raises(UnreachableError) as caught:
            client.post("/prompt", {})
        client.close()
        thread.join()
    assert received[0].startswith(b"POST")
    # Whether the alert or the end of the connection is met first is a matter of luck.
    assert caught.value.sent


def test_a_call_that_fails_leaves_no_connection() -> None:
    """Also where its answer would have ended with the connection, and while its exception is kept."""
    ended = threading.Event()

    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b" ")
                time.sleep(0.01)
        ended.set()

    with stranger(answer) as server:
        client = client_of(server.url, timing=Timing(read_timeout=0.5, response_timeout=0.5))
        with pytest.raises(UnreachableError) as caught:
            client.get("/queue")
        assert ended.wait(10), caught
        client.close()


@pytest.mark.parametrize("head", ["Content-Length: 0", "Transfer-Encoding: chunked"])
def test_an_empty_download_is_none(head: str) -> None:
    body = b"0\r\n\r\n" if "chunked" in head else b""
    with stranger(
        lambda connection, request: connection.sendall(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body)
    ) as server:
        client = client_of(server.url)
        with (
            pytest.raises(UnreachableError, match="nothing came"),
            client.download(FilePlace("x.txt", "", "output")) as got,
        ):
            b"".join(got.chunks)
        client.close()


def test_a_call_that_is_cut_ends_at_once() -> None:
    """Also where http.client has let go of the socket, which it does with an answer that ends with the connection."""
    begun = threading.Event()

    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + bytes(CHUNK))
        hang(connection, request)

    def work() -> None:
        try:
            with client.download(FilePlace("x.png", "", "output")) as download:
                for _ in download.chunks:
                    begun.set()
        except UnreachableError as error:
            errors.append(error)

    errors: list[UnreachableError] = []
    with stranger(answer) as server:
        client = client_of(server.url, timing=Timing(read_timeout=60.0))
        thread = threading.Thread(target=work)
        thread.start()
        assert begun.wait(10)
        client.cut()
        thread.join(10)
        assert not thread.is_alive()
        assert errors[0].code == "no_answer"
        # And none begins any more.
        with pytest.raises(UnreachableError):
            client.get("/queue")
        assert len(server.requests) == 1
        client.close()


# --- connections


class Counting:
    """A server that counts its connections; *ends*: it closes each behind its answer, without a word."""

    def __init__(self, ends: bool) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self._ends = ends
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while request := connection.recv(65536):
                self.requests.append(request)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                if self._ends:
                    return

    def close(self) -> None:
        with contextlib.suppress(OSError):  # on Windows `close` is enough
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.mark.parametrize("ends", [False, True])
def test_a_connection_is_used_again_unless_it_is_over(ends: bool) -> None:
    server = Counting(ends)
    client = client_of(server.url)
    for _ in range(5):
        assert client.get("/queue").body == {}
        time.sleep(0.02)
    assert server.connections == (5 if ends else 1)
    # What changes something never goes over one that the server may be closing just now.
    assert client.post("/interrupt", {}).body == {}
    assert server.connections == (6 if ends else 2)
    client.close()
    server.close()


@pytest.mark.slow
def test_a_request_may_take_as_long_as_the_server_takes_pieces_of_it() -> None:
    """Slower than any limit for an answer, but never for a piece."""
    size = 6 * 1024 * 1024

    def answer(connection: socket.socket, request: bytes) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        received = len(request)
        while received < size:
            received += len(connection.recv(16384))
            time.sleep(0.01)
        http("200 OK", b"{}")(connection, b"")

    timing = Timing(connect_timeout=2.0, read_timeout=2.0, response_timeout=2.0)
    with stranger(answer) as server:
        client = client_of(server.url, timing=timing)
        before = time.monotonic()
        assert client.post("/prompt", {"prompt": "x" * size}).status == 200
        assert time.monotonic() - before > 1.5 * timing.read_timeout, "the test was too quick to show anything"
        client.close()


def test_an_answer_that_comes_before_the_request_is_read() -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        http("413 Request Entity Too Large", b"too large")(connection, request)

    with stranger(answer) as server:
        client = client_of(server.url)
        with contextlib.suppress(UnreachableError):
            # A reset may overtake the answer: then, too, it is no fault of ours.
            assert client.post("/prompt", {"prompt": "x" * 5_000_000}).status == 413
        client.close()


def test_a_name_with_dead_addresses_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first address takes no connection and refuses none; the name is looked up anew once the good one is gone."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def answer(host: str, port: int, *args: Any, **options: Any) -> Any:
        if host != "dual.example":
            return resolve(host, port, *args, **options)
        asked.append(host)
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("192.0.2.1", port)), (*kind, ("127.0.0.1", port))]

    class Dead(socket.socket):
        def connect(self, address: Any) -> None:
            if address[0] == "192.0.2.1":
                time.sleep(self.gettimeout() or 60)
                raise TimeoutError
            super().connect(address)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    monkeypatch.setattr(socket, "socket", Dead)
    with stranger(http("200 OK", b"{}")) as server:
        client = client_of(server.url.replace("127.0.0.1", "dual.example"))
        began = time.monotonic()
        for _ in range(4):
            assert client.get("/queue").body == {}
        assert time.monotonic() - began < Timing().connect_timeout, "as long as one wait for the dead address"
        assert f"Host: dual.example:{server.url.rpartition(':')[2]}\r\n".encode() in server.requests[0]
        looked_up = len(asked)
    with pytest.raises(UnreachableError):
        client.get("/queue")
    client.close()
    assert looked_up == 1


@pytest.mark.parametrize("header", ["Server: any", "no header", ": nameless", "Content-Type: multipart/mixed"])
def test_no_query_token_in_a_log(caplog: pytest.LogCaptureFixture, header: str) -> None:
    caplog.set_level(logging.DEBUG)
    with stranger(http("200 OK", b"{}", header)) as server:
        client = client_of(f"{server.url}/?token=hunter3")
        client.get("/queue")
        client.close()
        assert b"token=hunter3" in server.requests[0]
    assert "hunter3" not in caplog.text


def test_nothing_secret_reaches_the_tap_or_an_error(records: list[dict[str, Any]]) -> None:
    with stranger(garbage) as server:
        address = server.url.replace("//", "//kim:hunter2@") + "/?token=hunter3"
        client = client_of(address, records.append)
        with pytest.raises(UnreachableError) as caught:
            client.get("/queue")
        client.close()
        assert b"token=hunter3" in server.requests[0]
    assert len(records) == 2
    assert "hunter" not in f"{records}{caught.value}{caught.value.hint}"
