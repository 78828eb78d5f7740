"""Drives the installed command as a process and reads what it told: its event stream, its output, its exit code."""

from __future__ import annotations

import functools
import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from tests.e2e.installation import Installed

Event = dict[str, Any]
LIMIT = 90.0
"""Seconds within which anything happens on a machine that is merely slow."""


class StreamChecker:
    """Checks event streams against what every stream promises; *schema* is what `comfyreport schema` prints."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._shared = {key: value for key, value in schema.items() if key not in ("oneOf", "required", "properties")}
        self._validators: dict[str, Draft202012Validator] = {}

    def _validate(self, event: Event) -> None:
        kind = event["type"]
        if kind not in self._validators:
            one = {**self._shared, "$ref": f"#/$defs/{kind}"}
            self._validators[kind] = Draft202012Validator(one)
        self._validators[kind].validate(event)

    def lines(self, text: str) -> list[Event]:
        """The events of *text*, each valid by itself."""
        assert text.endswith("\n"), text[-200:]
        events = [json.loads(line, parse_constant=_no_constant) for line in text.splitlines()]
        for event in events:
            self._validate(event)
        return events

    def whole(self, text: str) -> list[Event]:
        """The events of a stream from its first to its last."""
        events = self.lines(text)
        kinds = [event["type"] for event in events]
        assert kinds[0] == "stream_started"
        assert kinds[-1] == "stream_finished"
        for once in ("stream_started", "stream_finished"):
            assert kinds.count(once) == 1, kinds
        numbers = [event["seq"] for event in events]
        assert all(earlier < later for earlier, later in itertools.pairwise(numbers))
        runs: dict[int | None, list[Event]] = {}
        for event in events[1:-1]:
            runs.setdefault(event.get("run_index"), []).append(event)
        if len(runs) > 1:
            assert all(earlier["elapsed"] <= later["elapsed"] for earlier, later in itertools.pairwise(events))
            # What is told of all of them.
            runs.pop(None, None)
        for run in runs.values():
            _check_run(run)
        failed = sum(event["exit_code"] != 0 for event in events if event["type"] == "run_finished")
        assert (events[-1]["runs"], events[-1]["failed"]) == (len(runs), failed)
        return events


def _check_run(events: list[Event]) -> None:
    """One run's events, which has one end; one that was lost may begin again."""
    assert [event["type"] for event in events].count("run_finished") == 1
    assert events[-1]["type"] == "run_finished", events[-1]
    begun = [0, *(at for at, event in enumerate(events) if event.get("code") == "run_moved"), len(events)]
    for start, end in itertools.pairwise(dict.fromkeys(begun)):
        _check_fractions(events[start:end])
        _check_nodes(events[start:end])


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def _check_fractions(events: list[Event]) -> None:
    """The done part never falls, and is 1 only at a success."""
    fractions = [event["fraction"] for event in events if "fraction" in event]
    assert fractions == sorted(fractions)
    assert events[-1].get("status") in ("success", "partial") or 1 not in fractions


def _check_nodes(events: list[Event]) -> None:
    """A node that begins ends, or the run does; what a node tells it tells while it runs."""
    running: set[str] = set()
    for event in events:
        if event["type"] == "node_started":
            assert event["node_id"] not in running, event
            running.add(event["node_id"])
        elif event["type"] == "node_finished":
            # Without a beginning, it was missed, and how long the node took isn't known.
            assert event["node_id"] in running or "seconds" not in event, event
            running.discard(event["node_id"])
        elif event["type"] in ("node_progress", "node_text"):
            assert event["node_id"] in running, event


@dataclass(frozen=True)
class Ended:
    """A process that has ended, and the event stream that it wrote to a file, if it was asked to."""

    code: int
    out: str
    err: str
    events: list[Event] = field(default_factory=list)

    def of(self, kind: str) -> list[Event]:
        """The events of one type."""
        return [event for event in self.events if event["type"] == kind]

    @property
    def result(self) -> Event:
        """How the run ended."""
        (event,) = self.of("run_finished")
        return event

    def nodes(self, kind: str) -> list[str]:
        """The ids of the nodes that events of one type tell of."""
        return [event["node_id"] for event in self.of(kind)]


