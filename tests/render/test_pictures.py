"""Pictures on terminals: what each protocol gets, and that a live view isn't torn by them."""

from __future__ import annotations

import base64
import io
import re
import zlib
from typing import Any

import pyte
import pytest
from PIL import Image

from comfyreport.render.drawing import Region
from comfyreport.render.pictures import MOST_ROWS, PictureSize, picture_block, picture_size
from comfyreport.reporting.streams import Block, Stream
from comfyreport.terminal import picture_protocol
from tests.plugins.terminal import Terminal

RED, BLUE = b"\xdc\x14\x14", b"\x14\x14\xdc"


class PictureTerminal(Terminal):
    """A terminal with an environment, and a screen as an emulator sees it."""

    def __init__(self, columns: int = 80, rows: int = 24, /, **environ: str) -> None:
        super().__init__(columns, color="always")
        self.rows = rows
        self._environ = {"TERM": "xterm-256color", **environ}

    def height(self) -> int:
        return self.rows

    @property
    def emulated(self) -> Any:
        screen = pyte.Screen(self.columns, self.rows)
        screen.set_mode(pyte.modes.LNM)
        pyte.Stream(screen).feed("".join(self.writes))
        return screen


def shown(screen: Any) -> list[str]:
    lines = [line.rstrip() for line in screen.display]
    while lines and not lines[-1]:
        lines.pop()
    return lines


KITTY, ITERM, SIXEL = {"TERM": "xterm-kitty"}, {"TERM_PROGRAM": "iTerm.app"}, {"TERM": "foot"}


