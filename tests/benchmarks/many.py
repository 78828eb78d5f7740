"""Many runs on many servers: `python -m tests.benchmarks.many [runs|servers]`.

`runs`: a grid on four simulated servers, each a process of its own; memory of the client, CPU seconds a run, and the
part of the time in which a server that still got runs had none. `servers`: one client follows many servers at ten
messages a second each; the cores that it takes meanwhile.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.benchmarks.running import ROOT, clean, comfyreport

WORKFLOW = ROOT / "workflows" / "sd15-txt2img.json"


@contextmanager
def simulator(speed: float) -> Iterator[str]:
    """A simulated server in a process of its own; its URL."""
    command = [*comfyreport(), "simulate", "--port", "0", "--speed", str(speed)]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, env=clean()) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def busy_times(url: str) -> list[tuple[float, float]]:
    """From when to when the server worked on each prompt that it has done, in seconds, in order."""
    with urllib.request.urlopen(f"{url}/history?max_items=100000", timeout=60) as answer:
        history: dict[str, Any] = json.load(answer)
    times = []
    for entry in history.values():
        at = {name: data["timestamp"] / 1000 for name, data in entry["status"]["messages"]}
        times.append((at["execution_start"], max(at.values())))
    return sorted(times)


def idle_share(times: Sequence[tuple[float, float]]) -> float:
    """The part of the time between the first and the last prompt in which there was none."""
    idle = sum(max(0.0, later[0] - earlier[1]) for earlier, later in pairwise(times))
    return idle / (times[-1][1] - times[0][0])


class Client:
    """comfyreport as a process, and what it takes."""

    def __init__(self, folder: Path, words: Sequence[object]) -> None:
        command = [*comfyreport(), "--workflow", WORKFLOW, *words]
        self._out = (folder / "out").open("wb")
        self.process = subprocess.Popen(
            list(map(str, command)), cwd=folder, stdout=self._out, stderr=subprocess.STDOUT, env=clean()
        )
        self.peak = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while self.process.poll() is None:
            for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines():
                if line.startswith("VmHWM"):
                    self.peak = int(line.split()[1]) / 1024
            time.sleep(0.2)

    @property
    def cpu(self) -> float:
        """CPU seconds until now, while it runs."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


def measure_runs(count: int, servers: int, speed: float) -> None:
    """A grid of so many runs."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        urls = [stack.enter_context(simulator(speed)) for _ in range(servers)]
        words: list[object] = [each for url in urls for each in ("--server", url)]
        words += ["--grid", f"seed=1..{count}", "--reporter", "jsonl=events.jsonl", "--manifest", "made.jsonl"]
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        client = Client(Path(name), [*words, "--state", "state.db"])
        code = client.process.wait()
        after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        lines = (Path(name) / "made.jsonl").read_text(encoding="utf-8").splitlines()
        print(f"exit code {code}, {len(lines)} runs in {seconds:.1f} s, at most {client.peak:.0f} MiB")
        print(f"{1000 * cpu / count:.1f} ms CPU a run")
        for url in urls:
            times = busy_times(url)
            print(f"{url}: {len(times)} runs, idle for {100 * idle_share(times):.2f} % of the time")


def measure_servers(servers: int, seconds: float) -> None:
    """So many servers at ten messages a second each, followed for so many seconds."""
    code = (
        "import sys, time\nfrom contextlib import ExitStack\nfrom comfyreport.simulator import Simulator\n"
        "with ExitStack() as stack:\n"
        f" print(*[stack.enter_context(Simulator(speed={SAMPLER_SPEED})).url for _ in range({servers})], flush=True)\n"
        " sys.stdin.read()\n"
    )
    with (
        tempfile.TemporaryDirectory() as name,
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean()
        ) as process,
    ):
        try:
            assert process.stdout is not None
            words: list[object] = [each for url in process.stdout.readline().split() for each in ("--server", url)]
            steps = ["--steps", "10000", "--grid", f"seed=1..{2 * servers}", "--reporter", "jsonl=events.jsonl"]
            client = Client(Path(name), [*words, *steps])
            time.sleep(30)
            events = Path(name) / "events.jsonl"
            cpu, size, began = client.cpu, _lines(events), time.monotonic()
            time.sleep(seconds)
            took = time.monotonic() - began
            print(f"{(_lines(events) - size) / took:.0f} events a second")
            print(f"{(client.cpu - cpu) / took:.2f} cores, at most {client.peak:.0f} MiB")
        finally:
            process.kill()
            client.process.kill()


SAMPLER_SPEED = 1.0
"""At which a simulated sampler makes ten messages a second, or about as many."""


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.many", description=__doc__, allow_abbrev=False)
    parser.add_argument("what", choices=("runs", "servers"))
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--servers", type=int)
    parser.add_argument("--speed", type=float, default=1.0, help="of the simulated servers")
    parser.add_argument("--seconds", type=float, default=30.0)
    arguments = parser.parse_args(argv)
    if arguments.what == "runs":
        measure_runs(arguments.runs, arguments.servers or 4, arguments.speed)
    else:
        measure_servers(arguments.servers or 100, arguments.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
