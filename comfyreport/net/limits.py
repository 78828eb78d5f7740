"""Time limits for HTTP calls as a whole. requests' own are for each piece alone: byte by byte it might last for ever.

The one way to wake a thread that waits in a connection is to shut the connection down from another.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import urllib3.connection
import urllib3.connectionpool
from requests.adapters import HTTPAdapter

from comfyreport.net.proxies import Proxy, parse_proxy

_calls = threading.local()

# Seconds until a call that is late is cut off once more: its connection may not have stood before.
_AGAIN = 0.05


class Call:
    """One HTTP call in progress. It is cut off when the time is over that `allow` gave it last."""

    def __init__(self) -> None:
        self.cut_off = False
        self._raw: socket.socket | None = None
        self._lock = threading.Lock()
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

    def note(self, raw: socket.socket) -> None:
        """*raw* is the connection that this thread will wait in. ConnectionAbortedError where it is too late."""
        # A descriptor of its own: TLS takes that of *raw* away before its handshake, which may last for ever too.
        mine = socket.fromfd(raw.fileno(), raw.family, raw.type)
        with self._lock:
            before, self._raw = self._raw, mine
        if before is not None:
            before.close()
        # It may have been cut off before there was anything to shut down.
        self.check()

    def check(self) -> None:
        """ConnectionAbortedError where the call was cut off."""
        if self.cut_off:
            raise ConnectionAbortedError

    def cut(self) -> None:
        """End the call: whoever waits in it is woken. From any thread, returns at once."""
        self.cut_off = True
        with self._lock:
            if self._raw is not None:
                shut_down(self._raw)

    def _end_it(self) -> None:
        self._over.set()
        with self._lock:
            raw, self._raw = self._raw, None
        if raw is not None:
            raw.close()

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
            call._end_it()


def shut_down(raw: socket.socket) -> None:
    """Wake whoever waits in *raw* and end the connection; may be called from any thread, returns at once."""
    with contextlib.suppress(OSError):
        # The plain method: that of an SSL socket would pull the TLS layer from under the reader.
        socket.socket.shutdown(raw, socket.SHUT_RDWR)


def note(raw: socket.socket) -> None:
    """Tell the call of this thread, if there is one, which connection it waits in."""
    call: Call | None = getattr(_calls, "current", None)
    if call is not None:
        call.note(raw)


class ProxyError(OSError):
    """A proxy doesn't lead to the server."""


def through_socks(host: str, port: int, proxy: Proxy, timeout: float | None) -> socket.socket:
    """A connection to *host* through a SOCKS proxy, by PySocks. ProxyError, or another OSError."""
    # Installed by the extra of requests that is named where it is missing.
    socks: Any = importlib.import_module("socks")
    kind = socks.SOCKS5 if proxy.scheme.startswith("socks5") else socks.SOCKS4
    error: OSError = ProxyError("the proxy has no address")
    for family, _, _, _, place in socket.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM):
        raw: socket.socket = socks.socksocket(family)
        try:
            names_there = proxy.scheme in ("socks4a", "socks5h")
            raw.set_proxy(kind, place[0], proxy.port, names_there, proxy.username or None, proxy.password or None)  # type: ignore[attr-defined]
            raw.settimeout(timeout)
            note(raw)
            raw.connect((host, port))
        except OSError as raised:
            raw.close()
            error = raised
        else:
            return raw
    raise ProxyError(str(error)) from error


class _Noted:
    """A connection that tells the call of its thread where it waits: even for a proxy, and for TLS."""

    def _new_conn(self) -> socket.socket:
        raw: socket.socket = super()._new_conn()  # type: ignore[misc]
        # http.client forgets it as soon as an answer has begun that ends with the connection.
        self._kept = raw
        try:
            note(raw)
        except BaseException:
            raw.close()
            raise
        return raw

    def _tunnel(self) -> None:
        super()._tunnel()  # type: ignore[misc]
        call: Call | None = getattr(_calls, "current", None)
        if call is not None:
            # http.client takes a proxy's answer that was cut off for a whole one, and would go on to TLS.
            call.check()

    def request(self, *args: Any, **options: Any) -> Any:
        raw = getattr(self, "sock", None)
        if raw is not None:
            # It was opened by an earlier call.
            note(raw)
        return super().request(*args, **options)  # type: ignore[misc]


class _Connection(_Noted, urllib3.connection.HTTPConnection):
    pass


class _SecureConnection(_Noted, urllib3.connection.HTTPSConnection):
    pass


class _Pool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


@functools.cache
def _socks_pools() -> dict[str, Any]:
    """The pools of connections through a SOCKS proxy, which urllib3 makes with PySocks."""
    from urllib3.contrib import socks

    class Socks(_Noted):
        host: str
        port: int
        timeout: float
        _socks_options: dict[str, Any]

        def _new_conn(self) -> socket.socket:
            return through_socks(self.host, self.port, Proxy(**self._socks_options), self.timeout)

    class Plain(Socks, socks.SOCKSConnection):  # type: ignore[misc]
        pass

    class Secure(Socks, socks.SOCKSHTTPSConnection):  # type: ignore[misc]
        pass

    class PlainPool(socks.SOCKSHTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(socks.SOCKSHTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


class LimitedAdapter(HTTPAdapter):
    """requests' adapter over connections that a `Call` can cut off."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make the pools of connections to servers."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        """Make the pools of connections to a proxy."""
        manager = super().proxy_manager_for(*args, **options)
        proxy = parse_proxy(args[0])
        if proxy.socks:
            # As the socket takes it: urllib3 has other rules for ports and for what is encoded.
            manager.connection_pool_kw["_socks_options"] = proxy._asdict()
        manager.pool_classes_by_scheme = _socks_pools() if proxy.socks else {"http": _Pool, "https": _SecurePool}
        return manager
