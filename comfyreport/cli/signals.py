"""The signals of a command: what asks it to stop, heard whatever the main thread does and a plugin installs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from comfyreport.jobs.interrupts import BLOCKED_SECONDS, Wishes
from comfyreport.process import EXIT_INTERRUPTED, exit_now
from comfyreport.worker import call_within

LEAVE_SECONDS = 0.7
"""Seconds from the second wish to stop until the process exits, whatever it is doing."""

_BUSY_SECONDS = 5.0
"""Seconds for what goes on behind one that was left: that one may run busily still."""

_RESTORE_SECONDS = 0.2
"""Seconds for terminals to be restored before the process exits."""

_CHUNK = 4096

_STOPPING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""They ask to stop. SIGBREAK is Windows': Ctrl-Break, and the closing of the console's window."""

_ENDING = ("SIGQUIT",)
"""They end the process, once terminals are restored."""


class Signals:
    """Handles signals from `install` to `restore`: each wish to stop calls the callback that `use` set last.

    SIGINT, SIGTERM, SIGBREAK and SIGHUP (unless it was ignored) are such a wish; those that come together are one. One
    that comes before the first `use` calls its callback then. After the second wish the process exits within a second,
    whatever the main thread waits for. SIGQUIT ends it as by default. Before the process exits in the midst of its
    work, `restore_terminals` is called. Outside the main thread nothing is handled. What may block before there is such
    a callback belongs into `may_block`: there the first signal is enough.

    Python tells a thread of ours of each signal, whatever handler is installed: there it is counted, and the callback
    is called. `keep` takes back what a plugin has taken of it.
    """

    def __init__(self) -> None:
        self.restore_terminals: Callable[[], None] = lambda: None
        self._pid = os.getpid()
        self._wishes = Wishes()
        self._handled = 0
        self._callback: Callable[[], None] | None = None
        self._last_number: int | None = None
        self._handlers: dict[int, Callable[[int, object], None]] = {}
        self._old_handlers: dict[int, object] = {}
        self._restoring = contextlib.ExitStack()
        self._wakeup: tuple[int, int] | None = None
        self._listener: threading.Thread | None = None
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._go_on: Callable[[], int] | None = None
        self._restored = threading.Event()

    @property
    def count(self) -> int:
        """How many wishes to stop came."""
        return self._wishes.count

    def use(self, callback: Callable[[], None]) -> None:
        """Call *callback*, which returns at once, at each wish to stop from now on, on a thread of its own."""
        with self._lock:
            self._callback = callback
            if self.count > self._handled:
                self._call_back()

    def install(self) -> Signals:
        """Set the handlers."""
        if threading.current_thread() is threading.main_thread():
            self._start_listening()
            for name in (*_STOPPING, *_ENDING):
                number = getattr(signal, name, None)
                # Ctrl-C stops also what a shell has started in the background, with SIGINT ignored.
                if number is not None and (name in ("SIGINT", "SIGTERM") or signal.getsignal(number) is signal.SIG_DFL):
                    self._handlers[number] = self._forward if name in _STOPPING else _set_default
                    self._old_handlers[number] = signal.signal(number, self._handlers[number])
            self._outlive_window()
        return self

    def _outlive_window(self) -> None:
        """Have time to stop in order where the window of a Windows console is closed: SIGBREAK alone gives none."""
        if sys.platform != "win32":
            return
        from comfyreport.terminal import is_terminal

        if any(is_terminal(each) for each in (sys.stdout, sys.stderr) if each is not None):
            from comfyreport.windows_console import on_close

            self._restoring.callback(on_close(lambda: self._write(signal.SIGBREAK)))

    def keep(self) -> None:
        """Take back what a plugin may have taken: handlers, the pipe that tells of signals, signals that it blocks."""
        if self._wakeup is None or threading.current_thread() is not threading.main_thread():
            return
        signal.set_wakeup_fd(self._wakeup[0], warn_on_full_buffer=False)
        for number, handler in self._handlers.items():
            # Not only where another handler is known to Python: a library in C doesn't tell it.
            signal.signal(number, handler)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._handlers)

    def restore(self, *, raise_pending: bool = False) -> None:
        """Put the old handlers back; *raise_pending*: raise a signal again for them that no callback was called for."""
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._old_handlers.clear()
        self._restoring.close()
        self._restored.set()
        with self._changed:
            self._changed.notify_all()
        if self._wakeup is not None:
            write_end, before = self._wakeup
            self._wakeup = None
            signal.set_wakeup_fd(before)
            os.close(write_end)
        if self._listener is not None:
            # It hears what came until now.
            self._listener.join()
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

    # --- in a handler

    def _forward(self, number: int, frame: object) -> None:
        """Tell the listener of a signal that it wasn't told of: where somebody else has taken the pipe's place."""
        if os.getpid() != self._pid:
            # A child that a plugin has forked.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        elif self._wakeup is not None:
            write_end = self._wakeup[0]
            if signal.set_wakeup_fd(write_end, warn_on_full_buffer=False) != write_end:
                self._write(number)

    def _write(self, number: int) -> None:
        """Tell the listener of a signal, as Python does."""
        if self._wakeup is not None:
            with contextlib.suppress(OSError):
                os.write(self._wakeup[0], bytes([number]))

    # --- on a thread of its own

    def _start_listening(self) -> None:
        read_end, write_end = os.pipe()
        if os.name == "posix":
            os.set_blocking(write_end, False)
        self._listener = threading.Thread(
            target=self._listen, args=(read_end,), name="comfyreport-signals", daemon=True
        )
        try:
            self._listener.start()
        except RuntimeError:
            os.close(read_end)
            os.close(write_end)
            raise
        self._wakeup = write_end, signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        _reset_wakeup_in_children()

    def _listen(self, read_end: int) -> None:
        """Hear the signals: Python calls no handler while the main thread waits for a file's lock."""
        with open(read_end, "rb", buffering=0) as pipe:
            while numbers := pipe.read(_CHUNK):
                for number in numbers:
                    handler = self._handlers.get(number)
                    if handler is _set_default:
                        self._end_by_signal(number)
                    elif handler is not None:
                        self._hear(number)
                if self.count > 1:
                    self._exit_after_second()

    def _hear(self, number: int) -> None:
        with self._lock:
            if not self._wishes.note():
                return
            self._last_number = number
            self._call_back()
        if self.count == 1:
            _start_thread("comfyreport-signals", self._leave_blocked)

    def _call_back(self) -> None:
        """Call the callback, if there is one; the lock is held."""
        if self._callback is not None:
            self._handled = self.count
            self._callback()

    def _leave_blocked(self) -> None:
        """From the first signal on: leave each thread behind that is blocked, and go on without it."""
        seconds = BLOCKED_SECONDS
        while not self._restored.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._go_on is not None or self._restored.is_set())
                go_on = self._go_on
                if go_on is None or self._left_within(seconds, go_on):
                    continue
                self._go_on = None
            # One that runs busily leaves little time to the others.
            seconds = _BUSY_SECONDS
            _start_thread("comfyreport-main", self._go_on_and_exit, go_on)

    def _go_on_and_exit(self, go_on: Callable[[], int]) -> None:
        code = EXIT_INTERRUPTED
        try:
            code = go_on()
        finally:
            self._restore_terminals()
            exit_now(code)

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


def raise_interrupts() -> None:
    """Let what asks to stop raise KeyboardInterrupt, as Ctrl-C does: for a command that has nothing to cancel."""
    for name in ("SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)


def _start_thread(name: str, target: Callable[..., object], *arguments: object) -> None:
    # Where the machine gives no thread, the second signal still ends the process.
    with contextlib.suppress(RuntimeError):
        threading.Thread(target=target, args=arguments, name=name, daemon=True).start()


def _set_default(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)


_registered: list[None] = []


def _reset_wakeup_in_children() -> None:
    """In a forked child, write no signals to this process's pipe."""
    if not _registered and hasattr(os, "register_at_fork"):
        _registered.append(None)
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
