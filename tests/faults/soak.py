"""Many runs in one process: what they leave in memory, of descriptors and of threads."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from comfyreport.api import run_generation
from comfyreport.timing import Timing
from tests.faults.checks import LEFT_SECONDS, Leaks
from tests.faults.playing import SCALE
from tests.simulator.prompts import Prompt, picture, probe

WARM_UP = 50
"""Runs before the first measure: modules are loaded, pools are filled."""
MOST_BYTES = 4 * 1024 * 1024
MOST_OBJECTS = 100
"""What all runs after the warm-up may add. A thousand runs that leave anything at all leave more."""
_SPEED = 1000.0


@dataclass(frozen=True)
class Measure:
    """What the process holds."""

    runs: int
    bytes: int
    objects: int
    threads: int

    @classmethod
    def now(cls, runs: int) -> Measure:
        """After so many runs."""
        gc.collect()
        return cls(runs, _resident(), len(gc.get_objects()), threading.active_count())

    def __str__(self) -> str:
        return f"{self.runs} runs: {self.bytes / 2**20:.1f} MiB, {self.objects} objects, {self.threads} threads"


def _resident() -> int:
    """Bytes in memory; 0 where that can't be asked."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * 4096 if path.exists() else 0


def soak(runs: int, folder: Path) -> list[Measure]:
    """So many runs, one after the other: successes, failures, partly cached ones; a measure ten times.

    They have a process of their own: in one whose memory is full of holes already, each new thread takes more.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_soak, runs, folder).result()


def _soak(runs: int, folder: Path) -> list[Measure]:
    with _server() as url:
        for index in range(WARM_UP):
            _run(url, index, folder)
        leaks = Leaks()
        measures = [Measure.now(0)]
        for index in range(runs):
            _run(url, index, folder)
            if (index + 1) % max(1, runs // 10) == 0:
                measures.append(Measure.now(index + 1))
        leaks.check()
        return measures


def _run(url: str, index: int, folder: Path) -> None:
    failing = index % 10 == 9
    prompt: Prompt = probe("ProbeRaise") if failing else picture(seed=index, steps=4)
    result = run_generation(
        prompt, server=url, reporters=[f"jsonl={folder / 'soak.jsonl'}"], timing=Timing().scaled(SCALE * 10)
    )
    assert result.status == ("error" if failing else "success"), result


@contextmanager
def _server() -> Iterator[str]:
    """A simulator in a process of its own, so that what it keeps isn't counted."""
    words = [sys.executable, "-m", "comfyreport", "simulate", "--port", "0", "--speed", str(_SPEED)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait(LEFT_SECONDS)


def grown(measures: list[Measure]) -> str:
    """What has grown, empty where nothing has. The least of each half: a moment's peak is no growth."""
    first, second = measures[: len(measures) // 2], measures[len(measures) // 2 :]
    more_bytes = min(each.bytes for each in second) - min(each.bytes for each in first)
    more_objects = min(each.objects for each in second) - min(each.objects for each in first)
    if more_bytes > MOST_BYTES or more_objects > MOST_OBJECTS:
        return "\n".join(map(str, measures))
    return ""
