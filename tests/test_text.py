"""How much of what a server says is kept, that making text of it never raises, what is safe, and how wide it is."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st
from wcwidth import iter_graphemes

from comfyreport.text import (
    DEPTH_LIMIT,
    TEXT_LIMIT,
    bounded,
    cell_width,
    cut,
    decode_cut,
    fit,
    printable,
    text_of,
    well_formed,
)


def nested(depth: int, value: Any = 0) -> Any:
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize(
    ("text", "limit", "short"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("abcd", 1, "…"), ("abcd", 0, "…"), ("", 0, "")],
)
def test_cut(text: str, limit: int, short: str) -> None:
    assert cut(text, limit) == short


@given(st.text() | st.text(alphabet="aé画🏔"), st.integers(0, 12), st.integers(1, 20))
def test_bytes_are_cut_as_their_text_is(text: str, start: int, limit: int) -> None:
    data = b"x" * start + text.encode("utf-8", "replace")
    assert decode_cut(data, start, limit) == cut(text.encode("utf-8", "replace").decode(), limit)


@given(st.binary(max_size=100), st.integers(1, 20))
def test_what_is_no_utf_8_is_cut_too(data: bytes, limit: int) -> None:
    assert len(decode_cut(data, 0, limit)) <= limit


@pytest.mark.parametrize("value", [nested(100_000), [10**5000], 10**5000], ids=["deep", "a list", "a number"])
def test_what_str_raises_for_becomes_a_text(value: Any) -> None:
    with pytest.raises((RecursionError, ValueError)):
        str(value)
    assert text_of(value)


@pytest.mark.parametrize(
    "value",
    [None, True, 1.5, "text", "x" * TEXT_LIMIT, [], {"a": [1, None]}, nested(DEPTH_LIMIT), ["x" * 60_000], [10**30]],
    ids=lambda value: str(value)[:20],
)
def test_a_value_of_usual_size_is_left_as_it_is(value: Any) -> None:
    assert bounded(value) is value or bounded(value) == value


def test_a_large_value_becomes_a_text_that_is_cut() -> None:
    assert bounded("x" * 100_000) == "x" * (TEXT_LIMIT - 1) + "…"
    value = [{"a": number} for number in range(50_000)]
    assert bounded(value) == json.dumps(value, separators=(",", ":"))[: TEXT_LIMIT - 1] + "…"


@pytest.mark.parametrize("depth", [DEPTH_LIMIT + 1, 253, 255, 500, 990, 1000, 1023, 100_000])
def test_a_deep_value_becomes_a_text(depth: int) -> None:
    shortened = bounded(nested(depth))
    assert isinstance(shortened, str)
    assert 0 < len(shortened) <= TEXT_LIMIT


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("KSampler (efficient) 2", "KSampler (efficient) 2"),
        ("雪の山 🏔 é", "雪の山 🏔 é"),
        ("red\x1b[31m", "red\\x1b[31m"),
        ("title\x1b]0;owned\x07", "title\\x1b]0;owned\\x07"),
        ("eight-bit \x9b31m", "eight-bit \\x9b31m"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("back\x08space\x7f", "back\\x08space\\x7f"),
        ("abc\u202egnp.exe", "abc\\u202egnp.exe"),
        ("\u2066isolate\u2069", "\\u2066isolate\\u2069"),
        ("line\u2028separator\u2029", "line\\u2028separator\\u2029"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("soft\xadhyphen", "soft\\xadhyphen"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("lone\ud800", "lone\\ud800"),
        (None, "None"),
        (12, "12"),
    ],
)
def test_printable(text: object, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(), st.integers(0, 20))
def test_a_limit_cuts_what_would_be_shown(text: str, limit: int) -> None:
    whole = printable(text)
    assert printable(text, limit) == (whole if len(whole) <= limit else whole[: max(0, limit - 1)] + "…")


def test_no_more_than_the_limit_is_looked_at() -> None:
    text = "\x01" * 3_000_000
    tracemalloc.start()
    try:
        assert len(printable(text, 80)) == 80
        assert fit("é" * 3_000_000, 80) == "é" * 80
        assert tracemalloc.get_traced_memory()[1] < 6_500_000
    finally:
        tracemalloc.stop()


def test_what_str_raises_for_is_printable() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    assert printable(value) == "(list that is no text)"


def test_printable_limit() -> None:
    assert printable("abcdef", 6) == "abcdef"
    assert printable("abcdefg", 6) == "abcde…"
    assert printable("\x1b" * 10, 6) == "\\x1b\\…"


@settings(deadline=None)
@given(st.text(st.characters()))
def test_printable_leaves_nothing_that_moves_a_cursor(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
    assert printable(shown) == shown


# Each is drawn as one character of two columns.
EMOJI = {
    "plain": "\U0001f3d4\ufe0f",
    "joined": "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "joined, skin tone": "\U0001f469\U0001f3fd\u200d\U0001f3a8",
    "joined, variation selector": "\U0001f3f3\ufe0f\u200d\U0001f308",
    "flag": "\U0001f1ff\U0001f1fc",
    "flag of tags": "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "skin tone": "\U0001f44d\U0001f3fd",
    "variation selector": "\u2764\ufe0f",
    "keycap": "1\ufe0f\u20e3",
}
PIECES = (*EMOJI.values(), "\u200d", "\ufe0f", "\U0001f1ff", "\U0001f3fd", "e\u0301", "雪", "a", "\x1b", "\n")
TEXTS = st.text() | st.lists(st.sampled_from(PIECES)).map("".join)


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("abc", 3), ("", 0), ("雪", 2), ("\uff21", 2), ("e\u0301", 1), ("雪a\u0301", 3), ("█░…", 3),
        ("❤", 1), ("❤\ufe0e", 1), ("क\u094dष", 2), ("\u1112\u1161\u11ab", 2), ("a\u200bb", 2),
        ("\U0001f1ff\U0001f1fc\U0001f1e9\U0001f1ea", 4),
        # A joiner joins emoji alone.
        ("a\u200d雪", 3), ("\u200d雪", 2), ("雪\u200d", 2),
    ],
)  # fmt: skip
def test_cell_width(text: str, width: int) -> None:
    assert cell_width(text) == width


@pytest.mark.parametrize("emoji", EMOJI.values(), ids=EMOJI)
def test_an_emoji_sequence_takes_two_columns_and_is_not_cut_in_two(emoji: str) -> None:
    assert cell_width(emoji) == 2
    assert cell_width(f"a{emoji}{emoji}b") == 6
    assert [fit(f"a{emoji}{emoji}b", width) for width in range(7)] == [
        "", "a", "a", f"a{emoji}", f"a{emoji}", f"a{emoji}{emoji}", f"a{emoji}{emoji}b",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["\x1b[31m", "é\x1b[31m", "雪\r\n\t\x08", "\x9b\x9b", "\x1b[9D雪"])
def test_a_control_character_never_makes_a_width_smaller(text: str) -> None:
    without = "".join(character for character in text if character.isprintable())
    assert cell_width(text) >= cell_width(without) > -1


@settings(deadline=None)
@given(TEXTS, st.integers(-1, 20))
@example("a\u200d雪", 2)
@example("\u200d\u200d", 0)
def test_fit_is_the_longest_beginning_of_whole_characters_that_fits(text: str, width: int) -> None:
    shown = fit(text, width)
    assert text.startswith(shown)
    assert 0 <= cell_width(shown) <= max(0, width)
    if shown != text:
        clusters = list(text if text.isascii() else iter_graphemes(text))
        beginnings = ["".join(clusters[:count]) for count in range(len(clusters) + 1)]
        assert shown in beginnings
        assert cell_width(beginnings[beginnings.index(shown) + 1]) > width


def test_ascii_text_is_measured_without_the_tables_of_wcwidth() -> None:
    code = """
import sys
from comfyreport import bar, cell_width, fit, pad, shorten
cell_width("x"), fit("x" * 9, 3), pad("x", 9), shorten("x" * 9, 3, unicode=False), bar(0.5, 30, unicode=False)
assert "wcwidth" not in sys.modules
cell_width("é")
assert "wcwidth" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é", "plain é"),
        ("caf\udce9", "caf\ufffd"),
        ("caf\udcc3\udca9", "café"),
        ("\ud800x\udce9", "\ufffdx\ufffd"),
    ],
)
def test_any_text_can_be_encoded_once_it_is_well_formed(text: str, expected: str) -> None:
    assert well_formed(text) == expected
    assert well_formed(text).encode().decode() == expected
