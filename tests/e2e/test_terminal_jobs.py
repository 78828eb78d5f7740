"""A terminal that takes no text for a while, and one that the shell has while the run is in the background."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.e2e.screen import PATIENCE
from tests.e2e.terminals import Start, bars, sampling

pytestmark = pytest.mark.e2e

STOP, GO = "\x13", "\x11"  # Ctrl-S and Ctrl-Q
SHELL = ("bash", "--norc", "--noprofile", "-i")


def wait_for_file(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("words", [(), ("--reporter", "console,plain=true")])
def test_text_that_is_held_up_for_longer_than_a_hook_may_take(
    start: Start, tmp_path: Path, words: tuple[str, ...]
) -> None:
    # One second for a hook, and three at the end; the sampler alone takes four.
    env = {"COMFYREPORT_TIME_SCALE": "0.1", "COMFYREPORT_SIM_SPEED": "1"}
    screen = start("--server", "sim", "--output", "out.png", *words, env=env)
    screen.wait(lambda lines: any(re.search(r" ([5-9]|1\d)/20 ", line) for line in lines), "the sampler at work")
    screen.type(STOP)
    wait_for_file(tmp_path / "out.png")
    screen.type(GO)
    assert screen.end() == 0
    assert any(line.startswith("[OK] Generation complete in ") for line in screen.lines)
    assert not any("switched off" in line for line in screen.lines)
    assert sum("out.png" in line for line in screen.lines) == 1


def test_a_run_in_the_background_draws_nothing_over_the_shell(start: Start) -> None:
    screen = start(shell=SHELL)
    screen.wait(lambda lines: lines and lines[-1].startswith("$"), "the prompt")
    screen.type("$RUN &\n")
    screen.wait(lambda lines: any("[OK] Generation complete" in line for line in lines), "the end")
    screen.type("wait; exit\n")
    assert screen.end() == 0
    assert b"\x1b[J" not in screen.raw
    assert b"\x1b[?7l" not in screen.raw
    assert bars(screen) == []


def test_a_run_in_the_background_is_never_stopped_for_writing(start: Start) -> None:
    screen = start(shell=SHELL)
    screen.wait(lambda lines: lines and lines[-1].startswith("$"), "the prompt")
    screen.type("stty tostop; $RUN --output out.png & wait $!; echo the code is $?; exit\n")
    assert screen.end() == 0
    assert "the code is 0" in screen.lines
    assert any("[OK] Generation complete" in line for line in screen.lines)
    assert b"\x1b[J" not in screen.raw


def test_a_run_that_comes_to_the_foreground_draws_again(start: Start) -> None:
    screen = start(shell=SHELL)
    screen.wait(lambda lines: lines and lines[-1].startswith("$"), "the prompt")
    screen.type("$RUN &\n")
    screen.wait(lambda lines: any("[INFO] Generation started" in line for line in lines), "the beginning")
    assert b"\x1b[?7l" not in screen.raw
    screen.type("fg\n")
    screen.wait(sampling, "the sampler at work")
    screen.wait(lambda lines: any(line.startswith("[OK] Generation complete") for line in lines), "the end")
    screen.type("exit\n")
    assert screen.end() == 0
    assert bars(screen) == []
