"""The flags that hold credentials: `--header` and `--extra-data`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from comfyreport.access.credentials import HEADER_HINT, check_header
from comfyreport.errors import UsageError


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
