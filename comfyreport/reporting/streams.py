"""Where text goes: terminals, files, standard streams; colour, width, encoding; which stream draws on a terminal.

What depends on the environment is decided here, so that reporters never look at it.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import BinaryIO, Literal, TextIO, cast

from comfyreport.errors import ReporterError
from comfyreport.files import descriptor_of, open_to_write

ColorChoice = Literal["auto", "always", "never"]

DEFAULT_WIDTH = 80
DEFAULT_HEIGHT = 24

# Writes, and characters of each, that `has_written` knows: the last ones hold the end of a run.
_KEPT_WRITES, _KEPT_LENGTH = 16, 20_000

CLEAR = "\r\x1b[J"
"""Clears from the beginning of the cursor's line to the end of the screen."""


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
    """Whether lines may be redrawn: on a terminal that isn't dumb, and not under `CI`, whatever holds for colour."""
    return tty and environ.get("TERM") != "dumb" and not environ.get("CI")


class Terminal:
    """One terminal: the stream that draws on it, and what others wrote there meanwhile, for that stream to show."""

    def __init__(self) -> None:
        self.drawn_by: Stream | None = None
        self._capturing = False
        self._kept: list[str] = []
        self._lock = threading.Lock()

    def keep(self, text: str) -> bool:
        """Keep *text* for the stream that draws; False where it captures nothing: then *text* is to be written."""
        with self._lock:
            if self._capturing:
                self._kept.append(text)
            return self._capturing

    def take(self, *, capturing: bool) -> str:
        """All that was kept; *capturing*: whether to keep what comes from now on."""
        with self._lock:
            self._capturing = capturing
            text = "".join(self._kept)
            self._kept.clear()
            return text


class Terminals:
    """The terminals of a command: at most one reporter draws on each."""

    def __init__(self) -> None:
        self._terminals: dict[object, Terminal] = {}

    def terminal(self, key: object) -> Terminal:
        """The terminal of this key, which is the same for all streams that write to it."""
        return self._terminals.setdefault(key, Terminal())

    def claim(self, key: object, stream: Stream) -> None:
        """Let *stream* draw on the terminal; ReporterError if another reporter's does already."""
        terminal = self.terminal(key)
        if terminal.drawn_by is not None and terminal.drawn_by.owner != stream.owner:
            raise ReporterError(
                f"reporters {terminal.drawn_by.owner} and {stream.owner} both want to draw on the same terminal",
                hint=f"give one of them a file: --reporter {stream.owner.partition('=')[0]}=PATH",
            )
        terminal.drawn_by = stream

    @property
    def drawing_streams(self) -> list[Stream]:
        """The streams that draw now."""
        return [terminal.drawn_by for terminal in self._terminals.values() if terminal.drawn_by is not None]

    def restore(self) -> None:
        """Clear what is drawn, without taking any lock: the process is about to exit."""
        for stream in self.drawing_streams:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                os.write(stream.file.fileno(), CLEAR.encode())


