"""Which proxy the environment names for a server, for HTTP and the socket alike. One that can't be used is an error."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import requests.utils

from comfyreport.errors import UnreachableError

# Readings of an environment that changes meanwhile; one that always does names no proxy.
_ATTEMPTS = 100
_PORTS = {"http": 80, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}


class Proxy(NamedTuple):
    """A proxy. `scheme` is http, or one of SOCKS: socks4a and socks5h leave it to the proxy to resolve names."""

    scheme: str
    host: str
    port: int
    username: str = ""
    password: str = ""

    @property
    def host_port(self) -> str:
        """Host and port, without the credentials."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def socks(self) -> bool:
        """Whether it speaks SOCKS."""
        return self.scheme != "http"


def environ_proxy(url: str) -> str:
    """The proxy that the environment names for *url*, as requests chooses it; empty where it names none."""
    for _ in range(_ATTEMPTS):
        # A program may change its environment while urllib reads it: a variable that goes meanwhile is a KeyError.
        with contextlib.suppress(KeyError):
            return requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)) or ""
    return ""


def proxy_of(url: str) -> Proxy | None:
    """The proxy on the way to *url*, as requests chooses it. UnreachableError where it can't be used."""
    return usable_proxy(environ_proxy(url), url)


def usable_proxy(text: str, url: str) -> Proxy | None:
    """The proxy that *text* from the environment names for *url*. UnreachableError where it can't be used."""
    if not text:
        return None
    try:
        proxy = parse_proxy(text)
    except ValueError as error:
        raise _unusable(url, text, str(error), "give it as http://HOST:PORT or socks5h://HOST:PORT") from None
    if proxy.socks and importlib.util.find_spec("socks") is None:
        raise _unusable(url, text, "the package for SOCKS isn't installed", "pip install 'requests[socks]'")
    return proxy


def parse_proxy(text: str) -> Proxy:
    """The proxy that a variable names. ValueError, with nothing secret in it, where it isn't supported."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
    except ValueError:
        # urllib's message may quote the credentials.
        raise ValueError("it is no address") from None
    if parts.scheme == "https":
        # The WebSocket's TLS would run inside the proxy's: ssl can't nest them, and such proxies are rare.
        raise ValueError("it begins with https://, and a proxy that is itself spoken to with TLS is not supported")
    if parts.scheme not in _PORTS:
        raise ValueError("it has no scheme of a proxy")
    try:
        port = parts.port or _PORTS[parts.scheme]
    except ValueError:
        raise ValueError("its port is no number") from None
    if not parts.hostname:
        raise ValueError("there is no host in it")
    return Proxy(parts.scheme, parts.hostname, port, unquote(parts.username or ""), unquote(parts.password or ""))


def _unusable(url: str, text: str, reason: str, hint: str) -> UnreachableError:
    names = (f"{urlsplit(url).scheme}_proxy", "all_proxy")
    variables = (name for each in names for name in (each, each.upper()) if os.environ.get(name) == text)
    # On macOS and Windows it may come from the system's settings.
    source = next(variables, "the system's settings")
    return UnreachableError(
        f"the proxy of {source} can't be used: {reason}",
        hint=f"{hint}, or name the server in NO_PROXY",
        code="usage",
        sent=False,
    )
