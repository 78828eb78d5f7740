"""A server's address, parsed once, and the URLs made from it. Pure."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from comfyreport.errors import UsageError

DEFAULT_PORT = 8188
DEFAULT_SERVER = f"http://127.0.0.1:{DEFAULT_PORT}"

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_SCHEME = re.compile(r"[A-Za-z0-9+.-]*://")
# A scheme whose "://" is incomplete; "http:8188" is a host named http, with a port.
_BROKEN_SCHEME = re.compile(r"(https?|wss?)(:(?!\d+(/|$)|$)|//)", re.IGNORECASE)
_BRACKETED = re.compile(r"\[[^\[\]]*\](:\d*)?")
_TRAILING_ROUTES = re.compile(r"(/(ws|api)?)+$")
_HOST = re.compile(r"[A-Za-z0-9._~\u0080-\U0010ffff-]+")
_HINT = "give it as HOST, HOST:PORT or http[s]://HOST[:PORT][/PREFIX]"


def web_address(text: str) -> SplitResult | None:
    """The parts of an http or https URL that has a host; None for any other text.

    A `#` in a login would end the host, which then holds a part of the password: such a URL is none.
    """
    try:
        parts = urlsplit(text.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if usable and "@" not in parts.fragment else None


@dataclass(frozen=True)
class Address:
    """Where a ComfyUI is.

    `base` is its address for people and for links: without userinfo and without the query, which may hold a token.
    """

    secure: bool
    host: str
    port: int | None
    prefix: str
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def base(self) -> str:
        """The HTTP address without anything secret, without a slash at its end."""
        host = self.host.replace("%", "%25")
        return f"{'https' if self.secure else 'http'}://{joined(host, self.port)}{self.prefix}"

    @property
    def place(self) -> tuple[str, int]:
        """Host and port to connect to. UnicodeError where no such name can be."""
        host = self.host if self.host.isascii() else self.host.encode("idna").decode()
        return host, self.port or (443 if self.secure else 80)

    @property
    def host_port(self) -> str:
        """The `Host` header: a zone is of this machine alone (RFC 6874)."""
        return joined(self.place[0].partition("%")[0], self.port)

    @property
    def loopback(self) -> bool:
        """Whether it is this machine."""
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return self.host.rstrip(".") == "localhost" or self.host.rstrip(".").endswith(".localhost")
        return address.is_loopback or address.is_unspecified

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User and password, if the address has them."""
        return None if self.username is None else (self.username, self.password or "")

    def url(self, path: str, **params: str) -> str:
        """The URL of an HTTP route, with the address's own query; it may hold a token and is not for showing."""
        query = urlencode((*self.query, *params.items()))
        return f"{self.base}{path}" + (f"?{query}" if query else "")


def path_and_query(url: str) -> str:
    """What of *url* a request's first line has."""
    return urlunsplit(("", "", *urlsplit(url)[2:4], ""))


def joined(host: str, port: int | None) -> str:
    """Host and port as a URL has them."""
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"


def parse_address(text: str) -> Address:
    """Read what `--server` takes; UsageError where it is no address.

    `host` alone means ComfyUI's own port 8188; with a scheme and no port it is the scheme's. A trailing `/ws`, `/api`
    or `/` goes, any other path is a prefix.
    """
    text = text.strip()
    bare = _SCHEME.match(text) is None
    if bare and _BROKEN_SCHEME.match(text):
        raise UsageError(f"--server {_redacted(text)}: behind the scheme there must be ://", hint=_HINT)
    with contextlib.suppress(ValueError):
        text = f"[{ipaddress.IPv6Address(text)}]"
    full = f"http://{text}" if bare else text
    try:
        parts = urlsplit(full)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        # The error's message may quote what is secret.
        reason = "the port is no number" if "port" in str(error).lower() else "it is no address"
        raise UsageError(f"--server {_redacted(text)}: {reason}", hint=_HINT) from None
    userinfo, _, place = parts.netloc.rpartition("@")
    if "[" in userinfo or ("[" in place and not _BRACKETED.fullmatch(place)):
        # Python before 3.11.4 takes it.
        raise UsageError(f"--server {_redacted(text)}: it is no address", hint=_HINT)
    if parts.scheme not in _SCHEMES:
        raise UsageError(f"--server {_redacted(text)}: that is no scheme of ComfyUI's", hint=_HINT)
    if not host or re.search(r"[\s\x00-\x1f]", full) or not (_HOST.fullmatch(host) or ":" in host):
        raise UsageError(f"--server {_redacted(text)}: there is no host in it", hint=_HINT)
    if "@" in parts.path and (bare or re.search(r"[^/]@", parts.path)):
        # Nearly always mistyped userinfo, which would be shown as a part of the path.
        raise UsageError(f"--server {_redacted(text)}: there is a user or password in its path", hint=_HINT)
    if port is None and bare:
        port = DEFAULT_PORT
    return Address(
        secure=_SCHEMES[parts.scheme] == "https",
        host=host.replace("%25", "%"),
        port=port,
        prefix=quote(_TRAILING_ROUTES.sub("", parts.path), safe="/%:@!$&'()*+,;=~"),
        query=tuple(parse_qsl(parts.query, keep_blank_values=True)),
        username=_unquoted(parts, "username"),
        password=_unquoted(parts, "password"),
    )


def _unquoted(parts: SplitResult, name: str) -> str | None:
    value: str | None = getattr(parts, name)
    return None if value is None else unquote(value)


def _redacted(text: str) -> str:
    """What can be shown of *text*, which is no address: its scheme, and what can only be a host with its port.

    Whatever stands behind a colon may be a password that lacks its @, and before one, a user's name that is a token.
    """
    match = re.match(r"(?:(?:https?|wss?|ftp|file):(?://)?)?", text, re.IGNORECASE)
    scheme = match[0] if match else ""
    userinfo, at, rest = text[len(scheme) :].rpartition("@")
    shown = ""
    # What looks like userinfo may be a query; and behind half a scheme nothing has its place.
    if not re.search("[?#]", userinfo) and (at or not scheme.endswith(":")):
        host = re.match(r"(?:\[[0-9A-Fa-f:.]*\]|[A-Za-z0-9._-]*)(?::[0-9]{1,4}(?=/|$))?", rest)
        shown = host[0] if host else ""
    return repr(scheme + ("…@" if at else "") + shown + ("" if shown == rest else "…"))
