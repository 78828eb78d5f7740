"""The fleet of docs/fleets.md, with processes in place of its containers: the commands of the page run on it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from comfyreport.fleet.worker import OUTPUT, SEND_BACK
from tests.docs.pages import BY_NAME, quoted
from tests.e2e.cluster import LIMIT, free_port
from tests.e2e.installation import NOTHING_LEARNED, ROOT

PAGE = BY_NAME["docs/fleets.md"]
_ON_LOOPBACK = {
    "scheduler": ["--host", "127.0.0.1", "--no-dashboard"],
    "worker": ["--host", "127.0.0.1", "--no-dashboard"],
}


def services() -> dict[str, Any]:
    (compose,) = [block for block in PAGE.blocks if block.file == "compose.yaml"]
    found: dict[str, Any] = yaml.safe_load(compose.text)["services"]
    return found


class Processes:
    """The services as processes on loopback, each with ports of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = {name: free_port() for name in services() if not name.startswith("worker")}
        self._processes: list[subprocess.Popen[bytes]] = []

    def here(self, text: str) -> str:
        """*text* with the addresses and folders of the containers as they are here."""
        for name, port in self._ports.items():
            text = re.sub(rf"\b{name}:\d+", f"127.0.0.1:{port}", text)
        text = text.replace("127.0.0.1:8786", f"127.0.0.1:{self._ports['scheduler']}")
        return text.replace("/outputs", str(self._folder / "outputs"))

    def start(self, name: str, service: dict[str, Any]) -> None:
        """Start a service."""
        command = service["command"]
        words = shlex.split(command) if isinstance(command, str) else list(command)
        own = str(self._ports.get(name, ""))
        words = [re.sub(r"\b(8786|8188)\b", own, word) if own else self.here(word) for word in words]
        words = [word.replace("0.0.0.0", "127.0.0.1") for word in words]
        if words[0] == "dask":
            words = [sys.executable, "-m", *words, *_ON_LOOPBACK[words[1]]]
        else:
            assert words[0] == "python"
            words[0] = sys.executable
        variables = {key: self.here(value) for key, value in service.get("environment", {}).items()}
        with open(self._folder / f"{name}.log", "wb") as log:
            self._processes.append(
                subprocess.Popen(
                    words,
                    env={**os.environ, **NOTHING_LEARNED, **variables},
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def stop(self) -> None:
        """End all of them, with what they started."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(LIMIT)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path)
    try:
        for name, service in services().items():
            processes.start(name, service)
        yield processes
    finally:
        processes.stop()


@pytest.mark.e2e
def test_the_commands_of_the_page_run_on_its_fleet(fleet: Processes, tmp_path: Path) -> None:
    commands = [block.text for block in PAGE.blocks if block.text.startswith("comfyreport ")]
    assert commands
    for command in commands:
        words = shlex.split(fleet.here(command))
        words[words.index("--workflow") + 1] = str(ROOT / words[words.index("--workflow") + 1])
        scripts = Path(sys.executable).parent
        for _ in range(100):
            done = subprocess.run(
                [scripts / words[0], *words[1:]],
                cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=LIMIT * 2, check=False,
                env={**os.environ, **NOTHING_LEARNED},
            )  # fmt: skip
            # The scheduler takes a moment to listen.
            if done.returncode != 3:
                break
        assert done.returncode == 0, done.stderr
        assert "8 runs complete" in done.stderr
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == [f"{seed}.png" for seed in range(1, 9)]


def test_all_services_are_shown_with_what_they_need() -> None:
    names = list(services())
    assert names == ["scheduler", "comfyui-1", "comfyui-2", "worker-1", "worker-2"]
    servers = [services()[name]["environment"]["COMFYREPORT_SERVER"] for name in names if name.startswith("worker")]
    assert servers == ["http://comfyui-1:8188", "http://comfyui-2:8188"]


def test_the_variables_of_a_worker() -> None:
    told = [quoted(row[0])[0] for row in PAGE.rows("variable of a worker")]
    assert told == ["COMFYREPORT_SERVER", "COMFYREPORT_TOKEN", OUTPUT, SEND_BACK]
