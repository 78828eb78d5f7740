"""Credentials and certificates for one server. Pure; nothing of them may be shown or recorded."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfyreport.errors import UsageError
from comfyreport.net.address import Address

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# Headers that hold nothing secret; redacting their values would only garble what the server sends.
_PUBLIC = frozenset(
    (
        "accept", "accept-encoding", "accept-language", "cache-control", "connection", "content-type", "host", "origin",
        "user-agent", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-requested-with",
    )
)  # fmt: skip

_LONG_USER_NAME = 16
"""Characters: a user name this long beside a password is mostly a key's id or an e-mail address, so it is redacted."""

_SCHEME_LENGTH = 7
"""Characters: a word of letters alone, up to this long, in a header is an authentication scheme such as "Bearer"."""

_HEADER_HINT = "--header 'NAME: VALUE', or --header @FILE with one such line each"


@dataclass(frozen=True)
class Access:
    """Sent with every request, over HTTP and the socket alike: credentials; and which certificates to trust.

    :param headers: headers by name.
    :param token: a bearer token.
    :param extra_data: `extra_data` of the submission: keys of API nodes.
    :param cacert: a file of certificates in PEM form: those of a private authority.
    :param insecure: don't check the server's certificate.
    :raises UsageError: where one of them can't be used.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: str = field(default="", repr=False)
    extra_data: Mapping[str, str] = field(default_factory=dict, repr=False)
    cacert: str = ""
    insecure: bool = False

    def __post_init__(self) -> None:
        for name, value in self.headers.items():
            _check_header(name, value)
        _check_token(self.token)
        _check_certificates(self.cacert)

    @classmethod
    def of(cls, environ: Mapping[str, str], **more: Any) -> Access:
        """With the token that the environment variable `COMFYREPORT_TOKEN` holds."""
        return cls(token=environ.get("COMFYREPORT_TOKEN", "").strip(), **more)

    def headers_for(self, address: Address) -> dict[str, str]:
        """All headers for a request to *address*; a header that was given beats the token, which beats userinfo."""
        headers: dict[str, str] = {}
        if address.credentials is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(address.credentials).encode()).decode()
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        own = {name.lower() for name in self.headers}
        return {name: value for name, value in headers.items() if name.lower() not in own} | dict(self.headers)

    def secrets(self, address: Address) -> list[str]:
        """All texts that must be redacted, the longest first: one may be a part of another."""
        credentials = address.credentials
        secrets = [self.token, *self.extra_data.values(), *(value for _, value in address.query)]
        if credentials is not None:
            user, password = credentials
            # A user name without a password is mostly a token.
            secrets += [password, user if not password or len(user) >= _LONG_USER_NAME else ""]
        for name, value in self.headers_for(address).items():
            if name.lower() not in _PUBLIC:
                # The words of a value too: "Bearer SECRET", "session=SECRET; …". A short one of letters alone is
                # the scheme.
                words = [
                    word for word in re.split(r"[\s;,]+", value) if not word.isalpha() or len(word) > _SCHEME_LENGTH
                ]
                secrets += [value, *words, *re.findall(r"=([^\s;,]+)", value)]
        return sorted({secret for secret in secrets if secret}, key=len, reverse=True)


def parse_headers(values: Iterable[str]) -> dict[str, str]:
    """`--header` values as headers; `@FILE` reads them from a file, one a line. Raises UsageError."""
    headers: dict[str, str] = {}
    for value in values:
        for line in _read_file(value[1:]) if value.startswith("@") else [value]:
            name, colon, text = line.partition(":")
            name, text = name.strip(), text.strip()
            if not colon:
                # Not shown: it may be a secret value without its name.
                raise UsageError("--header without a colon is no header", hint=_HEADER_HINT)
            _check_header(name, text)
            headers = {key: value for key, value in headers.items() if key.lower() != name.lower()}
            headers[name] = text
    return headers


def _check_header(name: str, value: str) -> None:
    if not _NAME.fullmatch(name) or not value.isprintable() or not value.isascii():
        # With the colon in the wrong place, the name may hold a part of the secret.
        subject = f"the value of header {name!r}" if _NAME.fullmatch(name) and len(name) <= 40 else "a header's name"
        raise UsageError(f"{subject} holds characters that can't be sent", hint=_HEADER_HINT)


def _check_token(token: str) -> None:
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError("COMFYREPORT_TOKEN is no bearer token", hint="it must be one word of ASCII characters")


def _read_file(name: str) -> list[str]:
    try:
        lines = Path(name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UsageError(f"--header @{name}: {reason}", hint=_HEADER_HINT) from error
    return [line for line in lines if line.strip() and not line.startswith("#")]


def parse_extra_data(values: Iterable[str]) -> dict[str, str]:
    """`--extra-data KEY=VALUE` values as a dictionary. Raises UsageError."""
    extra: dict[str, str] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not key or not equals:
            # Not shown: it may be a secret value without its key.
            raise UsageError("--extra-data without a key, or without =", hint="--extra-data KEY=VALUE")
        extra[key] = text
    return extra


def _check_certificates(name: str) -> None:
    if name:
        try:
            ssl.create_default_context(cafile=name)
        except (OSError, ssl.SSLError) as error:
            reason = "it holds no certificates" if isinstance(error, ssl.SSLError) else error.strerror or error
            raise UsageError(f"--cacert {name}: {reason}", hint="name a file of certificates in PEM form") from error
