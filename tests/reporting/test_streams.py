"""Streams: when to colour, when to redraw, who owns a terminal."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

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
from tests.plugins.terminal import Plain, Terminal


def test_a_stream_remembers_its_last_writes_where_it_was_asked_to() -> None:
    out = Plain()
    out.write("Before")
    assert not out.has_written("before")
    out.remember_writes()
    out.write("[ERROR] The workflow is empty\n")
    out.write_bytes(b'{"message":"more"}\n')
    assert out.has_written("the workflow is EMPTY")
    assert out.has_written("more")
    for _ in range(100):
        out.write("x")
    assert not out.has_written("workflow")


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
        ({"CI": "1"}, True, False),
        ({"CI": "woodpecker"}, True, False),
        *(({"CI": value}, True, True) for value in ("", "0", "false", "FALSE", "no", "off", " ")),
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
