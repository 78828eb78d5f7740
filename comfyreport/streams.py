"""Where text goes: terminals, files, standard streams; colour, width, encoding; who owns a terminal.

All decisions about the surroundings are taken here, so that reporters never look at the environment.
"""

from __future__ import annotations

import io
import os
import sys
import unicodedata
from collections.abc import Callable, Mapping
from typing import BinaryIO, Literal, TextIO, cast

from comfyreport.errors import ReporterError

ColorChoice = Literal["auto", "always", "never"]

DEFAULT_WIDTH = 80


def printable(text: object, limit: int | None = None) -> str:
    """*text* as one line that is safe on a terminal: unprintable characters are shown as escapes.

    Everything that comes from a server or a workflow goes through this before it is drawn. *limit* cuts the
    result to that many characters, the last of them an ellipsis.
    """
    shown = str(text)
    if not shown.isprintable():
        shown = "".join(map(_escape, shown))
    if limit is not None and len(shown) > limit:
        shown = shown[: max(0, limit - 1)] + "…"
    return shown


def is_safe(character: str) -> bool:
    """Whether *character* can't move a cursor, start an escape sequence or turn the direction of text.

    Spaces of all widths are safe, and so is the joiner that emoji are made with.
    """
    return character.isprintable() or character == "\u200d" or unicodedata.category(character) == "Zs"


def _escape(character: str) -> str:
    return character if is_safe(character) else character.encode("unicode_escape").decode("ascii")


def cell_width(text: str) -> int:
    """How many columns *text* takes on a terminal: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit(text: str, width: int) -> str:
    """*text* cut to at most *width* columns."""
    if cell_width(text) <= width:
        return text
    taken = 0
    for index, character in enumerate(text):
        taken += _character_width(character)
        if taken > width:
            return text[:index]
    return text


def wants_color(choice: ColorChoice, environ: Mapping[str, str], tty: bool) -> bool:
    """Whether to colour: the flag, then `NO_COLOR`, then `FORCE_COLOR` (non-empty ones), then the terminal."""
    if choice != "auto":
        return choice == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return tty and environ.get("TERM") != "dumb"


def may_redraw(environ: Mapping[str, str], tty: bool) -> bool:
    """Whether lines may be drawn over: a terminal that isn't dumb, and not under `CI`. Colour is not asked."""
    return tty and environ.get("TERM") != "dumb" and not environ.get("CI")


class Terminals:
    """Which reporter draws on which terminal: at most one on each."""

    def __init__(self) -> None:
        self._owners: dict[object, str] = {}

    def take(self, terminal: object, owner: str) -> None:
        """Note that *owner* draws on *terminal*; `ReporterError` if another one does already."""
        other = self._owners.setdefault(terminal, owner)
        if other != owner:
            raise ReporterError(
                f"reporters {other} and {owner} both want to draw on the same terminal",
                hint=f"give one of them a file: --reporter {owner.partition('=')[0]}=PATH",
            )


class Stream:
    """A place for a reporter's text.

    `name` says what it is (`stdout`, `stderr`, or a path), `tty` whether a person sees it as it is written,
    `color` whether to use colour, `unicode` whether it can hold more than ASCII. Writing raises OSError as
    files do; the core takes care of it.
    """

    def __init__(
        self,
        file: TextIO | Callable[[], TextIO],
        *,
        name: str,
        environ: Mapping[str, str] | None = None,
        color: ColorChoice = "auto",
        terminals: Terminals | None = None,
    ) -> None:
        self._file = file
        self.name = name
        self.owner = name
        self._environ = os.environ if environ is None else environ
        self._color: ColorChoice = color
        self._terminals = terminals or Terminals()
        self._closes = False

    @classmethod
    def to_path(cls, path: str | os.PathLike[str], *, append: bool = False, like: Stream | None = None) -> Stream:
        """A UTF-8 text file, made anew unless *append*. OSError where it can't be opened.

        A path may lead to a terminal: then colour, surroundings and who draws there are as for *like*.
        """
        binary = open(path, "ab" if append else "wb")  # noqa: SIM115  closed by close()
        text = io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", newline="\n")
        if like is not None and text.isatty():
            stream = cls(
                text, name=os.fspath(path), environ=like._environ, color=like._color, terminals=like._terminals
            )
        else:
            stream = cls(text, name=os.fspath(path), environ={})
        stream._closes = True
        return stream

    @property
    def file(self) -> TextIO:
        """The text file below. The standard streams are looked up anew, so that replacing them works."""
        return self._file() if callable(self._file) else self._file

    @property
    def tty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return self.file.isatty()
        except (AttributeError, ValueError, OSError):
            return False

    @property
    def color(self) -> bool:
        """Whether to write colours."""
        return wants_color(self._color, self._environ, self.tty)

    @property
    def unicode(self) -> bool:
        """Whether block and box characters can be written."""
        encoding = getattr(self.file, "encoding", None) or "utf-8"
        try:
            "█▏…✓".encode(encoding)
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    def width(self) -> int:
        """Columns of the terminal now; 80 where it can't be known."""
        try:
            return os.get_terminal_size(self.file.fileno()).columns or DEFAULT_WIDTH
        except (AttributeError, ValueError, OSError):
            return DEFAULT_WIDTH

    def take_terminal(self) -> bool:
        """True if lines may be drawn over here; then this stream's reporter owns the terminal.

        Raises ReporterError if another reporter owns it.
        """
        if not may_redraw(self._environ, self.tty):
            return False
        self._terminals.take(self._terminal_key(), self.owner)
        return True

    def _terminal_key(self) -> object:
        try:
            return os.fstat(self.file.fileno()).st_rdev
        except (AttributeError, ValueError, OSError):
            return id(self.file)

    def write(self, text: str) -> None:
        """Write *text*; characters that the encoding lacks are replaced."""
        file = self.file
        try:
            file.write(text)
        except UnicodeEncodeError:
            encoding = file.encoding
            file.write(text.encode(encoding, "replace").decode(encoding))

    def write_bytes(self, data: bytes) -> None:
        """Write *data*, which is UTF-8 text, whatever the stream's own encoding: for machine formats."""
        file = self.file
        binary = getattr(file, "buffer", None)
        if binary is None:
            file.write(data.decode("utf-8", "replace"))
        else:
            cast("BinaryIO", binary).write(data)

    def flush(self) -> None:
        """Hand all that was written to the system."""
        self.file.flush()

    def close(self) -> None:
        """Flush; close the file if this stream opened it. Standard streams stay open."""
        if self._closes:
            self.file.close()
        else:
            self.flush()


stdout = Stream(lambda: sys.stdout, name="stdout")
stderr = Stream(lambda: sys.stderr, name="stderr")
