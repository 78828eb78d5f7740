"""WebSocket connections: cookies, refusals, time limits, pings."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from typing import Any

import pytest
import websocket._handshake
from websocket import WebSocketException, WebSocketTimeoutException

from comfyreport.access.credentials import Access
from comfyreport.errors import UnreachableError
from comfyreport.net.websocket import Socket
from comfyreport.timing import Timing
from tests.e2e.strangers import Stranger, http, stranger
from tests.net.sockets import (
    LIMIT,
    SHORT,
    UNFINISHED_HEAD,
    UNFINISHED_SERVER_HELLO,
    accepts,
    client_of,
    handshake_response,
    open_and_close,
    open_error,
    request_times_out,
    sends_byte_by_byte,
)


def cookies_of(server: Stranger) -> list[list[str]]:
    """The `Cookie` headers of each request."""
    return [re.findall(r"(?i)^cookie: (.*?)\r?$", request.decode(), re.MULTILINE) for request in server.requests]


# --- cookies


@pytest.mark.parametrize("cookie", ["a@b=1; Path=/", "a/b=c", 'x="\\777"; Domain=\x01', "=", ";", "a=1; Max-Age=x"])
def test_odd_cookies_do_no_harm(cookie: str) -> None:
    with stranger(accepts(f"Set-Cookie: {cookie}")) as server:
        client = client_of(server.url)
        open_and_close(client)
        assert client.get("/queue").status == 200
        client.close()


def test_cookies_are_sent_with_each_later_request_once() -> None:
    with stranger(accepts("Set-Cookie: route=b; Path=/; Domain=127.0.0.1", "Set-Cookie: other=c")) as server:
        client = client_of(server.url, access=Access(headers={"Cookie": "mine=1; route=x"}))
        for _ in range(2):
            open_and_close(client)
            client.get("/queue")
        client.close()
        assert cookies_of(server) == [["mine=1; route=x"], *[["mine=1; route=b; other=c"]] * 3]


def test_a_cookie_of_http_is_sent_with_the_next_handshake() -> None:
    with stranger(http("200 OK", b"{}", "Set-Cookie: route=b")) as server:
        client = client_of(server.url)
        client.get("/queue")
        open_error(client)
        assert cookies_of(server) == [[], ["route=b"]]


def test_cookies_are_not_carried_from_one_client_to_another() -> None:
    answer = accepts("Set-Cookie: session=of-alice; Domain=127.0.0.1; Path=/")
    with stranger(answer) as one, stranger(answer) as two:
        for server in (one, one, two):
            client = client_of(server.url)
            open_and_close(client)
            client.close()
        assert cookies_of(one) + cookies_of(two) == [[], [], []]


def test_the_jar_that_websocket_client_has_for_a_process_is_neither_filled_nor_emptied_into_a_handshake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It fails where websocket-client keeps its cookies in another way, or reads them elsewhere."""
    jar = websocket._handshake.CookieJar
    monkeypatch.setattr(jar, "jar", {})
    for host in ("127.0.0.1", "host.invalid"):
        jar.add(f"theirs=1; Domain={host}")
    before = dict(jar.jar)
    assert set(before) == {".127.0.0.1", ".host.invalid"}
    del jar.jar[".host.invalid"]
    with stranger(accepts("Set-Cookie: ours=1; Domain=127.0.0.1; Path=/", "Set-Cookie: a@b=1; Domain=x")) as server:
        client = client_of(server.url)
        open_and_close(client)
        client.close()
        assert cookies_of(server) == [[]]
    assert set(jar.jar) == {".127.0.0.1"}
    assert "ours" not in str(jar.jar)


def test_cookies_for_other_requests_are_not_sent() -> None:
    lines = ("s=1; Secure", "p=1; Path=/nowhere", "d=1; Domain=elsewhere.example", "g=1; Max-Age=0")
    with stranger(accepts(*(f"Set-Cookie: {line}" for line in lines))) as server:
        client = client_of(server.url)
        open_and_close(client)
        client.get("/queue")
        client.close()
        assert cookies_of(server) == [[], []]


# --- answers


def test_what_comes_with_the_handshake_is_not_lost() -> None:
    with stranger(accepts(rest=b"\x81\x05hello\x81\x05again\x88\x00")) as server:
        client = client_of(server.url)
        opened = Socket(client, "me")
        opened.open()
        batches = list(opened.frames())
        opened.close()
        client.close()
    assert [message for batch in batches for message in batch] == [(True, b"hello"), (True, b"again")]


EARLY = [
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
]


@pytest.mark.parametrize("early", [*EARLY, b"".join(EARLY)])
def test_informational_answers_before_the_answer(early: bytes) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(early)
        accepts(rest=b"\x81\x05hello\x88\x00")(connection, request)

    with stranger(answer) as server:
        client = client_of(server.url)
        opened = Socket(client, "me")
        opened.open()
        assert list(opened.frames()) == [[(True, b"hello")]]
        opened.close()
        assert client.get("/queue").body == {}
        assert client.post("/prompt", {"prompt": {}}).status == 200
        client.close()


def test_informational_answers_without_an_end_are_given_up() -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(EARLY[1] * 100)

    with stranger(answer) as server:
        assert open_error(client_of(server.url, SHORT)).code == "no_answer"
        assert request_times_out(client_of(server.url, SHORT))


