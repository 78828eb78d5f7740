"""Many runs on servers of which one goes wrong: each run has one end, and is made once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from comfyreport import ErrorInfo, RunFinished, Timing, run_many
from comfyreport.batch import attempt as attempts
from comfyreport.batch.attempt import Attempt
from comfyreport.errors import UnreachableError
from comfyreport.jobs.job import Job, run_job
from comfyreport.jobs.run_context import SharedContext
from comfyreport.simulator import Fault, Kind, Moment, Simulator
from tests.collecting import Collector

pytestmark = pytest.mark.slow

WORKFLOW = str(Path(__file__).parents[2] / "workflows" / "sd15-txt2img.json")
TIMING = Timing().scaled(0.1)


@pytest.fixture
def servers() -> Iterator[list[Simulator]]:
    with Simulator(speed=40) as first, Simulator(speed=40) as second:
        yield [first, second]


def make(servers: list[Simulator], count: int = 8, **more: Any) -> tuple[list[RunFinished], Collector]:
    """Make so many runs; their ends, each of which is told once, and what was told."""
    collector = Collector()
    jobs = [{"workflow": WORKFLOW, "seed": seed, "learn": False} for seed in range(count)]
    urls = [server.url for server in servers]
    ends = list(run_many(jobs, servers=urls, reporters=[collector], timing=TIMING, **more))
    counts = Counter(event.run_index for event in collector.events if event.type == "run_finished")
    assert not counts or counts.most_common(1)[0][1] == 1, counts
    numbers = [event.seq for event in collector.events]
    assert numbers == sorted(set(numbers))
    return ends, collector


@pytest.mark.parametrize(
    ("kind", "moment"),
    [
        ("killed", "sampling"), ("killed", "post"), ("restarted", "sampling"), ("restarted", "pending"),
        ("dropped", "sampling"), ("deaf_socket", "sampling"), ("other_id", "post"),
        ("answer_lost", "post"), ("history_late", "ending"), ("foreign_prompts", "sampling"),
    ],
)  # fmt: skip
def test_a_fault_of_one_server_costs_no_run(servers: list[Simulator], kind: Kind, moment: Moment) -> None:
    servers[0].play(Fault(kind, moment, seconds=20.0))
    ends, _ = make(servers)
    assert {end.run_index: end.status for end in ends} == dict.fromkeys(range(1, 9), "success")
    assert Counter(end.seed for end in ends) == Counter(range(8))


def test_a_server_that_comes_back_makes_nothing_that_another_was_given(servers: list[Simulator]) -> None:
    # At speed 40: for longer than all the others take. It is given up after 6 s of silence.
    servers[0].play(Fault("frozen", "sampling", seconds=4000.0))
    ends, told = make(servers, 40)
    assert {end.status for end in ends} == {"success"}
    assert "run_moved" in told.warnings
    moved = {event.run_index for event in told.events if event.type == "warning" and event.code == "run_moved"}
    first = {e.run_index: e.prompt_id for e in reversed(told.events) if e.type == "run_queued" and e.run_index in moved}
    last = {end.run_index: end.prompt_id for end in ends}
    for index in moved:
        if first[index] != last[index]:
            assert servers[0].prompt_status(first[index]) in ("nowhere", "interrupted", "pending", "running")


def test_a_run_is_lost_as_often_as_it_may_be(servers: list[Simulator]) -> None:
    for server in servers:
        server.play(*[Fault("prompt_lost", "sampling", seconds=1.0)] * 1)
    (end,), told = make(servers[:1], 1, retries=0)
    assert (end.status, end.exit_code) == ("lost", 6)
    assert told.warnings.count("run_moved") == 0


@pytest.mark.parametrize(("retries", "status"), [(1, "success"), (0, "lost")])
def test_what_was_never_submitted_costs_no_attempt(
    servers: list[Simulator], monkeypatch: pytest.MonkeyPatch, retries: int, status: str
) -> None:
    """Twice the server isn't reached, once the run is lost."""
    made = []

    def make_or_fail(context: SharedContext, job: Job, **more: Any) -> RunFinished:
        made.append(job)
        if len(made) > 3:
            return run_job(context, job, **more)
        context.fail(UnreachableError("refused", retryable=True))
        end = context.results[-1]
        if len(made) < 3:
            return end
        error = ErrorInfo(code="server_restarted", message="it was restarted")
        return replace(end, status="lost", exit_code=6, submitted="yes", error=error)

    monkeypatch.setattr(attempts, "run_job", make_or_fail)
    (end,), told = make(servers[:1], 1, retries=retries)
    assert (end.status, told.warnings.count("run_moved")) == (status, 2 + retries)


def test_a_thread_that_cannot_be_had_ends_the_command(
    servers: list[Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(attempt: Attempt) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Attempt, "start", start)
    ends, _ = make(servers, 3, keep_going=False)
    assert [(end.status, end.error and end.error.code) for end in ends] == [("internal", "machine_limit")]


def test_whoever_stops_iterating_cancels_what_is_queued_and_runs(servers: list[Simulator]) -> None:
    servers[0].pause_at("3", 2)
    collector = Collector()
    jobs = [{"workflow": WORKFLOW, "seed": seed, "learn": False} for seed in range(20)]
    results = run_many(jobs, servers=[server.url for server in servers], reporters=[collector], timing=TIMING)
    first = next(results)
    results.close()  # type: ignore[attr-defined]
    assert first.status == "success"
    assert collector.events[-1].type == "stream_finished"
    begun = {event.run_index for event in collector.events if event.type == "run_queued"}
    ended = {event.run_index for event in collector.events if event.type == "run_finished"}
    assert begun <= ended
    assert len(ended) < 20
    # A thread lives for a moment behind the end that it told.
    runs = [thread for thread in threading.enumerate() if thread.name.startswith("comfyreport-run-")]
    for thread in runs:
        thread.join(20)
    assert not [thread for thread in runs if thread.is_alive()]
