"""HTTP with one server. Only this and `websocket` use the network, and all that crosses it goes to the tap.

Calls block until they have a response or raise `UnreachableError`; they are made from threads that may be abandoned.
What a response means for the run is decided elsewhere. Each wait for a piece of a call has a limit of its own; a call
that is late as a whole is for another thread to `cut_late`.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.client import HTTPMessage
from types import MappingProxyType
from typing import Any, NamedTuple

from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection

from comfyreport._version import __version__
from comfyreport.access.address import Address, path_and_query
from comfyreport.access.credentials import Access
from comfyreport.access.redaction import Redactor
from comfyreport.access.secret_keys import hide
from comfyreport.errors import UnreachableError
from comfyreport.net.connection import Connector, shut_down
from comfyreport.net.cookies import Cookies
from comfyreport.net.failures import NETWORK_ERRORS, no_answer, unreachable
from comfyreport.net.proxies import Proxy
from comfyreport.protocol.downloads import CHUNK, Download, FilePlace, begun
from comfyreport.protocol.messages import Json
from comfyreport.protocol.statuses import Response, file_error, is_body_ignored
from comfyreport.protocol.uploads import Body, json_body
from comfyreport.timing import Timing

BODY_LIMIT = 256 * 1024 * 1024
_SEND_BUFFER = 256 * 1024
USER_AGENT = f"comfyreport/{__version__}"

Tap = Callable[[dict[str, Any]], None]


class _Request(NamedTuple):
    """What is asked for; *timeout* in seconds, *headers* beside the usual ones."""

    method: str
    url: str
    body: Body | None
    timeout: float
    headers: Mapping[str, str] = MappingProxyType({})


class _Call:
    """One request and its response. It is late when the time is over that `allow` gave it last, or at its `end`."""

    def __init__(self, seconds: float) -> None:
        self.connection: HTTPConnection | None = None
        # Once the connection stands, also where http.client has let go of it: with an answer that ends with it.
        self.socket: socket.socket | None = None
        self.upload: Body | None = None
        self.cut_off = False
        self.end = math.inf
        self._due = time.monotonic() + seconds

    @property
    def overdue(self) -> float:
        """For how many seconds its time has been over; less than 0 while it isn't."""
        return time.monotonic() - self._due

    def allow(self, seconds: float) -> None:
        """Give it so many seconds from now, but no more than it has in all; TimeoutError where it has no time left."""
        if self.cut_off or self.overdue > 0:
            raise TimeoutError
        self._due = min(self.end, time.monotonic() + seconds)

    def timed(self, chunks: Iterator[bytes], seconds: float) -> Iterator[bytes]:
        """*chunks*, each of which has so many seconds to come; what is done with it takes no time of the server's."""
        for chunk in chunks:
            self.allow(math.inf)
            yield chunk
            self.allow(seconds)

    def cut(self) -> None:
        """End it: whoever waits in it is woken, or, on Windows, needn't be waited for. From any thread, at once."""
        self.cut_off, self._due = True, min(self._due, time.monotonic())
        if self.connection is not None:
            shut_down(self.socket or self.connection.sock)


