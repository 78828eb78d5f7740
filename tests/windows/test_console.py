"""The command on a console: what it switches on there, what it draws, how Ctrl-C reaches it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyreport.reporting.streams import Stream, Terminals
from comfyreport.simulator import Simulator
from tests.docs.pages import ROOT

WINDOWS = sys.platform == "win32"
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not (WINDOWS and sys.__stdin__ and sys.__stdin__.isatty()), reason="needs a console of Windows"),
]

COMMAND = (sys.executable, "-m", "comfyreport")
WORKFLOW = str(ROOT / "workflows" / "sd15-txt2img.json")
LIMIT = 60.0
SOON = 6.0
INTERPRETS_ESCAPES = 4  # ENABLE_VIRTUAL_TERMINAL_PROCESSING
PRINTS = """
from comfyreport import hookimpl
@hookimpl
def comfyreport_node_started(event):
    print("a stray print")
"""
WAITS = """
import sys
from comfyreport import ProgressTracker
tracker = ProgressTracker(sys.argv[1], quiet=True)
tracker.start()
tracker.connected.wait(10)
print("waits", flush=True)
tracker.wait()
"""


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of its own; a Ctrl-C goes to all on the console, but ends no test."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("COMFYREPORT_SIM_SPEED", "5")
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGINT, lambda *_: None)
    yield
    signal.signal(signal.SIGINT, before)


class Modes:
    """The modes of the console that this process shares with what it starts."""

    def __init__(self) -> None:
        self._kernel: Any = getattr(ctypes, "windll").kernel32  # noqa: B009  mypy on Linux doesn't know it
        self._kernel.GetStdHandle.restype = ctypes.c_void_p
        self._output = ctypes.c_void_p(self._kernel.GetStdHandle(-11))

    def get(self) -> int:
        mode = ctypes.c_ulong()
        assert self._kernel.GetConsoleMode(self._output, ctypes.byref(mode))
        return mode.value

    def set(self, mode: int) -> None:
        assert self._kernel.SetConsoleMode(self._output, mode)


def watch(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> bool:
    """Whether the condition held once, before the process was over or the time was."""
    deadline = time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def ctrl_c(*words: str, at: str) -> int | None:
    """The exit code of a command that hears Ctrl-C once *at* was in its output; None if it goes on."""
    output = Path("output.txt")
    with output.open("wb") as file:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file)
    try:
        assert watch(process, lambda: at.encode() in output.read_bytes())
        time.sleep(0.5)
        os.kill(0, getattr(signal, "CTRL_C_EVENT", 0))
        return process.wait(SOON)
    except subprocess.TimeoutExpired:
        return None
    finally:
        process.kill()
        process.wait()


def test_the_live_view_switches_escape_sequences_on() -> None:
    modes = Modes()
    modes.set(modes.get() & ~INTERPRETS_ESCAPES)
    process = subprocess.Popen([*COMMAND, "--workflow", WORKFLOW, "--server", "sim"], stdin=subprocess.DEVNULL)
    assert watch(process, lambda: bool(modes.get() & INTERPRETS_ESCAPES))
    assert process.wait(LIMIT) == 0
    assert not modes.get() & INTERPRETS_ESCAPES


def test_stray_prints_harm_nothing() -> None:
    Path("prints.py").write_text(PRINTS, encoding="utf-8")
    command = [*COMMAND, "--workflow", WORKFLOW, "--server", "sim", "-p", "prints"]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, timeout=LIMIT, check=False).returncode == 0


def test_stdout_and_stderr_are_one_terminal() -> None:
    terminals = Terminals()
    streams = [Stream(file, name="any", terminals=terminals) for file in (sys.stdout, sys.stderr)]
    assert streams[0]._terminal_key() == streams[1]._terminal_key()


def test_ctrl_c_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYREPORT_SIM_SPEED", "0.5")
    words = ("--workflow", WORKFLOW, "--server", "sim", "--reporter", "jsonl")
    assert ctrl_c(*COMMAND, *words, at='"node_progress"') == 130


def test_ctrl_c_in_simulate() -> None:
    assert ctrl_c(*COMMAND, "simulate", "--port", "0", at="http://") is not None


def test_ctrl_c_in_a_replay() -> None:
    """Which waits for its next line."""
    words = ("replay", "txt2img", "--speed", "0.000001", "--reporter", "jsonl")
    assert ctrl_c(*COMMAND, *words, at='"stream_started"') == 130


def test_ctrl_c_in_wait() -> None:
    Path("waits.py").write_text(WAITS, encoding="utf-8")
    with Simulator() as simulator:
        assert ctrl_c(sys.executable, "waits.py", simulator.url, at="waits") is not None
