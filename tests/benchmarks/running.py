"""Runs clients against the blast server, and tells what each has cost: CPU seconds, wall seconds, memory."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from tests.benchmarks.loads import load
from tests.e2e.comfyui_env import clean_environ
from tests.e2e.installation import NOTHING_LEARNED

ROOT = Path(__file__).resolve().parents[2]
BARE = Path(__file__).with_name("bare.py")
LIMIT, SHORT_LIMIT = 300.0, 20.0
NOT_INHERITED = ("CI", "COLUMNS", "FORCE_COLOR", "NO_COLOR", "PYTEST_CURRENT_TEST", "PYTHONDONTWRITEBYTECODE")


def clean() -> dict[str, str]:
    """A clean environment, in which comfyreport isn't told anything."""
    kept = clean_environ().items()
    ours = {name: value for name, value in kept if name not in NOT_INHERITED and not name.startswith("COMFYREPORT_")}
    return ours | {"PYTHONUTF8": "1"} | NOTHING_LEARNED


class BenchError(Exception):
    """A client didn't do its work; the message says what was wrong."""


class Spent(NamedTuple):
    """What one process has cost; `peak` in MiB, `end` by the monotonic clock, `noted` what the server said of it."""

    cpu: float
    peak: float
    end: float = 0.0
    noted: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Server:
    """A blast server in a process of its own, and the workflow that belongs to its load."""

    url: str
    workflow: Path
    process: subprocess.Popen[str]

    def tell(self, line: str) -> None:
        """Write one line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def notes(self, until: str) -> dict[str, Any]:
        """What it said, up to the note that has the key *until*."""
        assert self.process.stdout is not None
        notes: dict[str, Any] = {}
        while until not in notes:
            line = self.process.stdout.readline()
            if not line:
                raise BenchError("the server has ended")
            notes |= json.loads(line)
        return notes


@dataclass(frozen=True)
class Bench:
    """How to measure: so many times, in this folder, long or short."""

    folder: Path
    repeat: int = 5
    short: bool = False
    peers: bool = True
    environ: Mapping[str, str] = field(default_factory=clean)

    @contextlib.contextmanager
    def server(self, *words: object, options: Sequence[str] = ()) -> Iterator[Server]:
        """Serve the load that is named by *words*."""
        named = list(map(str, words))
        workflow = self.folder / f"workflow-{'-'.join(named)}.json"
        workflow.write_text(json.dumps(load(named).workflow), encoding="utf-8")
        command = [sys.executable, "-m", "tests.benchmarks.blast", *options, *named]
        with subprocess.Popen(
            command, cwd=ROOT, env=self.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                yield Server(process.stdout.readline().strip(), workflow, process)
            finally:
                process.kill()

    def several(self, clients: Mapping[str, Callable[[], Spent]]) -> dict[str, list[Spent]]:
        """Run all clients in turn, again and again, so that what disturbs one disturbs all; the first round is free."""
        spent: dict[str, list[Spent]] = {name: [] for name in clients}
        for turn in range(self.repeat if self.short else self.repeat + 1):
            for name, client in clients.items():
                made = client()
                if turn or self.short:
                    spent[name].append(made)
        return spent

    def run(self, command: Sequence[object], **options: Any) -> Spent:
        """Run a command in the folder of this run; see `run`."""
        limit = SHORT_LIMIT if self.short else LIMIT
        return run(list(map(str, command)), folder=self.folder, environ=self.environ, limit=limit, **options)


def comfyreport() -> list[object]:
    """The installed command, as a user starts it."""
    return [Path(sys.executable).with_name("comfyreport")]


def median(spent: Sequence[Spent]) -> float:
    """The middle one of the CPU seconds."""
    return statistics.median(each.cpu for each in spent)


def run(
    command: list[str],
    *,
    folder: Path,
    environ: Mapping[str, str],
    limit: float = LIMIT,
    server: Server | None = None,
    note: str = "",
    clock: bool = False,
    code: int = 0,
    read: Callable[[IO[bytes]], None] | None = None,
) -> Spent:
    """Run a command to its end. Raises BenchError where it ends with another code than *code*.

    :param note: what the server is to have said meanwhile.
    :param clock: tell the server the process's id.
    :param read: reads its stdout to the end.
    """
    with tempfile.TemporaryFile(dir=folder) as err:
        # Popen isn't entered: it would wait for the process itself, and its cost would be lost.
        process = subprocess.Popen(
            command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stderr=err,
            stdout=subprocess.DEVNULL if read is None else subprocess.PIPE,
        )  # fmt: skip
        if clock and server is not None:
            server.tell(str(process.pid))
        killer = threading.Timer(limit, process.kill)
        killer.daemon = True
        killer.start()
        if read is not None and process.stdout is not None:
            with process.stdout:
                read(process.stdout)
        _, status, usage = os.wait4(process.pid, 0)
        end = time.monotonic()
        killer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != code:
            err.seek(0)
            said = err.read().decode(errors="replace").strip().splitlines()
            raise BenchError(f"{Path(command[0]).name} ended with {process.returncode}: {' '.join(said[-1:])}")
    noted = server.notes(note) if server is not None and note else {}
    return Spent(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, end, noted)
