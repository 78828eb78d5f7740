"""Removes secrets from what a server sends, as soon as it comes in, so that nothing can show or keep them. Pure."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from comfyreport.access.secret_keys import PLACEHOLDER as PLACEHOLDER, hide_in_answer, hide_in_text
from comfyreport.protocol.decode import FRAME_PREVIEW_WITH_METADATA, FRAME_TEXT, dumps, loads, read_json
from comfyreport.protocol.messages import Json

Bytes = TypeVar("Bytes", bytes, bytearray)

MIN_LENGTH = 8
"""Characters: a shorter secret may be a part of any word, and removing it would garble what the server sends."""

MIN_WORD_LENGTH = 4
"""Characters: a secret from here to `MIN_LENGTH` is removed where it is a word of its own."""

_TEXT_LIMIT = 2000
"""Bytes of an answer that are kept as text."""

_TEXT_FRAME = FRAME_TEXT.to_bytes(4, "big")
_METADATA_FRAME = FRAME_PREVIEW_WITH_METADATA.to_bytes(4, "big")

# Several words, and no JSON in a text (as in a recording), which holds names.
_SENTENCE = re.compile(r"\s*[^\s{\[]\S*\s+\S")

# Keys of what files are requested by: a short secret in there is a coincidence.
_FILE_KEYS = frozenset(("filename", "subfolder"))

# Other people's keys stand behind these names in frames; in answers, `hide_in_answer` looks where they are.
_EXTRA_DATA, _INPUTS = b'"extra_data"', b'"current_inputs"'

# Escapes in one another that are undone: JSON in JSON, a URL in HTML in JSON.
_NESTING = 4

_PUBLIC_ESCAPES = r"&(?:#[0-9]{1,7};?|#[xX][0-9a-fA-F]{1,6};?|[a-zA-Z][a-zA-Z0-9]{1,30};)|\\+x[0-7][0-9a-fA-F]"


class _Escapes(NamedTuple):
    """How servers write characters otherwise: in URLs, HTML and JSON. `markers`: without these there are none."""

    pattern: re.Pattern[str]
    markers: tuple[str, ...]


# Nearly all secrets are plain ASCII: then nothing else needs to be undone, and most of what comes has no such escapes.
_PLAIN = _Escapes(
    re.compile(rf"%[0-7][0-9a-fA-F]|\\+u00[0-7][0-9a-fA-F]|\\+/|{_PUBLIC_ESCAPES}"), ("%", "&", "\\u00", "\\/", "\\x")
)
_ALL = _Escapes(
    re.compile(
        r"%[0-7][0-9a-fA-F]|%[c-fC-F][0-9a-fA-F](?:%[89abAB][0-9a-fA-F]){1,3}"
        r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\[\"'\\/bfnrt]"
        rf"|{_PUBLIC_ESCAPES}"
    ),
    ("%", "&", "\\"),
)
_CONTROLS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

_FOLDED = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ+", b"abcdefghijklmnopqrstuvwxyz ")

# What base64 of a text has of the text's neighbours on either side.
_BASE64_BEFORE = re.compile(r"[A-Za-z0-9+/_-]{0,4}\Z")
_BASE64_BEHIND = re.compile(r"[A-Za-z0-9+/_-]{0,4}={0,2}")


def _character(escape: str) -> str:
    """The character that *escape* stands for."""
    if escape[0] == "%":
        return bytes.fromhex(escape.replace("%", "")).decode("utf-8", "replace")
    if escape[0] == "&":
        return html.unescape(escape)
    kind = escape.lstrip("\\")[:1]
    if kind == "u":
        digits = escape.replace("\\", "").replace("u", "")
        return bytes.fromhex(digits).decode("utf-16-be", "surrogatepass" if len(digits) == 4 else "replace")
    if kind == "x":
        return chr(int(escape[-2:], 16))
    return _CONTROLS.get(kind, escape[-1])


def _fold(text: str) -> str:
    """*text* without cases, of the same length; a plus is the space that it is in URLs."""
    lower = text.lower()
    if len(lower) != len(text):
        lower = "".join(each.lower() if len(each.lower()) == 1 else each for each in text)
    if not lower.isascii():
        # Greek has two small letters for one: which one it becomes depends on what follows.
        lower = lower.replace("\u03c2", "\u03c3")
    return lower.replace("+", " ")


def _base64_forms(secret: str) -> Iterator[str]:
    """What base64 of any text holds where *secret* is a part of that text."""
    data = secret.encode("utf-8", "replace")
    for before in range(3):
        # A group of three bytes makes four characters; only those are fixed whose bits are all the secret's.
        padded = bytes(before) + data
        core = base64.b64encode(padded)[-(-before * 8 // 6) : len(padded) * 8 // 6].decode()
        if len(core) >= MIN_LENGTH:
            yield from {core, core.replace("+", "-").replace("/", "_")}


def _word_pattern(secrets: Iterable[str]) -> re.Pattern[str] | None:
    """A pattern for *secrets* with no letter, digit or underscore next to them."""
    choices = "|".join(re.escape(_fold(secret)) for secret in sorted(secrets, key=len, reverse=True))
    return re.compile(rf"(?<!\w)(?:{choices})(?!\w)") if choices else None


class Redactor:
    """Replaces *secrets* with `PLACEHOLDER`, also in other cases, in base64, and as URLs, HTML and JSON write them.

    One of fewer than `MIN_LENGTH` characters is replaced only as a word of its own; and one of letters alone or digits
    alone ("node", "1234") only among other words: a text that is nothing else is a name or an id that is needed.
    Other people's secrets are known by their keys alone (`secret_keys`).
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        unique = {form for secret in secrets for form in (secret, secret.encode("utf-8", "replace").decode())}
        is_plain = all(each.isascii() and each.isprintable() and not {'"', "'", "\\"} & {*each} for each in unique)
        self._escapes = _PLAIN if is_plain else _ALL
        self._is_ascii = all(each.isascii() for each in unique)
        long = {secret for secret in unique if len(secret) >= MIN_LENGTH}
        # One that looks like an escape itself may be said back in part undone.
        cases = {case for secret in long for case in (secret, secret.upper(), secret.casefold())}
        needles = {_fold(level) for case in cases for level in self._levels(case) if len(level) >= MIN_LENGTH}
        self._needles = sorted(needles, key=len, reverse=True)
        encoded = {secret: [*_base64_forms(secret)] for secret in unique}
        # A login in a header is base64 itself, and holds that of its password: nobody encodes it once more.
        forms = {form for several in encoded.values() for form in several}
        pure = [secret for secret in unique if not any(form in secret for form in forms)]
        self._encoded = list({_fold(form) for secret in pure for form in encoded[secret]})
        self._exact = [secret.encode("utf-8", "replace") for secret in sorted(long, key=len, reverse=True)]
        short = {secret for secret in unique if MIN_WORD_LENGTH <= len(secret) < MIN_LENGTH and secret.isprintable()}
        plain = {secret for secret in short if secret.isalpha() or secret.isdigit()}
        self._words, self._plain_words = _word_pattern(short - plain), _word_pattern(plain)
        parts = {*self._needles, *self._encoded, *(_fold(secret) for secret in short)}
        # Where a part isn't, nothing is that holds it.
        self._parts = [part for part in parts if not any(other in part for other in parts - {part})]
        self._shortest = min(map(len, self._parts), default=0)
        self._quick = [part.encode("utf-8", "replace") for part in self._parts]

    def text(self, text: str, *, name: bool = False) -> str:
        """*text* without secrets; *name*: it is a file's name or a key, from which only long ones are removed."""
        if self._is_clean(text) or not self._holds(text, short=not name):
            return text
        pieces, end = list[str](), 0
        for begin, behind in self._spans(text, short=not name):
            pieces += [text[end:begin], PLACEHOLDER]
            end = behind
        return "".join([*pieces, text[end:]])

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
        others, own = self._suspects(data)
        if not own and not others:
            return data
        try:
            value = loads(data)
            redacted = self.value(value) if own else value
            changed = redacted != value or (own and self._holds(_decoded(data), short=False))
            changed |= others and hide_in_answer(redacted)
            return type(data)(dumps(redacted)) if changed else data
        except (ValueError, RecursionError):
            text = _decoded(data)
            redacted = self.text(hide_in_text(text) if others else text)
            return data if redacted == text else type(data)(redacted.encode("utf-8", "replace"))

    def leaves(self, bodies: Sequence[bytes]) -> bool:
        """Whether `body` would change none of them: looked at together, in a fraction of the time."""
        return not any(self._suspects(b"\n".join(bodies)))

    def _suspects(self, data: bytes | bytearray) -> tuple[bool, bool]:
        """Whether others' secrets may be in *data*, by the names of what holds them, and whether own ones may."""
        return _EXTRA_DATA in data or _INPUTS in data, bool(self._quick) and self._may_hold(data)

    def answer(self, data: bytearray) -> tuple[Json, str]:
        """An answer's body as JSON, None where it is none, and how it begins, both without anybody's secrets."""
        data = self.body(data)
        body = read_json(data)
        if body is not None and hide_in_answer(body):
            data = bytearray(dumps(body))
        text = data[:_TEXT_LIMIT].decode("utf-8", "replace")
        return body, hide_in_text(text) if body is None else text

    def binary(self, data: bytes) -> bytes:
        """A binary message with asterisks for secrets, so that no length in it changes."""
        if not self._quick:
            return data
        for secret in self._exact:
            data = data.replace(secret, b"*" * len(secret))
        begin, end = 8, 8 + int.from_bytes(data[4:8], "big")
        is_text = data[:4] == _TEXT_FRAME
        if is_text:
            # In the node's id, as in an image, a short one is a coincidence.
            begin, end = end, len(data)
        elif data[:4] != _METADATA_FRAME:
            return data
        if not self._may_hold(data[begin:end]):
            return data
        text = data[begin:end].decode("utf-8", "surrogateescape")
        pieces, behind = [data[:begin]], 0
        for first, last in self._spans(text, short=is_text):
            pieces += [piece.encode("utf-8", "surrogateescape") for piece in (text[behind:first], text[first:last])]
            pieces[-1] = b"*" * len(pieces[-1])
            behind = last
        return b"".join([*pieces, text[behind:].encode("utf-8", "surrogateescape"), data[end:]])

    # --- finding

    def _may_hold(self, data: bytes | bytearray) -> bool:
        """Whether a secret may be in *data*; quick, for in nearly all that comes none is."""
        if self._is_ascii:
            folded = data.translate(_FOLDED)
            for needle in self._quick:
                if needle in folded:
                    return True
            if b"\\" not in data and b"%" not in data and b"&" not in data and b"\0" not in data:
                return False
        text = _decoded(data)
        return not self._is_clean(text) and self._holds(text, short=True, sentence=True)

    def _is_clean(self, text: str) -> bool:
        """Whether no secret is in *text*, as far as a glance tells."""
        if len(text) < self._shortest or not self._parts:
            return True
        folded = _fold(text)
        for part in self._parts:
            if part in folded:
                return False
        return all(marker not in text for marker in self._escapes.markers)

    def _holds(self, text: str, *, short: bool, sentence: bool = False) -> bool:
        """Whether a secret is in *text*; *short*: short ones count, *sentence*: whatever else stands in the text."""
        for level in self._levels(text):
            folded = _fold(level)
            for needle in self._needles:
                if needle in folded:
                    return True
            for needle in self._encoded:
                if needle in folded:
                    return True
            for pattern in self._patterns(text, sentence=sentence) if short else ():
                if pattern.search(folded):
                    return True
        return False

    def _patterns(self, text: str, *, sentence: bool = False) -> Iterator[re.Pattern[str]]:
        if self._words is not None:
            yield self._words
        if self._plain_words is not None and (sentence or _SENTENCE.match(text)):
            yield self._plain_words

    def _levels(self, text: str) -> Iterator[str]:
        """*text*, and what it is where its escapes are undone once, twice, ….

        Whether there are any is found out at a glance, as it is for nearly all texts.
        """
        pattern, markers = self._escapes
        for _ in range(_NESTING):
            yield text
            for marker in markers:
                if marker in text:
                    break
            else:
                return
            undone = pattern.sub(lambda escape: _character(escape[0]), text)
            if undone == text:
                return
            text = undone

    def _spans(self, text: str, *, short: bool) -> list[tuple[int, int]]:
        """Where in *text* secrets are, in order, those that overlap as one."""
        found: list[tuple[int, int]] = []
        level, starts = text, list(range(len(text) + 1))
        for _ in range(_NESTING):
            found += [(starts[begin], starts[end]) for begin, end in self._found(text, level, short=short)]
            undone, new_starts, behind = list[str](), list[int](), 0
            for escape in self._escapes.pattern.finditer(level):
                character = _character(escape[0])
                undone += [level[behind : escape.start()], character]
                new_starts += starts[behind : escape.start()] + [starts[escape.start()]] * len(character)
                behind = escape.end()
            if not behind:
                break
            level, starts = "".join([*undone, level[behind:]]), new_starts + starts[behind:]
        spans: list[tuple[int, int]] = []
        for begin, end in sorted(found):
            if spans and begin < spans[-1][1]:
                spans[-1] = spans[-1][0], max(end, spans[-1][1])
            else:
                spans.append((begin, end))
        return spans

    def _found(self, text: str, level: str, *, short: bool) -> Iterator[tuple[int, int]]:
        """Where in *level*, which is *text* with escapes undone, secrets are."""
        folded = _fold(level)
        for needle in self._needles:
            begin = -1
            while (begin := folded.find(needle, begin + 1)) >= 0:
                yield begin, begin + len(needle)
        for needle in self._encoded:
            begin = -1
            while (begin := folded.find(needle, begin + 1)) >= 0:
                before = _BASE64_BEFORE.search(level, max(0, begin - 4), begin)
                behind = _BASE64_BEHIND.match(level, begin + len(needle))
                yield before.start() if before else begin, behind.end() if behind else begin + len(needle)
        for pattern in self._patterns(text) if short else ():
            for match in pattern.finditer(folded):
                yield match.span()


def _decoded(data: bytes | bytearray) -> str:
    """*data* as text: UTF-8, or whatever else JSON may be in."""
    return data.decode(json.detect_encoding(data) if b"\0" in data else "utf-8", "replace")
