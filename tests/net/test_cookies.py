"""Cookies that a server sets: which of them go back to it, and where."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from comfyreport.net.cookies import MOST, Cookies, read_cookies


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def cookies(*lines: str, path: str = "/gpu/ws", host: str = "a.example.org", secure: bool = True) -> Cookies:
    store = Cookies(host, secure=secure, clock=Clock())
    store.take(lines, path)
    return store


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        ("a=1", {"a": "1"}),
        ("a=1; HttpOnly; SameSite=None; Partitioned; Anything=x", {"a": "1"}),
        ("a@b=1; Path=/", {"a@b": "1"}),
        ('a="\\777"', {"a": '"\\777"'}),
        ("a=", {"a": ""}),
        ("a=x=y==", {"a": "x=y=="}),
        ("=1", {}),
        ("a", {}),
        ("", {}),
        (";;;", {}),
        ("a=\x01", {}),
        ("a=é", {}),
        ("a=1; Secure", {"a": "1"}),
        ("a=1; Domain=a.example.org", {"a": "1"}),
        ("a=1; Domain=.Example.ORG", {"a": "1"}),
        ("a=1; Domain=ample.org", {}),
        ("a=1; Domain=elsewhere.org", {}),
        ("a=1; Domain=b.a.example.org", {}),
        ("a=1; Path=/", {"a": "1"}),
        ("a=1; Path=/gpu", {"a": "1"}),
        ("a=1; Path=/gpu/", {"a": "1"}),
        ("a=1; Path=/gp", {}),
        ("a=1; Path=/nowhere", {}),
        ("a=1; Path=nowhere", {"a": "1"}),
        ("a=1; Max-Age=60", {"a": "1"}),
        ("a=1; Max-Age=0", {}),
        ("a=1; Max-Age=-5", {}),
        ("a=1; Max-Age=soon", {"a": "1"}),
        ("a=1; Max-Age=999999999999999999999", {"a": "1"}),
        ("a=1; Expires=Wed, 21 Oct 2099 07:28:00 GMT", {"a": "1"}),
        ("a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT", {}),
        ("a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=5", {"a": "1"}),
        ("a=1; Expires=one day", {"a": "1"}),
    ],
)
def test_which_cookies_are_sent_back(line: str, sent: dict[str, str]) -> None:
    assert cookies(line).of("/gpu/prompt") == sent


def test_a_secure_one_goes_over_tls_alone() -> None:
    assert cookies("a=1; Secure", "b=2", secure=False).of("/gpu/ws") == {"b": "2"}


def test_without_a_path_it_is_that_of_the_request() -> None:
    store = cookies("a=1", path="/gpu/ws")
    assert store.of("/gpu/history/x") == {"a": "1"}
    assert store.of("/other") == {}
    assert cookies("a=1", path="/ws").of("/prompt") == {"a": "1"}


def test_a_newer_one_takes_its_place_and_the_longer_path_wins() -> None:
    store = cookies("a=1; Path=/", "a=2; Path=/", "b=1; Path=/gpu", "b=2; Path=/")
    assert store.of("/gpu/ws") == {"a": "2", "b": "1"}


def test_one_that_is_deleted_or_over_is_sent_no_more() -> None:
    clock = Clock()
    store = Cookies("host", secure=False, clock=clock)
    store.take(["a=1; Path=/", "b=2; Path=/; Max-Age=60", "c=3; Path=/"], "/ws")
    store.take(["a=gone; Path=/; Max-Age=0", "c=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], "/prompt")
    assert store.of("/") == {"b": "2"}
    clock.now += 61
    assert store.of("/") == {}


def test_a_server_cannot_fill_the_memory() -> None:
    store = cookies(*(f"name{number}=1; Path=/" for number in range(10_000)))
    assert len(store.of("/")) == MOST


@pytest.mark.parametrize(
    ("text", "cookies"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ("a=1; Path=/; HttpOnly; Secure; SameSite=None; Partitioned; b=2; Max-Age=5", {"a": "1", "b": "2"}),
        ("a=1; Expires=Wed, 21 Oct 2099 07:28:00 GMT; b=x=y==", {"a": "1", "b": "x=y=="}),
        ('a="quoted"; a=2; =3; novalue; c=', {"a": "2", "c": ""}),
        ("a=1\r\nX-Injected: 2; b=\x00; c=ü; d=4", {"d": "4"}),
    ],
)
def test_a_cookie_header_is_read_without_attributes(text: str, cookies: dict[str, str]) -> None:
    expected = {name: value for name, value in cookies.items() if name}
    assert {name: value for name, value in read_cookies(text).items() if name} == expected


@given(st.text(max_size=60))
def test_any_header_is_taken_or_left(line: str) -> None:
    store = cookies(line).of("/gpu/ws")
    assert read_cookies("; ".join(map("=".join, store.items()))) == store or any(not value for value in store.values())
