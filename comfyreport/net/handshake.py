"""Opens a WebSocket: TCP, a proxy's tunnel, TLS, and the request that asks for it (RFC 6455, section 4).

websocket-client's own `connect` is of no use here. It keeps cookies in a jar that all of a process share and that
raises on odd ones (`_handshake.CookieJar`), shows its connection to nobody before a proxy's tunnel stands, so that no
limit can hold there, and reads a refusal's body to its end before it tells the status (`_get_resp_headers`).
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import socket
import ssl
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

import requests.utils
from urllib3.util.ssl_ import create_urllib3_context

from comfyreport.net.limits import ProxyError, note, through_socks
from comfyreport.net.proxies import Proxy

HEAD_LIMIT = 64 * 1024

# What keeps a connection that is merely quiet, and notices one whose other end is gone, where the system can do it.
_OPTIONS = (
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 30),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
)


class Head(NamedTuple):
    """The head of an HTTP answer: status 0 where it is none, headers by their names in small letters.

    `rest`: what came behind it.
    """

    status: int
    headers: Mapping[str, list[str]] = {}
    rest: bytes = b""

    def get(self, name: str) -> str:
        """A header's values, as one."""
        return ", ".join(self.headers.get(name, []))


def connect(url: str, proxy: Proxy | None, verify: bool | str, timeout: float) -> socket.socket:
    """A connection to the server of *url*, with TLS for wss. OSError where there is none.

    :param verify: as requests takes it.
    :param timeout: seconds, for each thing that is waited for.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = host if host.isascii() else host.encode("idna").decode()
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    if proxy is not None and proxy.socks:
        raw = through_socks(host, port, proxy, timeout)
    else:
        raw = socket.create_connection((host, port) if proxy is None else (proxy.host, proxy.port), timeout)
    try:
        for level, name, value in _OPTIONS:
            if hasattr(socket, name):
                raw.setsockopt(level, getattr(socket, name), value)
        note(raw)
        if proxy is not None and not proxy.socks:
            _tunnel(raw, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", proxy)
        return raw if parts.scheme == "ws" else _context(verify).wrap_socket(raw, server_hostname=host)
    except BaseException:
        raw.close()
        raise


def _tunnel(raw: socket.socket, place: str, proxy: Proxy) -> None:
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
    if proxy.username or proxy.password:
        userinfo = f"{proxy.username}:{proxy.password}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(userinfo).decode()}")
    raw.sendall("\r\n".join([*lines, "", ""]).encode())
    status = read_head(raw).status
    if status != 200:
        raise ProxyError(f"Tunnel connection failed: {status}")


def _context(verify: bool | str) -> ssl.SSLContext:
    """The TLS that urllib3 uses for requests too."""
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if verify else ssl.CERT_NONE)
    if verify:
        context.check_hostname = True
        place = requests.utils.DEFAULT_CA_BUNDLE_PATH if verify is True else verify
        context.load_verify_locations(**{"capath" if os.path.isdir(place) else "cafile": place})
    return context


def ask(raw: socket.socket, url: str, headers: Mapping[str, str]) -> Head:
    """Ask for the WebSocket at *url*; what the server answers: 101 where it stands."""
    parts = urlsplit(url)
    key = base64.b64encode(os.urandom(16)).decode()
    # No Origin: ComfyUI answers 403 where it doesn't match the host (server.py, origin_only_middleware).
    ours = {
        "Host": _place(parts),
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13",
    }
    given = {name.lower() for name in headers}
    lines = [f"{name}: {value}" for name, value in ours.items() if name.lower() not in given or name != "Host"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    raw.sendall("\r\n".join([f"GET {parts.path}?{parts.query} HTTP/1.1", *lines, "", ""]).encode())
    head = read_head(raw)
    return head if head.status != 101 or _stands(head, key) else Head(0)


def _place(parts: SplitResult) -> str:
    place = parts.netloc
    return place if place.isascii() else place.encode("idna").decode()


def _stands(head: Head, key: str) -> bool:
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    return (
        head.get("upgrade").lower() == "websocket"
        and "upgrade" in re.split(r"[\s,]+", head.get("connection").lower())
        and head.get("sec-websocket-accept") == base64.b64encode(digest).decode()
    )


def read_head(raw: socket.socket) -> Head:
    """An answer's head, and no more of the answer than comes with it. OSError where nothing comes."""
    data = bytearray()
    while (end := re.search(rb"\r?\n\r?\n", data)) is None:
        if not b"HTTP/".startswith(bytes(data[:5])) or len(data) > HEAD_LIMIT:
            return Head(0)
        piece = raw.recv(4096)
        if not piece:
            raise ConnectionResetError("the connection was closed before there was an answer")
        data += piece
    first, *lines = re.split(r"\r?\n", data[: end.start()].decode("latin-1"))
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), []).append(value.strip())
    status = re.match(r"HTTP/\d(?:\.\d)? (\d{3})\b", first)
    return Head(int(status[1]) if status else 0, headers, bytes(data[end.end() :]))
