"""A Dask cluster of processes on loopback: a scheduler, and workers that each have a simulated server beside them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from comfyreport.simulator import Simulator
from tests.e2e.installation import NOTHING_LEARNED

LIMIT = 60.0


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Cluster:
    """Processes that end with the test; `folder` has their logs. All listen on loopback alone.

    :param environ: more variables, for all of them.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"dask://127.0.0.1:{self.port}"
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self._environ = {**os.environ, **NOTHING_LEARNED, **environ}
        self._scheduler = self._start(
            "scheduler", ["dask", "scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"], {}
        )
        self._wait_for_port()

    def add_worker(self, name: str, server: str, *options: str, environ: Mapping[str, str] | None = None) -> None:
        """Start a worker beside *server*: one of its two runs waits there."""
        command = ["dask", "worker", f"tcp://127.0.0.1:{self.port}", "--host", "127.0.0.1", "--no-dashboard"]
        command += ["--nthreads", "2", "--name", name, *(options or ("--no-nanny",))]
        self.workers[name] = self._start(name, command, {"COMFYREPORT_SERVER": server, **(environ or {})})

    def kill_worker(self, name: str) -> None:
        """Kill what makes the runs: with a nanny, its child, which is started again."""
        process = self.workers[name]
        children = psutil.Process(process.pid).children(recursive=True)
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        for pid in [worker.pid for worker in workers] or [process.pid]:
            os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End all processes, and see that they have ended."""
        for process in (*self.workers.values(), self._scheduler):
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()
        for process in (*self.workers.values(), self._scheduler):
            process.wait(LIMIT)

    def _start(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with open(self.folder / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                env={**self._environ, **environ}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
            )  # fmt: skip

    def _wait_for_port(self) -> None:
        until = time.monotonic() + LIMIT
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return
            time.sleep(0.05)
        raise AssertionError((self.folder / "scheduler.log").read_text(encoding="utf-8"))


@contextlib.contextmanager
def cluster(folder: Path, **environ: str) -> Iterator[Cluster]:
    """A cluster without workers."""
    made = Cluster(folder, environ)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def simulators(count: int, speed: float) -> Iterator[list[Simulator]]:
    """Simulated servers whose requests are noted."""
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(Simulator(speed=speed)) for _ in range(count)]
        for each in started:
            each.play()
        yield started
