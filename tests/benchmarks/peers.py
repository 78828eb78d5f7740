"""comfy-cli, the other command line client, in a virtual environment of its own that is kept between runs."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from tests.benchmarks.running import Bench, BenchError, Server, Spent, clean
from tests.e2e.comfyui_env import cache_folder, file_lock

VERSION = "1.23.0"
SETUP_LIMIT = 900


class UnavailableError(Exception):
    """comfy-cli can't be had here; the message says why."""


def command() -> Path:
    """The command `comfy`, installed now if it isn't there. Raises UnavailableError."""
    cache = cache_folder()
    root = cache / f"comfy-cli-{VERSION}-py{sys.version_info[0]}.{sys.version_info[1]}"
    made = root / "bin" / "comfy"
    done = root / "complete"
    with file_lock(cache / "comfy-cli.lock"):
        if not done.exists():
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(root)
            _step([sys.executable, "-m", "venv", str(root)])
            pip = [str(root / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            _step([*pip, "--no-input", f"comfy-cli=={VERSION}"])
            done.touch()
    return made


def _step(words: list[str]) -> None:
    print(f"  {' '.join(words[1:])}", file=sys.stderr, flush=True)
    try:
        subprocess.run(
            words, env=clean(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
            timeout=SETUP_LIMIT,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise UnavailableError(f"{' '.join(words[1:4])}: {' '.join(error.stderr.strip().splitlines()[-1:])}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(str(error)) from error


def client(bench: Bench, *words: object) -> Callable[[], Spent]:
    """comfy-cli with these words; it reports home nothing and has a home folder of its own."""
    home = bench.folder / "home"
    home.mkdir(exist_ok=True)
    off = {"DO_NOT_TRACK": "1", "COMFY_NO_TELEMETRY": "1", "HOME": str(home)}
    own = Bench(bench.folder, environ={**bench.environ, **off})
    made = [command(), "--skip-prompt", *words]
    return lambda: own.run(made)


def follower(bench: Bench, server: Server) -> Callable[[], Spent]:
    """comfy-cli that runs the workflow of a load and waits for its end."""
    place = urlsplit(server.url)
    words = ["run", "--workflow", server.workflow, "--host", place.hostname, "--port", place.port, "--wait"]
    return client(bench, *words)


def check(bench: Bench) -> None:
    """See that it can be had, and that it follows a run of this server to its end. Raises UnavailableError."""
    try:
        with bench.server("chain", 2) as server:
            follower(bench, server)()
    except BenchError as failure:
        raise UnavailableError(str(failure)) from failure
