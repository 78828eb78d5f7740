"""Terminals: who draws on one, what others write there meanwhile, and text that it doesn't take at once.

A terminal may take no text for minutes (Ctrl-S, a selection, a lost connection). So text for it is written on a thread
of its own: whoever writes waits a moment, then goes on, and what waits is written once the terminal takes text again.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import signal
import struct
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import IO, Any, Literal, NamedTuple, Protocol, TextIO

from comfyreport.errors import ReporterError
from comfyreport.text import says_no
from comfyreport.worker import Worker

WINDOWS = os.name == "nt"

CLEAR = "\r\x1b[J"
"""Clears from the beginning of the cursor's line to the end of the screen."""

MAX_WAITING = 1024 * 1024
"""Characters that wait for a terminal; beyond that, whoever writes waits too. Of stray output the oldest is dropped."""

_FLUSH_SECONDS = 0.1

_END_SECONDS = 0.1
"""Seconds for a write to end before the process exits."""


ColorChoice = Literal["auto", "always", "never"]


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
    return tty and environ.get("TERM") != "dumb" and says_no(environ.get("CI", ""))


PictureProtocol = Literal["kitty", "iterm", "sixel", "blocks", "blocks256"]
"""How a terminal takes pictures: three protocols of terminals, and coloured half-blocks, of which all can some."""

DEFAULT_CELL = 10, 20
"""Pixels of a character cell, where the terminal doesn't tell."""

_KITTY = frozenset({"xterm-kitty", "xterm-ghostty"})
_ITERM = frozenset({"iTerm.app", "iTerm2", "WezTerm", "mintty"})
_SIXEL = re.compile(r"(foot|mlterm|yaft|contour)(-|$)|.*-sixel$")


def picture_protocol(environ: Mapping[str, str]) -> PictureProtocol:
    """How the terminal takes pictures, as far as the environment tells: to ask it would be to read stdin."""
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    # A multiplexer draws on the terminal, and passes no pictures on unless it is told to.
    if "TMUX" not in environ and not term.startswith(("screen", "tmux")):
        if term in _KITTY or program == "ghostty" or "KITTY_WINDOW_ID" in environ:
            return "kitty"
        if program in _ITERM or environ.get("LC_TERMINAL") in _ITERM:
            return "iterm"
        if _SIXEL.match(term):
            return "sixel"
    many = environ.get("COLORTERM") in ("truecolor", "24bit") or "WT_SESSION" in environ or term.endswith("-direct")
    return "blocks" if many else "blocks256"


def cell_size(descriptor: int) -> tuple[int, int]:
    """Width and height of a character cell in pixels, as the terminal tells them, else `DEFAULT_CELL`."""
    with contextlib.suppress(ImportError, OSError, struct.error):
        import fcntl
        import termios

        answer = fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8))
        rows, columns, width, height = struct.unpack("HHHH", answer)
        if rows and columns and width >= columns and height >= rows:
            return width // columns, height // rows
    return DEFAULT_CELL


class Block(NamedTuple):
    """What is drawn in the lines above a live view: *text* draws it from the cursor on, in *rows* lines that are empty.

    Where the cursor is behind it doesn't matter. *erase* removes what stays where text is cleared.
    """

    text: str
    rows: int
    erase: str = ""


def file_descriptor(file: IO[Any]) -> int | None:
    """The descriptor of *file*; None where it has none, as what a notebook has for stdout."""
    try:
        return file.fileno()
    except (AttributeError, ValueError, OSError):
        return None


def is_terminal(file: IO[Any]) -> bool:
    """Whether *file* is a terminal. On Windows `isatty()` says so of every device, `NUL` for one."""
    try:
        tty = file.isatty()
    except (AttributeError, ValueError, OSError):
        return False
    descriptor = file_descriptor(file) if tty and WINDOWS else None
    if descriptor is None:
        return tty
    from comfyreport.windows_console import get_mode

    return get_mode(descriptor) is not None


def takes_escapes(file: TextIO) -> bool:
    """Whether *file* is a terminal that obeys escape sequences. Windows' is made to, until `put_back_modes`."""
    descriptor = file_descriptor(file) if WINDOWS else None
    if descriptor is None or not is_terminal(file):
        return is_terminal(file)
    from comfyreport.windows_console import switch_on_escapes

    return switch_on_escapes(descriptor, _mode_changes)


_mode_changes = contextlib.ExitStack()
"""What `put_back_modes` undoes."""


def put_back_modes() -> None:
    """Leave consoles in the modes in which they were found."""
    with contextlib.suppress(OSError):
        _mode_changes.close()


if WINDOWS:
    atexit.register(put_back_modes)


def key_of(file: TextIO) -> object:
    """What tells terminals apart. Windows has no number for a console, but at most one for a process."""
    try:
        descriptor = file.fileno()
        return "console" if WINDOWS else os.fstat(descriptor).st_rdev
    except (AttributeError, ValueError, OSError):
        return id(file)


def in_background(descriptor: int) -> bool:
    """Whether this process is a job in the background of the terminal, which the shell or another job has then."""
    try:
        foreground = os.tcgetpgrp(descriptor)
    except (AttributeError, OSError):
        return False
    # 0: a process that can't be seen from here, as in a container.
    return foreground not in (0, os.getpgrp())


