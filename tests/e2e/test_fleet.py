"""Runs through a real Dask scheduler: workers that are killed in mid-run, and everything there is to be told of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from comfyreport.events.schema import json_schema
from comfyreport.fleet.dask import connect
from comfyreport.simulator import Simulator
from tests.e2e.cluster import LIMIT, Cluster, cluster, simulators
from tests.e2e.comfyui_server import poll
from tests.e2e.driver import StreamChecker
from tests.e2e.installation import NOTHING_LEARNED, ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WORKFLOW = ROOT / "workflows" / "sd15-txt2img.json"
_PROGRAM = """
import json, sys
from comfyreport import run_many
engine, jobs, more = (json.loads(word) for word in sys.argv[1:])
for end in run_many(jobs, executor=engine, json_progress=True, **more):
    pass
"""
_LEFT = """
import sys
import distributed
with distributed.Client(sys.argv[1], timeout=20) as client:
    print(client.run_on_scheduler(lambda dask_scheduler: [
        len(dask_scheduler.tasks), len(dask_scheduler.task_metadata), len(dask_scheduler.extensions["events"]._events)
    ]))
"""

Event = dict[str, Any]


class Command:
    """A program that makes runs through an engine; its event stream is read as it comes."""

    def __init__(self, engine: str, jobs: Sequence[dict[str, Any]], folder: Path, **more: Any) -> None:
        words = [json.dumps(each) for each in (engine, jobs, more)]
        self.events: list[Event] = []
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error::ResourceWarning", "-c", _PROGRAM, *words],
            env={**os.environ, **NOTHING_LEARNED}, cwd=folder, encoding="utf-8",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def until(self, seen: Callable[[Event], bool]) -> Event:
        """Read up to the event of which *seen* is true."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)
            self.events.append(json.loads(line))
            if seen(self.events[-1]):
                return self.events[-1]
        raise AssertionError(self._process.communicate(timeout=LIMIT)[1] or self.events[-3:])

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self) -> tuple[Event, str]:
        """The last event and what was written to stderr; the stream holds what each stream promises."""
        last = self.until(lambda event: event["type"] == "stream_finished")
        rest, err = self._process.communicate(timeout=LIMIT)
        assert rest == ""
        events = StreamChecker(json_schema()).lines("".join(self._lines))
        assert [event["seq"] for event in events] == sorted({event["seq"] for event in events})
        elapsed = [event["elapsed"] for event in events]
        assert elapsed == sorted(elapsed)
        ends = Counter(event["run_index"] for event in events if event["type"] == "run_finished")
        assert set(ends.values()) <= {1}
        for index in ends:
            assert [event["type"] for event in events if event.get("run_index") == index][-1] == "run_finished"
        return last, err

    def ends(self) -> dict[int, Event]:
        """The ends of the runs, by their index."""
        return {event["run_index"]: event for event in self.events if event["type"] == "run_finished"}


def jobs(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"workflow": str(WORKFLOW), "seed": seed, **more} for seed in range(count)]


def submissions(servers: Sequence[Simulator]) -> int:
    requests = [request for server in servers for request in server.play().requests]
    return sum(request.method == "POST" and request.path == "/prompt" for request in requests)


