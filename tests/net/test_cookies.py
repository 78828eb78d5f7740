"""Cookies that a server sets: which of them go back to it, and where."""

from __future__ import annotations

import sys
import threading

import pytest
from hypothesis import given, strategies as st
from urllib3 import HTTPHeaderDict, HTTPResponse

from comfyreport.net.cookies import MOST, Cookies

HOST = "https://a.example.org"


def take(store: Cookies, *lines: str, url: str = f"{HOST}/gpu/ws") -> Cookies:
    headers = HTTPHeaderDict()
    for line in lines:
        headers.add("Set-Cookie", line)
    store.take(HTTPResponse(headers=headers), url)
    return store


def sent(*lines: str, url: str = f"{HOST}/gpu/ws", to: str = f"{HOST}/gpu/prompt") -> str:
    """The `Cookie` header of a request behind an answer with *lines*."""
    return take(Cookies(), *lines, url=url).header(to)


@pytest.mark.parametrize(
    ("line", "header"),
    [
        ("a=1", "a=1"),
        ("a=1; HttpOnly; SameSite=None; Partitioned; Anything=x", "a=1"),
        ("a@b=1; Path=/", "a@b=1"),
        ('a="\\777"', 'a="\\777"'),
        ("a=", "a="),
        ("a=x=y==", "a=x=y=="),
        ("", ""),
        (";;;", ""),
        ("a=1; Secure", "a=1"),
        ("a=1; Domain=a.example.org", "a=1"),
        ("a=1; Domain=.Example.ORG", "a=1"),
        ("a=1; Domain=ample.org", ""),
        ("a=1; Domain=elsewhere.org", ""),
        ("a=1; Domain=b.a.example.org", ""),
        ("a=1; Path=/", "a=1"),
        ("a=1; Path=/gpu", "a=1"),
        ("a=1; Path=/gp", ""),
        ("a=1; Path=/nowhere", ""),
        ("a=1; Max-Age=60", "a=1"),
        ("a=1; Max-Age=0", ""),
        ("a=1; Max-Age=-5", ""),
        ("a=1; Expires=Wed, 21 Oct 2099 07:28:00 GMT", "a=1"),
        ("a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT", ""),
        ("a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=5", "a=1"),
        ("a=1; Expires=one day", "a=1"),
    ],
)
def test_which_cookies_are_sent_back(line: str, header: str) -> None:
    assert sent(line) == header


def test_a_secure_one_goes_over_tls_alone() -> None:
    url = "http://a.example.org/ws"
    assert sent("a=1; Secure", "b=2", url=url, to=url) == "b=2"


@pytest.mark.parametrize("host", ["127.0.0.1:8188", "localhost:8188", "gpu", "[::1]:8188", "10.0.0.7"])
def test_hosts_as_they_are_used_at_home(host: str) -> None:
    assert sent("a=1", url=f"http://{host}/ws", to=f"http://{host}/prompt") == "a=1"


def test_without_a_path_it_is_that_of_the_request() -> None:
    assert sent("a=1", to=f"{HOST}/gpu/history/x") == "a=1"
    assert sent("a=1", to=f"{HOST}/other") == ""
    assert sent("a=1", url=f"{HOST}/ws", to=f"{HOST}/prompt") == "a=1"


def test_a_newer_one_takes_its_place_and_the_users_own_stay() -> None:
    store = take(Cookies(), "a=1; Path=/", "a=2; Path=/", "b=1; Path=/")
    assert store.header(f"{HOST}/ws", "mine=x; b=mine") == "mine=x; b=1; a=2"


def test_one_that_is_deleted_is_sent_no_more() -> None:
    store = take(Cookies(), "a=1; Path=/", "b=2; Path=/; Max-Age=60", "c=3; Path=/")
    take(store, "a=gone; Path=/; Max-Age=0", "c=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT", url=f"{HOST}/prompt")
    assert store.header(HOST) == "b=2"


def test_a_server_cannot_fill_the_memory() -> None:
    store = Cookies()
    for begin in range(0, 1000, 100):
        take(store, *(f"name{number}=1; Path=/" for number in range(begin, begin + 100)))
    assert len(store.header(HOST).split("; ")) == MOST


@given(st.text(max_size=60))
def test_any_header_is_taken_or_left(line: str) -> None:
    header = sent(line)
    assert header.isascii()
    assert not header or header.isprintable()


def test_several_threads_at_once() -> None:
    """Each has so many that all of them drop some, mostly the same."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    store = Cookies()
    errors: list[Exception] = []

    def work(thread: int) -> None:
        try:
            for turn in range(100):
                take(store, *(f"a{thread}-{turn % 7}-{number}=1; Path=/{number}" for number in range(20)))
                store.header(HOST)
        except Exception as error:  # noqa: BLE001  whatever it is
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert errors == []
