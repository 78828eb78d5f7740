"""The cookies of one server: a load balancer keeps a client with the server behind it by one. Nothing is shared."""

from __future__ import annotations

import threading
from http.client import HTTPResponse
from http.cookiejar import CookieJar
from urllib.request import Request

from urllib3 import BaseHTTPResponse

MOST = 50
"""Cookies that are kept, as many as browsers keep at least."""


class Cookies:
    """What a server set, over HTTP and in handshakes alike; used from several threads."""

    def __init__(self) -> None:
        self._jar = CookieJar()
        # The jar has a lock of its own, but not while one goes through it.
        self._lock = threading.Lock()

    def take(self, response: HTTPResponse | BaseHTTPResponse, url: str) -> None:
        """Take the cookies of an answer to a request for *url*; odd ones are left out."""
        with self._lock:
            self._jar.extract_cookies(response, Request(url))  # type: ignore[arg-type]
            for cookie in list(self._jar)[MOST:]:
                self._jar.clear(cookie.domain, cookie.path, cookie.name)

    def header(self, url: str, own: str = "") -> str:
        """The `Cookie` header of a request for *url*: the user's *own* cookies, and the server's, which beat them."""
        request = Request(url)
        with self._lock:
            self._jar.add_cookie_header(request)
        texts = [text.strip() for text in f"{own};{request.get_header('Cookie', '')}".split(";")]
        cookies = {text.partition("=")[0]: text for text in texts if text and text.isascii() and text.isprintable()}
        return "; ".join(cookies.values())
