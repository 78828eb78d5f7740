"""Removes secrets from what a server sends, as soon as it comes in, so that nothing can show or keep them. Pure."""

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

MIN_LENGTH = 8
"""Characters: a shorter secret may be a part of any word, and removing it would garble what the server sends."""

MIN_WORD_LENGTH = 4
"""Characters: a secret from here to `MIN_LENGTH` is removed where it is a word of its own."""

_TEXT_FRAME = FRAME_TEXT.to_bytes(4, "big")

# Several words, and no JSON in a text (as in a recording), which holds names.
_SENTENCE = re.compile(r"\s*[^\s{\[]\S*\s+\S")

# Keys of what files are requested by: a short secret in there is a coincidence.
_FILE_KEYS = frozenset(("filename", "subfolder"))


# How JSON may write characters besides plain UTF-8; a zero byte is UTF-16 or UTF-32.
_ESCAPES = (b"\\u", b"\\/", b"\0")


def _forms(secret: str) -> tuple[str, ...]:
    """*secret* as a text may hold it: plain, in a URL, in JSON."""
    return (
        secret,
        secret.encode("utf-8", "replace").decode(),
        quote(secret, safe="", errors="replace"),
        quote(secret, errors="replace"),
        quote_plus(secret, errors="replace"),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
    )


def _word_pattern(secrets: Iterable[str]) -> re.Pattern[str] | None:
    """A pattern for *secrets* with no letter, digit or underscore next to them."""
    choices = "|".join(re.escape(secret) for secret in sorted(secrets, key=len, reverse=True))
    return re.compile(rf"(?<!\w)(?:{choices})(?!\w)") if choices else None


class Redactor:
    """Replaces *secrets* with `PLACEHOLDER`, also as URLs and JSON write them.

    One of fewer than `MIN_LENGTH` characters is replaced only as a word of its own; and one of letters alone or digits
    alone ("node", "1234") only among other words: a text that is nothing else is a name or an id that is needed.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        unique = set(secrets)
        texts = {form for secret in unique if len(secret) >= MIN_LENGTH for form in _forms(secret)}
        # The longest first: one may be a part of another.
        self._texts = sorted(texts, key=len, reverse=True)
        forms = {form for text in texts for form in (text.encode("utf-8", "replace"), json.dumps(text)[1:-1].encode())}
        self._forms = sorted(forms, key=len, reverse=True)
        short = {secret for secret in unique if MIN_WORD_LENGTH <= len(secret) < MIN_LENGTH and secret.isprintable()}
        plain = {secret for secret in short if secret.isalpha() or secret.isdigit()}
        words = {form for secret in short - plain for form in _forms(secret)}
        self._words, self._plain_words = _word_pattern(words), _word_pattern(plain)
        short_forms = {form for secret in short for form in _forms(secret)}
        self._short_forms = [form.encode("utf-8", "replace") for form in sorted(short_forms, key=len, reverse=True)]
        self._all = self._forms + self._short_forms
        self._markers = (*self._all, *_ESCAPES) if self._all else ()

    @property
    def has_secrets(self) -> bool:
        """Whether there are secrets at all."""
        return bool(self._all)

    def text(self, text: str, *, name: bool = False) -> str:
        """*text* without secrets; *name*: it is a file's name or a key, from which only long ones are removed."""
        for secret in self._texts:
            text = text.replace(secret, PLACEHOLDER)
        if self._words is not None and not name:
            text = self._words.sub(PLACEHOLDER, text)
        if self._plain_words is not None and not name and _SENTENCE.match(text):
            text = self._plain_words.sub(PLACEHOLDER, text)
        return text

    def value(self, value: Json) -> Json:
        """*value* without secrets in any of its texts; short ones stay in keys."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {
                self.text(key, name=True): self.text(item, name=True)
                if key in _FILE_KEYS and isinstance(item, str)
                else self.value(item)
                for key, item in value.items()
            }
        return [self.value(item) for item in value] if isinstance(value, (list, tuple)) else value

    def body(self, data: Bytes) -> Bytes:
        """JSON, or any other text, without secrets. What holds none is returned unchanged."""
        for marker in self._markers:
            if marker in data:
                break
        else:
            return data
        try:
            value = loads(data)
            redacted = self.value(value)
            text = json.dumps(redacted)
        except (ValueError, RecursionError):
            value = data.decode("utf-8", "replace")
            redacted = text = self.text(value)
        if redacted == value and not any(form in data for form in self._forms):
            return data
        return type(data)(text.encode("utf-8", "replace"))

    def binary(self, data: bytes) -> bytes:
        """A binary message with asterisks for secrets, so that no length in it changes."""
        for form in self._forms:
            data = data.replace(form, b"*" * len(form))
        if data[:4] == _TEXT_FRAME:
            # In an image, or in the node's id, a short one is a coincidence.
            begin = 8 + int.from_bytes(data[4:8], "big")
            text = data[begin:]
            for form in self._short_forms:
                text = re.sub(rb"(?<!\w)" + re.escape(form) + rb"(?!\w)", b"*" * len(form), text)
            data = data[:begin] + text if text != data[begin:] else data
        return data
