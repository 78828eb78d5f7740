"""How much of what a server says is kept, and that making text of it never raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from comfyreport.text import DEPTH_LIMIT, TEXT_LIMIT, bounded, cut, decode_cut, text_of


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
def test_what_str_raises_for_is_a_text_too(value: Any) -> None:
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
    found = bounded(nested(depth))
    assert isinstance(found, str)
    assert 0 < len(found) <= TEXT_LIMIT
