"""Previews on a real terminal, beside the console's live view, and as files of the installed command."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from comfyreport.simulator import Simulator
from tests.e2e.driver import Driver
from tests.e2e.installation import ROOT, Installed
from tests.e2e.screen import Screen
from tests.e2e.terminals import bars

pytestmark = pytest.mark.e2e

WORKFLOW = os.fspath(ROOT / "workflows" / "sd15-txt2img.json")


@pytest.fixture
def server() -> Iterator[Simulator]:
    with Simulator(speed=4) as simulator:
        yield simulator


def on_terminal(installed: Installed, server: Simulator, folder: Path, *words: str, **environ: str) -> Screen:
    """The installed command on a terminal."""
    command = [os.fspath(installed.comfyreport), "--workflow", WORKFLOW, "--server", server.url, *words]
    return Screen(command, installed.environ({"TERM": "xterm-256color", **environ}), folder, 80, 24)


def pictures(lines: list[str]) -> list[str]:
    return [line for line in lines if "▀" in line]


@pytest.mark.parametrize("order", [("console", "preview=made,show=yes"), ("preview=made,show=yes", "console")])
def test_beside_the_live_view(installed: Installed, server: Simulator, tmp_path: Path, order: tuple[str, str]) -> None:
    screen = on_terminal(installed, server, tmp_path, "--reporter", order[0], "--reporter", order[1])
    seen: list[list[str]] = []
    screen.watch = lambda: seen.append(screen.lines)
    assert screen.end() == 0, screen.lines
    screen.close()
    shown = [lines for lines in seen if pictures(lines)]
    assert shown
    for lines in shown:
        first, last = lines.index(pictures(lines)[0]), len(lines) - 1 - lines[::-1].index(pictures(lines)[-1])
        assert pictures(lines) == lines[first : last + 1], "nothing stands within it"
        assert len({len(line) for line in pictures(lines)}) == 1
        assert all(line.startswith("[") for line in lines[:first]), lines
        assert any("it/s" in line or "█" in line or "░" in line for line in lines[last + 1 :]), lines
    assert pictures(screen.lines) == []
    assert bars(screen) == []
    assert any(line.startswith("[OK]") for line in screen.lines)
    assert len(list((tmp_path / "made").glob("*.jpg"))) == 20


def test_alone(installed: Installed, server: Simulator, tmp_path: Path) -> None:
    screen = on_terminal(installed, server, tmp_path, "--reporter", "preview=run.gif,show=yes", TERM="xterm-kitty")
    assert screen.end() == 0
    screen.close()
    assert b"\x1b_Ga=T," in screen.raw
    assert screen.raw.rfind(b"\x1b_Ga=d,") > screen.raw.rfind(b"\x1b_Ga=T,"), "the last one is erased"
    assert (tmp_path / "run.gif").stat().st_size


def test_files_need_no_package(driver: Driver) -> None:
    words, without = ("--workflow", WORKFLOW, "--server", "sim", "--reporter"), driver.without("PIL")
    ended = driver.run(*words, "preview=previews", env=without)
    assert ended.code == 0, ended.err
    made = sorted((driver.folder / "previews").iterdir())
    assert len(made) == 20
    with Image.open(made[0]) as image:
        assert image.format == "JPEG"
    ended = driver.run(*words, "preview=run.webp", env=without)
    assert ended.code == 2
    assert ended.err.count("needs Pillow") == 1
    assert 'pip install "comfyreport[preview]"' in ended.err
