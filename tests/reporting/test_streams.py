"""Streams: what is safe to draw, when to colour, when to redraw, who owns a terminal."""

from __future__ import annotations

import io
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from comfyreport.errors import ReporterError
from comfyreport.reporting.streams import (
    DEFAULT_WIDTH,
    ColorChoice,
    Stream,
    Terminals,
    may_redraw,
    stderr,
    stdout,
    wants_color,
)
from comfyreport.text import cell_width, fit, printable
from tests.plugins.terminal import Plain, Terminal


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


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 3), ("雪", 2), ("e\u0301", 1), ("雪a\u0301", 3), ("", 0), ("\uff21", 2)]
)
def test_cell_width(text: str, width: int) -> None:
    assert cell_width(text) == width


@settings(deadline=None)
@given(st.text(), st.integers(0, 20))
def test_fit_is_the_longest_beginning_that_fits(text: str, width: int) -> None:
    shown = fit(text, width)
    assert text.startswith(shown)
    assert cell_width(shown) <= width
    if shown != text:
        assert cell_width(text[: len(shown) + 1]) > width


@pytest.mark.parametrize(
    ("choice", "environ", "tty", "expected"),
    [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"TERM": "xterm"}, True, True),
        ("auto", {"TERM": "dumb"}, True, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True),
        ("auto", {"FORCE_COLOR": "1"}, False, True),
        ("auto", {"FORCE_COLOR": ""}, False, False),
        ("auto", {"FORCE_COLOR": "1", "TERM": "dumb"}, True, True),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ("always", {"NO_COLOR": "1", "TERM": "dumb"}, False, True),
        ("never", {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_wants_color(choice: ColorChoice, environ: dict[str, str], tty: bool, expected: bool) -> None:
    assert wants_color(choice, environ, tty) is expected


@pytest.mark.parametrize(
    ("environ", "tty", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"CI": "true"}, True, False),
        ({"CI": ""}, True, True),
        ({"NO_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "1"}, False, False),
    ],
)
def test_may_redraw(environ: dict[str, str], tty: bool, expected: bool) -> None:
    assert may_redraw(environ, tty) is expected


def test_a_file_is_utf8_and_takes_what_no_encoding_takes(tmp_path: Path) -> None:
    stream = Stream.to_path(tmp_path / "x.log")
    stream.write("é 雪 \ud800\n")
    stream.close()
    assert (tmp_path / "x.log").read_bytes() == "é 雪 \\ud800\n".encode()


def test_a_file_is_made_anew_unless_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    for append in (False, True, True):
        stream = Stream.to_path(path, append=append)
        stream.write_bytes(b"line\n")
        stream.close()
    assert path.read_text() == "line\n" * 3
    Stream.to_path(path).close()
    assert path.read_text() == ""


def test_a_file_is_no_terminal(tmp_path: Path) -> None:
    stream = Stream.to_path(tmp_path / "x.log")
    assert (stream.tty, stream.color, stream.unicode, stream.width()) == (False, False, True, DEFAULT_WIDTH)
    assert not stream.take_terminal()
    stream.close()


def test_characters_that_the_encoding_lacks_are_replaced() -> None:
    out = Plain(encoding="cp1252")
    assert not out.unicode
    out.write("é 雪 █\n")
    out.flush()
    assert out.text == "é ? ?\n"


def test_machine_formats_are_utf8_whatever_the_encoding() -> None:
    out = Plain(encoding="cp1252")
    out.write_bytes("雪\n".encode())
    out.flush()
    assert out.raw.getvalue() == "雪\n".encode()


def test_a_file_without_bytes_below_takes_text() -> None:
    file = io.StringIO()
    Stream(file, name="stdout").write_bytes("雪\n".encode())
    assert file.getvalue() == "雪\n"


def test_standard_streams_are_looked_up_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    files = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", files[0])
    monkeypatch.setattr(sys, "stderr", files[1])
    for stream in (stdout, stderr):
        stream.write(stream.name)
        stream.close()
    assert [file.getvalue() for file in files] == ["stdout", "stderr"]
    assert not any(file.closed for file in files)


def test_a_closed_file_is_no_terminal() -> None:
    file = io.StringIO()
    file.close()
    assert Stream(file, name="stderr").tty is False


def test_one_reporter_on_a_terminal() -> None:
    terminals = Terminals()
    first, second = Terminal(), Terminal()
    for stream, owner in ((first, "console"), (second, "bars")):
        stream._terminals = terminals
        stream.owner = owner
    second._file = first._file
    assert first.take_terminal()
    assert first.take_terminal()
    with pytest.raises(ReporterError, match="console and bars both want to draw"):
        second.take_terminal()
