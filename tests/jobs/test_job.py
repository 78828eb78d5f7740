"""A job: what may block is done before there is a loop, in a context of its own."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from comfyreport import InputValue, NodeRef
from comfyreport.engine.loop import Loop
from comfyreport.jobs.job import Job, run_job
from comfyreport.workflow.settings import Settings
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


def test_what_was_set_is_told_at_the_end_whatever_it_is() -> None:
    graph = {
        "1": {"class_type": "SaveImage", "_meta": {"title": "Save"}, "inputs": {"filename_prefix": "a", "api_key": "b"}}
    }
    settings = Settings(assignments=("1.filename_prefix=c",), inputs={"1.api_key": "s3cret", "1.more": {"token": "d"}})
    running = Running()
    result = run_job(running.session, Job(server="127.0.0.1:1", workflow=graph, settings=settings))
    running.session.finish()
    node = NodeRef(id="1", class_type="SaveImage", title="Save")
    assert result.status == "unreachable"
    assert result.inputs == (
        InputValue(node=node, name="filename_prefix", value="c"),
        InputValue(node=node, name="api_key", value="[removed]"),
        InputValue(node=node, name="more", value={"token": "[removed]"}),
    )
    running = Running()
    assert run_job(running.session, Job(server="127.0.0.1:1", workflow=graph)).inputs is None
    running.session.finish()
