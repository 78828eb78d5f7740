"""Connections to one server, for HTTP and the socket alike: urllib3's, on the way that the environment names.

What can't be had in public: nobody but the thread itself can end the talk with a SOCKS proxy (PySocks shows its socket
to nobody before it stands), a TLS handshake (ssl has it), or a name's resolution. All are left behind by whoever waits,
and end by themselves: a SOCKS answer has at most 262 bytes, each within `Timing.connect_timeout`, and a handshake has
as long in all. An informational answer (103) to CONNECT counts as a refusal: http.client reads but one answer there.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import socket
import ssl
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection

from comfyreport.access.address import Address
from comfyreport.access.credentials import Access
from comfyreport.net.proxies import Proxy, proxy_of

_PROBE_SECONDS = 0.4
"""For an address of a name that has several: one that says nothing so long counts as dead. A live one that is slower
is found when all are tried in turn. On this machine (localhost) none is, and Windows refuses only after two seconds."""
_LOCAL_PROBE_SECONDS = 0.1


class Connector:
    """Makes connections to the server at *address*.

    :param timeout: seconds for a connection to stand.
    """

    def __init__(self, address: Address, access: Access, timeout: float) -> None:
        self._address = address
        self._access = access
        self._timeout = timeout
        # By name: the address that answered last.
        self._answering: dict[str, str] = {}

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._access.tls()

    def proxy(self) -> Proxy | None:
        """The proxy on the way. Raises UnreachableError where the environment's can't be used."""
        return proxy_of(self._address)

    def connection(self, proxy: Proxy | None, *, tunnel: bool) -> HTTPConnection:
        """A connection that isn't opened yet. Raises OSError where a name can't be resolved.

        :param tunnel: whether it must lead through an HTTP proxy in any case, not only with TLS.
        """
        address, place = self._address, self._address.place
        options: dict[str, Any] = {"timeout": self._timeout}
        if address.secure:
            options |= {"ssl_context": self._tls, "server_hostname": place[0]}
        if proxy is not None and proxy.socks:
            # Needs PySocks, which isn't installed everywhere.
            from urllib3.contrib.socks import SOCKSConnection, SOCKSHTTPSConnection

            through = SOCKSHTTPSConnection if address.secure else SOCKSConnection
            known: Any = {
                "socks_version": 2 if proxy.scheme.startswith("socks5") else 1,
                "proxy_host": self._live(proxy.host, proxy.port),
                "proxy_port": proxy.port,
                "username": proxy.username or None,
                "password": proxy.password or None,
                "rdns": proxy.scheme in ("socks4a", "socks5h"),
            }
            made: HTTPConnection = through(known, *place, **options)
        else:
            host, port = place if proxy is None else (proxy.host, proxy.port)
            made = (HTTPSConnection if address.secure else HTTPConnection)(self._live(host, port), port, **options)
            if proxy is not None and (tunnel or address.secure):
                made.set_tunnel(*place, headers=proxy.headers)
        made.response_class = FinalResponse
        return made

    def forget(self) -> None:
        """A connection could not be made: the addresses that answered are to be found anew."""
        self._answering.clear()

    def _live(self, name: str, port: int) -> str:
        """The first address of *name* that takes a connection: urllib3 would wait long for one that is dead.

        The name itself where it has but one, or none of them does.
        """
        if name not in self._answering:
            places = dict.fromkeys((one[0], one[4]) for one in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
            for family, place in places if len(places) > 1 else ():
                with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
                    probe.settimeout(_LOCAL_PROBE_SECONDS if place[0] in ("::1", "127.0.0.1") else _PROBE_SECONDS)
                    probe.connect(place)
                    self._answering[name] = str(place[0])
                    break
        return self._answering.get(name, name)


class FinalResponse(http.client.HTTPResponse):
    """The answer behind informational ones (102, 103), which http.client would take for the answer."""

    def begin(self) -> None:
        """Read the head."""
        super().begin()
        while 100 <= self.status < 200 and self.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
            # With headers, it would count as read.
            self.headers = None  # type: ignore[assignment]
            super().begin()
        # urllib3 would log what is wrong with the head together with the URL, which may hold a token.
        self.headers.defects.clear()
        self.headers.set_payload("")


def shut_down(raw: socket.socket | None) -> None:
    """End a connection; except on Windows, that wakes the thread that waits in it. From any thread, returns at once."""
    if raw is not None:
        with contextlib.suppress(OSError):
            # The plain method: that of an SSL socket would pull the TLS layer from under the reader.
            socket.socket.shutdown(raw, socket.SHUT_RDWR)
