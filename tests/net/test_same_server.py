"""Servers that are the same one, by how they are written, or by what their names stand for."""

from __future__ import annotations

import contextlib
import threading

import pytest

from comfyreport.access.address import parse_address
from comfyreport.errors import UsageError
from comfyreport.net.same_server import check_apart

NAMES = {"gpu-1": {"10.0.0.1"}, "gpu-one": {"10.0.0.9", "10.0.0.1"}, "gpu-2": {"10.0.0.2"}, "me": {"127.0.0.1"}}


def resolve(host: str, port: int) -> frozenset[str]:
    return frozenset(NAMES.get(host, ()))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("gpu-7", "gpu-7"), ("gpu-7", "http://GPU-7:8188/"), ("gpu-7", "gpu-7."), ("gpu-7", "ws://gpu-7:8188/ws"),
        ("http://gpu-7", "gpu-7:80"), ("https://gpu-7", "wss://gpu-7:443/api"), ("gpu-7", "kim:pw@gpu-7"),
        ("gpu-7", "gpu-7?token=x"), ("http://gpu-7/a", "http://gpu-7/a/"), ("gpu-7:8188", "https://gpu-7:8188"),
        ("localhost", "127.0.0.1"), ("127.0.0.1", "::1"), ("a.localhost", "localhost"), ("0.0.0.0", "localhost"),
        ("::1", "[0:0::1]:8188"), ("10.0.0.1", "::ffff:10.0.0.1"), ("fe80::1", "[FE80:0:0::1]"),
        ("gpu-1", "gpu-one"), ("gpu-1", "10.0.0.1"), ("10.0.0.9", "gpu-one"), ("me", "localhost"),
        ("http://gpu-1:8000/a", "http://gpu-one:8000/a"), ("bücher", "xn--bcher-kva"),
    ],
)  # fmt: skip
def test_two_that_are_the_same(first: str, second: str) -> None:
    for several in ([first, second], [second, "gpu-2", first]):
        with pytest.raises(UsageError, match="two servers are the same one: http") as raised:
            check_apart(map(parse_address, several), resolve=resolve)
        assert not [word for word in ("kim", "pw", "token") if word in raised.value.message]


@pytest.mark.parametrize(
    "servers",
    [
        ("gpu-1", "gpu-2"), ("gpu-1", "gpu-one:8189"), ("http://gpu-1", "http://gpu-one"),
        ("https://gpu-1", "https://gpu-one"), ("http://gpu-1:8000/a", "http://gpu-one:8000/b"),
        ("http://gpu-7/a", "http://gpu-7/A"), ("unknown-1", "unknown-2"), ("127.0.0.1:1", "127.0.0.1:2"),
        ("127.0.0.1", "127.0.0.2"), (),
    ],
)  # fmt: skip
def test_servers_that_are_apart(servers: tuple[str, ...]) -> None:
    check_apart(map(parse_address, servers), resolve=resolve)


def test_nothing_is_asked_where_nothing_can_come_of_it() -> None:
    asked = []

    def note(host: str, port: int) -> frozenset[str]:
        asked.append((host, port))
        return frozenset()

    several = ["one", "two:1", "http://three", "http://four", "10.0.0.1:5", "10.0.0.2:5"]
    check_apart(map(parse_address, several), resolve=note)
    assert asked == []
    check_apart(map(parse_address, ["one", "two", "10.0.0.1"]), resolve=note)
    assert sorted(asked) == [("one", 8188), ("two", 8188)]


def test_names_are_looked_up_side_by_side_and_not_for_ever() -> None:
    """Nine that meet, and one that the system never answers for."""
    meeting, met, never = threading.Barrier(9), threading.Event(), threading.Event()

    def meet(host: str, port: int) -> frozenset[str]:
        if host == "slow":
            never.wait()
            return frozenset()
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(60)
            met.set()
        return frozenset({host})

    try:
        names = ["slow", *(f"h{number}" for number in range(9))]
        check_apart(map(parse_address, names), resolve=meet, limit=0.2)
        assert met.wait(60)
    finally:
        never.set()
        meeting.abort()


def test_a_thousand_servers() -> None:
    names = [f"10.0.{number // 250}.{number % 250 + 1}" for number in range(1000)]
    check_apart(map(parse_address, names), resolve=resolve)
