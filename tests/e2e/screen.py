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


class Screen:
    """Runs *words* on a terminal of *columns* by *rows*; `lines` is what it shows, `raw` all that was written.

    After each piece of output `watch` is called, if there is one. *shown* says what is shown in the place of what.
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

    def resize(self, columns: int, rows: int) -> None:
        """Change the size, as a person does who drags the window's corner."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.emulator.resize(rows, columns)

    def type(self, text: str) -> None:
        """Type *text*; `\\x03` is Ctrl-C."""
        os.write(self._master, text.encode())

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
        self.raw += data
        text = self._decoder.decode(data)
        for name, other in self._shown.items():
            text = text.replace(name, other)
        self._stream.feed(text)
        if self.watch is not None:
            self.watch()
        return bool(data)

    def wait(self, condition: Callable[[list[str]], object], what: str) -> None:
        """Read until the lines of the screen are as they should be."""
        deadline = time.monotonic() + PATIENCE
        while not condition(self.lines):
            assert time.monotonic() < deadline, f"{what}: not within {PATIENCE:g} s\n" + "\n".join(self.lines)
            assert self.read(0.2) or condition(self.lines), f"ended before {what}\n" + "\n".join(self.lines)

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
