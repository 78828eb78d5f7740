"""The process of a command: standard streams that no stray print can spoil, signals, and the exit."""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NoReturn, TextIO

from comfyreport.reporting.worker import call_within

EXIT_INTERRUPTED = 130

LEAVE_SECONDS = 0.7
"""Seconds from the second signal until the process exits, whatever it is doing."""

BLOCKED_SECONDS = 0.4
"""Seconds from a signal until a thread that is blocked before the run is left behind."""

FINAL_WRITE_SECONDS = 0.5
"""Seconds for what was written last to be flushed, before it is dropped: a pipe may have no reader."""

_RESTORE_SECONDS = 0.2
"""Seconds for terminals to be restored before the process exits."""

_CHUNK = 65536


def open_missing_descriptors() -> None:
    """Open null devices for standard streams that the process was started without.

    Otherwise the next file to be opened would become stdout or stderr.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # Python's own objects are None where the descriptor was closed at its start.
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def exit_now(code: int) -> NoReturn:
    """Flush the standard streams, if they can be, and exit without waiting for any thread."""
    _flush_standard_streams()
    os._exit(code)


def report_stdout_failure(error: OSError, err: TextIO) -> None:
    """Write to *err* that stdout failed; nothing where its reader closed the pipe."""
    if not isinstance(error, BrokenPipeError):
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
        yield out, err
    finally:
        _flush_standard_streams()
        os.dup2(before, 1)
        os.close(before)
        for stream in (out, err):
            # A reporter that is stuck in a write holds its lock.
            with contextlib.suppress(OSError, ValueError):
                call_within(FINAL_WRITE_SECONDS, stream.close)


@contextlib.contextmanager
def redirect_stray_output(write: Callable[[str], None]) -> Iterator[None]:
    """Pass what is written to descriptors 1 and 2 meanwhile to *write*, on a thread of its own.

    Otherwise it would break the lines that a reporter redraws. Reporters write to other descriptors.
    """
    _flush_standard_streams()
    read_end, write_end = os.pipe()
    before = {number: os.dup(number) for number in (1, 2)}
    for number in before:
        os.dup2(write_end, number)
    os.close(write_end)
    thread = threading.Thread(target=_forward, args=(read_end, write), name="comfyreport-stray-output", daemon=True)
    thread.start()
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


class Signals:
    """Handles SIGINT and SIGTERM from `install` to `restore`: each calls the callback that `use` set last.

    A signal that comes before the first `use` calls its callback then. After the second signal the process exits
    within a second, whatever the main thread waits for. SIGHUP and SIGQUIT end it as by default. Before the process
    exits in the midst of its work, `restore_terminals` is called. Outside the main thread nothing is handled.
    What may block before there is such a callback belongs into `may_block`: there the first signal is enough.
    """

    def __init__(self) -> None:
        self.count = 0
        self.restore_terminals: Callable[[], None] = lambda: None
        self._handled = 0
        self._callback: Callable[[], None] | None = None
        self._last_number: int | None = None
        self._old_handlers: dict[signal.Signals, object] = {}
        self._wakeup: tuple[int, int] | None = None
        self._changed = threading.Condition()
        self._go_on: Callable[[], int] | None = None
        self._restored = threading.Event()

    def use(self, callback: Callable[[], None]) -> None:
        """Call *callback*, which must be safe in a signal handler, at each signal from now on."""
        self._callback = callback
        if self.count > self._handled:
            self._call_back()

    def install(self) -> Signals:
        """Set the handlers."""
        if threading.current_thread() is threading.main_thread():
            self._start_watching()
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old_handlers[number] = signal.signal(number, self._handle)
            for name in ("SIGHUP", "SIGQUIT"):
                self._handle_if_default(name)
        return self

    def _handle_if_default(self, name: str) -> None:
        """Handle a signal that exists here, unless it is ignored (nohup)."""
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            self._old_handlers[number] = signal.signal(number, _set_default)

    def restore(self, *, raise_pending: bool = False) -> None:
        """Put the old handlers back; *raise_pending*: raise a signal again for them that no callback was called for."""
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._old_handlers.clear()
        self._restored.set()
        with self._changed:
            self._changed.notify_all()
        if self._wakeup is not None:
            write_end, before = self._wakeup
            self._wakeup = None
            signal.set_wakeup_fd(before)
            os.close(write_end)
        if raise_pending and self._last_number is not None and self.count > self._handled:
            self._handled = self.count
            signal.raise_signal(self._last_number)

    @contextlib.contextmanager
    def may_block(self, go_on: Callable[[], int]) -> Iterator[None]:
        """Where the context isn't left soon after a signal, call *go_on* on another thread and exit with its code.

        So the command goes on, to its end, without what blocks. Raising in the main thread instead would end neither
        a plugin that catches everything, nor a call that no signal interrupts (a hung disk, a library in C). Meanwhile
        the thread that is left behind doesn't come out of the context.
        """
        with self._changed:
            self._go_on = go_on
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                left_behind = self._go_on is not go_on
                if not left_behind:
                    self._go_on = None
                    self._changed.notify_all()
            while left_behind:
                time.sleep(LEAVE_SECONDS)

    def __enter__(self) -> Signals:
        return self.install()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

    # --- in the handlers

    def _handle(self, number: int, frame: object) -> None:
        self.count += 1
        self._last_number = number
        self._call_back()

    def _call_back(self) -> None:
        if self._callback is not None:
            self._handled = self.count
            self._callback()

    # --- on a thread of its own

    def _start_watching(self) -> None:
        """Watch signals on a thread too: Python calls no handler while the main thread waits for a file's lock."""
        read_end, write_end = os.pipe()
        if os.name == "posix":
            os.set_blocking(write_end, False)
        self._wakeup = write_end, signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        _reset_wakeup_in_children()
        _start_thread("comfyreport-signals", self._listen, read_end)

    def _listen(self, read_end: int) -> None:
        count = 0
        with open(read_end, "rb", buffering=0) as pipe:
            while numbers := pipe.read(_CHUNK):
                for number in numbers:
                    if number in (signal.SIGINT, signal.SIGTERM):
                        count += 1
                        if count == 1:
                            _start_thread("comfyreport-signals", self._leave_blocked)
                    elif number in self._old_handlers:
                        self._end_by_signal(number)
                if count > 1:
                    self._exit_after_second()

    def _leave_blocked(self) -> None:
        """From the first signal on: leave each thread behind that is blocked, and go on without it."""
        while not self._restored.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._go_on is not None or self._restored.is_set())
                go_on = self._go_on
                if go_on is None or self._left_within(BLOCKED_SECONDS, go_on):
                    continue
                self._go_on = None
            _start_thread("comfyreport-main", _go_on_and_exit, go_on)

    def _left_within(self, seconds: float, go_on: Callable[[], int]) -> bool:
        """Whether the context of *go_on* is left by then; the lock is held."""
        return self._changed.wait_for(lambda: self._go_on is not go_on, seconds)

    def _exit_after_second(self) -> None:
        if not self._restored.wait(LEAVE_SECONDS):
            self._restore_terminals()
            os._exit(EXIT_INTERRUPTED)

    def _end_by_signal(self, number: int) -> None:
        """End by the signal itself, once the main thread has run `_set_default`; else exit with its code."""
        self._restore_terminals()
        for _ in range(10):
            os.kill(os.getpid(), number)
            if self._restored.wait(LEAVE_SECONDS / 10):
                return
        os._exit(128 + number)

    def _restore_terminals(self) -> None:
        with contextlib.suppress(Exception):
            call_within(_RESTORE_SECONDS, self.restore_terminals)


def _start_thread(name: str, target: Callable[..., object], *arguments: object) -> None:
    threading.Thread(target=target, args=arguments, name=name, daemon=True).start()


def _go_on_and_exit(go_on: Callable[[], int]) -> None:
    code = EXIT_INTERRUPTED
    try:
        code = go_on()
    finally:
        exit_now(code)


def _set_default(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)


_registered: list[None] = []


def _reset_wakeup_in_children() -> None:
    """In a forked child, write no signals to this process's pipe."""
    if not _registered and hasattr(os, "register_at_fork"):
        _registered.append(None)
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
