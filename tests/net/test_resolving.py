"""What names of hosts stand for, and that a name without an address is no error."""

from __future__ import annotations

import socket

import pytest

from comfyreport.net.resolving import addresses_of


def test_what_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert addresses_of("127.0.0.1", 80) == {"127.0.0.1"}
    stream, inet = socket.SOCK_STREAM, socket.AF_INET
    found = [(inet, stream, 6, "", ("10.0.0.1", 80)), (socket.AF_INET6, stream, 6, "", ("fd00::1", 80, 0, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **options: found)
    assert addresses_of("gpu", 80) == {"10.0.0.1", "fd00::1"}


def test_what_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert addresses_of("a" * 300, 80) == frozenset()

    def fail(*words: object, **options: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert addresses_of("gpu", 80) == frozenset()
