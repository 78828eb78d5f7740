"""Nothing is kept of runs that have ended: a thousand of them leave every reporter as small as it was."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comfyreport_console import console
from comfyreport_filelog import filelog
from comfyreport_github import SUMMARY_VARIABLE, github
from comfyreport_html import html
from comfyreport_jsonl import jsonl
from comfyreport_junit import junit
from comfyreport_notebook import Notebook
from comfyreport_otel import OpenTelemetry
from comfyreport_preview import preview
from comfyreport_quiet import quiet
from comfyreport_trace import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from comfyreport import events as ev
from comfyreport.testing import FakeStream
from comfyreport.testing.harness import Harness
from tests.plugins.many import many_short
from tests.plugins.test_notebook import Shown

pytestmark = pytest.mark.slow


class Nowhere(FakeStream):
    """A stream that keeps nothing."""

    def write(self, text: str) -> None:
        """Drop it."""

    def write_bytes(self, data: bytes) -> None:
        """Drop it."""


class Nothing(Shown):
    """A notebook that keeps nothing."""

    def html(self, text: str) -> Any:
        return self

    def update(self, obj: object) -> None:
        """Drop it."""


def _otel() -> OpenTelemetry:
    return OpenTelemetry(TracerProvider(shutdown_on_exit=False), MeterProvider(shutdown_on_exit=False), [], None, 4.0)


KEPT: dict[str, tuple[Callable[[Path], object], int]] = {
    "console": (lambda path: console(Nowhere()), 100),
    "console on a terminal": (lambda path: console(Nowhere(tty=True)), 100),
    "quiet": (lambda path: quiet(Nowhere()), 100),
    "filelog": (filelog, 100),
    "jsonl": (lambda path: jsonl(Nowhere()), 100),
    "github": (lambda path: github(Nowhere()), 100),
    # These write all runs at the end: a case or a line of each has to be kept.
    "junit": (lambda path: junit(Nowhere()), 8_000),
    "html": (html, 2_000),
    "notebook": (lambda path: Notebook(Nothing(), 12), 100),
    "otel": (lambda path: _otel(), 100),
    "preview": (lambda path: preview(path.parent / "pictures", out=Nowhere()), 100),
    "trace": (lambda path: trace(Nowhere()), 100),
}
"""By reporter, how it is made, and the bytes that it may keep of a run that has ended."""


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_of_ended_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SUMMARY_VARIABLE, raising=False)
    make, limit = KEPT[name]
    harness = Harness(make(tmp_path / "file"), "reporter")
    events = many_short(1000, servers=4, failing=range(100, 130))
    marks = {400: 0, 1000: 0}
    tracemalloc.start()
    try:
        for event in events[:-1]:
            harness.deliver(event)
            if isinstance(event, ev.RunFinished) and event.run_index in marks:
                gc.collect()
                marks[event.run_index] = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert (marks[1000] - marks[400]) / 600 < limit
    harness.call_hook("close")
