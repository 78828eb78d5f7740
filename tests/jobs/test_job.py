"""A job: what may block is done before there is a loop, in a context of its own."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from comfyreport.engine.loop import Loop
from comfyreport.jobs.job import Job, run_job
from tests.jobs.test_session import Running

GRAPH = {"1": {"class_type": "SaveImage", "inputs": {}}}


class Workflow(dict[str, Any]):
    """A workflow that notes when it is read."""

    def __init__(self, done: list[str]) -> None:
        super().__init__(GRAPH)
        self._done = done

    def items(self) -> Any:
        self._done.append("read")
        return super().items()


def test_what_may_block_is_over_before_the_loop_can_be_stopped(tmp_path: Path) -> None:
    done: list[str] = []

    @contextlib.contextmanager
    def preparing() -> Iterator[None]:
        done.append("preparing")
        yield
        done.append("recording" if (tmp_path / "run.recording").exists() else "no recording")
        done.append("prepared")

    def stop(loop: Loop) -> None:
        done.append("loop")
        loop.stop()

    running = Running()
    job = Job(server="127.0.0.1:1", workflow=Workflow(done), record=tmp_path / "run.recording")
    result = run_job(running.session, job, preparing=preparing(), on_loop=stop)
    running.session.finish()
    assert list(dict.fromkeys(done)) == ["preparing", "read", "recording", "prepared", "loop"]
    assert (result.status, result.submitted) == ("cancelled", "no")
    # The recording is whole and closed: its end is noted.
    lines = (tmp_path / "run.recording").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[-1])["note"] == "end"


@pytest.mark.parametrize(
    "arguments",
    [{"workflow": "nowhere.json"}, {"workflow": GRAPH, "record": os.devnull + "/x"}, {"server": "http://["}],
)
def test_what_can_not_be_prepared_is_the_runs_end(arguments: Mapping[str, Any]) -> None:
    running = Running()
    job = Job(**{"server": "127.0.0.1:1", "workflow": GRAPH, **arguments})
    result = run_job(running.session, job)
    assert (result.status, running.session.finish()) == ("usage", 2)