class Drawer(Protocol):
    """A stream that may draw on a terminal; `owner` is the reporter that it is for."""

    owner: str

    @property
    def file(self) -> TextIO:
        """The text file that it writes to."""

    def release(self) -> None:
        """Stop drawing."""


class Terminal:
    """One terminal: the stream that draws on it, and what others wrote there meanwhile, for that stream to show."""

    def __init__(self) -> None:
        self.drawn_by: Drawer | None = None
        self.block: Block | None = None
        self._capturing = False
        self._kept: deque[str] = deque()
        self._kept_length = 0
        self._lock = threading.Lock()
        self._worker = Worker()
        self._changed = threading.Condition()
        self._writes = threading.Lock()
        self._waiting: deque[tuple[Callable[[], object], int]] = deque()
        self._waiting_length = 0
        self._writing = False
        self._error: Exception | None = None
        self._given_up = False

    # --- stray output

    def keep(self, text: str) -> bool:
        """Keep *text* for the stream that draws; False where it captures nothing: then *text* is to be written."""
        with self._lock:
            if self._capturing:
                self._kept.append(text)
                self._kept_length += len(text)
                while self._kept_length > MAX_WAITING and len(self._kept) > 1:
                    self._kept_length -= len(self._kept.popleft())
            return self._capturing

    def take(self, *, capturing: bool) -> str:
        """All that was kept; *capturing*: whether to keep what comes from now on."""
        with self._lock:
            self._capturing = capturing
            text = "".join(self._kept)
            self._kept.clear()
            self._kept_length = 0
            return text

    # --- text that waits

    def add(self, write: Callable[[], object], length: int) -> None:
        """Let *write*, which writes *length* characters, wait for the next flush."""
        with self._changed:
            self._waiting.append((write, length))
            self._waiting_length += length

    def flush(self) -> None:
        """Write what waits, on a thread; wait a moment for it, or as long as it takes where very much waits.

        Raises what the writing raised, now or before.
        """
        self._worker.run(self._write_waiting, _FLUSH_SECONDS)
        with self._changed:
            self._changed.wait_for(lambda: self._given_up or self._waiting_length <= MAX_WAITING)
            error, self._error = self._error, None
        if error is not None:
            raise error

    @property
    def stalled(self) -> bool:
        """Whether text waits because the terminal doesn't take it, and isn't given up."""
        with self._changed:
            return bool(self._waiting or self._writing) and not self._given_up

    def drain(self) -> None:
        """Wait until all text is written, however long it takes. TimeoutError where the terminal was given up."""
        with self._changed:
            self._changed.wait_for(lambda: self._given_up or not (self._waiting or self._writing))
            if self._waiting or self._writing:
                raise TimeoutError("the terminal takes no text")

    def give_up(self) -> None:
        """Wait for this terminal no longer."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()

    def end(self) -> None:
        """Clear what is drawn, for good: the process is about to exit, and what is written meanwhile stays unseen."""
        stream = self.drawn_by
        if stream is None:
            return
        # It is never given back. Where the terminal takes no text, whoever writes has it, and clearing blocks too.
        self._writes.acquire(timeout=_END_SECONDS)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            descriptor = stream.file.fileno()
            if not in_background(descriptor):
                os.write(descriptor, ((self.block.erase if self.block else "") + CLEAR).encode())

    def _write_waiting(self) -> None:
        # With `stty tostop`, a job in the background would be stopped for writing.
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        while True:
            with self._changed:
                self._writing = bool(self._waiting)
                if not self._writing:
                    self._changed.notify_all()
                    return
                write, length = self._waiting.popleft()
            try:
                with self._writes:
                    write()
            except Exception as error:  # noqa: BLE001  it is raised where text is written next
                self._error = error
            with self._changed:
                self._waiting_length -= length
                self._changed.notify_all()


class Terminals:
    """The terminals of a command: at most one reporter draws on each."""

    def __init__(self) -> None:
        self._terminals: dict[object, Terminal] = {}

    def terminal(self, key: object) -> Terminal:
        """The terminal of this key, which is the same for all streams that write to it."""
        return self._terminals.setdefault(key, Terminal())

    def claim(self, key: object, stream: Drawer) -> None:
        """Let *stream* draw on the terminal; ReporterError if another reporter's does already."""
        terminal = self.terminal(key)
        if terminal.drawn_by is not None and terminal.drawn_by.owner != stream.owner:
            raise ReporterError(
                f"reporters {terminal.drawn_by.owner} and {stream.owner} both want to draw on the same terminal",
                hint=f"give one of them a file: --reporter {stream.owner.partition('=')[0]}=PATH",
            )
        terminal.drawn_by = stream

    @property
    def drawing_streams(self) -> list[Drawer]:
        """The streams that draw now."""
        return [terminal.drawn_by for terminal in self._terminals.values() if terminal.drawn_by is not None]

    def restore(self) -> None:
        """Clear what is drawn, for good: the process is about to exit."""
        for terminal in self._terminals.values():
            terminal.end()
        put_back_modes()
