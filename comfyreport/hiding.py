"""Secrets that a server says back are hidden where its words come in, so that nothing can show or keep them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TypeVar
from urllib.parse import quote, quote_plus

from comfyreport.messages import Json
from comfyreport.wire import loads

Bytes = TypeVar("Bytes", bytes, bytearray)

SHOWN = "[removed]"

SHORTEST = 8
"""Characters: a shorter secret may well be a part of anything, and what a server says would become useless."""


def _forms(secret: str) -> tuple[str, ...]:
    """*secret* as it may stand in a text: plain, in a URL, in JSON."""
    return (
        secret,
        secret.encode("utf-8", "replace").decode(),
        quote(secret, safe="", errors="replace"),
        quote(secret, errors="replace"),
        quote_plus(secret, errors="replace"),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
    )


class Hiding:
    """Replaces *secrets*, in the forms in which they may stand in URLs and JSON."""

    def __init__(self, secrets: Iterable[str]) -> None:
        long_enough = [secret for secret in secrets if len(secret) >= SHORTEST]
        texts = {form for secret in long_enough for form in _forms(secret)}
        # The longest first: one may be a part of another.
        self._texts = sorted(texts, key=len, reverse=True)
        forms = {form for text in texts for form in (text.encode("utf-8", "replace"), json.dumps(text)[1:-1].encode())}
        self._forms = sorted(forms, key=len, reverse=True)

    @property
    def anything(self) -> bool:
        """Whether there are secrets at all."""
        return bool(self._forms)

    def text(self, text: str) -> str:
        """*text* without secrets."""
        for secret in self._texts:
            text = text.replace(secret, SHOWN)
        return text

    def value(self, value: Json) -> Json:
        """*value* without secrets in any of its texts, keys included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.value(key): self.value(item) for key, item in value.items()}
        return [self.value(item) for item in value] if isinstance(value, (list, tuple)) else value

    def body(self, data: Bytes) -> Bytes:
        """JSON, or any other text, without secrets. What holds none is left as it is."""
        if not self._in(data):
            return data
        try:
            text = json.dumps(self.value(loads(data)))
        except (ValueError, RecursionError):
            text = self.text(data.decode("utf-8", "replace"))
        return type(data)(text.encode("utf-8", "replace"))

    def binary(self, data: bytes) -> bytes:
        """A binary message with asterisks for secrets, so that no length in it changes."""
        if self._in(data):
            for form in self._forms:
                data = data.replace(form, b"*" * len(form))
        return data

    def _in(self, data: bytes | bytearray) -> bool:
        return any(form in data for form in self._forms)
