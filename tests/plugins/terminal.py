"""Streams to look into: plain text, and a terminal that understands the few escapes that reporters may use."""

from __future__ import annotations

import io
import re

from comfyreport.reporting.streams import ColorChoice, Stream, Terminals
from comfyreport.text import cell_width, is_safe

_TOKEN = re.compile(r"\x1b\[\??(\d*)([A-Za-z])|([\r\n])|(.)", re.DOTALL)


class Plain(Stream):
    """A stream that is no terminal; `text` is what was written."""

    def __init__(self, *, color: ColorChoice = "auto", encoding: str = "utf-8") -> None:
        self.raw = io.BytesIO()
        file = io.TextIOWrapper(self.raw, encoding=encoding, newline="\n")
        super().__init__(file, name="stderr", environ={}, color=color)

    @property
    def text(self) -> str:
        """All that was flushed."""
        return self.raw.getvalue().decode(self.file.encoding)


class _TerminalFile(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


class Terminal(Stream):
    """A terminal of *columns* columns; `writes` are the writes, `screen` is what a person sees."""

    def __init__(self, columns: int = 80, *, color: ColorChoice = "never", encoding: str = "utf-8") -> None:
        self.columns = columns
        self.writes: list[str] = []
        super().__init__(
            _TerminalFile(io.BytesIO(), encoding=encoding, newline="\n"),
            name="stderr",
            environ={"TERM": "xterm"},
            color=color,
            terminals=Terminals(),
        )

    def width(self) -> int:
        return self.columns

    def height(self) -> int:
        return 24

    def write(self, text: str) -> None:
        super().write(text)
        self.writes.append(text)

    @property
    def screen(self) -> list[str]:
        """The lines as they stand, the last one without its end if the cursor is in it."""
        lines, row, column = [""], 0, 0
        for number, command, control, character in _TOKEN.findall("".join(self.writes)):
            if command == "J":
                lines[row] = lines[row][:column]
                del lines[row + 1 :]
            elif command == "A":
                row -= int(number or 1)
            elif command in ("l", "h"):
                assert number == "7", "whether lines wrap, which this one never does"
            elif command not in ("", "m"):
                raise AssertionError(f"unexpected escape {command}")
            elif control == "\r":
                column = 0
            elif control == "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif character:
                assert is_safe(character), f"unprintable {character!r}"
                assert cell_width(character) <= self.columns
                lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
                column += 1
        return lines
