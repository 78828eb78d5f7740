"""What a command needs of its process: standard streams that no stray print can spoil, and the user's signals."""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NoReturn, TextIO

from comfyreport.reporting.worker import call_within

EXIT_INTERRUPTED = 130

LEAVE_SECONDS = 0.7
"""How long after the second signal the process is ended, whatever it is doing."""

FINAL_WRITE_SECONDS = 0.5
"""How long what was written last may take to go out, before it is given up: a pipe may be one that nobody reads."""

_RESTORE_SECONDS = 0.2
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
    """End the process at once, without waiting for any thread, once all that was written has gone out, if it can."""
    _flush_standard_streams()
    os._exit(code)


def report_stdout_failure(error: OSError, err: TextIO) -> None:
    """Say that what was to stand on stdout is lost; a reader that went away doesn't want to know."""
    if not isinstance(error, BrokenPipeError):
        with contextlib.suppress(OSError, ValueError):
            err.write(f"comfyreport: stdout can't be written: {error.strerror or error}\n")


@contextlib.contextmanager
def standard_streams() -> Iterator[tuple[TextIO, TextIO]]:
    """stdout for reporters alone: descriptor 1 leads to stderr meanwhile, so that a stray print lands there."""
    _flush_standard_streams()
    before = os.dup(1)
    out = open(os.dup(1), "w", encoding=sys.stdout.encoding, errors="backslashreplace", newline="\n")  # noqa: SIM115
    err = open(os.dup(2), "w", encoding=sys.stderr.encoding, errors="backslashreplace", newline="\n")  # noqa: SIM115
    os.dup2(2, 1)
    try:
        yield out, err
    finally:
        _flush_standard_streams()
        os.dup2(before, 1)
        os.close(before)
        for stream in (out, err):
            # A reporter that is stuck in writing to it holds its lock.
            with contextlib.suppress(OSError, ValueError):
                call_within(FINAL_WRITE_SECONDS, stream.close)


@contextlib.contextmanager
def redirect_stray_output(write: Callable[[str], None]) -> Iterator[None]:
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
        thread.join(FINAL_WRITE_SECONDS)


def _flush_standard_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        # A plugin may have put anything there.
        with contextlib.suppress(Exception):
            call_within(FINAL_WRITE_SECONDS, stream.flush)


def _pump(reading: int, write: Callable[[str], None]) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with open(reading, "rb", buffering=0) as pipe:
        while data := pipe.read(_PIECE):
            # A terminal that is gone is nobody's loss; the pipe must not fill up.
            with contextlib.suppress(OSError, ValueError):
                write(decoder.decode(data))


class Signals:
    """SIGINT and SIGTERM from `take` to `give_back`: each calls what was last given to `use`.

    One that came before there was anything to call is kept for the first `use`. After the second the process ends
    within a second, whatever the main thread waits for. SIGHUP and SIGQUIT end it as they always do. Where the process
    ends in the midst of its work, `restore_terminals` is called before. Outside the main thread signals are the
    program's own affair.
    """

    def __init__(self) -> None:
        self.count = 0
        self.restore_terminals: Callable[[], None] = lambda: None
        self._told = 0
        self._act: Callable[[], None] | None = None
        self._kept: int | None = None
        self._before: dict[signal.Signals, object] = {}
        self._wakeup: tuple[int, int] | None = None
        self._over = threading.Event()

    def use(self, act: Callable[[], None]) -> None:
        """Call *act*, which must be safe in a signal handler, from now on."""
        self._act = act
        if self.count > self._told:
            self._tell()

    def take(self) -> Signals:
        """Take the signals over."""
        if threading.current_thread() is threading.main_thread():
            self._watch()
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
            for name in ("SIGHUP", "SIGQUIT"):
                self._take_over(name)
        return self

    def _take_over(self, name: str) -> None:
        """Handle a signal that the system has, unless whoever started this process has it ignored (nohup)."""
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            self._before[number] = signal.signal(number, _reset)

    def give_back(self, *, kept: bool = False) -> None:
        """Let the signals be as they were before; *kept*: with one that came and that nothing was called for."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before.clear()
        self._over.set()
        if self._wakeup is not None:
            writing, before = self._wakeup
            self._wakeup = None
            signal.set_wakeup_fd(before)
            os.close(writing)
        if kept and self._kept is not None and self.count > self._told:
            self._told = self.count
            signal.raise_signal(self._kept)

    def __enter__(self) -> Signals:
        return self.take()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()

    # --- in the handlers

    def _handle(self, number: int, frame: object) -> None:
        self.count += 1
        self._kept = number
        self._tell()

    def _tell(self) -> None:
        if self._act is not None:
            self._told = self.count
            self._act()

    # --- on a thread of its own

    def _watch(self) -> None:
        """Let a thread hear of signals too: no handler is called while the main thread waits for a file's lock."""
        reading, writing = os.pipe()
        if os.name == "posix":
            os.set_blocking(writing, False)
        self._wakeup = writing, signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        _forget_wakeup_in_children()
        threading.Thread(target=self._listen, args=(reading,), name="comfyreport-signals", daemon=True).start()

    def _listen(self, reading: int) -> None:
        count = 0
        with open(reading, "rb", buffering=0) as pipe:
            while numbers := pipe.read(_PIECE):
                for number in numbers:
                    if number in (signal.SIGINT, signal.SIGTERM):
                        count += 1
                    elif number in self._before:
                        self._die(number)
                if count > 1:
                    self._end()

    def _end(self) -> None:
        if not self._over.wait(LEAVE_SECONDS):
            self._restore_terminals()
            os._exit(EXIT_INTERRUPTED)

    def _die(self, number: int) -> None:
        """Die of a signal, as soon as the main thread has come to let it do what it does by itself; else just end."""
        self._restore_terminals()
        for _ in range(10):
            os.kill(os.getpid(), number)
            if self._over.wait(LEAVE_SECONDS / 10):
                return
        os._exit(128 + number)

    def _restore_terminals(self) -> None:
        with contextlib.suppress(Exception):
            call_within(_RESTORE_SECONDS, self.restore_terminals)


def _reset(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)


_in_children: list[None] = []


def _forget_wakeup_in_children() -> None:
    """See to it that a forked child's signals are not taken for this process's: it would write to the same pipe."""
    if not _in_children and hasattr(os, "register_at_fork"):
        _in_children.append(None)
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
