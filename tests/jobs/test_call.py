"""A KeyboardInterrupt at any moment of the Python API: both ends are told once, and every reporter is closed."""

from __future__ import annotations

import _thread
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import comfyreport
from comfyreport.access.credentials import Access
from comfyreport.events import AnyEvent, RunFinished
from comfyreport.jobs import interrupts
from comfyreport.jobs.call import Call
from comfyreport.jobs.job import Job
from comfyreport.jobs.session import ReporterLoading
from comfyreport.reporting.hookspecs import hookimpl
from comfyreport.timing import Timing

NOWHERE = "127.0.0.1:1"
WORKFLOW = {"1": {"class_type": "SaveImage", "inputs": {}}}
LIMIT = 60.0
CORE = str(Path(comfyreport.__file__).parent)


class Collector:
    """Keeps the types of events, and acts on them."""

    def __init__(self, act: Callable[[str], None] = lambda kind: None) -> None:
        self.types: list[str] = []
        self.closed = 0
        self._act = act

    @hookimpl
    def comfyreport_event(self, event: AnyEvent) -> None:
        self.types.append(event.type)
        self._act(event.type)

    @hookimpl
    def comfyreport_close(self) -> None:
        self.closed += 1
        self._act("close")

    def check(self) -> None:
        """It was told both ends, once, and closed, or never used at all."""
        if self.types or self.closed:
            assert (self.types[0], self.types[-2:]) == ("stream_started", ["run_finished", "stream_finished"])
            assert (self.types.count("run_finished"), self.closed) == (1, 1)


def call(*reporters: object, workflow: Any = WORKFLOW) -> RunFinished:
    loading = ReporterLoading(reporters, quiet=False, json_progress=False)
    job = Job(server=NOWHERE, workflow=workflow, access=Access())
    return Call("run", job, loading, Timing(), None).run()


def call_and_wait(*reporters: object) -> None:
    """The call; a KeyboardInterrupt may come so late that it is raised behind it."""
    call(*reporters)
    for _ in range(int(LIMIT / 0.01)):
        time.sleep(0.01)


class Interruption:
    """Raises a KeyboardInterrupt at one line of ours, counted from where the call begins, on the main thread."""

    def __init__(self, line: int) -> None:
        self._left = line
        self.came = False

    def trace(self, frame: FrameType, kind: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(CORE):
            return None
        if kind == "line":
            self._left -= 1
            if self._left < 0 and not self.came:
                self.came = True
                raise KeyboardInterrupt
        return self.trace


@pytest.mark.slow
@pytest.mark.parametrize(("by_name", "step"), [(False, 1), (True, 37)])
def test_at_each_line_of_the_main_thread(by_name: bool, step: int) -> None:
    """Those of loading too: it is gone on with. The other threads get no KeyboardInterrupt."""
    line = -step
    came = True
    before = sys.gettrace()
    while came:
        line += step
        first, second = Collector(), Collector()
        reporters = [first, *(["quiet"] if by_name else []), second]
        loading = ReporterLoading(reporters, quiet=False, json_progress=False)
        one = Call("run", Job(server=NOWHERE, workflow=WORKFLOW, access=Access()), loading, Timing(), None)
        interruption = Interruption(line)
        sys.settrace(interruption.trace)
        try:
            one.run()
            interrupted = False
        except KeyboardInterrupt:
            interrupted = True
        finally:
            sys.settrace(before)
        came = interruption.came
        assert interrupted == came, line
        told = [each for each in (first, second) if each.types]
        for collector in (first, second):
            collector.check()
        # It costs the one alone that is being loaded; at the first lines there is none.
        assert len(told) >= 1 or line < 5, line
    assert line > 30


@pytest.mark.parametrize("moment", ["stream_started", "run_finished", "stream_finished", "close"])
def test_while_reporters_are_told(moment: str) -> None:
    def act(kind: str) -> None:
        if kind == moment:
            _thread.interrupt_main()

    acting, other = Collector(act), Collector()
    with pytest.raises(KeyboardInterrupt):
        call_and_wait(acting, other)
    for collector in (acting, other):
        collector.check()
        assert collector.closed == 1


def test_two_that_come_together_cut_nothing_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "ONE_WISH_SECONDS", LIMIT)
    gate = threading.Event()

    def act(kind: str) -> None:
        if kind == "run_finished":
            for _ in range(3):
                _thread.interrupt_main()
                gate.wait(0.2)

    acting, other = Collector(act), Collector()
    with pytest.raises(KeyboardInterrupt):
        call(acting, other)
    for collector in (acting, other):
        collector.check()
        assert collector.closed == 1


def test_what_comes_back_too_late_ends_without_a_word() -> None:
    """A workflow that blocks is left behind; its thread ends when it returns, and tells nothing."""
    gate, left = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    class Slow(dict[str, Any]):
        def items(self) -> Any:
            threads.append(threading.current_thread())
            _thread.interrupt_main()
            gate.wait(LIMIT)
            left.set()
            return super().items()

    collector = Collector()
    with pytest.raises(KeyboardInterrupt):
        call(collector, workflow=Slow(WORKFLOW))
    collector.check()
    assert collector.closed == 1
    gate.set()
    assert left.wait(LIMIT)
    collector.check()
