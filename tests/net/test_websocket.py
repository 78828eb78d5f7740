"""The WebSocket's handshake: cookies, refusals, proxies on the way; it has time limits, whoever drips."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from comfyreport.errors import UnreachableError
from comfyreport.net.access import Access
from comfyreport.net.address import parse_address
from comfyreport.net.client import Client
from comfyreport.net.websocket import Socket
from comfyreport.timing import Timing
from tests.e2e.strangers import Answer, Stranger, http, stranger

# Far more than an answer takes, far less than what drips.
SHORT = Timing(connect_timeout=1.0, read_timeout=0.5, response_timeout=0.5)
LIMIT = 10.0


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def upgraded(request: bytes, *headers: str, rest: bytes = b"") -> bytes:
    """The right answer to a handshake."""
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
    assert key is not None
    digest = hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    accept = f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}"
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: WebSocket", "Connection: keep-alive, Upgrade", accept]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + rest


def opens(*headers: str, rest: bytes = b"") -> Answer:
    """Opens each WebSocket, answers all else with an empty object, and sets cookies with both."""

    def answer(connection: socket.socket, request: bytes) -> None:
        if b"Sec-WebSocket-Key" in request:
            connection.sendall(upgraded(request, *headers, rest=rest))
            connection.recv(1000)
        else:
            http("200 OK", b"{}", *headers)(connection, request)

    return answer


def client_of(url: str, timing: Timing = SHORT, access: Access | None = None) -> Client:
    return Client(parse_address(url), timing=timing, access=access)


def open_and_close(client: Client) -> None:
    opened = Socket(client, "me")
    opened.open()
    opened.close()


def refused(client: Client) -> UnreachableError:
    """Why no socket can be opened, which must be known soon."""
    before = time.monotonic()
    opened = Socket(client, "me")
    with pytest.raises(UnreachableError) as caught:
        opened.open()
    opened.close()
    client.close()
    assert time.monotonic() - before < LIMIT
    return caught.value


def cookies_of(server: Stranger) -> list[list[str]]:
    """The `Cookie` headers of each request."""
    return [re.findall(r"(?i)^cookie: (.*?)\r?$", request.decode(), re.MULTILINE) for request in server.requests]


# --- cookies


@pytest.mark.parametrize("cookie", ["a@b=1; Path=/", "a/b=c", 'x="\\777"; Domain=\x01', "=", ";", "a=1; Max-Age=x"])
def test_odd_cookies_do_no_harm(cookie: str) -> None:
    with stranger(opens(f"Set-Cookie: {cookie}")) as server:
        client = client_of(server.url)
        open_and_close(client)
        assert client.get("/queue").status == 200
        client.close()


def test_cookies_come_with_all_that_follows_and_once() -> None:
    with stranger(opens("Set-Cookie: route=b; Path=/; Domain=127.0.0.1", "Set-Cookie: other=c")) as server:
        client = client_of(server.url, access=Access(headers={"Cookie": "mine=1; route=x"}))
        for _ in range(2):
            open_and_close(client)
            client.get("/queue")
        client.close()
        assert cookies_of(server) == [["mine=1; route=x"], *[["mine=1; route=b; other=c"]] * 3]


def test_a_cookie_of_http_comes_with_the_next_handshake() -> None:
    with stranger(http("200 OK", b"{}", "Set-Cookie: route=b")) as server:
        client = client_of(server.url)
        client.get("/queue")
        refused(client)
        assert cookies_of(server) == [[], ["route=b"]]


def test_cookies_are_not_carried_from_one_client_to_another() -> None:
    answer = opens("Set-Cookie: session=of-alice; Domain=127.0.0.1; Path=/")
    with stranger(answer) as one, stranger(answer) as two:
        for server in (one, one, two):
            client = client_of(server.url)
            open_and_close(client)
            client.close()
        assert cookies_of(one) + cookies_of(two) == [[], [], []]


def test_what_is_not_for_us_is_not_sent() -> None:
    lines = ("s=1; Secure", "p=1; Path=/nowhere", "d=1; Domain=elsewhere.example", "g=1; Max-Age=0")
    with stranger(opens(*(f"Set-Cookie: {line}" for line in lines))) as server:
        client = client_of(server.url)
        open_and_close(client)
        client.get("/queue")
        client.close()
        assert cookies_of(server) == [[], []]


# --- answers


def test_what_comes_with_the_handshake_is_not_lost() -> None:
    with stranger(opens(rest=b"\x81\x05hello\x81\x05again\x88\x00")) as server:
        client = client_of(server.url)
        opened = Socket(client, "me")
        opened.open()
        batches = list(opened.frames())
        opened.close()
        client.close()
    assert [message for batch in batches for message in batch] == [(True, b"hello"), (True, b"again")]


def test_a_header_of_the_users_takes_the_place_of_ours() -> None:
    with stranger(opens()) as server:
        client = client_of(server.url, access=Access(headers={"host": "virtual.example"}))
        open_and_close(client)
        client.close()
        assert re.findall(rb"(?i)\r\nhost: (.*)\r\n", server.requests[0]) == [b"virtual.example"]


@pytest.mark.parametrize("length", ["99999999999", "-5", "many", "5"])
def test_a_refusal_is_told_by_its_status_whatever_its_body(length: str) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(f"HTTP/1.1 401 Unauthorized\r\nContent-Length: {length}\r\n\r\n".encode())
        connection.recv(1)

    with stranger(answer) as server:
        assert refused(client_of(server.url, Timing())).code == "auth"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"-ERR\r\n\r\n",
        b"HTTP/1.1 1O1 x\r\n\r\n",
        b"HTTP/" + b"x" * 100_000,
    ],
    ids=["ssh", "redis", "no status", "no end"],
)
def test_what_speaks_something_else(answer: bytes) -> None:
    with stranger(lambda connection, request: connection.sendall(answer)) as server:
        assert refused(client_of(server.url, Timing())).code == "not_comfyui"


def drips(beginning: bytes, seconds: float = 0.05) -> Answer:
    """Answers with a beginning, and then one byte after the other."""

    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(beginning)
        end = time.monotonic() + 3 * LIMIT
        while time.monotonic() < end:
            connection.sendall(b"x")
            time.sleep(seconds)

    return answer


HEAD = b"HTTP/1.1 200 OK\r\nX-A: "
HELLO = b"\x16\x03\x03\x40\x00"


@pytest.mark.parametrize(("scheme", "beginning"), [("http", HEAD), ("https", HELLO)])
def test_an_answer_byte_by_byte(scheme: str, beginning: bytes) -> None:
    with stranger(drips(beginning)) as server:
        url = server.url.replace("http", scheme)
        assert refused(client_of(url)).code == "no_answer"
        assert not_answered(client_of(url))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_answers_byte_by_byte(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    with stranger(drips(HEAD)) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
        url = f"{scheme}://comfy.invalid"
        assert refused(client_of(url)).code == "no_answer"
        assert not_answered(client_of(url))


def not_answered(client: Client) -> bool:
    """Whether a call over HTTP fails soon, for want of an answer."""
    before = time.monotonic()
    with pytest.raises(UnreachableError) as caught:
        client.get("/queue")
    client.close()
    assert time.monotonic() - before < LIMIT
    return caught.value.code == "no_answer"


def test_a_socket_that_is_shut_while_it_is_opened() -> None:
    asked = threading.Event()

    def answer(connection: socket.socket, request: bytes) -> None:
        asked.set()
        connection.recv(1)

    with stranger(answer) as server:
        client = client_of(server.url, Timing())
        opened = Socket(client, "me")
        failed: list[BaseException] = []

        def work() -> None:
            try:
                opened.open()
            except UnreachableError as error:
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        assert asked.wait(LIMIT)
        opened.shut()
        thread.join(LIMIT)
        assert not thread.is_alive()
        assert failed
        opened.close()
        client.close()


# --- pings


def pinged(server: Stranger, timing: Timing) -> tuple[int, str]:
    """How many pings are sent over a socket until it ends, and why it does."""
    client = client_of(server.url, timing)
    opened = Socket(client, "me")
    opened.open()
    count, over = 0, threading.Event()

    def ping() -> None:
        nonlocal count
        while not over.wait(0.02):
            with contextlib.suppress(OSError):
                opened.ping()
            count += 1

    thread = threading.Thread(target=ping)
    thread.start()
    reason = ""
    try:
        for _ in opened.frames():
            pass
    except UnreachableError as error:
        reason = error.message
    finally:
        over.set()
        thread.join(LIMIT)
        opened.close()
        client.close()
    return count, reason


def test_a_connection_from_which_nothing_comes_any_more_is_ended() -> None:
    def swallows(connection: socket.socket, request: bytes) -> None:
        connection.sendall(upgraded(request))
        while connection.recv(1000):
            pass

    with stranger(swallows) as server:
        count, reason = pinged(server, Timing(pong_timeout=0.3))
        assert count > 3
        assert "nothing came" in reason
        # However short the time: several pings must have gone unanswered.
        assert pinged(server, Timing(pong_timeout=0.0))[0] >= 3


@pytest.mark.parametrize("sign", [b"\x8a\x00", b"\x81\x01x"], ids=["pong", "text"])
def test_a_connection_from_which_something_comes_is_kept(sign: bytes) -> None:
    def slow(connection: socket.socket, request: bytes) -> None:
        connection.sendall(upgraded(request))
        for _ in range(10):
            time.sleep(0.1)
            connection.sendall(sign)
        connection.sendall(b"\x88\x00")
        connection.recv(1000)

    with stranger(slow) as server:
        assert pinged(server, Timing(pong_timeout=0.6))[1] == ""


# --- SOCKS


def socks(target: str, seen: list[bytes], *, slow: bool = False) -> Callable[[socket.socket], None]:
    """A SOCKS5 proxy that takes every name for *target*, with the user `kim` and the password `pw:1`."""
    host, port = re.findall(r"//(.*):(\d+)", target)[0]

    def take(near: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = near.recv(count - len(data))
            if not piece:
                raise ConnectionError
            data += piece
        return data

    def pump(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def serve(near: socket.socket) -> None:
        take(near, take(near, 2)[1])
        if slow:
            near.sendall(b"\x05\x00")
            near.recv(1000)
            drips(b"\x05\x00\x00\x03\xff")(near, b"")
        near.sendall(b"\x05\x02")
        user = take(near, take(near, 2)[1])
        seen.append(user + b":" + take(near, take(near, 1)[0]))
        near.sendall(b"\x01\x00")
        assert take(near, 4)[3] == 3
        seen.append(take(near, take(near, 1)[0]))
        take(near, 2)
        with socket.create_connection((host, int(port))) as far:
            near.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            thread = threading.Thread(target=pump, args=(far, near))
            thread.start()
            pump(near, far)
            thread.join(LIMIT)

    return serve


@pytest.fixture
def listening() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Serves connections, each on a thread of its own; gives the port."""
    listeners: list[socket.socket] = []

    def accept(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        def one(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                serve(connection)

        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    def listen(serve: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=accept, args=(listener, serve), daemon=True).start()
        port: int = listener.getsockname()[1]
        return port

    yield listen
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_through_socks(monkeypatch: pytest.MonkeyPatch, listening: Any) -> None:
    pytest.importorskip("socks", reason="SOCKS NOT TESTED: PySocks isn't installed")
    seen: list[bytes] = []
    with stranger(opens()) as server:
        port = listening(socks(server.url, seen))
        monkeypatch.setenv("ALL_PROXY", f"socks5h://kim:pw%3A1@localhost:{port}")
        client = client_of("http://comfy.invalid:8188", Timing())
        open_and_close(client)
        assert client.get("/queue").body == {}
        client.close()
    assert seen == [b"kim:pw:1", b"comfy.invalid"] * 2


def test_a_socks_proxy_that_answers_byte_by_byte(monkeypatch: pytest.MonkeyPatch, listening: Any) -> None:
    pytest.importorskip("socks", reason="SOCKS NOT TESTED: PySocks isn't installed")
    port = listening(socks("http://127.0.0.1:1", [], slow=True))
    monkeypatch.setenv("ALL_PROXY", f"socks5h://127.0.0.1:{port}")
    for url in ("http://comfy.invalid", "https://comfy.invalid"):
        assert refused(client_of(url)).code == "no_answer"
        assert not_answered(client_of(url))


@pytest.mark.parametrize("scheme", ["socks4", "socks4a", "socks5", "socks5h"])
def test_a_socks_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    pytest.importorskip("socks", reason="SOCKS NOT TESTED: PySocks isn't installed")
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:1")
    words = "the proxy 127.0.0.1:1 does not lead to http://comfy.invalid"
    assert words in refused(client_of("http://comfy.invalid")).message
    client = client_of("http://comfy.invalid")
    with pytest.raises(UnreachableError, match=words):
        client.get("/queue")
    client.close()


def test_a_tunnel_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with stranger(http("407 Proxy Authentication Required")) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//kim:pw@"))
        error = refused(client_of("https://comfy.invalid"))
        assert proxy.requests[0].startswith(b"CONNECT comfy.invalid:443 HTTP/1.1\r\n")
        assert b"Basic " + base64.b64encode(b"kim:pw") in proxy.requests[0]
    assert (error.code, "407" in error.message) == ("auth", True)
