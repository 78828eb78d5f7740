"""`comfyreport attach` on a simulated server: prompts that wait, run, have ended, or are unknown."""

from __future__ import annotations

import functools
import itertools
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from comfyreport.simulator import Simulator
from tests.e2e.driver import Driver, Ended, Event, Running
from tests.simulator.client import Socket, until
from tests.simulator.prompts import picture, probe

pytestmark = pytest.mark.e2e

_seeds = itertools.count(1000)


class Server:
    """The simulator, and somebody else who submits to it."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.url = simulator.url

    def submit(self, graph: Any = None, *, client_id: str | None = "browser", **more: Any) -> str:
        """Submit a workflow; its prompt's id. None: without a client id."""
        body = {"prompt": graph or picture(seed=next(_seeds), steps=3), **more}
        if client_id is not None:
            body["client_id"] = client_id
        answer = requests.post(f"{self.url}/prompt", json=body, timeout=20)
        answer.raise_for_status()
        return str(answer.json()["prompt_id"])

    def post(self, path: str, body: Any) -> None:
        """Ask for something else."""
        requests.post(f"{self.url}{path}", json=body, timeout=20).raise_for_status()

    def ended(self, prompt_id: str) -> bool:
        """Whether history has it."""
        return prompt_id in requests.get(f"{self.url}/history/{prompt_id}", timeout=20).json()

    def queue(self) -> Any:
        """The queue as it is."""
        return requests.get(f"{self.url}/queue", timeout=20).json()


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Simulator(speed=20, **getattr(request, "param", {})) as simulator:
        yield Server(simulator)


Attach = Callable[..., Running]


@pytest.fixture
def attach(driver: Driver, server: Server) -> Attach:
    """Starts to follow a prompt; waits are a tenth unless *scale* says otherwise."""

    def start(prompt_id: str, *arguments: str | Path, scale: float = 0.1) -> Running:
        words = ("attach", prompt_id, "--server", server.url, "--reporter", "console", *arguments)
        return driver.start(*words, env={"COMFYREPORT_TIME_SCALE": str(scale)})

    return start


def assert_success(ended: Ended, graph: Any = None) -> None:
    assert ended.code == 0, ended.err
    result = ended.result
    assert (result["status"], result["prompt_state"], result["submitted"]) == ("success", "finished", "yes")
    assert set(result["executed"]) | set(result["cached"]) == set(graph or picture())
    assert [event["type"] for event in ended.events].index("run_queued") < [
        event["type"] for event in ended.events
    ].index("run_started")
    assert ended.events[0]["command"] == "attach"


def kinds(ended: Ended) -> list[str]:
    return [event["type"] for event in ended.events]


# --- ended


def test_a_prompt_that_has_finished(server: Server, attach: Attach, driver: Driver) -> None:
    prompt_id = server.submit()
    until(lambda: server.ended(prompt_id), "the end")
    folder = driver.folder / "made"
    ended = attach(prompt_id, "--output", f"{folder}/").end()
    assert_success(ended)
    told = [kind for kind in kinds(ended) if kind not in ("connection_changed", "queue_changed")]
    assert told[:3] == ["stream_started", "run_queued", "run_started"]
    assert told[-4:] == ["output_ready", "output_saved", "run_finished", "stream_finished"]
    queued = ended.of("run_queued")[0]
    assert (queued["prompt_id"], queued["client_id"]) == (prompt_id, "browser")
    assert {node["node_id"] for node in queued["nodes"]} == set(picture())
    assert {event["source"] for event in ended.of("node_finished")} == {"http"}
    (path,) = folder.iterdir()
    assert path.read_bytes().startswith(b"\x89PNG")
    assert ended.out == f"{path}\n"


