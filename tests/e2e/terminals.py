"""Commands on a terminal, each with a simulated server of its own; `conftest.py` makes the fixtures known."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from comfyreport.simulator import Simulator
from tests.e2e.installation import ROOT, Installed
from tests.e2e.screen import Screen

Start = Callable[..., Screen]


@pytest.fixture
def terminal_server() -> Iterator[Simulator]:
    """A server of its own for each test: what one has run the next would get from the cache."""
    with Simulator(speed=4) as simulator:
        yield simulator


@pytest.fixture
def start(installed: Installed, terminal_server: Simulator, tmp_path: Path) -> Iterator[Start]:
    """Starts the installed command on a terminal, or *shell*, where the variable `RUN` is that command."""
    screens: list[Screen] = []

    def begin(
        *words: str,
        columns: int = 80,
        rows: int = 24,
        env: dict[str, str] | None = None,
        shell: tuple[str, ...] = (),
    ) -> Screen:
        workflow = ROOT / "workflows" / "sd15-txt2img.json"
        command = [os.fspath(installed.comfyreport), "--workflow", os.fspath(workflow), *words]
        environ = installed.environ(
            {
                "TERM": "xterm-256color",
                "COMFYREPORT_SERVER": terminal_server.url,
                "PYTHONPATH": os.fspath(tmp_path),
                "RUN": " ".join(command),
                "PS1": "$ ",
                **(env or {}),
            }
        )
        screens.append(Screen(shell or command, environ, tmp_path, columns, rows))
        return screens[-1]

    yield begin
    for screen in screens:
        screen.close()


def sampling(lines: list[str]) -> bool:
    """Whether the live view shows a sampler at work."""
    return any(re.match(r"KSampler .*[█░].* ([5-9]|1\d)/20 ", line) for line in lines)


def bars(screen: Screen) -> list[str]:
    """The lines with a bar."""
    return [line for line in screen.lines if "█" in line or "░" in line]
