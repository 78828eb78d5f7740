"""Many runs on several servers: all are used, those that fail are set aside, and no run is lost or made twice."""

from __future__ import annotations

import signal
import time
from collections import Counter
from contextlib import ExitStack

import pytest

from tests.e2e.comfyui_server import free_port
from tests.e2e.driver import Driver, Ended
from tests.e2e.many import WORKFLOW, SimulatedServer, indexes, manifest, run_many, simulated

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

IMPATIENT = {"COMFYREPORT_TIME_SCALE": "0.1"}
"""A server that is gone is given up after 1.5 s."""


def codes(ended: Ended) -> list[str]:
    return [event["code"] for event in ended.of("warning")]


def flags(*servers: SimulatedServer) -> list[str]:
    return [word for server in servers for word in ("--server", server.url)]


def test_all_servers_are_used_and_none_is_idle(driver: Driver) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(simulated(driver.installed, speed=10.0)) for _ in range(3)]
        ended = run_many(driver, *flags(*servers), "--grid", "seed=1..12")
        assert (ended.code, indexes(ended)) == (0, list(range(1, 13))), ended.err
        assert ended.events[0]["server"] == ", ".join(server.url for server in servers)
        used = Counter(event["server"] for event in ended.of("run_finished"))
        assert min(used[server.url] for server in servers) >= 2, used
        assert sum(len(server.history()) for server in servers) == 12


def test_one_that_dies_and_two_that_come_lose_nothing(driver: Driver) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(simulated(driver.installed, speed=4.0)) for _ in range(4)]
        driver.path("servers.txt", f"# two at first\n{servers[0].url}\n{servers[1].url}\n")
        words = [
            "--workflow",
            str(WORKFLOW),
            "--servers",
            "servers.txt",
            "--grid",
            "seed=1..24",
            "--manifest",
            "made.jsonl",
        ]
        running = driver.start(*words, env=IMPATIENT)
        first = servers[0]
        running.wait_for(
            lambda event: event["type"] == "run_finished" and event["server"] == first.url, "its first end"
        )
        first.kill()
        driver.path("servers.txt", "".join(f"{server.url}\n" for server in servers[1:]))
        ended = running.end()
        assert (ended.code, indexes(ended)) == (0, list(range(1, 25))), ended.err
        lines = manifest(driver.folder / "made.jsonl")
        assert len(lines) == 24
        assert {line["server"] for line in lines} == {server.url for server in servers}
        assert "run_moved" in codes(ended)
        made = [prompt for server in servers[1:] for prompt in server.history()]
        of_dead = [line for line in lines if line["server"] == first.url]
        assert len(made) + len(of_dead) == 24


def test_a_server_that_is_not_there_is_set_aside_and_used_once_it_is(driver: Driver) -> None:
    port = free_port()
    with ExitStack() as stack:
        first = stack.enter_context(simulated(driver.installed, speed=2.0))
        words = ["--workflow", str(WORKFLOW), *flags(first), "--server", f"127.0.0.1:{port}", "--grid", "seed=1..12"]
        running = driver.start(*words, env=IMPATIENT)
        running.wait_for(lambda event: event.get("code") == "server_set_aside", "the warning")
        second = SimulatedServer(driver.installed, 2.0, port)
        stack.callback(second.kill)
        ended = running.end()
        assert (ended.code, indexes(ended)) == (0, list(range(1, 13))), ended.err
        assert "server_back" in codes(ended)
        assert len(second.history()) > 0


def test_without_any_server_each_is_named(driver: Driver) -> None:
    ports = [free_port(), free_port()]
    words = [word for port in ports for word in ("--server", f"127.0.0.1:{port}")]
    ended = run_many(driver, *words, "--repeat", "5")
    assert ended.code == 3
    (result,) = ended.of("run_finished")
    assert (result["status"], result["error"]["code"]) == ("unreachable", "servers_unusable")
    assert all(f"127.0.0.1:{port}" in result["error"]["message"] for port in ports)


