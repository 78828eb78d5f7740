"""A real terminal that takes no text for a while: whoever writes goes on, and nothing of it is lost or out of order."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from comfyreport import terminal
from comfyreport.render.drawing import Lines, Region
from comfyreport.reporting.hookspecs import hookimpl
from comfyreport.reporting.streams import Stream, Terminals
from comfyreport.terminal import CLEAR
from comfyreport.timing import Timing
from tests.packages import make_plugins
from tests.reporting.deliveries import QUICK, TIMEOUT, Session, one_of_each

termios, pty, tty = (pytest.importorskip(name, reason="not on Windows") for name in ("termios", "pty", "tty"))


class Pty:
    """A terminal, and what has come out of its other side."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        tty.setraw(slave)
        self.file = open(slave, "w", encoding="utf-8", newline="\n")  # noqa: SIM115
        self.stream = Stream(self.file, name="stderr", environ={"TERM": "xterm"}, terminals=Terminals())
        self.text = ""

    def hold(self) -> None:
        """Take no text from now on, as after Ctrl-S."""
        termios.tcflow(self.file.fileno(), termios.TCOOFF)

    def go_on(self) -> None:
        """Take text again."""
        termios.tcflow(self.file.fileno(), termios.TCOON)

    def read_until(self, words: str) -> str:
        """All text so far, once *words* are in it."""
        while words not in self.text:
            assert select.select([self.master], [], [], TIMEOUT)[0], self.text
            self.text += os.read(self.master, 65536).decode()
        return self.text

    def close(self) -> None:
        """Take all that is left, and end."""
        self.go_on()
        while select.select([self.master], [], [], 0.2)[0]:
            os.read(self.master, 65536)
        self.file.close()
        os.close(self.master)


@pytest.fixture
def held() -> Iterator[Pty]:
    made = Pty()
    yield made
    made.close()


def test_lines_wait_and_come_in_order(held: Pty) -> None:
    out = Lines(held.stream)
    out.write(["before"])
    held.read_until("before\n")
    held.hold()
    for number in range(100):
        out.write([f"line {number}"])
    assert held.stream.stalled
    held.go_on()
    assert held.read_until("line 99\n") == "before\n" + "".join(f"line {number}\n" for number in range(100))
    held.stream.drain()
    assert not held.stream.stalled


def test_frames_are_left_out_and_lines_are_not(held: Pty) -> None:
    assert held.stream.take_terminal()
    region = Region(held.stream)
    region.draw(["frame 0"], 0.0)
    held.read_until("frame 0")
    held.hold()
    for number in range(1, 50):
        region.write([f"line {number}"])
        region.draw([f"frame {number}"], float(number))
    held.go_on()
    held.stream.drain()
    region.draw(["frame 50"], 50.0)
    text = held.read_until("frame 50")
    assert text.count("frame") <= 4, "the first, one or two that were on their way, the last"
    assert [line for line in text.replace("\r", "\n").split("\n") if line.startswith("line ")][-1] == "line 49"
    assert all(text.count(f"line {number}\n") == 1 for number in range(1, 50))


def test_the_end_is_written_once_the_terminal_takes_text(held: Pty) -> None:
    assert held.stream.take_terminal()
    region = Region(held.stream)
    region.draw(["frame"], 0.0)
    held.hold()
    region.draw(["another"], 1.0)
    region.write(["the end"])
    region.close()
    held.go_on()
    assert held.read_until("the end\n").endswith("\x1b[Jthe end\n")


def test_very_much_text_is_waited_for(held: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "MAX_WAITING", 1000)
    held.hold()
    writer = threading.Thread(target=lambda: Lines(held.stream).write(["x" * 5000]), daemon=True)
    writer.start()
    writer.join(0.5)
    assert writer.is_alive(), "a bound, so that memory doesn't fill up"
    held.go_on()
    held.read_until("x\n")
    writer.join(TIMEOUT)
    assert not writer.is_alive()


def test_of_stray_output_that_nobody_takes_the_oldest_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "MAX_WAITING", 100)
    one = terminal.Terminal()
    assert one.take(capturing=True) == ""
    for number in range(1000):
        assert one.keep(f"{number:10d}")
    assert one.take(capturing=True) == "".join(f"{number:10d}" for number in range(990, 1000))


def test_what_writing_raises_is_raised_at_the_next_write(held: Pty) -> None:
    other = Pty()
    os.close(other.master)
    write_all = partial(_write_and_drain, other.stream)
    with pytest.raises(OSError, match="Input/output"):
        write_all(100)
    with contextlib.suppress(OSError):
        other.file.close()
    assert not held.stream.stalled


def _write_and_drain(stream: Stream, lines: int) -> None:
    for _ in range(lines):
        Lines(stream).write(["to nobody"])
        stream.drain()


def test_nothing_is_drawn_behind_the_end(held: Pty) -> None:
    """Until the process is gone, its reporters go on."""
    stream = held.stream
    assert stream.take_terminal()
    stream.write("drawn")
    stream.flush()
    held.read_until("drawn")
    stream._terminals.restore()
    stream.write("drawn again")
    stream.flush()
    assert held.read_until(CLEAR).endswith(CLEAR)
    assert not select.select([held.master], [], [], 0.2)[0]
    # A process that is about to exit never does.
    stream._terminals.terminal(stream._terminal_key())._writes.release()


class Talker:
    """A reporter on a stream, that writes a line at each event."""

    def __init__(self, out: Any) -> None:
        self.out = out

    @hookimpl
    def comfyreport_warning(self) -> None:
        Lines(self.out).write(["a warning"])

    @hookimpl
    def comfyreport_run_finished(self) -> None:
        Lines(self.out).write(["the end"])


def session_on(held: Pty, timing: Timing) -> Session:
    plugins = make_plugins()
    plugins.add_object(Talker(held.stream), "talker")
    plugins.reporters[0].stream = held.stream
    return Session(plugins, timing)


def test_a_reporter_survives_its_terminal(held: Pty) -> None:
    timing = replace(QUICK, hook_limit=1.0)
    session = session_on(held, timing)
    held.hold()
    session.delivery.publish(one_of_each())
    timer = threading.Timer(2 * timing.hook_limit, held.go_on)
    timer.start()
    assert session.delivery.close(everybody=True, hurry=lambda: False)
    timer.join()
    assert held.read_until("the end\n") == "a warning\nthe end\n"
    assert session.delivery.failures() == ()


def test_a_terminal_that_takes_no_more_has_failed_its_reporter(held: Pty) -> None:
    session = session_on(held, replace(QUICK, terminal_limit=0.5))
    held.hold()
    session.delivery.publish(one_of_each())
    assert session.delivery.close(everybody=True, hurry=lambda: False)
    (failure,) = session.delivery.failures()
    assert "its terminal took no text" in failure
    with pytest.raises(TimeoutError):
        held.stream.drain()


def test_whoever_is_in_a_hurry_does_not_wait_for_a_terminal(held: Pty) -> None:
    session = session_on(held, QUICK)
    held.hold()
    session.delivery.publish(one_of_each())
    session.delivery.close(everybody=True, hurry=lambda: held.stream.stalled)
    assert session.delivery.failures() == ()
