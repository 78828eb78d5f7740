"""The only place with sockets and HTTP. Everything that crosses the wire passes the recording tap here.

Nothing in here decides anything: calls block until they have an answer or raise `UnreachableError`, and are made
from threads that may be left behind.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import certifi
import orjson
import requests
import requests.exceptions
import requests.utils
import urllib3.exceptions
import websocket

from comfyreport._version import __version__
from comfyreport.access import Access
from comfyreport.address import Address
from comfyreport.errors import UnreachableError
from comfyreport.timing import Timing
from comfyreport.wire import Json, loads

BODY_LIMIT = 256 * 1024 * 1024
CHUNK = 1024 * 1024
FEATURE_FLAGS = '{"type": "feature_flags", "data": {"supports_preview_metadata": true}}'

USER_AGENT = f"comfyreport/{__version__}"

Tap = Callable[[dict[str, Any]], None]


class Answer(NamedTuple):
    """An HTTP answer: its status, its body as JSON (None if it is none), and the beginning of its text."""

    status: int
    body: Json
    text: str
    location: str = ""


class Client:
    """One server, over HTTP.

    :param tap: is given each request and answer in the form of a recording, before anything is made of it.
    """

    def __init__(
        self, address: Address, *, timing: Timing, access: Access | None = None, tap: Tap | None = None
    ) -> None:
        self.address = address
        self.access = access or Access()
        self.timing = timing
        self.tap = tap
        self.cookies: dict[str, str] = {}
        self._headers = {"User-Agent": USER_AGENT, **self.access.headers_for(address)}
        self._session = requests.Session()
        # A callable of ours, so that no .netrc entry takes its place.
        self._session.auth = self._authorize

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._headers)
        return request

    @property
    def verify(self) -> bool | str:
        """Against which certificates the server is checked, in the form that requests takes."""
        if self.access.insecure:
            return False
        environ = os.environ
        return self.access.cacert or environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or True

    def take_cookies(self, cookies: Mapping[str, str]) -> None:
        """Carry the cookies of the socket's handshake to all later requests: a load balancer's, for one."""
        self.cookies.update(cookies)
        self._session.cookies.update(self.cookies)

    def socket_headers(self) -> dict[str, str]:
        """The headers of the socket's handshake, but for the cookies."""
        return dict(self._headers)

    def get(self, path: str) -> Answer:
        """GET a route that answers with JSON."""
        return self._call("GET", path, None, self.timing.answer)

    def post(self, path: str, body: Json, *, timeout: float | None = None) -> Answer:
        """POST JSON to a route."""
        return self._call("POST", path, body, timeout or self.timing.answer)

    def _call(self, method: str, path: str, body: Json, timeout: float) -> Answer:
        if self.tap is not None:
            self.tap({"dir": "out", "kind": "http", "method": method, "path": path, "request": body})
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            with self._session.request(
                method,
                self.address.url(path),
                data=None if body is None else _dumped(body),
                headers=headers,
                timeout=(self.timing.connect, timeout),
                allow_redirects=False,
                stream=True,
                verify=self.verify,
            ) as response:
                data = b"".join(_limited(response, BODY_LIMIT))
                location = response.headers.get("Location", "")
                status = response.status_code
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if self.tap is not None:
                self.tap(
                    {"dir": "in", "kind": "http-error", "method": method, "path": path, "error": type(error).__name__}
                )
            raise unreachable(error, self.address) from error
        answer = Answer(status, _parsed(data), data[:2000].decode("utf-8", "replace"), location)
        if self.tap is not None:
            record = {"dir": "in", "kind": "http", "method": method, "path": path, "status": status}
            self.tap(record | ({"text": answer.text} if answer.body is None else {"response": answer.body}))
        return answer

    def download(self, filename: str, subfolder: str, folder: str) -> Iterator[bytes]:
        """The pieces of a file that the server serves under `/view`."""
        url = self.address.url("/view", filename=filename, subfolder=subfolder, type=folder)
        try:
            with self._session.get(
                url,
                timeout=(self.timing.connect, self.timing.answer),
                allow_redirects=False,
                stream=True,
                verify=self.verify,
            ) as response:
                if response.status_code != 200:
                    raise UnreachableError(f"the server answered {response.status_code}", code="download_failed")
                yield from response.iter_content(CHUNK)
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise unreachable(error, self.address) from error

    def close(self) -> None:
        """Close all connections."""
        self._session.close()


