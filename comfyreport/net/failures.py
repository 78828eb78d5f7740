"""Errors of the network, and statuses that aren't ComfyUI's, as `UnreachableError`: readable, with nothing secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.client import HTTPException

from urllib3.exceptions import HTTPError
from websocket import WebSocketException

from comfyreport.errors import UnreachableError, machine_limit
from comfyreport.net.proxies import Proxy

_TLS_ERRORS = {"SSLError", "SSLCertVerificationError", "SSLEOFError", "SSLZeroReturnError"}
_RESOLVER_ERRORS = {"gaierror", "NameResolutionError", "UnicodeError", "InvalidURL"}


def unreachable(error: BaseException, server: str, proxy: Proxy | None = None) -> UnreachableError:
    """A network error as an UnreachableError. Raises MachineLimitError where it is none: no descriptor was left.

    :param server: the server's address without anything secret.
    :param proxy: the proxy on the way there, if there is one.
    """
    if isinstance(error, UnreachableError):
        return error
    chain = list(_causes(error))
    limit = next(filter(None, map(machine_limit, chain)), None)
    if limit is not None:
        raise limit from error
    names = {kind.__name__ for cause in chain for kind in type(cause).__mro__}
    refused = any("Tunnel connection failed" in str(cause) for cause in chain)
    if "ProxyError" in names or (proxy and (refused or names & {"ConnectionRefusedError", *_RESOLVER_ERRORS})):
        return _proxy_failed(chain, server, proxy)
    if names & _TLS_ERRORS:
        return _tls_failed(chain, server)
    if names & _RESOLVER_ERRORS:
        message = f"the host name of {server} can't be resolved"
        return UnreachableError(message, hint="check --server", code="name_unknown", retryable=True, sent=False)
    if "ConnectionRefusedError" in names:
        return UnreachableError(
            f"nothing listens at {server}",
            hint="start ComfyUI, or say where it is with --server or COMFYREPORT_SERVER",
            retryable=True,
            sent=False,
        )
    if any("timeout" in name.lower() or "timedout" in name.lower() for name in names):
        return no_answer(server)
    message = f"the connection to {server} broke: {type(error).__name__}"
    return UnreachableError(message, hint="check that --server names a ComfyUI, and try again", retryable=True)


def no_answer(server: str) -> UnreachableError:
    """The time limit for a response is over."""
    return UnreachableError(
        f"{server} did not answer in time", hint="check the address, or try again", code="no_answer", retryable=True
    )


def _tls_failed(chain: list[BaseException], server: str) -> UnreachableError:
    reason = next(filter(None, (str(getattr(cause, "verify_message", "")) for cause in chain)), "")
    message = f"the TLS connection to {server} failed" + (f": {reason}" if reason else "")
    hint = "check that it is an https server and that its certificate is trusted (--cacert FILE)"
    return UnreachableError(message, hint=hint, code="tls", sent=False)


def _proxy_failed(chain: list[BaseException], server: str, proxy: Proxy | None) -> UnreachableError:
    """The proxy can't be reached, or refuses the CONNECT: http.client's message has its status."""
    status = re.search(r"connection failed: (\d{3})\b", " ".join(map(str, chain)))
    return UnreachableError(
        f"the proxy {proxy.host_port if proxy else 'of the environment'} does not lead to {server}"
        + (f" (HTTP {status[1]})" if status else ""),
        hint="check HTTP_PROXY and HTTPS_PROXY, or name the server in NO_PROXY",
        code="auth" if status and status[1] in ("401", "403", "407") else "refused",
        retryable=not status or status[1].startswith("5"),
        sent=False,
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """*error* and what led to it: causes, contexts, and exceptions that are its reason or one of its arguments."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        causes = (current.__cause__, current.__context__, getattr(current, "reason", None), *current.args)
        waiting += [cause for cause in causes if isinstance(cause, BaseException)]


NETWORK_ERRORS: tuple[type[Exception], ...] = (HTTPError, HTTPException, WebSocketException, OSError, ValueError)
"""What a library raises where a connection fails or breaks."""
