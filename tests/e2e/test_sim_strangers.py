"""Servers that are no ComfyUI, or none at all: told in one line, exit code 3, nothing submitted."""

from __future__ import annotations

import socket

import pytest

from tests.e2e.comfyui_server import free_port
from tests.e2e.driver import Driver
from tests.e2e.strangers import Answer, garbage, hang, hang_up, http, stranger
from tests.e2e.test_bad_input import GOOD, check_stream, check_told

pytestmark = pytest.mark.e2e

PAGE = b"<!doctype html><title>Welcome to nginx!</title>"
SHORT = {"COMFYREPORT_TIME_SCALE": "0.05"}


def wants_credentials(connection: socket.socket, request: bytes) -> None:
    """Refuses, and promises a body that never comes."""
    connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 99999999999\r\n\r\n")
    hang(connection, request)


# How it answers, what is told, the error's code, whether trying again can help.
STRANGERS: dict[str, tuple[Answer, str, str, bool]] = {
    "a page": (http("200 OK", PAGE, "Content-Type: text/html"), "a web page", "auth", False),
    "JSON of something else": (http("200 OK", b'{"status": "up"}'), "no ComfyUI", "not_comfyui", False),
    "not found": (http("404 Not Found", PAGE), "404", "not_comfyui", False),
    "a bad gateway": (http("502 Bad Gateway", PAGE), "502", "not_comfyui", True),
    "out of service": (http("503 Service Unavailable"), "503", "not_comfyui", True),
    "a login page": (http("302 Found", b"", "Location: /login?next=%2Fws"), "login", "auth", False),
    "another address": (http("301 Moved", b"", "Location: https://elsewhere.example/"), "redirects", "auth", False),
    "credentials wanted": (http("401 Unauthorized", b"", 'WWW-Authenticate: Basic realm="x"'), "401", "auth", False),
    "credentials wanted, at length": (wants_credentials, "401", "auth", False),
    "credentials wanted, with an odd cookie": (
        http("401 Unauthorized", b"", "Set-Cookie: a@b=1", "Set-Cookie: =;;=\x01"),
        "401",
        "auth",
        False,
    ),
    "forbidden": (http("403 Forbidden"), "403", "auth", False),
    "another language": (garbage, "", "not_comfyui", False),
    "a socket without the right key": (
        http("101 Switching Protocols", b"", "Upgrade: websocket", "Sec-WebSocket-Accept: bm8="),
        "WebSocket",
        "not_comfyui",
        False,
    ),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_something_else_listens(driver: Driver, name: str) -> None:
    answer, text, code, retryable = STRANGERS[name]
    with stranger(answer) as server:
        ended = driver.run("--workflow", GOOD, "--server", server.url, "--reporter", "console", env=SHORT)
        assert server.requests
        assert not server.submissions
    check_told(ended, 3, text, server.url)
    check_stream(ended, "unreachable", code)
    assert ended.result["retryable"] is retryable


def test_it_hangs_up(driver: Driver) -> None:
    with stranger(hang_up) as server:
        ended = driver.run("--workflow", GOOD, "--server", server.url, "--reporter", "console", env=SHORT)
        assert not server.submissions
    check_told(ended, 3, server.url)
    assert (ended.result["status"], ended.result["submitted"]) == ("unreachable", "no")


def test_it_takes_the_connection_and_says_nothing(driver: Driver) -> None:
    with stranger(hang) as server:
        ended = driver.run("--workflow", GOOD, "--server", server.url, "--reporter", "console", env=SHORT)
        assert not server.submissions
    check_told(ended, 3, "did not answer in time", server.url)
    check_stream(ended, "unreachable", "no_answer")
    assert ended.result["retryable"] is True


def test_nobody_listens(driver: Driver) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    ended = driver.run("--workflow", GOOD, "--server", url, "--reporter", "console")
    check_told(ended, 3, f"nothing listens at {url}", "start ComfyUI")
    check_stream(ended, "unreachable", "refused")
    assert ended.result["retryable"] is True


def test_a_name_that_is_none(driver: Driver) -> None:
    ended = driver.run("--workflow", GOOD, "--server", "no-such-host.invalid", "--reporter", "console")
    check_told(ended, 3, "no-such-host.invalid", "can't be resolved")
    check_stream(ended, "unreachable", "name_unknown")


def test_tls_where_there_is_none(driver: Driver) -> None:
    with stranger(http("200 OK", PAGE)) as server:
        secure = server.url.replace("http:", "https:")
        ended = driver.run("--workflow", GOOD, "--server", secure, "--reporter", "console", env=SHORT)
    check_told(ended, 3, "TLS", secure)
    check_stream(ended, "unreachable", "tls")


@pytest.mark.parametrize(
    ("variable", "proxy", "texts"),
    [
        ("ALL_PROXY", "socks5://kim:hunter2@127.0.0.1:1", ("ALL_PROXY", 'pip install "requests[socks]"')),
        ("http_proxy", "http://kim:hunter2@127.0.0.1:abc", ("http_proxy", "http://HOST:PORT")),
        ("http_proxy", "https://kim:hunter2@127.0.0.1:1", ("http_proxy", "socks5h://HOST:PORT")),
        ("http_proxy", "ftp://kim:hunter2@127.0.0.1:1", ("http_proxy", "http://HOST:PORT")),
    ],
)
def test_a_proxy_that_can_not_be_used(driver: Driver, variable: str, proxy: str, texts: tuple[str, ...]) -> None:
    env = {"http_proxy": "", "HTTP_PROXY": "", "no_proxy": "", "NO_PROXY": "", variable: proxy}
    ended = driver.run("--workflow", GOOD, "--server", "http://comfy.invalid", "--reporter", "console", env=env)
    check_told(ended, 3, "can't be used", *texts)
    check_stream(ended, "unreachable", "usage")
    assert ended.result["retryable"] is False
    assert "hunter2" not in f"{ended.err}{ended.events}"


def test_a_password_is_told_nowhere(driver: Driver) -> None:
    with stranger(http("401 Unauthorized")) as server:
        address = server.url.replace("//", "//kim:hunter2@") + "/?token=hunter3"
        ended = driver.run(
            "--workflow", GOOD, "--server", address, "--reporter", "console", "--record", "run.rec", env=SHORT
        )
        assert b"Basic " in server.requests[0]
        assert b"token=hunter3" in server.requests[0]
    check_stream(ended, "unreachable", "auth")
    texts = [ended.out, ended.err, str(ended.events), (driver.folder / "run.rec").read_text(encoding="utf-8")]
    for text in texts:
        assert "hunter" not in text
