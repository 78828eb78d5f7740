"""Drawing on a terminal: a region that is drawn over, and pieces to fill it with."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from comfyreport.render.formats import percentage
from comfyreport.render.wording import color_tag
from comfyreport.reporting.streams import CLEAR, Block, Stream
from comfyreport.text import cell_width, fit, printable

DRAW_EVERY = 0.1
"""Seconds of the events' clock between two draws, at least."""

# Ticks come on a timer of their own; one that comes a moment early counts too.
_SLACK = 1e-3
_TAB_COLUMNS = 8
_WRAP_OFF, _WRAP_ON = "\x1b[?7l", "\x1b[?7h"
_SAVE, _RESTORE = "\x1b7", "\x1b8"
_MIN_WRAP, _MAX_INDENT = 20, 2
_PATH = re.compile(r"(?:\[INFO\]| ) (?:Saved|Output): ")
_COMMAND = re.compile(r"(?<=: )comfyreport .*")
_BAR = re.compile(r"█+░*|░+|\[#*-*\]")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")


class Lines:
    """Lines that stay, where nothing is drawn over: files, pipes, CI, dumb terminals.

    It has the methods of a Region, so that only the code that chooses one of the two has to know which it is.
    """

    def __init__(self, out: Stream) -> None:
        self._out = out

    def write(self, lines: Iterable[str]) -> None:
        """Write *lines* at once; their tags are coloured where the stream has colour."""
        text = _with_line_ends(lines, self._out)
        if text:
            self._out.write(text)
            self._out.flush()

    def due(self, elapsed: float) -> bool:
        """Never: there is nothing to draw over."""
        return False

    def draw(self, lines: Sequence[str], elapsed: float) -> None:
        """Nothing: what is written here stays."""

    def close(self) -> None:
        """Close the file, if it is one."""
        self._out.close()


class Region:
    """Lines at the end of a terminal that are drawn over, and lines above them that stay.

    Between draws the cursor is at the region's beginning: wherever a resize moves it, to clear from there to the end
    of the screen removes the region and nothing else. It is never hidden, so it can't stay hidden. Each draw is one
    write. What a stream to this terminal was given to `show` stands above the lines, where there is room, and is drawn
    again only where it has changed or moved. In the command, what others write to the terminal meanwhile is written
    above the region with the next draw; in other programs nothing holds such text back.

    :param out: a stream whose `take_terminal()` returned True.
    """

    def __init__(self, out: Stream) -> None:
        self._out = out
        self._above: list[str] = []
        self._shown: list[str] = []
        self._block: Block | None = None
        self._size = 0, 0
        self._last_draw = -math.inf
        self._partial = ""
        self._away = False
        out.take_stray_output()

    def write(self, lines: Iterable[str]) -> None:
        """Write *lines* above the region with the next draw; their tags are coloured where the stream has colour."""
        self._above += lines

    def due(self, elapsed: float) -> bool:
        """Whether the last draw is long enough ago at *elapsed* seconds."""
        return not 0 <= elapsed - self._last_draw < DRAW_EVERY - _SLACK

    def draw(self, lines: Sequence[str], elapsed: float) -> None:
        """Show *lines* in the region, at *elapsed* seconds of the events' clock.

        Of more lines than the terminal has, only the last are drawn: what has scrolled away can't be drawn over.
        """
        self._last_draw = elapsed
        if not self._out.stalled:
            # A terminal that takes no text costs frames: what goes above them waits for the next one.
            self._redraw(list(lines)[-max(1, self._out.height() - 1) :], self._stray_lines())

    def close(self) -> None:
        """Remove the region; what was to be written above it stays, and the terminal is an ordinary one again."""
        last = self._stray_lines()
        if self._partial:
            last.append(self._clean(self._partial))
            self._partial = ""
        self._redraw([], last)
        self._out.close()

    def _stray_lines(self) -> list[str]:
        """The whole lines that others wrote; what they wrote of the next one is kept."""
        *lines, self._partial = (self._partial + self._out.take_stray_output()).replace("\r\n", "\n").split("\n")
        return [self._clean(line) for line in lines]

    def _clean(self, line: str) -> str:
        """A line of others without what could move the cursor; of one that they redrew, its last state."""
        pieces = [piece for piece in _ESCAPE.sub("", line).split("\r") if piece]
        return printable(_expand_tabs(pieces[-1])) if pieces else ""

    def _redraw(self, lines: list[str], strays: list[str]) -> None:
        out = self._out
        if out.in_background:
            # The cursor is the shell's: lines are added as those of any job, and nothing is drawn or cleared.
            lines, self._shown, self._away = [], [], True
        size = out.width(), out.height()
        block = self._fitting(lines, size[1])
        added = "".join(f"{line}\n" for line in strays) + _with_line_ends(self._above, out)
        if lines == self._shown and block is self._block and not added:
            return
        rows = 0 if block is None else block.rows
        # What is drawn may be kept only where it stands as it was drawn.
        if block is not None and block is self._block and not added and not self._away and size == self._size:
            text = f"\x1b[{rows}B{CLEAR}"
        else:
            text = (self._block.erase if self._block else "") + (CLEAR if self._shown or (self._away and lines) else "")
            text += added + ("" if block is None else _drawn(block))
        self._away = self._away and not lines
        if lines:
            # Without wrapping, also where the terminal has become narrower: the cursor goes up by the number of lines.
            up, joined = rows + len(lines) - 1, "\n".join(lines)
            text += f"{_WRAP_OFF}{joined}{_WRAP_ON}\r" + (f"\x1b[{up}A" if up else "")
        self._above = []
        self._shown, self._block, self._size = lines, block, size
        out.write(text)
        out.flush()

    def _fitting(self, lines: Sequence[str], height: int) -> Block | None:
        """What is to be drawn above *lines*, if the terminal has room for both."""
        block = self._out.block
        return block if block is not None and lines and block.rows + len(lines) < height else None