class Client:
    """One server, over HTTP.

    :param tap: called with each request and response in the form of a recording, before they are used.
    """

    def __init__(
        self, address: Address, *, timing: Timing, access: Access | None = None, tap: Tap | None = None
    ) -> None:
        self.address = address
        access = access or Access()
        self.timing = timing
        self.tap = tap
        self.connector = Connector(address, access, timing.connect_timeout)
        self.cookies = Cookies()
        self.redactor = Redactor(access.secrets(address))
        given = access.headers_for(address)
        names = {name.lower() for name in given}
        usual = {"Host": address.host_port, "User-Agent": USER_AGENT}
        self._headers = {name: value for name, value in usual.items() if name.lower() not in names} | given
        self._idle: list[HTTPConnection] = []
        # By the thread that makes it.
        self._calls: dict[int, _Call] = {}
        self._cut = False

    def headers(self, url: str) -> dict[str, str]:
        """The headers of a request or a handshake for *url*."""
        headers = {name: value for name, value in self._headers.items() if name.lower() != "cookie"}
        own = next((value for name, value in self._headers.items() if name.lower() == "cookie"), "")
        cookies = self.cookies.header(url, own)
        return headers | ({"Cookie": cookies} if cookies else {})

    def get(self, path: str) -> Response:
        """GET a route that returns JSON."""
        return self._call("GET", path, None, self.timing.read_timeout)

    def post(self, path: str, body: Json | Body, *, timeout: float | None = None) -> Response:
        """POST to a route: JSON, or what is encoded already."""
        body = body if isinstance(body, Body) else json_body(body)
        return self._call("POST", path, body, timeout or self.timing.read_timeout)

    def _call(self, method: str, path: str, body: Body | None, timeout: float) -> Response:
        shown = None if body is None else body.shown
        self._record({"dir": "out", "kind": "http", "method": method, "path": path, "request": shown})
        whole, url = max(timeout, self.timing.response_timeout), self.address.url(path)
        try:
            with self._request(_Request(method, url, body, timeout), whole) as (answer, call):
                ignored = is_body_ignored(answer.status, answer.headers.get("Content-Type", ""))
                data = bytearray() if ignored else _read(answer, lambda: call.allow(timeout))
        except UnreachableError as error:
            self._record({"dir": "in", "kind": "http-error", "method": method, "path": path, "error": error.code})
            raise
        response = self.response(answer.status, answer.headers, data)
        record = {"dir": "in", "kind": "http", "method": method, "path": path, "status": response.status}
        self._record(record | ({"text": response.text} if response.body is None else {"response": response.body}))
        return response

    def response(self, status: int, headers: Mapping[str, str] | HTTPMessage, data: bytearray) -> Response:
        """An answer that was read, without secrets."""
        is_html = "html" in headers.get("Content-Type", "").lower()
        location = self.redactor.text(headers.get("Location", ""))
        return Response(status, *self.redactor.answer(data), location, is_html)

    @contextlib.contextmanager
    def _request(self, request: _Request, whole: float = math.inf) -> Iterator[tuple[HTTPResponse, _Call]]:
        """Send a request; the response can be read until the context ends, and what fails is an UnreachableError.

        Its timeout is for the beginning of the response and for each chunk, *whole* for all of the response. The
        request may take its time, as long as the server takes a piece of it in that time.
        """
        server, proxy, response = self.address.base, self.connector.proxy(), None
        thread = threading.get_ident()
        call = self._calls[thread] = _Call(self.timing.connect_timeout + request.timeout)
        try:
            # A server may close an idle connection at any moment: what changes something isn't sent over one.
            connection = self._connect(call, proxy, reuse=request.method == "GET")
            call.socket, connection.timeout = connection.sock, request.timeout
            response = self._send(call, connection, request, proxy)
            call.end = time.monotonic() + whole
            yield response, call
            call.allow(0)
            if response.closed and not connection.is_closed and not self._cut:
                self._idle.append(connection)
                call.connection = None
        except NETWORK_ERRORS as error:
            failure = no_answer(server) if call.cut_off or call.overdue > 0 else unreachable(error, server, proxy)
            # Whatever it looks like: TLS may break behind the request too.
            failure.sent = failure.sent or call.socket is not None
            raise failure from error
        finally:
            del self._calls[thread]
            if call.connection is not None:
                call.connection.close()
                if response is not None:
                    # Where it ends with the connection, it alone has the socket.
                    response.close()

    def _connect(self, call: _Call, proxy: Proxy | None, *, reuse: bool) -> HTTPConnection:
        """A connection for *call*: one that an earlier call left, else a new one."""
        if self._cut:
            raise TimeoutError
        with contextlib.suppress(IndexError):  # another thread took the last one
            while reuse:
                call.connection = idle = self._idle.pop()
                if idle.is_connected:
                    call.allow(self.timing.read_timeout)
                    return idle
                idle.close()
        call.connection = connection = self.connector.connection(proxy, tunnel=False)
        try:
            connection.connect()
        except NETWORK_ERRORS:
            self.connector.forget()
            raise
        call.allow(self.timing.read_timeout)
        return connection

    def _send(self, call: _Call, connection: HTTPConnection, request: _Request, proxy: Proxy | None) -> HTTPResponse:
        headers, target = {**self.headers(request.url), **request.headers}, path_and_query(request.url)
        if proxy is not None and not proxy.socks and not self.address.secure:
            # Such a proxy isn't tunnelled through: it passes requests on.
            headers, target = headers | proxy.headers, f"http://{self.address.host_port}{target}"
        if request.body is not None:
            call.upload, headers = request.body, headers | request.body.headers
            if request.body.size > _SEND_BUFFER:
                # What the system holds counts as sent, and it would hold megabytes, which may be minutes.
                with contextlib.suppress(OSError):
                    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            request.body.on_turn = lambda: call.allow(request.timeout)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            # A server may have answered, and closed, before it had it all.
            connection.request(request.method, target, call.upload, headers, preload_content=False)
        response = connection.getresponse()
        self.cookies.take(response, request.url)
        return response

    @contextlib.contextmanager
    def download(self, place: FilePlace, start: int = 0, version: str = "") -> Iterator[Download]:
        """A file that the server serves under `/view`, from byte *start* on where it still has that *version*.

        Raises UnreachableError, which is retryable where trying again can help.
        """
        url = self.address.url("/view", filename=place.filename, subfolder=place.subfolder, type=place.folder)
        more = {"Range": f"bytes={start}-", "If-Range": version} if start and version else {}
        with self._request(_Request("GET", url, None, self.timing.read_timeout, more)) as (response, call):
            if response.status not in (200, 206):
                raise file_error(response.status)
            # Whole chunks, undecoded: a byte now and then is no progress.
            read = partial(response.read, decode_content=False)
            begins = begun(response.status, response.headers, read, place.filename, start)
            yield begins._replace(chunks=call.timed(begins.chunks, self.timing.read_timeout))

    @property
    def upload(self) -> tuple[int, int] | None:
        """How many bytes of the request that is being sent are sent, and how many it has; None where none is."""
        uploads = [call.upload for call in list(self._calls.values()) if call.upload is not None]
        return next(((each.sent, each.size) for each in uploads if each.sent < each.size), None)

    def cut_late(self, thread: int | None) -> float:
        """End the call that a thread makes where its time is over; for how many seconds it has been."""
        call = self._calls.get(thread or 0)
        if call is None or call.overdue <= 0:
            return 0.0
        call.cut()
        return call.overdue

    def cut(self) -> None:
        """End all calls in progress; they fail, and so do later ones. From any thread, returns at once."""
        self._cut = True
        for call in list(self._calls.values()):
            call.cut()

    def _record(self, record: dict[str, Any]) -> None:
        if self.tap is None:
            return
        body = record.get("request")
        if isinstance(body, dict) and isinstance(body.get("extra_data"), dict):
            # API keys, which the redactor leaves where they are short.
            record["request"] = {**body, "extra_data": hide(body["extra_data"])}
        self.tap(record)

    def close(self) -> None:
        """Close all connections."""
        self._cut = True
        while self._idle:
            self._idle.pop().close()


def _read(response: HTTPResponse, on_chunk: Callable[[], None]) -> bytearray:
    if response.headers.get("Content-Encoding", "identity").lower() not in ("identity", "gzip", "deflate"):
        raise UnreachableError("the server's answer is compressed in a way that wasn't asked for", code="not_comfyui")
    data = bytearray()
    try:
        while chunk := response.read1(CHUNK):
            on_chunk()
            data += chunk
            if len(data) > BODY_LIMIT:
                raise UnreachableError(
                    f"the server's answer is larger than {BODY_LIMIT} bytes", hint="check --server", code="not_comfyui"
                )
    except BaseException:
        # The exception holds on to this function's variables as long as it is kept.
        data.clear()
        raise
    return data
