"""A terminal: a process on a pseudo-terminal, and an emulator that shows what a person sees of it."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyte

PATIENCE = 180.0
# A frame of a live view clears the one before; while its lines are drawn they are cut, not wrapped.
_CLEAR, _CUT, _WRAP = b"\x1b[J", b"\x1b[?7l", b"\x1b[?7h"


class Screen:
    """Runs *words* on a terminal of *columns* by *rows*; `lines` is what it shows, `raw` all that was written.

    `watch`, if there is one, is called for whole frames of a live view: each is one write, but the system hands over
    what was written in pieces, often at the ends of lines. *shown* says what is shown in the place of what.
    """

    def __init__(
        self,
        words: Sequence[str | os.PathLike[str]],
        environ: Mapping[str, str],
        folder: Path,
        columns: int,
        rows: int,
        shown: Mapping[str, str] | None = None,
    ) -> None:
        self.raw = b""
        self.code: int | None = None
        self.watch: Callable[[], None] | None = None
        self.emulator: Any = pyte.Screen(columns, rows)
        self._stream: Any = pyte.Stream(self.emulator)
        self._shown = dict(shown or {})
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        argv = [os.fspath(word) for word in words]
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            # Nothing of the test run may go on in the child, whatever fails.
            try:
                os.chdir(folder)
                # Known before the program begins: it asks for the size at its first draw.
                fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
                os.execvpe(argv[0], argv, dict(environ))
            finally:
                os._exit(127)

    @property
    def lines(self) -> list[str]:
        """The lines of the screen down to the last one that has any text."""
        lines: list[str] = [line.rstrip() for line in self.emulator.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def whole(self) -> bool:
        """Whether a live view is shown and its last frame is there to the end: there lines are wrapped again."""
        begun = max(self.raw.rfind(_CLEAR), self.raw.rfind(_CUT))
        return self.raw.rfind(_WRAP) > begun

    def resize(self, columns: int, rows: int) -> None:
        """Change the size, as a person does who drags the window's corner."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.emulator.resize(rows, columns)

    def type(self, text: str) -> None:
        """Type *text*; `\\x03` is Ctrl-C."""
        os.write(self._master, text.encode())

    def signal_until_the_end(self, number: signal.Signals) -> int:
        """Send the process a signal again and again: those that come together are one; the exit code."""
        deadline = time.monotonic() + PATIENCE
        self.signal(number)
        while self.read(0.2) and time.monotonic() < deadline:
            self.signal(number)
        return self.end()

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        os.kill(self.pid, number)

    def read(self, seconds: float) -> bool:
        """Take in what is written within *seconds*; False once the other side is closed."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:
            # Linux says so where the last process has closed its terminal.
            return False
        self.feed(data)
        return bool(data)

    def feed(self, data: bytes) -> None:
        """Show what was written, or a piece of it."""
        self.raw += data
        text = self._decoder.decode(data)
        for name, other in self._shown.items():
            text = text.replace(name, other)
        self._stream.feed(text)
        if self.watch is not None and self.whole:
            self.watch()

    def wait(self, condition: Callable[[list[str]], object], what: str) -> None:
        """Read until the lines of the screen are as they should be: those of a whole frame, or where no more comes."""
        deadline = time.monotonic() + PATIENCE
        quiet = False
        while not ((self.whole or quiet) and condition(self.lines)):
            assert time.monotonic() < deadline, f"{what}: not within {PATIENCE:g} s\n" + "\n".join(self.lines)
            before = len(self.raw)
            assert self.read(0.2) or condition(self.lines), f"ended before {what}\n" + "\n".join(self.lines)
            quiet = len(self.raw) == before

    def end(self) -> int:
        """Read to the end; the exit code, negative for a signal."""
        if self.code is None:
            deadline = time.monotonic() + PATIENCE
            while self.read(0.2):
                assert time.monotonic() < deadline, "it doesn't end\n" + "\n".join(self.lines)
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    def close(self) -> None:
        """End the process if it is still there."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.code = -signal.SIGKILL
        with contextlib.suppress(OSError):
            os.close(self._master)