def _drawn(block: Block) -> str:
    """What draws *block*, and goes to the line behind it: room is made first, so that nothing scrolls meanwhile."""
    room = "\n" * block.rows
    return f"{room}\x1b[{block.rows}A{_SAVE}{block.text}{_RESTORE}\x1b[{block.rows}B\r"


def _expand_tabs(line: str) -> str:
    """*line* with spaces up to the next tab stop, a multiple of eight columns, for each tab."""
    *pieces, last = line.split("\t")
    return "".join(pad(piece, (cell_width(piece) // _TAB_COLUMNS + 1) * _TAB_COLUMNS) for piece in pieces) + last


def _with_line_ends(lines: Iterable[str], out: Stream) -> str:
    width = out.width() - 1 if out.tty else None
    pieces = (piece for line in lines for piece in (wrap(line, width) if width is not None else [line]))
    return "".join(f"{color_tag(line) if out.color else line}\n" for line in pieces)


def wrap(line: str, width: int) -> list[str]:
    """*line* in pieces of at most *width* columns, cut at spaces; all but the first are indented.

    A word that is longer than that stays whole, and so does what is to be copied or read as it is: a command at the
    end, a path, code.
    """
    indent = line[: len(line) - len(line.lstrip(" "))]
    if cell_width(line) <= width or width < _MIN_WRAP or len(indent) > _MAX_INDENT or _PATH.match(line):
        return [line]
    command = _COMMAND.search(line)
    text = line[: command.start()] if command else line
    words = [*text[len(indent) :].split(" "), *([command[0]] if command else [])]
    pieces, piece = list[str](), indent + words[0]
    for word in words[1:]:
        if cell_width(piece) + 1 + cell_width(word) <= width or not word:
            piece += f" {word}"
        else:
            pieces.append(piece.rstrip(" "))
            piece = f"{indent}  {word}"
    return [*pieces, piece.rstrip(" ")]


def bar(fraction: float, width: int, *, unicode: bool) -> str:
    """A bar of *width* columns, at least three; it is full only when *fraction* is 1."""
    inner = width if unicode else width - 2
    full = inner * percentage(fraction) // 100
    return "█" * full + "░" * (inner - full) if unicode else f"[{'#' * full}{'-' * (inner - full)}]"


def color_bar(line: str, color: int) -> str:
    """*line* with its bar in a colour of ANSI."""
    return _BAR.sub(f"\x1b[{color}m\\g<0>\x1b[0m", line, count=1)


def shorten(text: str, width: int, *, unicode: bool) -> str:
    """*text* in at most *width* columns, with an ellipsis where it was cut."""
    if cell_width(text) <= width:
        return text
    ellipsis = "…" if unicode else "..."
    return fit(fit(text, max(0, width - len(ellipsis))) + ellipsis, max(0, width))


def pad(text: str, width: int) -> str:
    """*text* filled up with spaces to *width* columns."""
    return text + " " * (width - cell_width(text))