class Running:
    """A process at work. Its output goes to files, so that nothing of it can block."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, checker: StreamChecker) -> None:
        self.process = process
        self.stream = folder / "events.jsonl"
        self._folder = folder
        self._checker = checker

    def text(self, name: str) -> str:
        """What stands in `out`, `err` or the stream by now."""
        path = self._folder / name
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def wait_for(self, happened: Callable[[Event], bool], what: str = "the event") -> Event:
        """Wait for an event of the stream; the first that fits."""
        deadline = time.monotonic() + LIMIT
        while True:
            ended = self.process.poll() is not None
            # A last line without its end is still being written.
            for line in self.text("events.jsonl").split("\n")[:-1]:
                event: Event = json.loads(line)
                if happened(event):
                    return event
            assert not ended, f"ended with {self.process.returncode} before {what}\n{self.text('err')}"
            assert time.monotonic() < deadline, f"{what} didn't come\n{self.text('err')}"
            time.sleep(0.02)

    def wait_for_type(self, kind: str, node_id: str | None = None) -> Event:
        """Wait for an event of one type, and of one node."""
        return self.wait_for(
            lambda event: event["type"] == kind and node_id in (None, event.get("node_id")), f"{kind} {node_id or ''}"
        )

    def signal_until_the_end(self, number: signal.Signals = signal.SIGINT) -> Ended:
        """Press Ctrl-C again and again, as who is impatient: those that come together are one."""
        deadline = time.monotonic() + LIMIT
        while self.process.poll() is None and time.monotonic() < deadline:
            self.signal(number)
            time.sleep(0.1)
        return self.end()

    def signal(self, number: signal.Signals = signal.SIGINT) -> None:
        """Send the process a signal: Ctrl-C, unless another is named."""
        self.process.send_signal(number)

    def end(self, seconds: float = LIMIT) -> Ended:
        """Wait for the end and read all that was told; the stream must be whole."""
        self.process.wait(seconds)
        ended = Ended(self.process.returncode, self.text("out"), self.text("err"))
        assert "Traceback (most recent call last)" not in ended.err or "    File " in ended.err, ended.err
        if not self.stream.exists():
            return ended
        events = self._checker.whole(self.text("events.jsonl"))
        assert events[-1]["exit_code"] == ended.code, (events[-1], ended.err)
        return Ended(ended.code, ended.out, ended.err, events)


class Driver:
    """Starts the installed command, each time in a folder of its own below *folder*, and ends what is left."""

    def __init__(self, installed: Installed, folder: Path, checker: StreamChecker) -> None:
        self.installed = installed
        self.folder = folder
        self.checker = checker
        self.server = ""
        self._count = 0
        self._processes: list[subprocess.Popen[bytes]] = []

    def path(self, name: str, content: object = None) -> Path:
        """A file in the folder: text or bytes as they are, anything else as JSON."""
        path = self.folder / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    def without(self, package: str) -> dict[str, str]:
        """Variables for a command that hasn't *package*."""
        self.path(f"{package}.py", f"raise ModuleNotFoundError(\"No module named '{package}'\", name='{package}')\n")
        return {"PYTHONPATH": os.fspath(self.folder)}

    def start(
        self,
        *arguments: str | os.PathLike[str],
        env: Mapping[str, str] | None = None,
        stream: bool = True,
        command: tuple[str | os.PathLike[str], ...] = (),
        **popen: Any,
    ) -> Running:
        """Start the command, or another; *stream* adds a reporter that writes the event stream to a file."""
        self._count += 1
        folder = self.folder / f"process-{self._count}"
        folder.mkdir()
        words = [*(command or (self.installed.comfyreport,)), *arguments]
        if stream:
            words += ["--reporter", f"jsonl={folder / 'events.jsonl'},rate=0"]
        ours = {"COMFYREPORT_SERVER": self.server} if self.server else {}
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            options = {"stdout": out, "stderr": err, "stdin": subprocess.DEVNULL, "cwd": self.folder, **popen}
            process = subprocess.Popen(words, env=self.installed.environ({**ours, **(env or {})}), **options)
        self._processes.append(process)
        return Running(process, folder, self.checker)

    def run(self, *arguments: str | os.PathLike[str], seconds: float = LIMIT, **options: Any) -> Ended:
        """Run the command to its end."""
        return self.start(*arguments, **options).end(seconds)

    def begin(self, graph: object, *arguments: str | os.PathLike[str], **options: Any) -> Running:
        """Start the command with a workflow given as an object."""
        return self.start("--workflow", self.path(f"workflow-{self._count}.json", graph), *arguments, **options)

    def follow(self, graph: object, *arguments: str | os.PathLike[str], **options: Any) -> Ended:
        """Run a workflow given as an object to its end."""
        return self.begin(graph, *arguments, **options).end()

    def end_all(self) -> None:
        """End the processes that are still there."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait(LIMIT)


@functools.cache
def checker_of(installed: Installed) -> StreamChecker:
    """The checker with the schema that the installed command prints."""
    done = installed.run("schema")
    assert done.returncode == 0, done.stderr
    return StreamChecker(json.loads(done.stdout))
