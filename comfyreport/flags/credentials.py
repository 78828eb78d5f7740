"""The flags that hold credentials: `--header`, `--extra-data`, and certificates."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path

from comfyreport.access.credentials import HEADER_HINT, Access, check_header
from comfyreport.errors import UsageError


def access_of(arguments: Namespace, extra_data: Mapping[str, str]) -> Access:
    """How the flags and the environment say that one gets in. Reads files. Raises UsageError."""
    return Access.of(
        os.environ,
        headers=parse_headers(arguments.header),
        extra_data=extra_data,
        cacert=arguments.cacert or "",
        insecure=arguments.insecure,
        client_cert=arguments.client_cert or "",
    )


def parse_headers(values: Iterable[str]) -> dict[str, str]:
    """`--header` values as headers; `@FILE` reads them from a file, one a line. Raises UsageError."""
    headers: dict[str, str] = {}
    for value in values:
        for line in _read_file(value[1:]) if value.startswith("@") else [value]:
            name, colon, text = line.partition(":")
            name, text = name.strip(), text.strip()
            if not colon:
                # Not shown: it may be a secret value without its name.
                raise UsageError("--header without a colon is no header", hint=HEADER_HINT)
            check_header(name, text)
            headers = {key: value for key, value in headers.items() if key.lower() != name.lower()}
            headers[name] = text
    return headers


def _read_file(name: str) -> list[str]:
    try:
        lines = Path(name).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UsageError(f"--header @{name}: {reason}", hint=HEADER_HINT) from error
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
