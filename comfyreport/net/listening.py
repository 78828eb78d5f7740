"""Whether anything listens at an address, before a library is asked to connect that would try for long."""

from __future__ import annotations

import socket


def check_listening(host: str, port: int, limit: float) -> None:
    """OSError where nothing takes a connection within *limit* seconds. Blocks."""
    socket.create_connection((host.strip("[]"), port), limit).close()
