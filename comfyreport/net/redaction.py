"""Secrets that a server says back are hidden where its words come in, so that nothing can show or keep them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TypeVar
from urllib.parse import quote, quote_plus

from comfyreport.protocol.decode import FRAME_TEXT, loads
from comfyreport.protocol.messages import Json

Bytes = TypeVar("Bytes", bytes, bytearray)

PLACEHOLDER = "[removed]"

SHORTEST = 8
"""Characters: a shorter secret may well be a part of anything, and what a server says would become useless."""

SHORTEST_WORD = 4
"""Characters of a shorter secret that is still hidden where it stands as a word of its own."""

_TEXT_FRAME = FRAME_TEXT.to_bytes(4, "big")

# Several words, and no JSON in a text, as in a recording: names stand in that.
_SENTENCE = re.compile(r"\s*[^\s{\[]\S*\s+\S")

# What the server will be asked for by: a short secret in it is rather a coincidence.
_NAMES = frozenset(("filename", "subfolder"))


# How JSON may write characters besides plain UTF-8; a zero byte is UTF-16 or UTF-32.
_ESCAPES = (b"\\u", b"\\/", b"\0")


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


def _word(secrets: Iterable[str]) -> re.Pattern[str] | None:
    """What finds *secrets* where no letter, digit or underscore is next to them."""
    found = "|".join(re.escape(secret) for secret in sorted(secrets, key=len, reverse=True))
    return re.compile(rf"(?<!\w)(?:{found})(?!\w)") if found else None


class Redactor:
    """Replaces *secrets*, in the forms in which they may stand in URLs and JSON.

    Those of fewer than `SHORTEST` characters only as a word of their own; and if that is of letters alone or of digits
    alone ("node", "1234"), only among others: alone it is rather a name or an id, without which nothing would work.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        known = set(secrets)
        texts = {form for secret in known if len(secret) >= SHORTEST for form in _forms(secret)}
        # The longest first: one may be a part of another.
        self._texts = sorted(texts, key=len, reverse=True)
        forms = {form for text in texts for form in (text.encode("utf-8", "replace"), json.dumps(text)[1:-1].encode())}
        self._forms = sorted(forms, key=len, reverse=True)
        short = {secret for secret in known if SHORTEST_WORD <= len(secret) < SHORTEST and secret.isprintable()}
        plain = {secret for secret in short if secret.isalpha() or secret.isdigit()}
        words = {form for secret in short - plain for form in _forms(secret)}
        self._words, self._plain_words = _word(words), _word(plain)
        signs = {form for secret in short for form in _forms(secret)}
        self._signs = [sign.encode("utf-8", "replace") for sign in sorted(signs, key=len, reverse=True)]
        self._all = self._forms + self._signs
        self._looked_for = (*self._all, *_ESCAPES) if self._all else ()

    @property
    def anything(self) -> bool:
        """Whether there are secrets at all."""
        return bool(self._all)

    def text(self, text: str, *, name: bool = False) -> str:
        """*text* without secrets; *name*: it names a file, and is left as it is but for long ones."""
        for secret in self._texts:
            text = text.replace(secret, PLACEHOLDER)
        if self._words is not None and not name:
            text = self._words.sub(PLACEHOLDER, text)
        if self._plain_words is not None and not name and _SENTENCE.match(text):
            text = self._plain_words.sub(PLACEHOLDER, text)
        return text

    def value(self, value: Json) -> Json:
        """*value* without secrets in any of its texts; short ones aren't looked for in keys."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {
                self.text(key, name=True): self.text(item, name=True)
                if key in _NAMES and isinstance(item, str)
                else self.value(item)
                for key, item in value.items()
            }
        return [self.value(item) for item in value] if isinstance(value, (list, tuple)) else value

    def body(self, data: Bytes) -> Bytes:
        """JSON, or any other text, without secrets. What holds none is left as it is."""
        for each in self._looked_for:
            if each in data:
                break
        else:
            return data
        try:
            value = loads(data)
            hidden = self.value(value)
            text = json.dumps(hidden)
        except (ValueError, RecursionError):
            value = data.decode("utf-8", "replace")
            hidden = text = self.text(value)
        if hidden == value and not any(form in data for form in self._forms):
            return data
        return type(data)(text.encode("utf-8", "replace"))

    def binary(self, data: bytes) -> bytes:
        """A binary message with asterisks for secrets, so that no length in it changes."""
        for form in self._forms:
            data = data.replace(form, b"*" * len(form))
        if data[:4] == _TEXT_FRAME:
            # In a picture, or in the node's id, a short one is a coincidence.
            begin = 8 + int.from_bytes(data[4:8], "big")
            text = data[begin:]
            for sign in self._signs:
                text = re.sub(rb"(?<!\w)" + re.escape(sign) + rb"(?!\w)", b"*" * len(sign), text)
            data = data[:begin] + text if text != data[begin:] else data
        return data
