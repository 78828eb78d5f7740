"""The cookies of one server: a load balancer keeps a client with the server behind it by one. Nothing is shared."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from email.utils import parsedate_to_datetime
from typing import NamedTuple

# Not cookies, but what a server says of them (RFC 6265, and newer ones).
_ATTRIBUTES = frozenset(
    ("expires", "max-age", "domain", "path", "secure", "httponly", "samesite", "partitioned", "priority", "comment")
)

MOST = 50
"""Cookies that are kept, as many as browsers keep at least."""


def read_cookies(text: str) -> dict[str, str]:
    """The cookies of a header, or of several joined, without what is said of them; unknown attributes do no harm."""
    pairs = (part.strip().partition("=") for part in text.split(";"))
    return {
        name: value
        for name, equals, value in pairs
        if equals and name.lower() not in _ATTRIBUTES and re.fullmatch(r"[\x21-\x7e]*", name + value)
    }


class _Cookie(NamedTuple):
    value: str
    until: float


class Cookies:
    """What a server set, over HTTP and in handshakes alike; used from several threads.

    :param host: the server's; cookies for another domain are none.
    :param secure: whether it is spoken to with TLS, without which secure cookies are none.
    :param clock: the time now, in seconds since the epoch.
    """

    def __init__(self, host: str, *, secure: bool, clock: Callable[[], float] = time.time) -> None:
        self._host = host.lower()
        self._secure = secure
        self._clock = clock
        # By path and name.
        self._cookies: dict[tuple[str, str], _Cookie] = {}

    def take(self, lines: Iterable[str], path: str) -> None:
        """Take the `Set-Cookie` headers of an answer to a request for *path*; odd ones are left out."""
        for line in lines:
            first, *rest = line.split(";")
            said = {name.strip().lower(): value.strip() for name, _, value in (each.partition("=") for each in rest)}
            for name, value in read_cookies(first).items():
                if name and self._is_ours(said):
                    where = said.get("path", "")
                    where = where if where.startswith("/") else path.rpartition("/")[0] or "/"
                    self._cookies.pop((where, name), None)
                    until = self._until(said)
                    if until > self._clock() and len(self._cookies) < MOST:
                        self._cookies[where, name] = _Cookie(value, until)

    def _is_ours(self, said: dict[str, str]) -> bool:
        domain = said.get("domain", "").lower().lstrip(".")
        ours = not domain or self._host == domain or self._host.endswith(f".{domain}")
        return ours and (self._secure or "secure" not in said)

    def _until(self, said: dict[str, str]) -> float:
        age, expires = said.get("max-age", ""), said.get("expires", "")
        if re.fullmatch(r"-?\d{1,15}", age):
            return self._clock() + int(age)
        try:
            return parsedate_to_datetime(expires).timestamp()
        except (ValueError, TypeError, IndexError, OverflowError, OSError):
            return float("inf")

    def of(self, path: str) -> dict[str, str]:
        """The cookies for a request for *path*."""
        now = self._clock()
        # Of two with one name, that of the longer path.
        ours = sorted(self._cookies.items(), key=lambda item: item[0][0])
        return {name: each.value for (where, name), each in ours if each.until > now and _is_below(path, where)}


def _is_below(path: str, where: str) -> bool:
    return path == where or path.startswith(where if where.endswith("/") else f"{where}/")