def left(cluster: Cluster) -> list[int]:
    """How many tasks, notes and wishes the scheduler still has."""
    address = cluster.url.replace("dask://", "tcp://")
    done = subprocess.run(
        [sys.executable, "-c", _LEFT, address], capture_output=True, encoding="utf-8", timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    counts: list[int] = json.loads(done.stdout)
    return counts


def started_by(worker: str) -> Callable[[Event], bool]:
    return lambda event: event["type"] == "node_started" and event.get("worker") == worker


def test_sixty_runs_of_which_a_worker_is_killed_in_the_midst(tmp_path: Path) -> None:
    with simulators(3, speed=8) as servers, cluster(tmp_path) as engine:
        for number, server in enumerate(servers):
            engine.add_worker(f"gpu{number}", server.url)
        command = Command(engine.url, jobs(60, output=f"{tmp_path}/made/{{seed}}.{{ext}}"), tmp_path)
        for _ in range(10):
            command.until(lambda event: event["type"] == "run_finished")
        command.until(started_by("gpu1"))
        engine.kill_worker("gpu1")
        last, err = command.end()
        assert (last["exit_code"], last["runs"], last["failed"], err) == (0, 60, 0, "")
        assert sorted(command.ends()) == list(range(1, 61))
        assert {event["seed"] for event in command.ends().values()} == set(range(60))
        assert sorted(path.name for path in (tmp_path / "made").iterdir()) == sorted(
            f"{seed}.png" for seed in range(60)
        )
        # The prompts of the one that died were looked for, and found: nothing was submitted twice.
        lost = [event for event in command.events if event["type"] == "connection_changed" and event["state"] == "lost"]
        assert lost
        assert all("worker gpu1 died; its prompt is looked for" in event["detail"] for event in lost)
        assert {event["worker"] for event in lost} <= {"gpu0", "gpu2"}
        assert submissions(servers) == 60
        assert left(engine) == [0, 0, 0]


def test_a_worker_that_dies_each_time_loses_the_run(tmp_path: Path) -> None:
    none_allowed = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    with simulators(1, speed=0.2) as servers, cluster(tmp_path, **none_allowed) as engine:
        engine.add_worker("gpu0", servers[0].url, "--nanny")
        command = Command(engine.url, jobs(1), tmp_path, retries=1)
        command.until(started_by("gpu0"))
        engine.kill_worker("gpu0")
        # Before it, that there are no workers, where the scheduler is asked before the next one is there.
        moved = command.until(lambda event: event.get("code") == "run_moved")
        assert moved["message"] == "it is handed out again: worker gpu0 died"
        # The prompt is found again, and so it is followed when the worker dies once more.
        command.until(lambda event: event["type"] == "run_queued")
        engine.kill_worker("gpu0")
        last, err = command.end()
        assert (last["exit_code"], last["status"], err) == (6, "lost", "")
        error = command.ends()[1]["error"]
        assert error["code"] == "worker_lost"
        assert "in each of 2 attempts" in error["message"]
        assert submissions(servers) == 1


def test_what_a_dead_worker_may_have_submitted_is_not_kept_by_the_scheduler(tmp_path: Path) -> None:
    with cluster(tmp_path) as engine:
        connected = connect(engine.url, "c")
        connected.confirm("p")
        poll(lambda: left(engine) == [0, 0, 1], LIMIT, "what was confirmed")
        connected.withdraw("p")
        connected.close()
        assert left(engine) == [0, 0, 0]


def test_a_stop_cancels_what_runs_and_leaves_nothing(tmp_path: Path) -> None:
    with simulators(1, speed=0.5) as servers, cluster(tmp_path) as engine:
        engine.add_worker("gpu0", servers[0].url)
        command = Command(engine.url, jobs(9), tmp_path)
        running = command.until(started_by("gpu0"))
        command.interrupt()
        last, err = command.end()
        assert (last["exit_code"], last["status"]) == (130, "cancelled")
        assert "KeyboardInterrupt" in err
        assert "distributed" not in err.replace("comfyreport/fleet", "")
        statuses = {event["status"] for event in command.ends().values()}
        assert statuses == {"cancelled"}
        assert servers[0].prompt_status(running["prompt_id"]) == "interrupted"
        assert left(engine) == [0, 0, 0]


def test_a_worker_that_comes_later_and_outputs_in_a_shared_folder(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    with simulators(1, speed=20) as servers, cluster(tmp_path) as engine:
        command = Command(engine.url, jobs(2, output="{seed}.{ext}"), tmp_path)
        waits = command.until(lambda event: event["type"] == "warning")
        assert (waits["code"], "no workers yet" in waits["message"]) == ("engine_waits", True)
        engine.add_worker("gpu0", servers[0].url, environ={"COMFYREPORT_OUTPUT": str(shared)})
        last, err = command.end()
        assert (last["exit_code"], err) == (0, "")
        saved = [event["output"]["path"] for event in command.events if event["type"] == "output_saved"]
        assert sorted(saved) == [str(shared / "0.png"), str(shared / "1.png")]
        assert all(Path(path).stat().st_size for path in saved)


def test_a_scheduler_that_dies_is_the_end_of_what_was_begun(tmp_path: Path) -> None:
    with simulators(1, speed=0.5) as servers, cluster(tmp_path) as engine:
        engine.add_worker("gpu0", servers[0].url)
        command = Command(engine.url, jobs(9), tmp_path)
        command.until(started_by("gpu0"))
        engine.kill_scheduler()
        last, err = command.end()
        assert (last["exit_code"], last["status"], err) == (6, "lost", "")
        assert 1 <= last["runs"] <= 2
        assert {event["error"]["code"] for event in command.ends().values()} == {"engine"}


def test_the_installed_command_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).parent / "comfyreport"), "--workflow", str(WORKFLOW), "--grid", "seed=1..9",
        "--state", "state", "--manifest", "runs.jsonl", "--json-progress", "--engine",
    ]  # fmt: skip
    with simulators(2, speed=5) as servers, cluster(tmp_path) as engine:
        for number, server in enumerate(servers):
            engine.add_worker(f"gpu{number}", server.url)
        environ = {**os.environ, **NOTHING_LEARNED}
        with subprocess.Popen([*command, engine.url], cwd=tmp_path, env=environ, stdout=subprocess.PIPE) as killed:
            assert killed.stdout is not None
            ends = 0
            while ends < 3:
                ends += json.loads(killed.stdout.readline())["type"] == "run_finished"
            killed.kill()
        done = subprocess.run(
            [*command, engine.url], cwd=tmp_path, env=environ, capture_output=True, encoding="utf-8", timeout=LIMIT * 2,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text(encoding="utf-8").splitlines()]
        assert sorted(line["index"] for line in lines) == list(range(1, 10))
        assert {line["status"] for line in lines} == {"success"}
        # What the first one had begun was found.
        assert submissions(servers) == 9
