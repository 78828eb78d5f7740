"""Which proxy the environment names for a server, for HTTP and the socket alike. One that can't be used is an error."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import urllib.request
from typing import NamedTuple

from urllib3.exceptions import LocationParseError
from urllib3.util import make_headers, parse_url

from comfyreport.access.address import Address, joined
from comfyreport.errors import UnreachableError

# Readings of an environment that changes meanwhile; one that always does names no proxy.
_ATTEMPTS = 100
_SYSTEM_SETTINGS = {"win32": "the Windows settings (registry)", "darwin": "the macOS network settings"}
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
        return joined(self.host, self.port)

    @property
    def socks(self) -> bool:
        """Whether it speaks SOCKS."""
        return self.scheme != "http"

    @property
    def headers(self) -> dict[str, str]:
        """What an HTTP proxy is told with each request that is for it."""
        known = self.username or self.password
        return dict(make_headers(proxy_basic_auth=f"{self.username}:{self.password}")) if known else {}


def proxy_of(address: Address) -> Proxy | None:
    """The proxy on the way to *address*; none to this machine, as in browsers. UnreachableError for an unusable one."""
    url = address.url("/")
    text = "" if address.loopback else _environ_proxy(url)
    if not text:
        return None
    with contextlib.suppress(LocationParseError):
        parts = parse_url(text if "://" in text else f"http://{text}")
        username, password = parts.auth_decoded
        if parts.scheme in _PORTS and parts.host:
            port = parts.port or _PORTS[parts.scheme]
            proxy = Proxy(parts.scheme, parts.host.strip("[]"), port, username or "", password or "")
            if proxy.socks and importlib.util.find_spec("socks") is None:
                raise _unusable(text, "the package for SOCKS isn't installed", 'pip install "requests[socks]"')
            return proxy
    # Not https: the WebSocket's TLS would run inside the proxy's, which ssl can't nest.
    raise _unusable(
        text, "it is no address of a proxy that is supported", "give it as http://HOST:PORT or socks5h://HOST:PORT"
    )


def _environ_proxy(url: str) -> str:
    """The proxy that the environment names for *url*, as requests chooses it; empty where it names none."""
    for _ in range(_ATTEMPTS):
        # A program may change its environment while urllib reads it: a variable that goes meanwhile is a KeyError.
        with contextlib.suppress(KeyError):
            if not urllib.request.getproxies():
                return ""
            # For the rules of NO_PROXY; dear to import, and needed by few.
            import requests.utils

            return requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)) or ""
    return ""


def _unusable(text: str, reason: str, hint: str) -> UnreachableError:
    """That a proxy can't be used, named by where it comes from: *text* may hold a password."""
    variables = (name for name, value in os.environ.items() if value == text and name.lower().endswith("_proxy"))
    source = next(variables, _SYSTEM_SETTINGS.get(sys.platform, "the environment"))
    message = f"the proxy of {source} can't be used: {reason}"
    return UnreachableError(message, hint=f"{hint}, or name the server in NO_PROXY", code="usage", sent=False)
