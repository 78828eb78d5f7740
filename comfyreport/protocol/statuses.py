"""HTTP responses as data, and what a status means where ComfyUI would have answered otherwise. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from comfyreport.errors import UnreachableError
from comfyreport.protocol.messages import Json


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


def is_body_ignored(status: int, media_type: str) -> bool:
    """Whether the status says all: the body isn't ComfyUI's, and may be endless."""
    return status in (401, 407) or 300 <= status < 400 or (status == 403 and "json" not in media_type.lower())


def status_error(status: int, location: str, server: str, *, is_html: bool = False) -> UnreachableError:
    """The error for a response that isn't ComfyUI's normal one; *is_html*: it came with a web page."""
    if status in (401, 407):
        return UnreachableError(
            f"{server} wants credentials (HTTP {status})",
            hint="put them into the address (--server http://USER:PASSWORD@HOST), COMFYREPORT_TOKEN or --header",
            code="auth",
        )
    if status == 403:
        return UnreachableError(
            f"{server} forbids it (HTTP 403)",
            hint="either it wants credentials, or ComfyUI's check of the Origin header refused a proxy's",
            code="auth",
        )
    if 300 <= status < 400:
        target = f" to {_without_secrets(location)}" if location else ""
        return UnreachableError(
            f"{server} redirects{target}: this looks like a login page or another address",
            hint="use the address that it redirects to, or give credentials",
            code="auth",
        )
    if is_html and status == 200:
        return UnreachableError(
            f"{server} answers with a web page: this looks like a login page",
            hint="give credentials (--header, COMFYREPORT_TOKEN), or check the address",
            code="auth",
        )
    if status == 404:
        return UnreachableError(
            f"there is no ComfyUI at {server} (HTTP 404)",
            hint="check the address and its path prefix",
            code="not_comfyui",
        )
    if status == 413:
        return UnreachableError(
            f"{server} takes no request of this size (HTTP 413)",
            hint="raise the limit of the proxy before it (nginx: client_max_body_size), or make the workflow smaller",
            code="server_error",
        )
    if status == 429:
        return UnreachableError(
            f"{server} wants fewer requests (HTTP 429)", hint="try again later", code="server_error", retryable=True
        )
    return UnreachableError(
        f"what answers at {server} is no ComfyUI, or it is out of order (HTTP {status})",
        hint="check --server" if status < 500 else "check the server, and try again",
        code="not_comfyui",
        retryable=status in (502, 503, 504),
    )


def no_websocket(server: str) -> UnreachableError:
    """The server doesn't answer a handshake as a WebSocket server does."""
    return UnreachableError(
        f"what answers at {server} does not speak WebSocket",
        hint="check that --server names a ComfyUI, with its path prefix if it has one",
        code="not_comfyui",
    )


_REFUSED_FILES = {
    400: "the server refuses its name",
    401: "the server wants credentials",
    403: "the server forbids it",
    404: "the server has no such file",
}


def file_error(status: int) -> UnreachableError:
    """The error for a file that doesn't come: a server that refuses one is still a ComfyUI."""
    usual = "the server redirects" if 300 <= status < 400 else "the server does not give it"
    reason = _REFUSED_FILES.get(status, usual)
    retryable = status in (408, 425, 429) or status >= 500
    return UnreachableError(f"{reason} (HTTP {status})", code="download_failed", retryable=retryable)


def _without_secrets(location: str) -> str:
    """A redirect's target without userinfo, query and fragment."""
    return re.sub(r"//[^/]*@", "//", re.split(r"[?#]", location, maxsplit=1)[0])[:200]
