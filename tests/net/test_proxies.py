"""Proxies that the environment names; one that can't be used is an error that names its variable."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from comfyreport.errors import UnreachableError
from comfyreport.net.proxies import Proxy, environ_proxy, parse_proxy, proxy_of

URL = "http://comfy.invalid:8188/queue"


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
def test_proxies_that_are_supported(text: str, proxy: Proxy) -> None:
    assert parse_proxy(text) == proxy
    assert proxy.host_port.endswith(f":{proxy.port}")


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("http_proxy", "http://u:SECRET@127.0.0.1:abc", "port"),
        ("HTTP_PROXY", "http://u:SECRET@127.0.0.1:99999", "port"),
        ("http_proxy", "https://u:SECRET@127.0.0.1:1", "https://"),
        ("ALL_PROXY", "ftp://u:SECRET@127.0.0.1:1", "scheme"),
        ("all_proxy", "socks://u:SECRET@127.0.0.1:1", "scheme"),
        ("http_proxy", "http://:3128", "host"),
        ("http_proxy", "http://u:SECRET@[::1", "no address"),
        ("http_proxy", "http://u:SECRET@h\u2100st", "no address"),
    ],
)
def test_an_unusable_proxy_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, words: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(UnreachableError) as caught:
        proxy_of(URL)
    error = caught.value
    assert variable in error.message
    assert words in error.message
    assert "SECRET" not in f"{error.message}{error.hint}"
    assert (error.code, error.retryable, error.sent) == ("usage", False, False)
    assert error.__context__ is None or error.__suppress_context__


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socks", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    with pytest.raises(UnreachableError, match="ALL_PROXY") as caught:
        proxy_of(URL)
    assert "pip install 'requests[socks]'" in caught.value.hint


def test_no_proxy_and_other_schemes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_of(URL) is None
    monkeypatch.setenv("https_proxy", "nonsense://x")
    assert proxy_of(URL) is None
    monkeypatch.setenv("http_proxy", "nonsense://x")
    monkeypatch.setenv("no_proxy", "comfy.invalid")
    assert proxy_of(URL) is None


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
    assert environ_proxy(URL) == "http://proxy:3128"
    assert environ.times < 0