class Stream:
    """A place for a reporter's text.

    `name` says what it is (`stdout`, `stderr`, or a path), `tty` whether a person sees it as it is written,
    `color` whether to use colour, `unicode` whether it can hold more than ASCII. `file_path` is the regular file that a
    stream writes to, without links; None for a terminal, a pipe, a device, and where the process was given the file
    open, as stdout is. Writing raises OSError as files do; the core takes care of it.
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
        self.file_path: str | None = None
        self._closes = False
        self._terminal: tuple[TextIO | None, Terminal | None] = (None, None)
        self._last_writes: deque[str] | None = None

    @classmethod
    def to_path(cls, path: str | os.PathLike[str], *, append: bool = False, like: Stream | None = None) -> Stream:
        """A UTF-8 text file, made anew unless *append*. OSError where it can't be opened.

        If it is a terminal, colour, environment and the streams that draw there are those of *like*.
        """
        binary = open_to_write(path, append=append)  # closed by close()
        regular = stat.S_ISREG(os.fstat(binary.fileno()).st_mode) and descriptor_of(os.fspath(path)) is None
        text = io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", newline="\n")
        if like is not None and text.isatty():
            stream = cls(
                text, name=os.fspath(path), environ=like._environ, color=like._color, terminals=like._terminals
            )
            if like._last_writes is not None:
                stream.remember_writes()
        else:
            stream = cls(text, name=os.fspath(path), environ={})
        stream._closes = True
        stream.file_path = os.path.realpath(path) if regular else None
        return stream

    @property
    def file(self) -> TextIO:
        """The underlying text file. Standard streams are looked up each time, so that replacing them works."""
        return self._file() if callable(self._file) else self._file

    @property
    def _capturing_terminal(self) -> Terminal | None:
        """The terminal that this stream writes to, unless this stream itself draws there."""
        file = self.file
        last_file, terminal = self._terminal
        if file is not last_file:
            terminal = self._terminals.terminal(self._terminal_key()) if self.tty else None
            self._terminal = file, terminal
        return None if terminal is None or terminal.drawn_by in (None, self) else terminal

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
        return self._size().columns or DEFAULT_WIDTH

    def height(self) -> int:
        """Lines of the terminal now; 24 where it can't be known."""
        return self._size().lines or DEFAULT_HEIGHT

    def _size(self) -> os.terminal_size:
        try:
            return os.get_terminal_size(self.file.fileno())
        except (AttributeError, ValueError, OSError):
            return os.terminal_size((0, 0))

    def take_terminal(self) -> bool:
        """True if lines may be drawn over here; then this stream's reporter owns the terminal.

        Raises ReporterError if another reporter owns it.
        """
        if not may_redraw(self._environ, self.tty):
            return False
        key = self._terminal_key()
        self._terminals.claim(key, self)
        self._terminal = self.file, self._terminals.terminal(key)
        return True

    def take_stray_output(self) -> str:
        """What others wrote to the terminal that this stream draws on, since the last call.

        From the first call on it is held back, since it would break the drawing: the reporter writes it above.
        """
        _, terminal = self._terminal
        return "" if terminal is None or terminal.drawn_by is not self else terminal.take(capturing=True)

    def release(self) -> None:
        """Stop drawing: what others wrote meanwhile is written now, and what they write from now on as it comes."""
        _, terminal = self._terminal
        if terminal is not None and terminal.drawn_by is self:
            terminal.drawn_by = None
            text = terminal.take(capturing=False)
            if text:
                self.write(text)
                self.flush()

    def _terminal_key(self) -> object:
        try:
            return os.fstat(self.file.fileno()).st_rdev
        except (AttributeError, ValueError, OSError):
            return id(self.file)

    def remember_writes(self) -> None:
        """Keep the last writes from now on, for `has_written`."""
        self._last_writes = deque(maxlen=_KEPT_WRITES)

    def has_written(self, words: str) -> bool:
        """Whether *words* are in one of the last writes; case is ignored."""
        return any(words.casefold() in text.casefold() for text in self._last_writes or ())

    def write(self, text: str) -> None:
        """Write *text*; characters that the encoding lacks are replaced."""
        if self._last_writes is not None:
            self._last_writes.append(text[-_KEPT_LENGTH:])
        terminal = self._capturing_terminal
        if terminal is not None and terminal.keep(text):
            return
        file = self.file
        try:
            file.write(text)
        except UnicodeEncodeError:
            encoding = file.encoding
            file.write(text.encode(encoding, "replace").decode(encoding))

    def write_bytes(self, data: bytes) -> None:
        """Write *data*, which is UTF-8 text, whatever the stream's own encoding: for machine formats."""
        if self._last_writes is not None:
            self._last_writes.append(data[-_KEPT_LENGTH:].decode("utf-8", "replace"))
        terminal = self._capturing_terminal
        if terminal is not None and terminal.keep(data.decode("utf-8", "replace")):
            return
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
        self.release()
        if self._closes:
            self.file.close()
        else:
            self.flush()


stdout = Stream(lambda: sys.stdout, name="stdout")
stderr = Stream(lambda: sys.stderr, name="stderr")