def _limited(response: requests.Response, limit: int) -> Iterator[bytes]:
    taken = 0
    for chunk in response.iter_content(CHUNK):
        taken += len(chunk)
        if taken > limit:
            raise UnreachableError(f"the server's answer is larger than {limit} bytes", code="not_comfyui")
        yield chunk


def _dumped(body: Json) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:
        # orjson refuses integers over 64 bits, which Python servers take.
        return json.dumps(body).encode()


def _parsed(data: bytes) -> Json:
    try:
        return loads(data)
    except ValueError:
        return None


class Socket:
    """One WebSocket connection, made and read by one thread, shut down by another."""

    def __init__(self, client: Client, client_id: str) -> None:
        self._client = client
        self._client_id = client_id
        self._tap = client.tap
        self._socket: websocket.WebSocket | None = None
        self._shut = False

    def open(self) -> dict[str, str]:
        """Connect, and send the feature flags, which count only as the first message (ComfyUI server.py).

        Returns the cookies that the handshake's answer set. Raises UnreachableError.
        """
        client = self._client
        self._record({"dir": "out", "kind": "ws-open", "path": f"/ws?clientId={self._client_id}"})
        url = client.address.socket_url(self._client_id)
        try:
            # No Origin: ComfyUI answers 403 where it doesn't match the host (server.py, origin_only_middleware).
            self._socket = websocket.create_connection(
                url,
                timeout=client.timing.connect,
                suppress_origin=True,
                skip_utf8_validation=True,
                enable_multithread=False,
                redirect_limit=0,
                header=client.socket_headers(),
                cookie="; ".join(f"{name}={value}" for name, value in client.cookies.items()) or None,
                sslopt=_tls_options(client.verify),
                **_proxy_options(client.address.url("/ws")),
            )
            self._socket.send(FEATURE_FLAGS)
            self._record({"dir": "out", "kind": "ws-text", "text": FEATURE_FLAGS})
            self._socket.settimeout(None)
        except (websocket.WebSocketException, OSError, ValueError) as error:
            raise unreachable(error, client.address) from error
        if self._shut:
            self.shut()
        cookies: SimpleCookie = SimpleCookie()
        with contextlib.suppress(CookieError):
            cookies.load(str((self._socket.getheaders() or {}).get("set-cookie", "")))
        return {name: morsel.value for name, morsel in cookies.items()}

    def ping(self) -> None:
        """Send a ping, which keeps proxies from closing a quiet connection; OSError where it is broken."""
        if self._socket is not None:
            self._socket.ping()

    def frames(self) -> Iterator[tuple[bool, bytes]]:
        """The data frames as they come, each with whether it is text; ends when the connection does.

        Raises OSError or websocket's exceptions when the connection breaks.
        """
        assert self._socket is not None
        while True:
            opcode, data = self._socket.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return
            text = opcode == websocket.ABNF.OPCODE_TEXT
            if self._tap is not None:
                if text:
                    self._record({"dir": "in", "kind": "ws-text", "text": data.decode("utf-8", "replace")})
                else:
                    self._record({"dir": "in", "kind": "ws-binary", "b64": base64.b64encode(data).decode()})
            yield text, data

    def _record(self, record: Mapping[str, Any]) -> None:
        if self._tap is not None:
            self._tap({**record, "sock": "A"})

    def shut(self) -> None:
        """Wake the reading thread and end the connection; may be called from any thread, returns at once.

        websocket-client's own `close` would wait for the lock that a reading thread holds.
        """
        self._shut = True
        connection = self._socket
        raw = None if connection is None else connection.sock
        if raw is not None:
            with contextlib.suppress(OSError):
                # The plain method: that of an SSL socket would pull the TLS layer from under the reader.
                socket.socket.shutdown(raw, socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the connection; only from the thread that reads it."""
        self._record({"dir": "in", "kind": "ws-close"})
        if self._socket is not None:
            self._socket.shutdown()  # type: ignore[no-untyped-call]


def _tls_options(verify: bool | str) -> dict[str, Any]:
    """What requests is told of certificates, as websocket-client takes it."""
    if verify is False:
        return {"cert_reqs": ssl.CERT_NONE, "check_hostname": False}
    return {"ca_certs": certifi.where() if verify is True else verify}


def _proxy_options(url: str) -> dict[str, Any]:
    """The proxy that the environment names for *url*, chosen as requests does, as websocket-client takes it."""
    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    if not proxy:
        # An empty list would let websocket-client read the environment by rules of its own.
        return {"http_no_proxy": ["*"]}
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return {
        "http_proxy_host": parts.hostname,
        "http_proxy_port": parts.port or 80,
        "http_proxy_auth": (unquote(parts.username), unquote(parts.password or "")) if parts.username else None,
        "proxy_type": parts.scheme if parts.scheme in ("http", "socks4", "socks5", "socks5h") else "http",
        "http_no_proxy": [],
    }


def unreachable(error: BaseException, address: Address) -> UnreachableError:
    """What a network error means, in words for a person; nothing secret in it."""
    place = address.base
    if isinstance(error, UnreachableError):
        return error
    if isinstance(error, websocket.WebSocketBadStatusException):
        headers = error.resp_headers or {}
        return refusal(error.status_code or 0, str(headers.get("location", "")), place)
    chain = list(_causes(error))
    names = {type(cause).__name__ for cause in chain}
    if names & {"SSLError", "SSLCertVerificationError", "SSLEOFError"}:
        reason = next((str(getattr(c, "verify_message", "")) for c in chain if getattr(c, "verify_message", "")), "")
        return UnreachableError(
            f"the TLS connection to {place} failed" + (f": {reason}" if reason else ""),
            hint="check that it is an https server and that its certificate is trusted",
            code="tls",
            sent=False,
        )
    if names & {"gaierror", "NameResolutionError", "WebSocketAddressException"}:
        return UnreachableError(
            f"the host name of {place} can't be resolved",
            hint="check --server",
            code="name_unknown",
            retryable=True,
            sent=False,
        )
    if any(isinstance(cause, ConnectionRefusedError) for cause in chain):
        return UnreachableError(
            f"nothing listens at {place}",
            hint="start ComfyUI, or say where it is with --server or COMFYREPORT_SERVER",
            retryable=True,
            sent=False,
        )
    if any("timeout" in name.lower() or "timedout" in name.lower() for name in names):
        return UnreachableError(
            f"{place} did not answer in time", hint="check the address, or try again", code="no_answer", retryable=True
        )
    if isinstance(error, (websocket.WebSocketException, ValueError)) and not isinstance(
        error, websocket.WebSocketConnectionClosedException
    ):
        return UnreachableError(
            f"what answers at {place} does not speak WebSocket",
            hint="check that --server names a ComfyUI, with its path prefix if it has one",
            code="not_comfyui",
        )
    return UnreachableError(
        f"the connection to {place} broke: {type(error).__name__}",
        hint="check that --server names a ComfyUI, and try again",
        retryable=True,
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """*error* and all that it was made from: causes, contexts, and exceptions given as reasons or arguments."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [current.__cause__, current.__context__, getattr(current, "reason", None)]
        waiting += [argument for argument in current.args if isinstance(argument, BaseException)]
        waiting = [each for each in waiting if isinstance(each, BaseException)]


def refusal(status: int, location: str, place: str) -> UnreachableError:
    """What an HTTP status that isn't ComfyUI's normal one means."""
    if status in (401, 407):
        return UnreachableError(
            f"{place} wants credentials (HTTP {status})",
            hint="put them into the address: --server http://USER:PASSWORD@HOST",
            code="auth",
        )
    if status == 403:
        return UnreachableError(
            f"{place} forbids it (HTTP 403)",
            hint="either it wants credentials, or ComfyUI's check of the Origin header refused a proxy's",
            code="auth",
        )
    if 300 <= status < 400:
        target = f" to {location.partition('?')[0]}" if location else ""
        return UnreachableError(
            f"{place} redirects{target}: this looks like a login page or another address",
            hint="use the address that it redirects to, or give credentials",
            code="auth",
        )
    if status == 404:
        return UnreachableError(
            f"there is no ComfyUI at {place} (HTTP 404)",
            hint="check the address and its path prefix",
            code="not_comfyui",
        )
    return UnreachableError(
        f"what answers at {place} is no ComfyUI, or it is out of order (HTTP {status})",
        hint="check --server" if status < 500 else "check the server, and try again",
        code="not_comfyui",
        retryable=status in (502, 503, 504),
    )
