"""The console of Windows: what is one, its escape sequences, and that a process has one alone."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from comfyreport import terminal, windows_console
from comfyreport.reporting.streams import Stream, Terminals
from comfyreport.windows_console import ESCAPES

WRAP = 2


class Console:
    """What the system says of the console, to which every descriptor leads; mode None: there is none."""

    def __init__(self) -> None:
        self.mode: int | None = WRAP
        self.refuses = False

    def get_mode(self, descriptor: int) -> int | None:
        os.fstat(descriptor)
        return self.mode

    def set_mode(self, descriptor: int, mode: int) -> bool:
        os.fstat(descriptor)
        if not self.refuses:
            self.mode = mode
        return not self.refuses


class Device(io.TextIOWrapper):
    """A file that says what files of a console or of `NUL` say."""

    def isatty(self) -> bool:
        return True


Opener = Callable[[], Stream]


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    console = Console()
    monkeypatch.setattr(terminal, "WINDOWS", True)
    monkeypatch.setattr(windows_console, "get_mode", console.get_mode)
    monkeypatch.setattr(windows_console, "set_mode", console.set_mode)
    yield console
    terminal.put_back_modes()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Opens streams, which share what terminals there are."""
    terminals, files = Terminals(), list[Device]()

    def open_stream() -> Stream:
        files.append(Device((tmp_path / str(len(files))).open("wb")))
        return Stream(files[-1], name="stderr", environ={}, terminals=terminals)

    yield open_stream
    for file in files:
        file.close()


def test_escape_sequences_are_switched_on_and_put_back(console: Console, opened: Opener) -> None:
    stream = opened()
    assert (stream.tty, console.mode) == (True, WRAP)
    assert stream.take_terminal()
    assert stream.color
    assert console.mode == WRAP | ESCAPES
    stream.file.close()
    terminal.put_back_modes()
    assert console.mode == WRAP


def test_leaving_at_once_puts_back_the_mode_too(console: Console, opened: Opener) -> None:
    assert opened().color
    Terminals().restore()
    assert console.mode == WRAP


def test_what_was_switched_on_before_stays_so(console: Console, opened: Opener) -> None:
    console.mode = WRAP | ESCAPES
    assert opened().take_terminal()
    terminal.put_back_modes()
    assert console.mode == WRAP | ESCAPES


def test_where_that_fails_nothing_is_drawn_or_coloured(console: Console, opened: Opener) -> None:
    console.refuses = True
    stream = opened()
    assert (stream.tty, stream.take_terminal(), stream.color) == (True, False, False)


def test_a_device_is_no_terminal(console: Console, opened: Opener) -> None:
    console.mode = None
    stream = opened()
    assert (stream.tty, stream.take_terminal(), stream.color) == (False, False, False)


def test_all_streams_of_the_console_share_it(console: Console, opened: Opener) -> None:
    assert console.mode is not None
    assert opened().shares_terminal(opened())


@pytest.mark.usefixtures("console")
def test_what_has_no_descriptor_is_what_it_says() -> None:
    stream = Stream(Device(io.BytesIO()), name="stderr", environ={})
    assert (stream.tty, stream.take_terminal(), stream.color) == (True, True, True)


@pytest.mark.skipif(os.name == "nt", reason="there it has a mode, or none")
def test_elsewhere_there_is_no_mode() -> None:
    assert windows_console.get_mode(1) is None
    assert not windows_console.set_mode(1, ESCAPES)
    windows_console.on_close(lambda: None)()
