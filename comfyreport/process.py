"""The process of a command: standard streams that no stray print can spoil, and the exit."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn, TextIO

from comfyreport.errors import is_closed_pipe
from comfyreport.worker import call_within

if TYPE_CHECKING:
    from typing_extensions import Buffer

EXIT_INTERRUPTED = 130

FINAL_WRITE_SECONDS = 0.5
"""Seconds for what was written last to be flushed, before it is dropped: a pipe may have no reader."""

_CHUNK = 65536

WINDOWS = os.name == "nt"


def open_missing_descriptors() -> None:
    """Open null devices for standard streams that the process was started without.

    Otherwise the next file to be opened would become stdout or stderr.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            # Windows never gives these numbers by itself.
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    # Python's own objects are None where the descriptor was closed at its start.
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def write_utf8() -> None:
    """Let stdout be UTF-8 on Windows where it is no terminal, as from Python 3.15 on: a path there must open."""
    out = sys.stdout
    if WINDOWS and "PYTHONIOENCODING" not in os.environ and isinstance(out, io.TextIOWrapper):
        from comfyreport.terminal import is_terminal

        if not is_terminal(out):
            out.reconfigure(encoding="utf-8")


def exit_now(code: int) -> NoReturn:
    """Flush the standard streams, if they can be, and exit without waiting for any thread."""
    _flush_standard_streams()
    os._exit(code)


def report_stdout_failure(error: OSError, err: TextIO) -> None:
    """Write to *err* that stdout failed; nothing where its reader closed the pipe."""
    if not is_closed_pipe(error):
        with contextlib.suppress(OSError, ValueError):
            err.write(f"comfyreport: stdout can't be written: {error.strerror or error}\n")


@contextlib.contextmanager
def standard_streams() -> Iterator[tuple[TextIO, TextIO]]:
    """stdout and stderr for reporters alone: meanwhile descriptor 1 is stderr, so that a stray print lands there."""
    _flush_standard_streams()
    before = os.dup(1)
    out = open(os.dup(1), "w", encoding=sys.stdout.encoding, errors="backslashreplace", newline="\n")  # noqa: SIM115
    err = open(os.dup(2), "w", encoding=sys.stderr.encoding, errors="backslashreplace", newline="\n")  # noqa: SIM115
    os.dup2(2, 1)
    try:
        with _following_descriptors():
            yield out, err
    finally:
        os.dup2(before, 1)
        os.close(before)
        for stream in (out, err):
            # A reporter that is stuck in a write holds its lock.
            with contextlib.suppress(OSError, ValueError):
                call_within(FINAL_WRITE_SECONDS, stream.close)


@contextlib.contextmanager
def _following_descriptors() -> Iterator[None]:
    """See that `sys.stdout` and `sys.stderr` write to where descriptors 1 and 2 lead meanwhile.

    They do, but on Windows: what Python has for a console there writes to nothing but a console.
    """
    with contextlib.ExitStack() as stack:
        if WINDOWS:
            stack.enter_context(contextlib.redirect_stdout(_follower(1)))
            stack.enter_context(contextlib.redirect_stderr(_follower(2)))
        try:
            yield
        finally:
            _flush_standard_streams()


def _follower(number: int) -> TextIO:
    binary = io.BufferedWriter(_Descriptor(number))
    return io.TextIOWrapper(binary, sys.stderr.encoding, "backslashreplace", newline="\n", line_buffering=True)


class _Descriptor(io.RawIOBase):
    """Writes to a descriptor, whatever it leads to at the moment."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int | None:
        with open(self._number, "wb", buffering=0, closefd=False) as file:
            return file.write(data)


@contextlib.contextmanager
def redirect_stray_output(write: Callable[[str], None]) -> Iterator[None]:
    """Pass what is written to descriptors 1 and 2 meanwhile to *write*, on a thread of its own.

    Otherwise it would break the lines that a reporter redraws. Reporters write to other descriptors.
    """
    _flush_standard_streams()
    read_end, write_end = os.pipe()
    before = {number: os.dup(number) for number in (1, 2)}
    thread = threading.Thread(target=_forward, args=(read_end, write), name="comfyreport-stray-output", daemon=True)
    # Before anything is written there: the machine may give no thread.
    thread.start()
    for number in before:
        os.dup2(write_end, number)
    os.close(write_end)
    try:
        yield
    finally:
        _flush_standard_streams()
        for number, saved in before.items():
            os.dup2(saved, number)
            os.close(saved)
        # A child process may hold the pipe open for ever.
        thread.join(FINAL_WRITE_SECONDS)


def _flush_standard_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        # A plugin may have put anything there.
        with contextlib.suppress(Exception):
            call_within(FINAL_WRITE_SECONDS, stream.flush)


def _forward(read_end: int, write: Callable[[str], None]) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with open(read_end, "rb", buffering=0) as pipe:
        while data := pipe.read(_CHUNK):
            # Where the terminal is gone, reading goes on: the pipe must not fill up.
            with contextlib.suppress(OSError, ValueError):
                write(decoder.decode(data))
