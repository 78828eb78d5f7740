"""`generate.py`: the command under its first name, and the names that it exports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import comfyreport
import generate
from comfyreport.cli.main import main

pytestmark = pytest.mark.slow

ROOT = Path(generate.__file__).parent
LIMIT = 60.0


def run(*words: str | Path, folder: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program with this interpreter."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder, env={**os.environ, "COMFYREPORT_SIM_SPEED": "50", **environ}, stdin=subprocess.DEVNULL,
        capture_output=True, encoding="utf-8", timeout=LIMIT, check=False,
    )  # fmt: skip


def test_its_names_are_those_of_the_package() -> None:
    assert generate.ProgressTracker is comfyreport.ProgressTracker
    assert generate.run_generation is comfyreport.run_generation
    assert generate.wait_for_completion is comfyreport.wait_for_completion
    assert generate.main is main
    assert set(generate.__all__) == {"ProgressTracker", "main", "run_generation", "wait_for_completion"}


def test_it_takes_the_flags_of_the_command(tmp_path: Path) -> None:
    picture = tmp_path / "sunset.png"
    workflow = ROOT / "workflows" / "flux-dev.json"
    words = ("generate.py", "--workflow", workflow, "--prompt", "a sunset over mountains", "--output", picture)
    done = run(*words, "--quiet", "--server", "sim")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{picture}\n", "")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_its_help_is_that_of_the_command() -> None:
    done = run("generate.py", "--help")
    assert done.returncode == 0
    for flag in ("--workflow", "--prompt", "--output", "--quiet", "--json-progress"):
        assert flag in done.stdout


def test_its_exit_code_is_that_of_the_command() -> None:
    done = run("generate.py", "--workflow", "nowhere.json", "--quiet")
    assert done.returncode == 2
    assert done.stderr.startswith("[ERROR] nowhere.json doesn't exist\n  Hint: ")


@pytest.mark.parametrize("words", [("generate.py", "--help"), ("-c", "import generate")])
def test_without_an_installation_it_says_what_to_install(tmp_path: Path, words: tuple[str, ...]) -> None:
    shutil.copy(ROOT / "generate.py", tmp_path)
    # A clone has the package's folder beside it; that alone must not do.
    (tmp_path / "comfyreport").symlink_to(ROOT / "comfyreport")
    done = run("-S", "-E", *words, folder=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Hint: install comfyreport first: pip install" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_tests_of_the_tracker_run_by_themselves(tmp_path: Path) -> None:
    done = run(ROOT / "tests" / "test_websocket_progress.py", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith(" passed, 0 failed")
    assert done.stderr == ""
