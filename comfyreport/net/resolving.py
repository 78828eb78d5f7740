"""What names of hosts stand for."""

from __future__ import annotations

import socket


def addresses_of(host: str, port: int) -> frozenset[str]:
    """The addresses of *host*; none where it can't be resolved. Blocks, for as long as the system likes to."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return frozenset()
    return frozenset(str(place[0]) for *_, place in found)
