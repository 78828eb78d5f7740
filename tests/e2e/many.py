"""Commands of many runs: the servers that they are given, and what they have made."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.e2e.driver import Driver, Ended
from tests.e2e.installation import ROOT, Installed

WORKFLOW = ROOT / "workflows" / "sd15-txt2img.json"


class SimulatedServer:
    """A simulated ComfyUI, a process of its own."""

    def __init__(self, installed: Installed, speed: float, port: int = 0, *flags: str) -> None:
        words = ["simulate", "--port", str(port), "--speed", str(speed), *flags]
        self.process = subprocess.Popen(
            [installed.comfyreport, *words], stdout=subprocess.PIPE, text=True, env=installed.environ({})
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def kill(self) -> None:
        """End it as a crash does."""
        if self.process.poll() is None:
            self.process.kill()
            # Which closes its stdout, too.
            self.process.communicate()

    def history(self) -> dict[str, Any]:
        """What it has done, by prompt."""
        found: dict[str, Any] = requests.get(f"{self.url}/history?max_items=100000", timeout=30).json()
        return found


@contextmanager
def simulated(installed: Installed, speed: float = 20.0, *flags: str) -> Iterator[SimulatedServer]:
    """A server that ends with the context."""
    server = SimulatedServer(installed, speed, 0, *flags)
    try:
        yield server
    finally:
        server.kill()


def manifest(path: Path) -> list[dict[str, Any]]:
    """The lines of a manifest, of which each run has one at most."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    counts = Counter(line["index"] for line in lines)
    assert not counts or counts.most_common(1)[0][1] == 1, counts
    return lines


def run_many(driver: Driver, *words: str | os.PathLike[str], **options: Any) -> Ended:
    """Run a command of the usual workflow to its end."""
    return driver.run("--workflow", WORKFLOW, *words, **options)


def indexes(ended: Ended) -> list[int]:
    """The runs that have ended, in order of their number."""
    return sorted(event["run_index"] for event in ended.of("run_finished"))
