"""Signals: which are a wish to stop, how many, and who hears them whatever a plugin does."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from comfyreport.cli import signals as module
from comfyreport.cli.signals import Signals
from comfyreport.jobs import interrupts
from tests.systems import needs_posix

LIMIT = 60.0
STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@pytest.fixture
def handlers() -> Iterator[None]:
    """The handlers must be the same afterwards."""
    before = [signal.getsignal(number) for number in STOPPING]
    yield
    assert [signal.getsignal(number) for number in STOPPING] == before


class Calls:
    """What was called, in order."""

    def __init__(self) -> None:
        self._names: queue.SimpleQueue[str] = queue.SimpleQueue()

    def __call__(self, name: str) -> Callable[[], None]:
        return lambda: self._names.put(name)

    def next(self) -> str:
        return self._names.get(timeout=LIMIT)

    @property
    def left(self) -> int:
        return self._names.qsize()


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_calls_the_newest_callback(number: signal.Signals) -> None:
    calls = Calls()
    with Signals() as signals:
        signals.use(calls("first"))
        signals.use(calls("newest"))
        signal.raise_signal(number)
        assert calls.next() == "newest"
    assert (calls.left, signals.count) == (0, 1)


@pytest.mark.usefixtures("handlers")
def test_signals_that_come_together_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrappers pass on the Ctrl-C that the terminal sends to all; a supervisor sends SIGTERM as well."""
    monkeypatch.setattr(interrupts, "ONE_WISH_SECONDS", LIMIT)
    calls = Calls()
    with Signals() as signals:
        signals.use(calls("stop"))
        for number in (signal.SIGINT, *STOPPING):
            signal.raise_signal(number)
    assert (signals.count, calls.next(), calls.left) == (1, "stop", 0)


@pytest.mark.usefixtures("handlers")
def test_a_later_one_is_a_second_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "ONE_WISH_SECONDS", 0.0)
    calls = Calls()
    with Signals() as signals:
        signals.use(calls("stop"))
        signal.raise_signal(signal.SIGINT)
        assert calls.next() == "stop"
        signal.raise_signal(signal.SIGINT)
        assert calls.next() == "stop"
    assert signals.count == 2


@pytest.mark.usefixtures("handlers")
def test_a_signal_that_comes_too_early_is_kept() -> None:
    calls = Calls()
    with Signals() as signals:
        signal.raise_signal(signal.SIGINT)
        signals.use(calls("kept"))
        assert calls.next() == "kept"
        signals.use(calls("not again"))
    assert calls.left == 0


@needs_posix("SIGHUP")
def test_a_hangup_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            signal.raise_signal(signal.SIGHUP)
        assert signals.count == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def _send(number: signal.Signals) -> None:
    """Send a signal as another process would, to whichever thread takes it."""
    if os.name == "nt":
        # Another process can't, but by ending this one.
        signal.raise_signal(number)
    else:
        os.kill(os.getpid(), number)


def _nothing(number: int, frame: object) -> None:
    pass


def _take_handler(number: signal.Signals) -> None:
    signal.signal(number, _nothing)


def _ignore(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)


def _ignore_in_c(number: signal.Signals) -> None:
    """As a library does that isn't Python's: no handler that Python knows has changed."""
    import ctypes

    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(number, 1)


def _block(number: signal.Signals) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})


def _take_wakeup(number: signal.Signals) -> None:
    signal.set_wakeup_fd(-1)


MASKED = pytest.param(_block, marks=needs_posix("signal masks"))
TAKEN = [
    _take_handler,
    _ignore,
    pytest.param(_ignore_in_c, marks=needs_posix("a libc of the process")),
    MASKED,
    _take_wakeup,
]


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("take", TAKEN)
def test_what_a_plugin_takes_is_taken_back(take: Callable[[signal.Signals], None], number: signal.Signals) -> None:
    calls = Calls()
    with Signals() as signals:
        signals.use(calls("stop"))
        take(number)
        signals.keep()
        _send(number)
        assert calls.next() == "stop"
    assert signals.count == 1


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("take", [_take_handler, _take_wakeup, MASKED])
def test_meanwhile_it_is_heard_too(take: Callable[[signal.Signals], None]) -> None:
    """Before it is taken back: another thread hears what the main one blocks."""
    calls = Calls()
    with Signals() as signals:
        signals.use(calls("stop"))
        take(signal.SIGTERM)
        _send(signal.SIGTERM)
        assert calls.next() == "stop"
        signals.keep()
    assert signals.count == 1


@needs_posix("forks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_that_is_forked_dies_of_its_own_signals() -> None:
    with Signals() as signals:
        if (child := os.fork()) == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    assert signals.count == 0


@pytest.mark.usefixtures("handlers")
def test_a_pending_signal_is_raised_again() -> None:
    signals = Signals().install()
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signals.restore(raise_pending=True)
    signals.restore(raise_pending=True)


@pytest.mark.usefixtures("handlers")
def test_after_restore_signals_end_nothing() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    before = signal.set_wakeup_fd(write_end)
    try:
        with Signals() as signals:
            signal.raise_signal(signal.SIGTERM)
        assert signals.count == 1
        for thread in [each for each in threading.enumerate() if each.name == "comfyreport-signals"]:
            thread.join(LIMIT)
            assert not thread.is_alive()
        assert signal.set_wakeup_fd(before) == write_end
    finally:
        os.close(read_end)
        os.close(write_end)


@pytest.mark.usefixtures("handlers")
def test_signals_are_left_alone_outside_the_main_thread() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with Signals() as signals:
                signals.use(lambda: None)
        except BaseException as error:  # noqa: BLE001  it must be seen in the test
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(LIMIT)
    assert failures == []


@pytest.mark.usefixtures("handlers")
def test_what_is_over_soon_is_not_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tests/e2e/test_blocked_start.py` has what isn't: the process exits then."""
    monkeypatch.setattr(module, "BLOCKED_SECONDS", LIMIT)
    monkeypatch.setattr(module, "exit_now", lambda code: None)
    went_on: list[str] = []
    calls = Calls()

    def go_on() -> int:
        went_on.append("without it")
        return 0

    with Signals() as signals:
        with signals.may_block(go_on):
            signal.raise_signal(signal.SIGINT)
        with signals.may_block(go_on):
            pass
        signals.use(calls("kept"))
    for thread in [each for each in threading.enumerate() if each.name.startswith("comfyreport-")]:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert (calls.next(), went_on) == ("kept", [])
