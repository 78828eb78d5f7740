"""Proxies that the environment names; one that can't be used is an error that names its variable."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from comfyreport.access.address import parse_address
from comfyreport.errors import UnreachableError
from comfyreport.net.proxies import Proxy, proxy_of

SERVER = parse_address("http://comfy.invalid:8188")


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("proxy:3128", Proxy("http", "proxy", 3128)),
        ("http://proxy", Proxy("http", "proxy", 80)),
        ("HTTP://u%40x:p%3A@Proxy:3128/", Proxy("http", "proxy", 3128, "u@x", "p:")),
        ("http://[::1]:3128", Proxy("http", "::1", 3128)),
        ("socks4://proxy", Proxy("socks4", "proxy", 1080)),
        ("socks4a://proxy:9", Proxy("socks4a", "proxy", 9)),
        ("socks5h://u:p@proxy", Proxy("socks5h", "proxy", 1080, "u", "p")),
    ],
)
def test_proxies_that_are_supported(monkeypatch: pytest.MonkeyPatch, text: str, proxy: Proxy) -> None:
    monkeypatch.setenv("http_proxy", text)
    assert proxy_of(SERVER) == proxy
    assert proxy.host_port.endswith(f":{proxy.port}")


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("http_proxy", "http://u:SECRET@127.0.0.1:abc"),
        ("HTTP_PROXY", "http://u:SECRET@127.0.0.1:99999"),
        ("http_proxy", "https://u:SECRET@127.0.0.1:1"),
        ("ALL_PROXY", "ftp://u:SECRET@127.0.0.1:1"),
        ("all_proxy", "socks://u:SECRET@127.0.0.1:1"),
        ("http_proxy", "http://:3128"),
        ("http_proxy", "http://u:SECRET@[::1"),
        ("http_proxy", "http://u:SECRET@h\u2100st"),
    ],
)
def test_an_unusable_proxy_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(UnreachableError) as caught:
        proxy_of(SERVER)
    error = caught.value
    # Windows has no small letters in the names of variables.
    assert (variable.upper() if os.name == "nt" else variable) in error.message
    assert "http://HOST:PORT" in error.hint
    assert "SECRET" not in f"{error.message}{error.hint}"
    assert (error.code, error.retryable, error.sent) == ("usage", False, False)
    assert error.__context__ is None or error.__suppress_context__


@pytest.mark.parametrize(("platform", "source"), [("win32", "registry"), ("darwin", "macOS"), ("linux", "environment")])
def test_an_unusable_proxy_of_the_system_is_named_as_that(
    monkeypatch: pytest.MonkeyPatch, platform: str, source: str
) -> None:
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"http": "ftp://u:SECRET@proxy"})
    monkeypatch.setattr("requests.utils.select_proxy", lambda *_: "ftp://u:SECRET@proxy")
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(UnreachableError, match=source) as caught:
        proxy_of(SERVER)
    assert "SECRET" not in caught.value.message
    assert proxy_of(parse_address("http://localhost:8188")) is None


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socks", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    with pytest.raises(UnreachableError, match="ALL_PROXY") as caught:
        proxy_of(SERVER)
    assert 'pip install "requests[socks]"' in caught.value.hint


def test_no_proxy_and_other_schemes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_of(SERVER) is None
    monkeypatch.setenv("https_proxy", "nonsense://x")
    assert proxy_of(SERVER) is None
    monkeypatch.setenv("http_proxy", "nonsense://x")
    monkeypatch.setenv("no_proxy", "comfy.invalid")
    assert proxy_of(SERVER) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "comfy.localhost", "[::1]", "127.8.8.8", "0.0.0.0"])
def test_this_machine_is_reached_without_one(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    assert proxy_of(parse_address(f"http://{host}:8188")) is None
    assert proxy_of(parse_address("http://10.0.0.7:8188")) is not None


@pytest.mark.parametrize("value", ["comfy.invalid", ".invalid", "comfy.invalid:8188", "*", "10.0.0.0/8,comfy.invalid"])
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", value)
    assert proxy_of(SERVER) is None
    assert (proxy_of(parse_address("http://10.0.0.7")) is None) == ("10." in value or value == "*")


class ChangingEnviron(dict[str, str]):
    """An environment from which another thread removes a variable while it is read, the first *times*."""

    times = 2

    def __iter__(self) -> Iterator[str]:
        yield from super().__iter__()
        self.times -= 1
        if self.times >= 0:
            raise KeyError("GONE")

    # Which of them urllib calls depends on Python's version.
    def keys(self) -> Iterator[str]:  # type: ignore[override]
        return iter(self)

    def items(self) -> Iterator[tuple[str, str]]:  # type: ignore[override]
        return ((name, self[name]) for name in self)


def test_an_environment_that_changes_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = ChangingEnviron(http_proxy="http://proxy:3128")
    monkeypatch.setattr("os.environ", environ)
    assert proxy_of(SERVER) == Proxy("http", "proxy", 3128)
    assert environ.times < 0
