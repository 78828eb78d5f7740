"""The process of a command: standard streams and signals."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from comfyreport.cli import process
from comfyreport.cli.process import Signals, open_missing_descriptors, report_stdout_failure, standard_streams

LIMIT = 60.0

# --- standard streams


def test_a_stray_write_lands_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with standard_streams() as (out, _):
        out.write("meant\n")
        os.write(1, b"stray\n")
    os.write(1, b"after it\n")
    assert capfd.readouterr() == ("meant\nafter it\n", "stray\n")


def test_missing_streams_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    open_missing_descriptors()
    opened: list[Any] = [sys.stdout, sys.stderr]
    assert [stream.fileno() for stream in opened] == [1, 2]
    for stream in opened:
        stream.close()
    for number in range(3):
        os.fstat(number)


def test_a_failed_stdout_is_reported_and_a_closed_pipe_is_not() -> None:
    err = io.StringIO()
    report_stdout_failure(BrokenPipeError(32, "Broken pipe"), err)
    assert err.getvalue() == ""
    report_stdout_failure(OSError(28, "No space left on device"), err)
    assert err.getvalue() == "comfyreport: stdout can't be written: No space left on device\n"


# --- signals


@pytest.fixture
def handlers() -> Iterator[None]:
    """The handlers must be the same afterwards."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_calls_the_newest_callback(number: signal.Signals) -> None:
    calls: list[str] = []
    with Signals() as signals:
        signals.use(lambda: calls.append("first"))
        signals.use(lambda: calls.append("newest"))
        signal.raise_signal(number)
    assert (calls, signals.count) == (["newest"], 1)


@pytest.mark.usefixtures("handlers")
def test_a_signal_that_comes_too_early_is_kept() -> None:
    calls: list[str] = []
    with Signals() as signals:
        signal.raise_signal(signal.SIGINT)
        signals.use(lambda: calls.append("kept"))
        signals.use(lambda: calls.append("not again"))
    assert calls == ["kept"]


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
            signal.raise_signal(signal.SIGTERM)
            assert signals.count == 2
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
    monkeypatch.setattr(process, "BLOCKED_SECONDS", LIMIT)
    monkeypatch.setattr(process, "exit_now", lambda code: None)
    went_on: list[str] = []
    calls: list[str] = []

    def go_on() -> int:
        went_on.append("without it")
        return 0

    with Signals() as signals:
        with signals.may_block(go_on):
            signal.raise_signal(signal.SIGINT)
        with signals.may_block(go_on):
            pass
        signals.use(lambda: calls.append("kept"))
    for thread in [each for each in threading.enumerate() if each.name.startswith("comfyreport-")]:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert (calls, went_on) == (["kept"], [])
