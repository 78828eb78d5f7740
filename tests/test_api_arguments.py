"""Arguments of the wrong type, which the command line couldn't have: a usage error that names them. And `learn`."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport import ProgressTracker, UsageError, run_generation, wait_for_completion
from comfyreport.jobs.job import Job
from comfyreport.jobs.session import Session

GRAPH = {"1": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 640), ("size", "640x512"), ("size", (640, 0)), ("seed", "5"), ("steps", 2.5), ("batch", "1"),
        ("inputs", ["3.cfg=5"]), ("timeout", "5"), ("max_eta", "5"),
    ],
)  # fmt: skip
def test_an_argument_of_the_wrong_type(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {name: value}
    ended = run_generation(GRAPH, server="http://127.0.0.1:1", quiet=True, **arguments)
    assert (ended.status, ended.submitted) == ("usage", "no")
    assert ended.error is not None
    assert ended.error.message == f"{name} has the wrong type"


@pytest.mark.parametrize("more", [{}, {"learn": False}], ids=str)
def test_a_run_learns_unless_it_is_told_not_to(monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]) -> None:
    learned: list[bool] = []

    def note(session: Session, job: Job, **others: object) -> None:
        learned.append(job.learn)
        session.fail(UsageError("not now"))

    monkeypatch.setattr("comfyreport.jobs.call.run_job", note)
    monkeypatch.setattr("comfyreport.jobs.tracker.run_job", note)
    run_generation(GRAPH, quiet=True, **more)
    wait_for_completion("3ce5d3da", quiet=True, **more)
    ProgressTracker(prompt_id="3ce5d3da", quiet=True, **more).wait(60)
    assert learned == [not more] * 3
