"""The terminal of these tests shows whole frames, however what was written comes in; and a frame is one write."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyreport.render.drawing import Region
from comfyreport.reporting.streams import Stream, Terminals
from tests.e2e.screen import Screen
from tests.plugins.terminal import Terminal

VIEWS = [["Connecting [0s]"], ["KSampler  1/20", "█░░  5%"], ["KSampler  2/20", "Upscale  3/9", "██░ 50%"], ["███ 99%"]]


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    """A terminal on which nobody writes any more."""
    made = Screen(["true"], {"PATH": "/usr/bin:/bin"}, tmp_path, 40, 24)
    assert made.end() == 0
    yield made
    made.close()


def frames() -> list[bytes]:
    """What is written for each of the views, with a line above it, as it comes out of the terminal's other side."""
    out = Terminal()
    assert out.take_terminal()
    region = Region(out)
    for number, lines in enumerate(VIEWS):
        region.write([f"[INFO] told {number}"])
        region.draw(lines, float(number))
    assert len(out.writes) == len(VIEWS), "a frame is one write"
    return [text.replace("\n", "\r\n").encode() for text in out.writes]


def seen(screen: Screen, *pieces: bytes) -> list[list[str]]:
    """What the one who watches sees while these pieces come in, without repetitions."""
    screen.emulator.reset()
    screen.raw = b""
    found: list[list[str]] = []

    def look() -> None:
        if screen.lines not in found:
            found.append(screen.lines)

    screen.watch = look
    for piece in pieces:
        screen.feed(piece)
    return found


def whole() -> list[list[str]]:
    return [[*(f"[INFO] told {each}" for each in range(number + 1)), *lines] for number, lines in enumerate(VIEWS)]


def test_each_frame_is_seen_and_nothing_between_two_of_its_bytes(screen: Screen) -> None:
    written = b"".join(frames())
    assert seen(screen, *(written[at : at + 1] for at in range(len(written)))) == whole()


def test_a_frame_that_comes_in_two_pieces_is_seen_when_it_is_there(screen: Screen) -> None:
    written = b"".join(frames())
    for at in range(1, len(written)):
        shown = seen(screen, written[:at], written[at:])
        assert shown[-1] == whole()[-1], at
        assert all(lines in whole() for lines in shown), at


def test_what_others_write_into_a_frame_is_seen(screen: Screen) -> None:
    first, second, *_ = frames()
    assert ["[INFO] told 0", "noisecting [0s]"] in seen(screen, first, b"noise", second)


class _Counted(io.RawIOBase):
    """A terminal's descriptor; `writes` are the writes that the system is asked for."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def isatty(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.writes.append(bytes(data))
        return len(data)


@pytest.mark.parametrize("lines", [1, 100, 2000])
def test_a_frame_is_one_write_to_the_system_with_all_that_goes_above_it(lines: int) -> None:
    raw = _Counted()
    # As `open` makes it for a terminal: a small buffer, and flushed at the end of each line.
    file = io.TextIOWrapper(io.BufferedWriter(raw, 1024), encoding="utf-8", line_buffering=True)
    out = Stream(file, name="stderr", environ={"TERM": "xterm"}, terminals=Terminals())
    other = Stream(file, name="other", environ={}, terminals=out._terminals)
    assert out.take_terminal()
    region = Region(out)
    for number in range(3):
        before = len(raw.writes)
        other.write("printed meanwhile\n" * lines)
        region.write([f"[INFO] told {number}"] * lines)
        region.draw([f"█░ {number}", "██ 50%"], float(number))
        (frame,) = raw.writes[before:]
        assert frame.count(f"told {number}\n".encode()) == lines
        assert frame.endswith(b"\x1b[?7h\r\x1b[1A")
