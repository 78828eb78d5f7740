"""Saving what a run made, as the loop sees it: what comes through its inbox meanwhile."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from comfyreport import events as ev
from comfyreport.engine.download import Downloader
from comfyreport.engine.sources import CallDone, CallKind, LeaveRequested, Sources, StopRequested
from comfyreport.events import Instant
from comfyreport.protocol.downloads import Download
from comfyreport.protocol.responses import read_history
from comfyreport.run import Run
from comfyreport.saving.target import Target
from comfyreport.timing import Timing
from tests.engine.world import PROMPT, entry


class Instantly:
    """Sources whose calls are done at once; *behind* comes through the inbox together with the first that is done."""

    def __init__(self, *behind: Any) -> None:
        self.client = SimpleNamespace(
            timing=Timing(),
            cut=lambda: None,
            download=lambda *wanted: contextlib.nullcontext(Download(0, None, "", iter([b"data"]))),
        )
        self.saves = 0
        self._items: list[Any] = []
        self._behind = behind

    def call(self, kind: CallKind, function: Any, on_done: Any) -> None:
        self.saves += 1
        self._items = [CallDone(kind, function(), None, on_done), *self._behind]

    def receive(self, timeout: float) -> list[Any]:
        items, self._items = self._items, []
        return items

    def finish(self, done: CallDone) -> None:
        done.on_done(done)


@pytest.fixture
def run() -> Run:
    """A run that made three files."""
    run = Run(PROMPT, (ev.NodeRef(id="9"),))
    run.sent = True
    images = [{"filename": f"{number}.png", "subfolder": "", "type": "output"} for number in range(3)]
    history = read_history({PROMPT: entry() | {"outputs": {"9": {"images": images}}}}, PROMPT)
    assert history is not None
    run.feed(history, Instant(1.0, 1.0))
    return run


def saved(run: Run, sources: Instantly, folder: Path) -> list[ev.Event]:
    told: list[ev.Event] = []
    downloader = Downloader(
        run,
        cast(Sources, sources),
        publish=told.extend,
        clock=lambda: Instant(2.0, 2.0),
        on_turn=lambda: None,
        recorder=None,
        exceeded_limit=lambda: None,
    )
    target = Target(folder)
    target.prepare()
    downloader.save(target)
    return told


def test_all_are_saved_one_after_the_other(run: Run, tmp_path: Path) -> None:
    told = saved(run, Instantly(), tmp_path)
    assert [event.output.filename for event in told if isinstance(event, ev.OutputSaved)] == ["0.png", "1.png", "2.png"]
    assert run.verdict is not None
    assert run.verdict.status == "success"


@pytest.mark.parametrize("request_", [StopRequested(), LeaveRequested()])
def test_a_stop_that_comes_together_with_a_saved_file_is_heard(run: Run, tmp_path: Path, request_: Any) -> None:
    sources = Instantly(request_)
    told = saved(run, sources, tmp_path)
    assert sources.saves == 1
    # What is on disk by then is told.
    assert [event.output.filename for event in told if isinstance(event, ev.OutputSaved)] == ["0.png"]
    assert run.verdict is not None
    assert run.verdict.status == "cancelled"