def test_one_that_was_cached_in_full(server: Server, attach: Attach) -> None:
    graph = picture(seed=next(_seeds))
    first = server.submit(graph)
    until(lambda: server.ended(first), "the end")
    second = server.submit(graph)
    until(lambda: server.ended(second), "the end")
    ended = attach(second).end()
    assert_success(ended)
    assert (ended.result["executed"], set(ended.result["cached"])) == ([], set(graph))
    assert set(ended.nodes("node_cached")) == set(graph)
    assert not ended.of("node_started")
    assert all(output["cached"] for output in ended.result["outputs"])


def test_one_that_has_failed(server: Server, attach: Attach) -> None:
    prompt_id = server.submit(probe("ProbeRaise", kind="oom"))
    until(lambda: server.ended(prompt_id), "the end")
    ended = attach(prompt_id).end()
    assert (ended.code, ended.result["status"], ended.result["error"]["code"]) == (1, "error", "out_of_memory")
    assert ended.result["error"]["node_id"] == "2"


def test_one_that_was_interrupted(server: Server, attach: Attach) -> None:
    hold = server.simulator.pause_at("5", 1)
    prompt_id = server.submit()
    assert hold.reached.wait(20)
    server.post("/interrupt", {"prompt_id": prompt_id})
    hold.release()
    until(lambda: server.ended(prompt_id), "the end")
    ended = attach(prompt_id).end()
    assert (ended.code, ended.result["status"]) == (1, "interrupted")


@pytest.mark.parametrize("prompt_id", ["0d5c6a4e-2f43-4f0e-9d6b-6a1f1f0c7a55", "nobody knows", "job/42 é"])
def test_one_that_nobody_knows(attach: Attach, prompt_id: str) -> None:
    began = time.monotonic()
    ended = attach(prompt_id, scale=1).end()
    assert time.monotonic() - began < 8
    assert (ended.code, ended.result["status"]) == (6, "lost")
    assert ended.result["error"]["code"] in ("prompt_vanished", "deleted")
    assert not ended.of("run_queued")


@pytest.mark.parametrize("server", [{"version": "0.3.75"}], indirect=True)
def test_odd_ids(server: Server, attach: Attach) -> None:
    """A newer server takes UUIDs alone."""
    for prompt_id in ("job/42 é", "a?b#c%41", "12345"):
        assert server.submit(prompt_id=prompt_id) == prompt_id
        ended = attach(prompt_id).end()
        assert_success(ended)
        assert ended.result["prompt_id"] == prompt_id


def test_a_server_that_is_not_there(driver: Driver) -> None:
    ended = driver.run("attach", "x", "--server", "http://127.0.0.1:9")
    assert (ended.code, ended.result["status"]) == (3, "unreachable")


# --- running


def test_one_that_runs_for_a_client(server: Server, attach: Attach) -> None:
    """Nobody but its client is told how it goes: its beginning and its end are learned by asking."""
    hold = server.simulator.pause_at("5", 2)
    prompt_id = server.submit()
    assert hold.reached.wait(20)
    running = attach(prompt_id)
    assert running.wait_for_type("run_queued")["position"] == 0
    running.wait_for_type("run_started")
    hold.release()
    ended = running.end()
    assert_success(ended)
    assert not ended.of("node_progress")
    assert set(ended.nodes("node_finished")) == set(picture())


def test_one_that_runs_without_a_client(server: Server, attach: Attach) -> None:
    hold = server.simulator.pause_at("5", 2)
    prompt_id = server.submit(picture(seed=next(_seeds), steps=6), client_id=None)
    assert hold.reached.wait(20)
    running = attach(prompt_id)
    running.wait_for_type("run_started")
    hold.release()
    ended = running.end()
    assert_success(ended)
    steps = [event["step"] for event in ended.of("node_progress")]
    assert steps[-1] == 6
    assert len(steps) >= 3
    assert {event["source"] for event in ended.of("node_progress")} == {"ws"}


