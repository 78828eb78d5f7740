"""Time limits for HTTP calls as a whole. requests' own are for each piece alone: byte by byte it might last for ever.

The one way to wake a thread that waits in a connection is to shut the connection down from another.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import urllib3.connection
import urllib3.connectionpool
from requests.adapters import HTTPAdapter

_calls = threading.local()

# Seconds until a call that is late is cut off once more: its connection may not have stood before.
_AGAIN = 0.05


class Call:
    """One HTTP call in progress. It is cut off when the time is over that `allow` gave it last."""

    def __init__(self) -> None:
        self.cut_off = False
        self.connection: Any = None
        self._due = float("inf")
        self._end = float("inf")
        self._over = threading.Event()

    def allow(self, seconds: float) -> None:
        """Give the call so many seconds from now, but no more than it has in all."""
        self._due = min(self._end, time.monotonic() + seconds)

    def _watch(self) -> None:
        while not self._over.wait(min(max(_AGAIN, self._due - time.monotonic()), threading.TIMEOUT_MAX)):
            if time.monotonic() >= self._due:
                self.cut()

    def cut(self) -> None:
        """End the call: whoever waits in it is woken. From any thread, returns at once."""
        self.cut_off = True
        raw = getattr(self.connection, "kept", None) or getattr(self.connection, "sock", None)
        if raw is not None:
            shut_down(raw)

    @classmethod
    @contextlib.contextmanager
    def within(cls, seconds: float, whole: float = float("inf")) -> Iterator[Call]:
        """A call that this thread makes: *seconds* until `allow` gives it more, *whole* in all."""
        call = cls()
        call._end = time.monotonic() + whole
        call.allow(seconds)
        threading.Thread(target=call._watch, name="comfyreport-limit", daemon=True).start()
        _calls.current = call
        try:
            yield call
        finally:
            _calls.current = None
            call._over.set()


def shut_down(raw: socket.socket) -> None:
    """Wake whoever waits in *raw* and end the connection; may be called from any thread, returns at once."""
    with contextlib.suppress(OSError):
        # The plain method: that of an SSL socket would pull the TLS layer from under the reader.
        socket.socket.shutdown(raw, socket.SHUT_RDWR)


class _Noted:
    """A connection that tells the call of its thread who it is.

    `kept` is its socket, which http.client forgets as soon as an answer has begun that ends with the connection.
    """

    kept: socket.socket | None = None

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.kept = self.sock  # type: ignore[attr-defined]
        call = getattr(_calls, "current", None)
        if call is not None and call.cut_off:
            # It was cut off before there was anything to shut down.
            raise ConnectionAbortedError

    def request(self, *args: Any, **options: Any) -> Any:
        call = getattr(_calls, "current", None)
        if call is not None:
            call.connection = self
        return super().request(*args, **options)  # type: ignore[misc]


class _Connection(_Noted, urllib3.connection.HTTPConnection):
    pass


class _SecureConnection(_Noted, urllib3.connection.HTTPSConnection):
    pass


class _Pool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class LimitedAdapter(HTTPAdapter):
    """requests' adapter over connections that a `Call` can cut off."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make the pools of connections to servers."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        """Make the pools of connections to a proxy."""
        manager = super().proxy_manager_for(*args, **options)
        if "http" in manager.pool_classes_by_scheme and not args[0].startswith("socks"):
            manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return manager
