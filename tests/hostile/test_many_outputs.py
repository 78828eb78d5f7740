"""Very many outputs: each reporter is told all of them and the end, and the time for it grows with their number."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import comfyreport_console
import pytest

from comfyreport import events as ev
from comfyreport.api import run_generation
from comfyreport.events import Instant
from comfyreport.protocol import messages, responses
from comfyreport.protocol.ui_outputs import OUTPUT_CHARACTERS
from comfyreport.reporting.hookspecs import hookimpl
from comfyreport.run import Run
from comfyreport.timing import Timing
from tests.hostile.server import BEGIN, END, WORKFLOW, Frame, Hostile, Reply, history, own, picture
from tests.plugins.terminal import Plain

FEW, MANY = 5_000, 20_000

MOST = 3.0
"""Times as long as their number allows: what is quadratic takes four times as long."""

# What still waits at the end of a run is told in this time, however much there was.
TIMING = Timing(close_limit=1.5)


class Counting:
    """A reporter that counts what it is told."""

    def __init__(self) -> None:
        self.ready = self.saved = 0
        self.warnings: list[ev.Warning] = []
        self.ends: list[ev.RunFinished] = []

    @hookimpl
    def comfyreport_output_ready(self, event: ev.OutputReady) -> None:
        self.ready += 1

    @hookimpl
    def comfyreport_output_saved(self, event: ev.OutputSaved) -> None:
        self.saved += 1

    @hookimpl
    def comfyreport_warning(self, event: ev.Warning) -> None:
        self.warnings.append(event)

    @hookimpl
    def comfyreport_run_finished(self, event: ev.RunFinished) -> None:
        self.ends.append(event)


def pictures(count: int, length: int = 4) -> list[dict[str, Any]]:
    return [picture(f"{number:0{length}}.png") for number in range(count)]


def told(folder: Path, count: int, **options: Any) -> tuple[float, Counting]:
    """Run a workflow that makes so many outputs, told to all reporters; the seconds that it took."""
    folder.mkdir()
    made, counting = {"3": {"images": pictures(count)}}, Counting()
    frames: list[Frame] = [*BEGIN, own("executed", node="3", output=made["3"]), *END]
    reporters = [
        f"jsonl={folder / 'x'}",
        f"filelog={folder / 'y'}",
        f"quiet={folder / 'q'}",
        comfyreport_console.console(Plain()),
        counting,
    ]
    with Hostile(frames=frames, history=lambda prompt_id: history(prompt_id, made), **options) as server:
        began = time.perf_counter()
        output = f"{folder / 'made'}/" if "view" in options else None
        result = run_generation(WORKFLOW, server=server.url, reporters=reporters, output=output, timing=TIMING)
        seconds = time.perf_counter() - began
    assert (result.status, result.exit_code, len(result.outputs)) == ("success", 0, count)
    assert (counting.ready, len(counting.ends[0].outputs), counting.warnings) == (count, count, [])
    lines = [json.loads(line) for line in (folder / "x").read_text(encoding="utf-8").splitlines()]
    assert [line["type"] for line in lines[-2:]] == ["run_finished", "stream_finished"]
    assert (lines[-1]["reporter_failures"], sum(line["type"] == "output_ready" for line in lines)) == ([], count)
    assert "complete" in (folder / "y").read_text(encoding="utf-8")
    return seconds, counting


@pytest.mark.e2e
def test_all_reporters_are_told_all_outputs(tmp_path: Path) -> None:
    few, _ = told(tmp_path / "few", FEW)
    many, _ = told(tmp_path / "many", MANY)
    assert many < MOST * MANY / FEW * few


@pytest.mark.e2e
def test_many_files_are_saved(tmp_path: Path) -> None:
    def view(name: str) -> Reply:
        return Reply(b"picture")

    few, _ = told(tmp_path / "few", 200, view=view)
    many, counting = told(tmp_path / "many", 800, view=view)
    assert (counting.saved, len(list((tmp_path / "many" / "made").iterdir()))) == (800, 800)
    assert many < MOST * 4 * few


def test_a_node_that_sends_its_outputs_one_by_one() -> None:
    """A loop's node: each of its messages adds to what was there."""
    run, at = Run("ID", responses.manifest_of(WORKFLOW)), Instant(0.0, 0.0)
    run.sent = True
    run.feed(messages.Executing("ID", "3", None), at)
    for each in pictures(FEW):
        run.feed(messages.Executed("ID", "3", None, {"images": [each, each]}), at)
    finished = run.feed(messages.Executing("ID", "2", None), at)[0]
    assert isinstance(finished, ev.NodeFinished)
    assert [output.index for output in finished.outputs] == list(range(2 * FEW))


def test_outputs_that_are_left_out_are_counted() -> None:
    run, at = Run("ID", responses.manifest_of(WORKFLOW)), Instant(0.0, 0.0)
    run.sent = True
    length = 4000
    count = OUTPUT_CHARACTERS // (2 * length) + 500
    made = {"3": {"images": pictures(count, length)}}
    run.feed(messages.Executing("ID", "3", None), at)
    run.feed(messages.Executed("ID", "3", None, made["3"]), at)
    found = responses.read_history(history("ID", made), "ID")
    assert found is not None
    run.feed(found, at)
    *warnings, end = run.finish(at)
    assert isinstance(end, ev.RunFinished)
    assert 0 < len(end.outputs) < count
    for warning, where in zip(warnings, ("the run's outputs", "node_finished events"), strict=True):
        assert isinstance(warning, ev.Warning)
        assert warning.code == "outputs_left_out"
        assert warning.message.startswith(f"{count - len(end.outputs)} outputs are left out of {where}, ")
