"""comfyreport as a user has it: the wheel, built from a copy of the checkout, in a virtual environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.comfyui_env import clean_environ

ROOT = Path(__file__).resolve().parents[2]
NOT_INHERITED = ("CI", "COLUMNS", "FORCE_COLOR", "NO_COLOR", "PYTEST_CURRENT_TEST")
NOTHING_LEARNED = {"COMFYREPORT_NO_LEARN": "1", "COMFYREPORT_CACHE": os.path.join(os.devnull, "none")}
"""No test touches what its user's own runs have learned: there is no such folder, for who asks all the same."""
SETUP_LIMIT = 600.0


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel and extras of it (`install`); `folder` is where commands run."""

    root: Path
    folder: Path

    @property
    def python(self) -> Path:
        """The interpreter."""
        return self.root / "bin" / "python"

    @property
    def comfyreport(self) -> Path:
        """The installed command."""
        return self.root / "bin" / "comfyreport"

    def run(
        self,
        *args: str | os.PathLike[str],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run the command; *env* is added to a clean environment. Nothing is checked, all output is kept."""
        return subprocess.run(
            [self.comfyreport, *args],
            env=self.environ(env),
            cwd=cwd or self.folder,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    def environ(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Variables for its processes: nothing of the test run's own settings, UTF-8, nothing learned, and *more*."""
        ours = {
            name: value
            for name, value in clean_environ().items()
            if name not in NOT_INHERITED and not name.startswith("COMFYREPORT_")
        }
        return ours | {"PYTHONUTF8": "1"} | NOTHING_LEARNED | dict(more or {})


def copy_checkout(target: Path) -> Path:
    """A copy of the checkout's files without what git ignores, so that building leaves nothing in the tree."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, timeout=60, encoding="utf-8",
    )  # fmt: skip
    for name in filter(None, listing.stdout.split("\0")):
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    return target


def build_wheel(project: Path, folder: Path) -> Path:
    """Build the wheel of *project* into *folder*."""
    pip("wheel", project, "--no-deps", "--wheel-dir", folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def pip(*args: str | os.PathLike[str], python: str | os.PathLike[str] = sys.executable) -> None:
    """Run pip quietly; its output stands in the failure where it fails."""
    command = [
        os.fspath(python),
        "-m",
        "pip",
        *(os.fspath(each) for each in args),
        "--quiet",
        "--disable-pip-version-check",
    ]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=SETUP_LIMIT, env=clean_environ(), check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


def install(folder: Path) -> Installed:
    """Build the checkout's wheel and install it with these extras below *folder*."""
    wheel = build_wheel(copy_checkout(folder / "checkout"), folder / "wheel")
    return install_wheels(folder, f"{wheel}[html,junit,media,otel,preview,sim]")


def install_wheels(folder: Path, *wheels: str) -> Installed:
    """A new virtual environment below *folder* with *wheels* and what they need."""
    root = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", root], check=True, timeout=SETUP_LIMIT)
    made = Installed(root, folder / "work")
    made.folder.mkdir()
    pip("install", *wheels, python=made.python)
    return made