def test_taking_over(server: Server, attach: Attach) -> None:
    browser = Socket(server.url, "the-browser")
    hold = server.simulator.pause_at("5", 2)
    prompt_id = server.submit(picture(seed=next(_seeds), steps=6), client_id="the-browser")
    assert hold.reached.wait(20)
    running = attach(prompt_id, "--take-over")
    running.wait_for_type("connection_changed")
    running.wait_for_type("run_started")
    time.sleep(0.2)
    heard = len(browser.frames)
    hold.release()
    ended = running.end()
    assert_success(ended)
    assert [event["step"] for event in ended.of("node_progress")][-1] == 6
    assert ended.of("run_queued")[0]["client_id"] == "the-browser"
    assert len(browser.frames) == heard
    assert browser.is_open
    browser.close()


def test_taking_over_one_that_waits(server: Server, attach: Attach) -> None:
    hold = server.simulator.pause_at("5", 1)
    first = server.submit()
    assert hold.reached.wait(20)
    second = server.submit(picture(seed=next(_seeds), steps=6), client_id="the-browser")
    running = attach(second, "--take-over")
    assert running.wait_for_type("run_queued")["position"] == 1
    # Steps are told to those who are connected.
    running.wait_for_type("connection_changed")
    hold.release()
    ended = running.end()
    assert_success(ended)
    assert server.ended(first)
    assert [event["step"] for event in ended.of("node_progress")] == [1, 2, 3, 4, 5, 6]


def test_taking_over_one_that_has_ended(server: Server, attach: Attach) -> None:
    prompt_id = server.submit()
    until(lambda: server.ended(prompt_id), "the end")
    assert_success(attach(prompt_id, "--take-over").end())


def test_taking_over_one_that_nobody_knows(attach: Attach) -> None:
    ended = attach("nobody", "--take-over").end()
    assert (ended.code, ended.result["status"]) == (6, "lost")


def test_cancelling_one_that_somebody_else_submitted(server: Server, attach: Attach) -> None:
    hold = server.simulator.pause_at("5", 1)
    prompt_id = server.submit()
    assert hold.reached.wait(20)
    other = server.submit()
    running = attach(prompt_id, scale=1)
    running.wait_for_type("run_started")
    running.signal(signal.SIGINT)
    time.sleep(0.5)
    hold.release()
    ended = running.end()
    assert (ended.code, ended.result["status"], ended.result["prompt_state"]) == (130, "cancelled", "cancelled")
    until(lambda: server.ended(other), "the other's end")
    assert server.simulator.prompt_status(other) == "success"


def test_detaching_and_attaching_again(server: Server, attach: Attach, driver: Driver) -> None:
    hold = server.simulator.pause_at("5", 2)
    graph = picture(seed=next(_seeds), steps=5)
    running = driver.begin(
        graph, "--server", server.url, "--on-interrupt", "detach", "--reporter", "console",
        env={"COMFYREPORT_TIME_SCALE": "0.1"},
    )  # fmt: skip
    assert hold.reached.wait(30)
    prompt_id = running.wait_for_type("run_queued")["prompt_id"]
    running.wait_for_type("node_progress")
    running.signal(signal.SIGINT)
    left = running.end()
    assert (left.code, left.result["status"], left.result["prompt_state"]) == (130, "detached", "running")
    assert f"comfyreport attach {prompt_id}" in left.err
    assert server.simulator.prompt_status(prompt_id) == "running"
    again = attach(prompt_id)
    again.wait_for_type("run_started")
    hold.release()
    assert_success(again.end())


# --- waiting


def positions(events: list[Event]) -> list[int]:
    """The places that were told, each where it is another than the one before."""
    told = [
        event["position"] for event in events if event["type"] in ("run_queued", "queue_changed") if "position" in event
    ]
    return [place for place, _ in itertools.groupby(told)]


def is_place(position: int, event: Event) -> bool:
    return event["type"] == "queue_changed" and event.get("position") == position


