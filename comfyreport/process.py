"""What a command needs of its process: standard streams that no stray print can spoil, and the user's signals."""

from __future__ import annotations

import codecs
import contextlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NoReturn, TextIO

EXIT_INTERRUPTED = 130

LEAVE_SECONDS = 0.7
"""How long after the second signal the process is ended, whatever it is doing."""

_LAST_STRAYS = 0.5
_PIECE = 65536


def fill_descriptors() -> None:
    """Give a process that was started without some of its standard streams null devices instead.

    Otherwise the next file to be opened would take the place of stdout or stderr.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # Python's own objects are None where the descriptor was closed at its start.
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def leave(code: int) -> NoReturn:
    """End the process at once, without waiting for any thread, once all that was written has gone out."""
    _flush_standard_streams()
    os._exit(code)


def tell_stdout_failed(error: OSError, err: TextIO) -> None:
    """Say that what was to stand on stdout is lost; a reader that went away doesn't want to know."""
    if not isinstance(error, BrokenPipeError):
        with contextlib.suppress(OSError, ValueError):
            err.write(f"comfyreport: stdout can't be written: {error.strerror or error}\n")


@contextlib.contextmanager
def standard_streams() -> Iterator[tuple[TextIO, TextIO]]:
    """stdout for reporters alone: descriptor 1 leads to stderr meanwhile, so that a stray print lands there."""
    sys.stdout.flush()
    private = os.dup(1)
    out = open(private, "w", encoding=sys.stdout.encoding, errors="backslashreplace", newline="\n")  # noqa: SIM115
    err = open(os.dup(2), "w", encoding=sys.stderr.encoding, errors="backslashreplace", newline="\n")  # noqa: SIM115
    os.dup2(2, 1)
    try:
        yield out, err
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        with contextlib.suppress(OSError):
            os.dup2(private, 1)
        for stream in (out, err):
            with contextlib.suppress(OSError, ValueError):
                stream.close()


@contextlib.contextmanager
def strays(write: Callable[[str], None]) -> Iterator[None]:
    """Hand what anybody writes to descriptors 1 and 2 meanwhile to *write*, on a thread of its own.

    What is drawn on a terminal would be torn by it otherwise. Standard streams of ours are other descriptors by then.
    """
    _flush_standard_streams()
    reading, writing = os.pipe()
    before = {number: os.dup(number) for number in (1, 2)}
    for number in before:
        os.dup2(writing, number)
    os.close(writing)
    thread = threading.Thread(target=_pump, args=(reading, write), name="comfyreport-strays", daemon=True)
    thread.start()
    try:
        yield
    finally:
        _flush_standard_streams()
        for number, saved in before.items():
            os.dup2(saved, number)
            os.close(saved)
        # A child process may keep its end of the pipe open for ever.
        thread.join(_LAST_STRAYS)


def _flush_standard_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _pump(reading: int, write: Callable[[str], None]) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with open(reading, "rb", buffering=0) as pipe:
        while data := pipe.read(_PIECE):
            # A terminal that is gone is nobody's loss; the pipe must not fill up.
            with contextlib.suppress(OSError, ValueError):
                write(decoder.decode(data))


class Signals:
    """SIGINT and SIGTERM while it is entered: each calls what was last given to `use`.

    One that came before there was anything to call is kept for the first `use`. After the second the process ends
    within a second. SIGHUP and SIGQUIT end it as they always do. Where the process ends in the midst of its work,
    `tidy` is called before. Outside the main thread signals are the program's own affair.
    """

    def __init__(self) -> None:
        self.count = 0
        self.tidy: Callable[[], None] = lambda: None
        self._told = 0
        self._act: Callable[[], None] | None = None
        self._before: dict[signal.Signals, object] = {}

    def use(self, act: Callable[[], None]) -> None:
        """Call *act*, which must be safe in a signal handler, from now on."""
        self._act = act
        if self.count > self._told:
            self._tell()

    def _tell(self) -> None:
        if self._act is not None:
            self._told = self.count
            self._act()

    def _handle(self, number: int, frame: object) -> None:
        self.count += 1
        if self.count > 1:
            timer = threading.Timer(LEAVE_SECONDS, self._exit)
            timer.daemon = True
            timer.start()
        self._tell()

    def _exit(self) -> None:
        self.tidy()
        os._exit(EXIT_INTERRUPTED)

    def _die(self, number: int, frame: object) -> None:
        self.tidy()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
            for name in ("SIGHUP", "SIGQUIT"):
                self._take_over(name)
        return self

    def _take_over(self, name: str) -> None:
        """Handle a signal that the system has, unless whoever started this process has it ignored (nohup)."""
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            self._before[number] = signal.signal(number, self._die)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


class Stop:
    """A wish to stop that may be set in a signal handler, where an Event's lock might be held already."""

    def __init__(self) -> None:
        self._wish: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.wished = False

    def set(self) -> None:
        """Stop."""
        self.wished = True
        self._wish.put(None)

    def wait(self, seconds: float) -> None:
        """Wait for the wish, at most so long."""
        if not self.wished:
            with contextlib.suppress(queue.Empty):
                self._wish.get(timeout=min(seconds, threading.TIMEOUT_MAX))
