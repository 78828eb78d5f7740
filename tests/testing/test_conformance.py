"""The conformance suite: our own reporters pass it, and it finds each fault that it looks for."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from comfyreport_console import console
from comfyreport_filelog import filelog
from comfyreport_jsonl import jsonl
from comfyreport_quiet import quiet

from comfyreport import events as ev
from comfyreport.errors import ReporterError
from comfyreport.events import RunView
from comfyreport.reporting.hookspecs import hookimpl
from comfyreport.reporting.streams import Stream
from comfyreport.testing.conformance import ConformanceError, conforms
from comfyreport.text import printable
from tests.systems import needs_posix

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("reporter", "options"),
    [
        (console, {}),
        (console, {"plain": True}),
        (quiet, {}),
        (jsonl, {}),
        (jsonl, {"detail": "summary"}),
        (jsonl, {"detail": "nodes"}),
        (jsonl, {"rate": 0}),
        (filelog, {}),
        (filelog, {"max_bytes": 3000, "backups": 1}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_our_own_reporters_conform(reporter: Any, options: dict[str, Any]) -> None:
    conforms(reporter, **options)


# --- reporters that don't


class Base:
    """A correct reporter; those below do one thing wrong each."""

    def __init__(self, out: Stream) -> None:
        self.out = out

    @hookimpl
    def comfyreport_run_finished(self, event: ev.RunFinished) -> None:
        self.out.write(f"{printable(event.status)}\n")


class Raises(Base):
    @hookimpl
    def comfyreport_node_preview(self, event: ev.NodePreview) -> None:
        raise KeyError("node")


class ExpectsANode(Base):
    @hookimpl
    def comfyreport_node_preview(self, event: ev.NodePreview) -> None:
        assert event.node is not None
        self.out.write(printable(event.node.title))


class ExpectsKnownTypes(Base):
    @hookimpl
    def comfyreport_event(self, event: ev.AnyEvent) -> None:
        ev.EVENT_TYPES[event.type]


class ExpectsKnownStatuses(Base):
    @hookimpl
    def comfyreport_run_finished(self, event: ev.RunFinished) -> None:
        self.out.write(str(ev.EXIT_CODES[event.status]))


class TrustsTheServer(Base):
    @hookimpl
    def comfyreport_node_started(self, event: ev.NodeStarted) -> None:
        self.out.write(f"{event.node.title}\n")


class TrustsTheServerAtTheEnd(Base):
    @hookimpl
    def comfyreport_node_finished(self, event: ev.NodeFinished) -> None:
        self.out.write(f"{event.node.title}\n")


class TrustsTheServerInTicks(Base):
    @hookimpl
    def comfyreport_tick(self, run: RunView) -> None:
        self.out.write("".join(node.title for node in run.active))


class Colors(Base):
    @hookimpl
    def comfyreport_run_started(self) -> None:
        self.out.write("\x1b[32mstarted\x1b[0m\n")


class Prints(Base):
    @hookimpl
    def comfyreport_run_started(self) -> None:
        print("started")


class WritesByDescriptor(Base):
    @hookimpl
    def comfyreport_run_started(self) -> None:
        os.write(2, b"started\n")


class WritesFromAChild(Base):
    @hookimpl
    def comfyreport_close(self) -> None:
        subprocess.run([sys.executable, "-c", "print('closed')"], check=True)


class WritesLate(Base):
    def __del__(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.out.write("the end\n")


class SharesState(Base):
    lines: list[str] = []  # noqa: RUF012  what it does wrong

    @hookimpl
    def comfyreport_run_queued(self, event: ev.RunQueued) -> None:
        self.lines.append("queued")

    @hookimpl
    def comfyreport_close(self) -> None:
        self.out.write(" ".join(self.lines))
        self.lines.clear()


class DependsOnTheTime(Base):
    count = itertools.count()

    @hookimpl
    def comfyreport_run_finished(self, event: ev.RunFinished) -> None:
        self.out.write(f"{next(self.count)}\n")


class HidesAFullDisk(Base):
    @hookimpl
    def comfyreport_run_finished(self, event: ev.RunFinished) -> None:
        with contextlib.suppress(OSError):
            self.out.write("over\n")


class TranslatesAFullDisk(Base):
    @hookimpl
    def comfyreport_run_finished(self, event: ev.RunFinished) -> None:
        try:
            self.out.write("over\n")
        except OSError as error:
            raise RuntimeError from error


class DividesByTheSteps(Base):
    @hookimpl
    def comfyreport_heartbeat(self, event: ev.Heartbeat) -> None:
        self.out.write(f"{100 * event.nodes_done / event.nodes_total:.0f} %\n")


class NeedsWidth(Base):
    @hookimpl
    def comfyreport_run_started(self) -> None:
        width = self.out.width()
        assert width > 10
        self.out.write("-" * width + "\n")


@pytest.mark.parametrize(
    ("reporter", "fault"),
    [
        (Raises, "an event of each type: it raises KeyError"),
        (ExpectsANode, "odd values: it raises AssertionError"),
        (ExpectsKnownTypes, "a newer version's stream: it raises KeyError: 'something_new'"),
        (ExpectsKnownStatuses, "a newer version's stream: it raises KeyError: 'a_newer_status'"),
        (TrustsTheServer, "odd values: text of the server reaches the terminal as it is"),
        (TrustsTheServerAtTheEnd, "odd values: text of the server reaches"),
        (TrustsTheServerInTicks, "odd values: text of the server reaches"),
        (Colors, "an event of each type: it writes escape sequences to what is no terminal"),
        (Prints, "an event of each type: it writes to stdout, which isn't its own"),
        (WritesByDescriptor, "an event of each type: it writes to stderr, which isn't its own"),
        (WritesFromAChild, "an event of each type: it writes to stdout, which isn't its own"),
        (WritesLate, "it writes behind comfyreport_close"),
        (SharesState, "two of it side by side disturb each other"),
        (DependsOnTheTime, "the same run gives another text the second time"),
        (HidesAFullDisk, "a full disk: it hides the OSError"),
        (TranslatesAFullDisk, "a full disk: it raises RuntimeError"),
        (DividesByTheSteps, "an event of each type: it raises ZeroDivisionError"),
        (NeedsWidth, "an event of each type (tty=True, width=1, height=1, unicode=False): it raises AssertionError"),
    ],
)
def test_each_fault_is_reported(reporter: type[Base], fault: str) -> None:
    with pytest.raises(ConformanceError) as raised:
        conforms(reporter)
    where, _, what = fault.rpartition(": it ")
    where, what = (where, what) if where else (fault.partition(": ")[0], fault.partition(": ")[2])
    assert [each for each in raised.value.faults if each.startswith(where) and what in each], str(raised.value)
    assert len(raised.value.faults) <= 3, "each is reported once, not for each stream"
    assert str(raised.value).startswith(f"{reporter.__name__} doesn't conform:\n  - ")


def test_slow_hooks_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: 3.0 * next(moments))
    with pytest.raises(ConformanceError, match=r"its hooks take 3\.0 s for run_started; all reporters wait meanwhile"):
        conforms(Base)


def test_where_an_exception_was_raised_is_reported() -> None:
    with pytest.raises(ConformanceError, match=r"'node' at test_conformance\.py:\d+ in comfyreport_node_preview$"):
        conforms(Raises)


def test_a_correct_reporter_and_one_without_any_hook_conform() -> None:
    conforms(Base)

    class Nothing:
        """No destination, no hook."""

    conforms(Nothing)


def test_what_is_no_reporter_is_refused() -> None:
    class Misspelt(Base):
        @hookimpl
        def comfyreport_run_finnished(self) -> None: ...

    with pytest.raises(ConformanceError, match=r"there is no hook comfyreport_run_finnished.*did you mean"):
        conforms(Misspelt)
    with pytest.raises(TypeError, match="unexpected keyword argument 'volume'"):
        conforms(Base, volume=3)
    with pytest.raises(ReporterError, match="is neither the destination nor an option"):
        conforms(lambda out, more: None)


def test_objects_paths_and_urls(tmp_path: Path, received: tuple[str, list[bytes]]) -> None:
    class Counter:
        count = 0

        @hookimpl
        def comfyreport_event(self) -> None:
            self.count += 1

    counter = Counter()
    conforms(counter)
    assert counter.count > 1000

    class FileWriter:
        def __init__(self, path: Path, *, word: str) -> None:
            self.path, self.word = path, word

        @hookimpl
        def comfyreport_run_finished(self, event: ev.RunFinished) -> None:
            with self.path.open("a") as file:
                file.write(self.word)
            if self.word == "bad":
                print(self.word)

    conforms(FileWriter, word="good")
    with pytest.raises(ConformanceError, match="it writes to stdout"):
        conforms(FileWriter, word="bad")

    # To look for proxies may take seconds, on Windows.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    class Sender:
        def __init__(self, url: str) -> None:
            self.url = url

        @hookimpl
        def comfyreport_stream_finished(self, event: ev.StreamFinished) -> None:
            request = urllib.request.Request(self.url, printable(event.status).encode())
            direct.open(request, timeout=5).close()

    conforms(Sender, destination=received[0])
    assert b"a_newer_status" in received[1]


@needs_posix("/proc")
def test_it_leaves_nothing_behind(capfd: pytest.CaptureFixture[str]) -> None:
    before, threads = set(os.listdir("/proc/self/fd")), threading.active_count()
    with pytest.raises(ConformanceError):
        conforms(Prints)
    print("still here")
    os.write(2, b"and here")
    assert capfd.readouterr() == ("still here\n", "and here")
    assert set(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() == threads
