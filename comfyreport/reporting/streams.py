"""Where text goes: terminals, files, standard streams; colour, width, encoding; which stream draws on a terminal.

What depends on the environment is decided here, so that reporters never look at it.
"""

from __future__ import annotations

import io
import os
import re
import stat
import sys
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import BinaryIO, TextIO, cast

from comfyreport.files import descriptor_of, open_to_write
from comfyreport.terminal import (
    CLEAR as CLEAR,
    DEFAULT_CELL,
    Block as Block,
    ColorChoice as ColorChoice,
    PictureProtocol,
    Terminal,
    Terminals as Terminals,
    cell_size,
    file_descriptor,
    in_background,
    is_terminal,
    key_of,
    may_redraw as may_redraw,
    picture_protocol,
    takes_escapes,
    wants_color as wants_color,
)

DEFAULT_WIDTH, DEFAULT_HEIGHT = 80, 24

# Writes, and characters of each, that `has_written` knows: the last ones hold the end of a run.
_KEPT_WRITES, _KEPT_LENGTH = 16, 20_000


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
        if like is not None and is_terminal(text):
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

    def beside(self, owner: str) -> Stream:
        """Another stream to the same place, for the reporter *owner*, which shares it with others."""
        stream = Stream(self._file, name=self.name, environ=self._environ, color=self._color, terminals=self._terminals)
        stream.owner = owner
        return stream

    @property
    def file(self) -> TextIO:
        """The underlying text file. Standard streams are looked up each time, so that replacing them works."""
        return self._file() if callable(self._file) else self._file

    @property
    def _own_terminal(self) -> Terminal | None:
        """The terminal that this stream writes to."""
        file = self.file
        last_file, terminal = self._terminal
        if file is not last_file:
            terminal = self._terminals.terminal(self._terminal_key()) if self.tty else None
            self._terminal = file, terminal
        return terminal

    @property
    def _slow_terminal(self) -> Terminal | None:
        """The terminal that this stream writes to, if it is a real one, which may take no text for a while."""
        terminal = self._own_terminal
        return None if terminal is None or file_descriptor(self.file) is None else terminal

    @property
    def stalled(self) -> bool:
        """Whether it is a terminal that takes no text now: what was written waits for it."""
        terminal = self._slow_terminal
        return terminal is not None and terminal.stalled

    @property
    def in_background(self) -> bool:
        """Whether it is the terminal of a shell that has this process in the background."""
        descriptor = file_descriptor(self.file)
        return descriptor is not None and in_background(descriptor)

    @property
    def tty(self) -> bool:
        """Whether it is a terminal."""
        return is_terminal(self.file)

    @property
    def color(self) -> bool:
        """Whether to write colours."""
        return wants_color(self._color, self._environ, takes_escapes(self.file))

    @property
    def unicode(self) -> bool:
        """Whether block and box characters can be written."""
        encoding = getattr(self.file, "encoding", None) or "utf-8"
        try:
            "█▏…✓".encode(encoding)
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    @property
    def pictures(self) -> PictureProtocol | None:
        """How pictures can be drawn here: by a protocol of the terminal, as half-blocks, or not at all (None)."""
        if not may_redraw(self._environ, takes_escapes(self.file)):
            return None
        protocol = picture_protocol(self._environ)
        return None if protocol.startswith("blocks") and not (self.color and self.unicode) else protocol

    def cell_size(self) -> tuple[int, int]:
        """Width and height of a character cell in pixels; 10 and 20 where they can't be known."""
        descriptor = file_descriptor(self.file)
        return DEFAULT_CELL if descriptor is None else cell_size(descriptor)

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
        if not may_redraw(self._environ, takes_escapes(self.file)):
            return False
        key = self._terminal_key()
        self._terminals.claim(key, self)
        self._terminal = self.file, self._terminals.terminal(key)
        return True

    @property
    def drawn_by_others(self) -> bool:
        """Whether another stream draws on this terminal: it draws what `show` is given, too."""
        terminal = self._own_terminal
        return terminal is not None and terminal.drawn_by not in (None, self)

    def show(self, block: Block | None) -> None:
        """Have *block* drawn above the live view of this terminal, whoever draws it, in place of the last one."""
        terminal = self._own_terminal
        if terminal is not None:
            terminal.block = block

    @property
    def block(self) -> Block | None:
        """What is to be drawn above the live view."""
        terminal = self._own_terminal
        return None if terminal is None else terminal.block

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

    def shares_terminal(self, other: Stream) -> bool:
        """Whether both write to the same terminal."""
        return self.tty and other.tty and self._terminal_key() == other._terminal_key()

    def _terminal_key(self) -> object:
        return key_of(self.file)

    def remember_writes(self) -> None:
        """Keep the last writes from now on, for `has_written`."""
        self._last_writes = deque(maxlen=_KEPT_WRITES)

    def has_written(self, words: str) -> bool:
        """Whether *words* are in one of the last writes; case is ignored, and where lines were wrapped."""
        return any(_folded(words) in _folded(text) for text in self._last_writes or ())

    def write(self, text: str) -> None:
        """Write *text*; characters that the encoding lacks are replaced."""
        if self._last_writes is not None:
            self._last_writes.append(text[-_KEPT_LENGTH:])
        if self._own_terminal is None:
            _write_text(self.file, text)
        elif not self._is_kept(text):
            self._put(partial(_write_text, self.file, text), len(text))

    def write_bytes(self, data: bytes) -> None:
        """Write *data*, which is UTF-8 text, whatever the stream's own encoding: for machine formats."""
        if self._last_writes is not None:
            self._last_writes.append(data[-_KEPT_LENGTH:].decode("utf-8", "replace"))
        if self._own_terminal is None:
            _write_bytes(self.file, data)
        elif not self._is_kept(data.decode("utf-8", "replace")):
            self._put(partial(_write_bytes, self.file, data), len(data))

    def _is_kept(self, text: str) -> bool:
        """Whether the stream that draws on this terminal, if it is another, shows *text* above what it draws."""
        terminal = self._own_terminal
        return terminal is not None and terminal.drawn_by not in (None, self) and terminal.keep(text)

    def _put(self, write: Callable[[], object], length: int) -> None:
        terminal = self._slow_terminal
        if terminal is None:
            write()
        else:
            terminal.add(write, length)

    def flush(self) -> None:
        """Hand all that was written to the system; a terminal that doesn't take it is waited for only a moment."""
        terminal = self._slow_terminal
        if terminal is None:
            self.file.flush()
        else:
            terminal.add(self.file.flush, 0)
            terminal.flush()

    def drain(self) -> None:
        """Wait until a terminal has taken all that was written; TimeoutError where it was given up."""
        terminal = self._slow_terminal
        if terminal is not None:
            terminal.drain()

    def give_up(self) -> None:
        """Wait no longer for a terminal that takes no text."""
        terminal = self._slow_terminal
        if terminal is not None:
            terminal.give_up()

    def close(self) -> None:
        """Flush; close the file if this stream opened it. Standard streams stay open."""
        self.release()
        terminal = self._slow_terminal
        if not self._closes:
            self.flush()
        elif terminal is None:
            self.file.close()
        else:
            terminal.add(self.file.close, 0)
            terminal.flush()


def _folded(text: str) -> str:
    """*text* without case, and with a line end as its only white space behind a line."""
    return re.sub(r"\n  +|[ \t]+", " ", text.casefold())


def _write_text(file: TextIO, text: str) -> None:
    try:
        file.write(text)
    except UnicodeEncodeError:
        encoding = file.encoding
        file.write(text.encode(encoding, "replace").decode(encoding))


def _write_bytes(file: TextIO, data: bytes) -> None:
    binary = getattr(file, "buffer", None)
    if binary is None:
        file.write(data.decode("utf-8", "replace"))
    else:
        cast("BinaryIO", binary).write(data)


stdout = Stream(lambda: sys.stdout, name="stdout")
stderr = Stream(lambda: sys.stderr, name="stderr")