@pytest.mark.parametrize("header", [b"Server: caf\xe9", b"X-Long: " + b"x" * 60_000, b"X-Folded: a\r\n  b"])
def test_odd_headers_do_no_harm(header: bytes) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        head, _, rest = handshake_response(request).partition(b"\r\n")
        connection.sendall(head + b"\r\n" + header + b"\r\n" + rest)
        connection.recv(1000)

    with stranger(answer) as server:
        client = client_of(server.url)
        open_and_close(client)
        client.close()


def test_a_header_of_the_user_replaces_the_usual_one() -> None:
    with stranger(accepts()) as server:
        client = client_of(server.url, access=Access(headers={"host": "virtual.example"}))
        open_and_close(client)
        client.close()
        assert re.findall(rb"(?i)\r\nhost: (.*)\r\n", server.requests[0]) == [b"virtual.example"]


@pytest.mark.parametrize("length", ["99999999999", "-5", "many", "5"])
def test_a_refusal_is_known_by_its_status_whatever_its_body(length: str) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(f"HTTP/1.1 401 Unauthorized\r\nContent-Length: {length}\r\n\r\n".encode())
        connection.recv(1)

    with stranger(answer) as server:
        assert open_error(client_of(server.url)).code == "auth"


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
def test_servers_of_other_protocols(answer: bytes) -> None:
    with stranger(lambda connection, request: connection.sendall(answer)) as server:
        assert open_error(client_of(server.url)).code == "not_comfyui"


def test_a_long_head_is_not_read_byte_by_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    receive = socket.socket.recv_into

    def counted(raw: socket.socket, *arguments: Any) -> int:
        sizes.append(receive(raw, *arguments))
        return sizes[-1]

    monkeypatch.setattr(socket.socket, "recv_into", counted)
    with stranger(lambda connection, request: connection.sendall(b"HTTP/" + b"x" * 100_000)) as server:
        open_error(client_of(server.url))
    assert sum(sizes) > 60_000
    assert len(sizes) < 1_000


@pytest.mark.parametrize(("scheme", "beginning"), [("http", UNFINISHED_HEAD), ("https", UNFINISHED_SERVER_HELLO)])
@pytest.mark.slow
def test_an_answer_byte_by_byte(scheme: str, beginning: bytes) -> None:
    with stranger(sends_byte_by_byte(beginning)) as server:
        url = server.url.replace("http", scheme)
        assert open_error(client_of(url, SHORT)).code == "no_answer"
        assert request_times_out(client_of(url, SHORT))


def test_a_socket_that_is_shut_while_it_is_opened() -> None:
    received = threading.Event()

    def answer(connection: socket.socket, request: bytes) -> None:
        received.set()
        connection.recv(1)

    with stranger(answer) as server:
        client = client_of(server.url)
        opened = Socket(client, "me")
        errors: list[BaseException] = []

        def work() -> None:
            try:
                opened.open()
            except UnreachableError as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        assert received.wait(LIMIT)
        opened.shut()
        thread.join(LIMIT)
        assert not thread.is_alive()
        assert errors
        opened.close()
        client.close()


def test_a_server_that_takes_no_message_did_not_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def times_out(*arguments: object) -> None:
        raise WebSocketTimeoutException

    monkeypatch.setattr(websocket.WebSocket, "send", times_out)
    with stranger(accepts()) as server:
        assert open_error(client_of(server.url)).code == "no_answer"


# --- pings


def ping_until_closed(server: Stranger, timing: Timing) -> tuple[int, str]:
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


def test_a_connection_with_unanswered_pings_is_ended() -> None:
    def answers_no_ping(connection: socket.socket, request: bytes) -> None:
        connection.sendall(handshake_response(request))
        while connection.recv(1000):
            pass

    with stranger(answers_no_ping) as server:
        count, reason = ping_until_closed(server, Timing(pong_timeout=0.3))
        assert count > 3
        assert "nothing came" in reason
        # However short the time: several pings must have gone unanswered.
        assert ping_until_closed(server, Timing(pong_timeout=0.0))[0] >= 3


@pytest.mark.parametrize("data", [b"\x8a\x00", b"\x81\x01x"], ids=["pong", "text"])
def test_a_connection_that_receives_anything_is_kept(data: bytes) -> None:
    def slow(connection: socket.socket, request: bytes) -> None:
        connection.sendall(handshake_response(request))
        for _ in range(10):
            time.sleep(0.1)
            connection.sendall(data)
        connection.sendall(b"\x88\x00")
        connection.recv(1000)

    with stranger(slow) as server:
        assert ping_until_closed(server, Timing(pong_timeout=0.6))[1] == ""


def test_a_connection_that_takes_nothing_more_is_ended() -> None:
    """A ping may have been sent in part, and nothing that comes behind it could be understood."""
    over = threading.Event()
    waited: list[bool] = []

    def reads_nothing(connection: socket.socket, request: bytes) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(handshake_response(request))
        waited.append(over.wait(LIMIT))

    with stranger(reads_nothing) as server:
        client = client_of(server.url, SHORT)
        opened = Socket(client, "me")
        opened.open()
        connection = opened._connection
        assert connection is not None
        connection.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                connection.sock.send(b"\x8a\x80\0\0\0\0" * 1000)
        failures: list[BaseException] = []

        def ping() -> None:
            try:
                opened.ping()
            except (OSError, WebSocketException) as error:
                failures.append(error)

        thread = threading.Thread(target=ping)
        thread.start()
        with pytest.raises(UnreachableError):
            list(opened.frames())
        thread.join()
        over.set()
        opened.close()
        client.close()
    assert failures
    assert waited == [True], "the server ended it"
