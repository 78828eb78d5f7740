"""HTTP with one server. Only this and `websocket` use the network, and all that crosses it goes to the tap.

Calls block until they have a response or raise `UnreachableError`; they are made from threads that may be abandoned.
What a response means for the run is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Generator, Iterator
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson
import requests
import urllib3
import urllib3.exceptions

from comfyreport._version import __version__
from comfyreport.errors import UnreachableError
from comfyreport.net.access import Access
from comfyreport.net.address import Address
from comfyreport.net.cookies import Cookies, read_cookies
from comfyreport.net.failures import NETWORK_ERRORS, is_body_ignored, no_answer, status_error, unreachable
from comfyreport.net.limits import Call, LimitedAdapter
from comfyreport.net.proxies import environ_proxy, usable_proxy
from comfyreport.net.redaction import PLACEHOLDER, Redactor
from comfyreport.protocol.decode import loads
from comfyreport.protocol.messages import Json
from comfyreport.timing import Timing

BODY_LIMIT = 256 * 1024 * 1024

# Bytes. Small, since a compressed chunk may grow a thousandfold, and since each must come within a time limit.
CHUNK = 64 * 1024
# urllib3 before 2.6 decompresses a chunk all at once.
COMPRESSED_CHUNK = 4 * 1024

USER_AGENT = f"comfyreport/{__version__}"

Tap = Callable[[dict[str, Any]], None]


class Response(NamedTuple):
    """An HTTP response: its status, its body as JSON (None if it is no JSON), and the beginning of its text.

    `location` is where it redirects to; `is_html`: it is a web page.
    """

    status: int
    body: Json
    text: str
    location: str = ""
    is_html: bool = False

    def as_error(self, server: str) -> UnreachableError:
        """The error that it is where ComfyUI would answer otherwise."""
        return status_error(self.status, self.location, server, is_html=self.is_html)


class Client:
    """One server, over HTTP.

    :param tap: called with each request and response in the form of a recording, before they are used.
    """

    def __init__(
        self, address: Address, *, timing: Timing, access: Access | None = None, tap: Tap | None = None
    ) -> None:
        self.address = address
        self.access = access or Access()
        self.timing = timing
        self.tap = tap
        self.cookies = Cookies(address.host, secure=address.secure)
        self._calls: set[Call] = set()
        self._cut = False
        self.redactor = Redactor(self.access.secrets(address))
        self._headers = self.access.headers_for(address)
        if "user-agent" not in {name.lower() for name in self._headers}:
            self._headers["User-Agent"] = USER_AGENT
        # Compression wins nothing on pictures, and a small response could become a huge one.
        self._session = _Session()
        self._session.headers["Accept-Encoding"] = "identity"
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, LimitedAdapter())
        # HTTP and handshakes share one store: `cookies`.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.auth = self._authorize
        # Proxies and certificates are given with each request: nothing else of the environment counts, .netrc neither.
        self._session.trust_env = False
        if self.access.insecure:
            # comfyreport has a warning of its own.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self.headers(urlsplit(request.url or "").path))
        return request

    def headers(self, path: str) -> dict[str, str]:
        """The headers of a request or a handshake for *path*, which is that of its URL."""
        headers = {name: value for name, value in self._headers.items() if name.lower() != "cookie"}
        own = next((value for name, value in self._headers.items() if name.lower() == "cookie"), "")
        cookies = read_cookies(own) | self.cookies.of(path)
        return headers | ({"Cookie": "; ".join(map("=".join, cookies.items()))} if cookies else {})

    @property
    def verify(self) -> bool | str:
        """The `verify` argument of requests: which certificates the server's is checked against."""
        if self.access.insecure:
            return False
        environ = os.environ
        return self.access.cacert or environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or True

    def get(self, path: str) -> Response:
        """GET a route that returns JSON."""
        return self._call("GET", path, None, self.timing.read_timeout)

    def post(self, path: str, body: Json, *, timeout: float | None = None) -> Response:
        """POST JSON to a route."""
        return self._call("POST", path, body, timeout or self.timing.read_timeout)

    def _call(self, method: str, path: str, body: Json, timeout: float) -> Response:
        self._record({"dir": "out", "kind": "http", "method": method, "path": path, "request": body})
        whole, url = self.timing.response_timeout, self.address.url(path)
        try:
            with self._request(method, url, body, timeout, whole) as (raw, _):
                data = self.redactor.body(bytearray() if is_body_ignored(raw.status_code) else _read(raw))
        except UnreachableError as error:
            self._record({"dir": "in", "kind": "http-error", "method": method, "path": path, "error": error.code})
            raise
        text = data[:2000].decode("utf-8", "replace")
        is_html = "html" in raw.headers.get("Content-Type", "").lower()
        location = self.redactor.text(raw.headers.get("Location", ""))
        response = Response(raw.status_code, _from_json(data), text, location, is_html)
        record = {"dir": "in", "kind": "http", "method": method, "path": path, "status": response.status}
        self._record(record | ({"text": text} if response.body is None else {"response": response.body}))
        return response

    @contextlib.contextmanager
    def _request(
        self, method: str, url: str, body: Json, timeout: float, whole: float = float("inf")
    ) -> Iterator[tuple[requests.Response, Call]]:
        """Send a request; the response can be read until the context ends, and what fails is an UnreachableError.

        *timeout* is for the beginning of the response and for each chunk, *whole* for all of it.
        """
        server, proxy_url = self.address.base, environ_proxy(url)
        proxy = usable_proxy(proxy_url, url)
        connect_timeout = self.timing.connect_timeout
        headers = {"Content-Type": "application/json"} if body is not None else {}
        with Call.within(connect_timeout + timeout, connect_timeout + max(timeout, whole)) as call:
            self._calls.add(call)
            try:
                if self._cut:
                    call.cut()
                with self._session.request(
                    method,
                    url,
                    data=None if body is None else _to_json(body),
                    headers=headers,
                    timeout=(connect_timeout, timeout),
                    allow_redirects=False,
                    stream=True,
                    verify=self.verify,
                    proxies={"all": proxy_url} if proxy_url else {},
                ) as response:
                    self.cookies.take(response.raw.headers.getlist("Set-Cookie"), urlsplit(url).path)
                    yield response, call
                    if call.cut_off:
                        raise no_answer(server)
            except NETWORK_ERRORS as error:
                raise (no_answer(server) if call.cut_off else unreachable(error, server, proxy)) from error
            finally:
                self._calls.discard(call)

    def download(self, filename: str, subfolder: str, folder: str) -> Generator[bytes, None, None]:
        """The chunks of a file that the server serves under `/view`. Raises UnreachableError."""
        url = self.address.url("/view", filename=filename, subfolder=subfolder, type=folder)
        with self._request("GET", url, None, self.timing.read_timeout) as (response, call):
            media_type = response.headers.get("Content-Type", "")
            is_html = media_type.startswith("text/html") and not filename.lower().endswith((".html", ".htm"))
            if response.status_code != 200 or is_html:
                location = self.redactor.text(response.headers.get("Location", ""))
                raise status_error(response.status_code, location, self.address.base, is_html=is_html)
            size = 0
            for chunk in _chunks(response):
                call.allow(self.timing.read_timeout)
                size += len(chunk)
                yield chunk
            length = response.headers.get("Content-Length", "")
            if length.isdecimal() and int(length) != size and "Content-Encoding" not in response.headers:
                raise UnreachableError(f"{size} of {length} bytes came", code="download_failed", retryable=True)

    def cut(self) -> None:
        """End all calls in progress; they fail, and so do later ones. From any thread, returns at once."""
        self._cut = True
        for call in list(self._calls):
            call.cut()

    def _record(self, record: dict[str, Any]) -> None:
        if self.tap is None:
            return
        body = record.get("request")
        if isinstance(body, dict) and isinstance(body.get("extra_data"), dict):
            # API keys, which the redactor leaves where they are short.
            record["request"] = {**body, "extra_data": dict.fromkeys(body["extra_data"], PLACEHOLDER)}
        self.tap(record)

    def close(self) -> None:
        """Close all connections."""
        self._session.close()


class _Session(requests.Session):
    """Follows no redirect: even with allow_redirects=False, requests would read the whole body of one."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """There is none, ever (requests calls this in Session.send, and in resolve_redirects)."""
        return None


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """The chunks of a response's body, decompressed where the server compressed it though it wasn't asked to."""
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", "gzip", "deflate"):
        raise UnreachableError("the server's answer is compressed in a way that wasn't asked for", code="not_comfyui")
    return response.iter_content(CHUNK if encoding == "identity" else COMPRESSED_CHUNK)


def _read(response: requests.Response) -> bytearray:
    data = bytearray()
    try:
        for chunk in _chunks(response):
            data += chunk
            if len(data) > BODY_LIMIT:
                raise UnreachableError(f"the server's answer is larger than {BODY_LIMIT} bytes", code="not_comfyui")
    except BaseException:
        # The exception holds on to this function's variables as long as it is kept.
        data.clear()
        raise
    return data


def _to_json(body: Json) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:
        # orjson refuses integers over 64 bits, which Python servers take.
        return json.dumps(body).encode()


def _from_json(data: bytes | bytearray) -> Json:
    try:
        return loads(data)
    except ValueError:
        return None