def test_the_place_in_the_queue_is_live(server: Server, attach: Attach) -> None:
    hold = server.simulator.pause_at("5", 1)
    server.submit()
    assert hold.reached.wait(20)
    others = [server.submit() for _ in range(3)]
    prompt_id = server.submit()
    running = attach(prompt_id)
    assert running.wait_for_type("run_queued")["position"] == 4
    for left, other in zip((3, 2, 1), others, strict=True):
        server.post("/queue", {"delete": [other]})
        running.wait_for(functools.partial(is_place, left), f"place {left}")
    hold.release()
    ended = running.end()
    assert_success(ended)
    assert positions(ended.events)[:4] == [4, 3, 2, 1]


def test_the_place_is_counted_by_number(server: Server, attach: Attach) -> None:
    """Those that were put in front come first, though the server's list is not in order."""
    hold = server.simulator.pause_at("5", 1)
    server.submit()
    assert hold.reached.wait(20)
    for _ in range(3):
        server.submit()
    prompt_id = server.submit(front=True)
    for _ in range(2):
        server.submit(front=True)
    running = attach(prompt_id)
    assert running.wait_for_type("run_queued")["position"] == 3
    last = server.submit()
    assert attach(last).wait_for_type("run_queued")["position"] == 7
    hold.release()
    assert_success(running.end())


@pytest.mark.parametrize(
    ("server", "route"), [({}, "/jobs"), ({"version": "0.3.64"}, "/queue")], indirect=["server"], ids=["jobs", "queue"]
)
def test_a_busy_queue_is_looked_at_every_two_seconds_at_most(server: Server, attach: Attach, route: str) -> None:
    hold = server.simulator.pause_at("5", 1)
    server.submit()
    assert hold.reached.wait(20)
    prompt_id = server.submit()
    running = attach(prompt_id, scale=1)
    running.wait_for_type("run_queued")
    script = server.simulator.play()
    began = time.monotonic()
    while time.monotonic() - began < 6.5:
        server.post("/queue", {"delete": [server.submit()]})
        time.sleep(0.05)
    asked = [each for each in script.requests if each.method == "GET"]
    # A look at history goes on to the queue; what else asks for the queue is its place alone.
    places = [later for earlier, later in itertools.pairwise(asked) if later.path == route and earlier.path == route]
    assert places
    assert len(asked) <= 12
    assert all(later.began - earlier.began > 1.5 for earlier, later in itertools.pairwise(places))
    hold.release()
    assert_success(running.end())


def test_one_that_is_deleted_while_it_waits(server: Server, attach: Attach) -> None:
    hold = server.simulator.pause_at("5", 1)
    server.submit()
    assert hold.reached.wait(20)
    prompt_id = server.submit()
    running = attach(prompt_id, scale=1)
    running.wait_for_type("run_queued")
    server.post("/queue", {"delete": [prompt_id]})
    began = time.monotonic()
    ended = running.end()
    assert time.monotonic() - began < 20
    assert (ended.code, ended.result["status"], ended.result["error"]["code"]) == (6, "lost", "deleted")
    assert ended.result["prompt_state"] == "none"
    hold.release()


def test_cancelling_one_that_waits(server: Server, attach: Attach) -> None:
    hold = server.simulator.pause_at("5", 1)
    first = server.submit()
    assert hold.reached.wait(20)
    prompt_id = server.submit()
    running = attach(prompt_id)
    running.wait_for_type("run_queued")
    running.signal(signal.SIGTERM)
    ended = running.end()
    assert (ended.code, ended.result["status"], ended.result["prompt_state"]) == (130, "cancelled", "cancelled")
    assert server.simulator.prompt_status(prompt_id) == "nowhere"
    assert server.simulator.prompt_status(first) == "running"
    hold.release()


def test_the_help_says_what_taking_over_does(driver: Driver) -> None:
    text = " ".join(driver.installed.run("attach", "--help").stdout.split())
    assert "goes quiet" in text
    assert "--extra-data" not in text
    assert "--workflow" not in text