@pytest.mark.parametrize(
    ("environ", "protocol"),
    [
        (KITTY, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "kitty"),
        (ITERM, "iterm"),
        ({"LC_TERMINAL": "iTerm2"}, "iterm"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm"),
        (SIXEL, "sixel"),
        ({"TERM": "foot-extra"}, "sixel"),
        ({"TERM": "xterm-sixel"}, "sixel"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "blocks"),
        ({"WT_SESSION": "x"}, "blocks"),
        ({"TERM": "xterm-256color"}, "blocks256"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, "blocks256"),
        ({**ITERM, "TMUX": "/tmp/tmux"}, "blocks256"),
        ({"TERM": "screen", "COLORTERM": "24bit"}, "blocks"),
        ({}, "blocks256"),
    ],
)
def test_protocols(environ: dict[str, str], protocol: str) -> None:
    assert picture_protocol(environ) == protocol


def test_where_nothing_may_be_drawn() -> None:
    assert PictureTerminal(TERM="dumb").pictures is None
    assert PictureTerminal(CI="1", **KITTY).pictures is None
    plain = PictureTerminal()
    plain._color = "never"
    assert plain.pictures is None
    assert picture_size(plain, 64, 64) is None
    assert picture_block(plain, RED, PictureSize(1, 1, 1, 1)) is None
    assert Stream(io.TextIOWrapper(io.BytesIO()), name="x").pictures is None


@pytest.mark.parametrize("environ", [KITTY, ITERM, SIXEL, {}])
@pytest.mark.parametrize("shape", [(512, 512), (8, 8), (4096, 1), (1, 4096), (640, 360)])
@pytest.mark.parametrize("terminal", [(80, 24), (20, 12), (300, 100)])
def test_sizes_fit(environ: dict[str, str], shape: tuple[int, int], terminal: tuple[int, int]) -> None:
    out = PictureTerminal(*terminal, **environ)
    size = picture_size(out, *shape)
    assert size is not None
    assert 0 < size.rows <= min(MOST_ROWS, terminal[1] - 10)
    assert 0 < size.columns < terminal[0]
    block = picture_block(out, RED * (size.width * size.height), size)
    assert block is not None
    assert block.rows == size.rows


def test_a_terminal_too_small() -> None:
    assert picture_size(PictureTerminal(80, 10), 64, 64) is None
    assert picture_size(PictureTerminal(1, 24), 64, 64) is None


def test_pixels_that_dont_fit_the_size() -> None:
    with pytest.raises(ValueError, match="3 bytes are no picture"):
        picture_block(PictureTerminal(), RED, PictureSize(1, 1, 1, 2))


def block_of(rgb: bytes, width: int, height: int, **environ: str) -> Block:
    block = picture_block(PictureTerminal(**environ), rgb, PictureSize(width, -(-height // 2), width, height))
    assert block is not None
    return block


def test_kitty() -> None:
    rgb = bytes(number * number % 251 for number in range(3 * 90 * 60))
    block = block_of(rgb, 90, 60, **KITTY)
    pieces = re.findall(r"\x1b_G([^;\x1b]*);([^\x1b]*)\x1b\\", block.text)
    assert "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in pieces) == block.text
    assert all(len(data) <= 4096 and "q=2" in keys for keys, data in pieces)
    assert [keys.split("m=")[1][0] for keys, _ in pieces] == ["1"] * (len(pieces) - 1) + ["0"]
    assert {"a=T", "f=24", "s=90", "v=60", "c=90", "r=30", "C=1"} <= set(pieces[0][0].split(","))
    assert zlib.decompress(base64.b64decode("".join(data for _, data in pieces))) == rgb
    assert "a=d" in block.erase


def test_iterm() -> None:
    block = block_of(RED + BLUE + BLUE + RED, 2, 2, **ITERM)
    found = re.fullmatch(r"\x1b\]1337;File=inline=1;size=(\d+);width=2;height=1;.*:(.*)\x07", block.text)
    assert found is not None
    data = base64.b64decode(found[2])
    assert len(data) == int(found[1])
    assert Image.open(io.BytesIO(data)).convert("RGB").tobytes() == RED + BLUE + BLUE + RED


def test_sixel() -> None:
    block = block_of(RED * 12 + BLUE * 12, 4, 6, **SIXEL)
    found = re.fullmatch(r'\x1bP0;1;0q"1;1;4;6(#.*?)(#\d+[?-~].*)\x1b\\', block.text)
    assert found is not None
    assert found[1] == "#4;2;0;0;80#144;2;80;0;0"
    colors = dict(re.findall(r"#(\d+)([?-~]+)", found[2]))
    # The upper three lines of six are the three low bits.
    assert sorted(colors.values()) == [chr(63 + 0b000111) * 4, chr(63 + 0b111000) * 4]


def test_half_blocks() -> None:
    block = block_of(RED * 2 + BLUE * 2, 2, 2, COLORTERM="truecolor")
    assert block.text == "\x1b[38;2;220;20;20;48;2;20;20;220m▀▀\x1b[0m"
    block = block_of(RED * 2 + BLUE * 2, 2, 2)
    assert block.text == "\x1b[38;5;160;48;5;20m▀▀\x1b[0m"


# --- above a live view


def test_a_picture_above_the_lines() -> None:
    host = PictureTerminal(40, 12)
    guest = host.beside("preview")
    assert host.take_terminal()
    region = Region(host)
    region.draw(["node 1", "whole"], 0.0)
    assert guest.drawn_by_others
    guest.show(block_of(RED * 8 + BLUE * 8, 4, 4))
    region.draw(["node 1", "whole"], 0.1)
    assert shown(host.emulated) == ["▀▀▀▀", "▀▀▀▀", "node 1", "whole"]
    before = len(host.writes)
    region.draw(["node 2", "whole"], 0.2)
    assert shown(host.emulated) == ["▀▀▀▀", "▀▀▀▀", "node 2", "whole"]
    assert "▀" not in "".join(host.writes[before:]), "it isn't sent again"
    region.write(["[INFO] said"])
    region.draw(["node 2", "whole"], 0.3)
    assert shown(host.emulated) == ["[INFO] said", "▀▀▀▀", "▀▀▀▀", "node 2", "whole"]
    guest.show(None)
    region.draw(["node 2", "whole"], 0.4)
    assert shown(host.emulated) == ["[INFO] said", "node 2", "whole"]
    guest.show(block_of(RED * 8, 4, 2))
    region.draw(["node 2", "whole"], 0.5)
    region.close()
    assert shown(host.emulated) == ["[INFO] said"]


def test_it_scrolls_with_what_is_above() -> None:
    host = PictureTerminal(40, 8)
    assert host.take_terminal()
    region = Region(host)
    host.beside("preview").show(block_of(RED * 16, 4, 4))
    for number in range(30):
        region.write([f"line {number}"])
        region.draw([f"node {number}"], float(number))
        assert shown(host.emulated)[-3:] == ["▀▀▀▀", "▀▀▀▀", f"node {number}"]
        assert shown(host.emulated)[-4] == f"line {number}"


def test_without_room_it_is_left_out() -> None:
    host = PictureTerminal(40, 8)
    assert host.take_terminal()
    region = Region(host)
    host.beside("preview").show(block_of(RED * 4 * 12, 4, 12))
    region.draw(["a"], 0.0)
    assert shown(host.emulated) == ["▀▀▀▀"] * 6 + ["a"]
    region.draw(["a", "b", "c"], 0.1)
    assert shown(host.emulated) == ["a", "b", "c"]
    region.draw(["a"], 0.2)
    assert shown(host.emulated) == ["▀▀▀▀"] * 6 + ["a"]


def test_a_window_that_changes_draws_it_anew() -> None:
    host = PictureTerminal(40, 12)
    assert host.take_terminal()
    region = Region(host)
    host.beside("preview").show(block_of(RED * 8, 4, 2))
    region.draw(["a"], 0.0)
    host.columns, before = 30, len(host.writes)
    region.draw(["b"], 0.1)
    assert "▀" in host.writes[before]


def test_what_stays_where_text_is_cleared_is_erased() -> None:
    host = PictureTerminal(40, 12, **KITTY)
    assert host.take_terminal()
    region = Region(host)
    guest = host.beside("preview")
    guest.show(block_of(RED * 8, 4, 2, **KITTY))
    region.draw(["a"], 0.0)
    guest.show(None)
    region.draw(["a"], 0.1)
    assert host.writes[-1].startswith("\x1b_Ga=d,")
