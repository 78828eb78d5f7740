"""Credentials and certificates for one server. Pure; nothing of them may be shown or recorded."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import ssl
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from comfyreport.access.address import Address
from comfyreport.access.secret_keys import secret_texts
from comfyreport.errors import UsageError

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

_QUOTES = "\"'{}[]"
"""What may stand around a word of a header's value."""

HEADER_HINT = "--header 'NAME: VALUE', or --header @FILE with one such line each"


@dataclass(frozen=True)
class Access:
    """Sent with every request, over HTTP and the socket alike: credentials; and which certificates to trust.

    :param headers: headers by name.
    :param token: a bearer token.
    :param extra_data: `extra_data` of the submission, such as keys of API nodes; secret is what stands under keys that
        name a secret.
    :param cacert: a file of certificates in PEM form: those of a private authority.
    :param insecure: don't check the server's certificate.
    :param client_cert: `FILE` or `FILE,KEY`: this client's own certificate, in PEM form.
    :raises UsageError: where one of them can't be used.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: str = field(default="", repr=False)
    extra_data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    cacert: str = ""
    insecure: bool = False
    client_cert: str = ""

    def __post_init__(self) -> None:
        for name, value in self.headers.items():
            check_header(name, value)
        _check_token(self.token)
        if self.cacert or self.client_cert:
            self.tls()

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

    def tls(self) -> ssl.SSLContext:
        """What TLS connections to the server rest on: for certificates, the system's store and `SSL_CERT_FILE`, or
        what `cacert` or the variables of requests and curl name instead. Raises UsageError.
        """
        # Needed for https alone, and dear to import.
        import certifi
        import truststore

        variables = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
        bundles = {"--cacert": self.cacert} | {name: os.environ.get(name, "") for name in variables}
        source, bundle = next(((name, value) for name, value in bundles.items() if value), ("", ""))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with _pem(f"{source} {bundle}", "it holds no certificates", "name a file of certificates in PEM form"):
            if self.insecure:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            elif bundle:
                context.load_verify_locations(**{"capath" if os.path.isdir(bundle) else "cafile": bundle})
            else:
                context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                if sys.platform not in ("win32", "darwin"):
                    # A small container has none of its own.
                    context.load_verify_locations(certifi.where())
        with _pem(
            f"--client-cert {self.client_cert}",
            "it holds no certificate with its key",
            "--client-cert FILE, or FILE,KEY, in PEM form, without a password",
        ):
            if self.client_cert:
                # A function, so that OpenSSL asks nobody for a password.
                own, *key = certificate_files(self.client_cert)
                context.load_cert_chain(own, "".join(key) or None, password=lambda: "")
        return context

    def secrets(self, address: Address) -> list[str]:
        """All texts that must be redacted, the longest first: one may be a part of another."""
        credentials = address.credentials
        # A query without names may be a token alone.
        secrets = [self.token, *secret_texts(self.extra_data), *(value or name for name, value in address.query)]
        if credentials is not None:
            user, password = credentials
            # A user name without a password is mostly a token.
            secrets += [password, user if not password or len(user) >= _LONG_USER_NAME else ""]
        for name, value in self.headers_for(address).items():
            if name.lower() not in _PUBLIC:
                secrets += _header_secrets(value)
        return sorted({secret for secret in secrets if secret}, key=len, reverse=True)


def certificate_files(client_cert: str) -> list[str]:
    """The names in `FILE` or `FILE,KEY`; an empty one is none."""
    return client_cert.split(",", 1)


def _header_secrets(value: str) -> Iterator[str]:
    """What of a header's value a server may say back: all of it, its words, and what stands behind = and : in them.

    "Bearer SECRET", "session=SECRET; …", "USER:SECRET", 'token="SECRET"', '{"key": "SECRET"}', and what Basic encodes.
    """
    yield value
    scheme, _, encoded = value.partition(" ")
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            yield base64.b64decode(encoded).decode().partition(":")[2]
    for word in (word.strip(_QUOTES) for word in re.split(r"[\s;,]+", value)):
        if not word.isalpha() or len(word) > _SCHEME_LENGTH:
            # A short one of letters alone is the scheme.
            yield word
        for mark in "=:":
            yield word.partition(mark)[2].strip(_QUOTES)


def check_header(name: str, value: str) -> None:
    """UsageError where a header can't be sent."""
    if not _NAME.fullmatch(name) or not value.isprintable() or not value.isascii():
        # With the colon in the wrong place, the name may hold a part of the secret.
        subject = f"the value of header {name!r}" if _NAME.fullmatch(name) and len(name) <= 40 else "a header's name"
        raise UsageError(f"{subject} holds characters that can't be sent", hint=HEADER_HINT)


def _check_token(token: str) -> None:
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError("COMFYREPORT_TOKEN is no bearer token", hint="it must be one word of ASCII characters")


@contextlib.contextmanager
def _pem(what: str, empty: str, hint: str) -> Iterator[None]:
    """Files that *what* names are read; what fails is a UsageError: with *empty* where nothing of use is in them."""
    try:
        yield
    except (OSError, ValueError) as error:
        # Errors of ssl are OSErrors too.
        reason = empty if isinstance(error, ssl.SSLError) else getattr(error, "strerror", "") or error
        raise UsageError(f"{what}: {reason}", hint=hint) from error
