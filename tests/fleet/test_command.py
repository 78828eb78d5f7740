"""A command's runs, as an engine is given them: all that is planned, and what an earlier command began, first."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from comfyreport.batch.command import ManyJobs, Prepared, prepare
from comfyreport.fleet import command
from comfyreport.fleet.assignment import Note
from comfyreport.jobs.job import Job
from comfyreport.ledger.state import Attempt
from comfyreport.planning.plan import Wanted
from comfyreport.timing import Timing
from tests.fleet.fakes import FakeEngine, does_well
from tests.jobs.test_session import Running

WORKFLOW = str(Path(__file__).parents[2] / "workflows" / "sd15-txt2img.json")


def prepared(stack: ExitStack, tmp_path: Path, **more: Any) -> Prepared:
    job = Job(server="http://127.0.0.1:9", folder=str(tmp_path))
    wanted = Wanted(workflows=(WORKFLOW,), grid=("seed=11,12,13",))
    return prepare(ManyJobs(job=job, wanted=wanted, state=tmp_path / "state", **more), Timing(), stack)


def made(monkeypatch: pytest.MonkeyPatch, stack: ExitStack, ready: Prepared) -> tuple[FakeEngine, list[Any]]:
    """The engine, once it has made the runs, and what was told."""
    engine = FakeEngine(does_well)
    monkeypatch.setattr(command, "connect", lambda url, command: engine)
    running = Running()
    command.fleet(running.session, ready, ready.ledger(running.session, ready.open(stack)), "dask://a:1", stack).run()
    running.session.finish()
    return engine, running.events


def test_each_run_of_the_plan_is_made_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        engine, events = made(monkeypatch, stack, prepared(stack, tmp_path))
    graphs = [each.job.loaded.graph for each in engine.assignments if each.job.loaded is not None]
    seeds = [next(node["inputs"]["seed"] for node in graph.values() if "seed" in node["inputs"]) for graph in graphs]
    assert seeds == [11, 12, 13]
    assert [event.run_index for event in events if event.type == "run_finished"] == [1, 2, 3]
    with ExitStack() as stack:
        # All is done: nothing is left for the same command.
        assert list(prepared(stack, tmp_path).todo) == []


def test_what_an_earlier_command_began_comes_first_and_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        ready = prepared(stack, tmp_path)
        ready.open(stack)
        ready.state.begin(Attempt(3, 1, "http://gpu1:8188", "p", "c"))
    with ExitStack() as stack:
        engine, _ = made(monkeypatch, stack, prepared(stack, tmp_path))
    assert [(each.index, each.note) for each in engine.assignments] == [
        (3, Note("http://gpu1:8188", "p", "c")),
        (1, None),
        (2, None),
    ]