def test_a_server_is_waited_for(driver: Driver) -> None:
    port = free_port()
    words = ["--workflow", str(WORKFLOW), "--server", f"127.0.0.1:{port}", "--repeat", "2", "--wait-for-server", "60"]
    running = driver.start(*words, env=IMPATIENT)
    time.sleep(0.5)
    server = SimulatedServer(driver.installed, 20.0, port)
    try:
        ended = running.end()
        assert (ended.code, indexes(ended)) == (0, [1, 2]), ended.err
    finally:
        server.kill()


def test_the_only_server_that_dies_ends_the_command_which_goes_on_later(driver: Driver) -> None:
    server = SimulatedServer(driver.installed, 4.0)
    port = server.url.rpartition(":")[2]
    words = ["--workflow", str(WORKFLOW), "--server", server.url, "--grid", "seed=1..6", "--state", "state.db"]
    running = driver.start(*words, env=IMPATIENT)
    running.wait_for_type("run_finished")
    server.kill()
    ended = running.end()
    assert ended.code in (3, 6), ended.err
    done = {event["run_index"] for event in ended.of("run_finished") if event["status"] == "success"}
    again = SimulatedServer(driver.installed, 20.0, int(port))
    try:
        last = driver.run(*words, env=IMPATIENT)
        assert (last.code, set(indexes(last))) == (0, {1, 2, 3, 4, 5, 6} - done), last.err
    finally:
        again.kill()


def test_what_a_frozen_server_may_still_make_is_looked_for_before_it_is_made_again(driver: Driver) -> None:
    with simulated(driver.installed, speed=4.0) as server:
        words = ["--workflow", str(WORKFLOW), "--server", server.url, "--grid", "seed=1..6", "--state", "state.db"]
        running = driver.start(*words, env=IMPATIENT)
        running.wait_for_type("run_finished")
        server.process.send_signal(signal.SIGSTOP)
        ended = running.end()
        server.process.send_signal(signal.SIGCONT)
        assert ended.code in (3, 6), ended.err
        assert "server_set_aside" in codes(ended)
        last = driver.run(*words)
        assert (last.code, last.events[0]["runs_planned"]) == (0, 6), last.err
        seeds = [entry["prompt"][2]["3"]["inputs"]["seed"] for entry in server.history().values()]
        assert sorted(seeds) == [1, 2, 3, 4, 5, 6]


def test_two_names_of_one_server_are_told_before_anything_is_submitted(driver: Driver) -> None:
    with simulated(driver.installed) as server:
        port = server.url.rpartition(":")[2]
        words = ["--server", f"localhost:{port}", "--server", server.url, "--repeat", "2"]
        ended = run_many(driver, *words, stream=False)
        assert ended.code == 2
        assert f"localhost:{port}" in ended.err
        assert server.history() == {}


@pytest.mark.parametrize("content", ["", "# none\n", "http://[\n", "\xff"])
def test_a_file_of_servers_that_names_none_is_a_usage_error(driver: Driver, content: str) -> None:
    driver.path("servers.txt", content.encode("latin-1"))
    ended = run_many(driver, "--servers", "servers.txt", "--repeat", "2", stream=False)
    assert ended.code == 2, ended.err
    assert "servers.txt" in ended.err


def test_a_run_that_one_server_refuses_is_given_to_another(driver: Driver) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(simulated(driver.installed, speed=10.0))
        strict = stack.enter_context(simulated(driver.installed, 10.0, "--strict"))
        words = [*flags(first, strict), "--grid", "model=mine.safetensors,mine2.safetensors,mine3.safetensors"]
        ended = run_many(driver, *words)
        assert (ended.code, indexes(ended)) == (0, [1, 2, 3]), ended.err
        assert {event["server"] for event in ended.of("run_finished")} == {first.url}
        assert strict.history() == {}
