"""`run_many` through pools of this machine, against simulated servers: ends as they come, and every way to stop."""

from __future__ import annotations

import _thread
import json
import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from comfyreport import ReporterError, RunFinished, UsageError, run_many
from comfyreport.simulator import Simulator
from comfyreport.timing import Timing
from tests.collecting import Collector

pytestmark = pytest.mark.slow

WORKFLOW = str(Path(__file__).parents[2] / "workflows" / "sd15-txt2img.json")
TIMING = Timing().scaled(0.1)


@pytest.fixture
def simulators() -> Iterator[list[Simulator]]:
    with Simulator(speed=50) as first, Simulator(speed=50) as second:
        yield [first, second]


@pytest.fixture(params=["threads", "processes"])
def pool(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Of two; processes as they are everywhere in later Pythons."""
    context = multiprocessing.get_context("spawn")
    with ThreadPoolExecutor(2) if request.param == "threads" else ProcessPoolExecutor(2, context) as pool:
        yield pool


@pytest.fixture
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def jobs(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"workflow": WORKFLOW, "seed": seed, "learn": False, **more} for seed in range(count)]


def urls(simulators: list[Simulator]) -> list[str]:
    return [each.url for each in simulators]


def test_a_pool_makes_the_runs_of_two_servers(pool: Executor, simulators: list[Simulator], tmp_path: Path) -> None:
    collector = Collector()
    runs = jobs(5, output=f"{tmp_path}/{{seed}}.{{ext}}")
    ends = list(run_many(runs, servers=urls(simulators), executor=pool, reporters=[collector], timing=TIMING))
    assert sorted((end.run_index, end.status, end.seed) for end in ends) == [(i + 1, "success", i) for i in range(5)]
    assert {end.server for end in ends} == set(urls(simulators))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{seed}.png" for seed in range(5)]
    events = collector.events
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    elapsed = [event.elapsed for event in events]
    assert elapsed == sorted(elapsed)
    assert (events[0].type, events[0].runs_total, events[-1].runs) == ("stream_started", 5, 5)
    for index in range(1, 6):
        types = [event.type for event in events if event.run_index == index]
        assert (types[-1], types.count("run_finished"), types.count("output_saved")) == ("run_finished", 1, 1)


def test_nothing_begins_before_the_first_end_is_asked_for(threads: Executor, simulators: list[Simulator]) -> None:
    simulators[0].play()
    iterator = run_many(jobs(2), servers=[simulators[0].url], executor=threads, reporters=[], timing=TIMING)
    assert simulators[0].play().requests == []
    assert len(list(iterator)) == 2


def test_whoever_stops_iterating_cancels_the_rest(threads: Executor, simulators: list[Simulator]) -> None:
    collector = Collector()
    iterator = run_many(jobs(9), servers=urls(simulators), executor=threads, reporters=[collector], timing=TIMING)
    for end in iterator:
        assert end.status == "success"
        break
    iterator.close()  # type: ignore[attr-defined]
    ends = [event for event in collector.events if event.type == "run_finished"]
    assert 1 <= len(ends) < 9
    assert {end.status for end in ends} <= {"success", "cancelled"}
    assert collector.events[-1].type == "stream_finished"


def test_an_interrupt_cancels_and_is_raised_behind_the_last_end(threads: Executor, simulators: list[Simulator]) -> None:
    paused = simulators[0].pause_at("5")
    collector = Collector()
    ends: list[RunFinished] = []

    def interrupt() -> None:
        assert paused.reached.wait(20.0)
        _thread.interrupt_main()
        paused.release()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        ends.extend(
            run_many(jobs(4), servers=[simulators[0].url], executor=threads, reporters=[collector], timing=TIMING)
        )
    assert (collector.events[-1].type, collector.events[-1].exit_code) == ("stream_finished", 130)


def test_the_first_failure_stops_the_rest(threads: Executor, simulators: list[Simulator]) -> None:
    broken = {"1": {"class_type": "SaveImage", "inputs": {"images": ["9", 0]}}}
    runs = [{"workflow": broken}, *jobs(9)]
    ends = list(
        run_many(runs, servers=urls(simulators), executor=threads, reporters=[], keep_going=False, timing=TIMING)
    )
    assert next(end for end in ends if end.run_index == 1).exit_code
    assert len(ends) < 10


def test_an_engine_that_isnt_there_is_the_end_of_the_stream() -> None:
    pytest.importorskip("distributed")
    collector = Collector()
    (end,) = run_many(jobs(3), executor="dask://127.0.0.1:9", reporters=[collector], timing=TIMING)
    assert end.error is not None
    assert (end.status, end.exit_code, end.error.code) == ("unreachable", 3, "engine")
    assert "no engine answers at 127.0.0.1:9" in end.error.message
    assert [event.type for event in collector.events] == ["stream_started", "run_finished", "stream_finished"]


def test_a_fault_is_told_as_an_end(threads: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("comfyreport.fleet.fleet.Fleet.run", fail)
    (end,) = run_many(jobs(2), executor=threads, reporters=[])
    assert (end.status, end.exit_code) == ("internal", 70)


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({"workflow": WORKFLOW, "sed": 1}, "run 2: there is no 'sed'"),
        ({"seed": 1}, "run 2: it has no workflow"),
        ({"workflow": WORKFLOW, "steps": "20"}, "run 2: steps has the wrong type"),
    ],
)
def test_a_job_that_run_generation_wouldnt_take(threads: Executor, job: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run_many([*jobs(1), job], executor=threads, reporters=[])


def test_a_reporter_that_isnt_there(threads: Executor) -> None:
    iterator = run_many(jobs(1), executor=threads, reporters=["nonesuch"])
    with pytest.raises(ReporterError, match="nonesuch"):
        next(iterator)


# --- by this process


def test_without_an_executor_the_servers_share_the_runs(simulators: list[Simulator], tmp_path: Path) -> None:
    collector = Collector()
    runs = jobs(6, output=f"{tmp_path}/{{seed}}.{{ext}}")
    ends = list(run_many(runs, servers=urls(simulators), reporters=[collector], timing=TIMING))
    assert sorted((end.run_index, end.status, end.seed) for end in ends) == [(i + 1, "success", i) for i in range(6)]
    assert {end.server for end in ends} == set(urls(simulators))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{seed}.png" for seed in range(6)]
    assert (collector.events[0].server, collector.events[0].runs_total) == (", ".join(urls(simulators)), 6)


@pytest.mark.parametrize("executor", [None, "threads"])
def test_the_same_call_goes_on_from_its_state(
    executor: str | None, threads: Executor, simulators: list[Simulator], tmp_path: Path
) -> None:
    def ends(count: int) -> list[int | None]:
        found = []
        iterator = run_many(
            jobs(4), servers=[simulators[0].url], executor=threads if executor else None, reporters=[], timing=TIMING,
            state=tmp_path / "state", manifest=tmp_path / "runs.jsonl",
        )  # fmt: skip
        for end in iterator:
            found += [end.run_index] if end.status == "success" else []
            if len(found) == count:
                break
        iterator.close()  # type: ignore[attr-defined]
        return found

    first = ends(2)
    assert len(first) == 2
    ends(4)
    assert ends(4) == []
    lines = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted((line["index"], line["status"], line["inputs"]["seed"]) for line in lines) == [
        (seed + 1, "success", str(seed)) for seed in range(4)
    ]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (jobs(2, output="made/out.png"), "made/out.png"),
        ([{"workflow": "nonesuch.json"}], "nonesuch.json"),
    ],
)
def test_runs_that_cant_be_made_end_before_anything_is_submitted(runs: list[dict[str, Any]], message: str) -> None:
    (end,) = run_many(runs, servers=["http://127.0.0.1:9"], reporters=[])
    assert end.error is not None
    assert (end.status, end.submitted) == ("usage", "no")
    assert message in end.error.message


def test_a_run_that_names_a_server_is_made_by_that_one() -> None:
    with Simulator(speed=100) as first, Simulator(speed=100) as second:
        named = [{"workflow": WORKFLOW, "seed": seed, "server": second.url, "timeout": 60.0} for seed in range(3)]
        ends = list(run_many([*jobs(2), *named], servers=[first.url], reporters=[]))
        assert [end.status for end in ends] == ["success"] * 5
        assert {end.server for end in ends if (end.run_index or 0) > 2} == {second.url}


def test_no_runs_are_a_whole_stream() -> None:
    collector = Collector()
    assert list(run_many([], servers=["http://127.0.0.1:9"], reporters=[collector])) == []
    assert [event.type for event in collector.events] == ["stream_started", "stream_finished"]
