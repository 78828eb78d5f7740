"""The installed command on the simulator: the shipped workflows, the main job, `simulate` as a process, time limits."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.comfyui_server import poll
from tests.e2e.driver import LIMIT, Driver, Running
from tests.e2e.installation import ROOT
from tests.e2e.raw_client import RawClient

pytestmark = pytest.mark.e2e

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"), key=lambda path: path.stem)
FAST = {"COMFYREPORT_SIM_SPEED": "50"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_each_shipped_workflow(driver: Driver, path: str) -> None:
    ended = driver.run("--workflow", path, "--server", "sim", "--output", "made/", env=FAST)
    assert ended.code == 0, ended.err
    saved = [event["output"] for event in ended.of("output_saved")]
    assert saved
    assert ended.out.splitlines() == [output["path"] for output in saved]
    for output in saved:
        file = driver.folder / output["path"]
        assert file.stat().st_size == output["bytes"] > 0
    started = set(ended.nodes("node_started"))
    assert started == set(ended.nodes("node_finished")) == set(ended.result["executed"])
    assert ended.of("node_finished")[-1]["fraction"] > 0.9
    assert ended.events[0]["server"] == "sim"


def test_the_main_job(driver: Driver) -> None:
    ended = driver.run(
        "--workflow", ROOT / "workflows" / "flux-dev.json", "--prompt", "a sunset over mountains",
        "--output", "sunset.png", "--server", "sim", "--reporter", "console", env=FAST,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert (driver.folder / "sunset.png").read_bytes().startswith(b"\x89PNG")
    assert ended.out == "sunset.png\n"
    lines = ended.err.splitlines()
    assert lines[:2] == ["[INFO] Connected to progress stream", "[INFO] Generation started"]
    assert re.fullmatch(r"\[OK\] Generation complete in \d+\.\ds", lines[-1])
    assert any(re.fullmatch(r"\[PROGRESS\] Sampling: 5/20 steps \(25%\) - ETA: \d+s", line) for line in lines)
    steps = [(event["step"], event["max_steps"]) for event in ended.of("node_progress")]
    assert steps == [(step, 20) for step in range(1, 21)]


@pytest.fixture
def simulated(driver: Driver) -> Iterator[Running]:
    """`comfyreport simulate` at work; the driver is pointed at it."""
    running = driver.start("simulate", "--port", "0", "--speed", "50", stream=False)
    poll(lambda: "\n" in running.text("out"), LIMIT, "the simulator's address")
    driver.server = running.text("out").strip()
    yield running
    running.process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_simulate_until_it_is_interrupted(driver: Driver, simulated: Running, number: signal.Signals) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", driver.server)
    ended = driver.run("--workflow", WORKFLOWS[0], "--output", "made/")
    assert ended.code == 0, ended.err
    assert ended.events[0]["server"] == driver.server
    simulated.signal(number)
    end = simulated.end()
    assert (end.code, end.err) == (0, "")


def test_the_address_of_a_result_holds(driver: Driver, simulated: Running) -> None:
    ended = driver.run("--workflow", ROOT / "workflows" / "image-ops.json", "--quiet")
    assert ended.code == 0, ended.err
    with RawClient(driver.server) as client:
        assert client.get(ended.out.strip().removeprefix(driver.server)).content.startswith(b"\x89PNG")


def test_a_time_limit_leaves_the_prompt_running(driver: Driver) -> None:
    simulator = driver.start("simulate", "--port", "0", stream=False)
    poll(lambda: "\n" in simulator.text("out"), LIMIT, "the simulator's address")
    driver.server = simulator.text("out").strip()
    ended = driver.run("--workflow", ROOT / "workflows" / "flux-dev.json", "--timeout", "1.5", "--reporter", "console")
    result = ended.result
    assert (ended.code, result["status"], result["prompt_state"]) == (7, "timeout", "running")
    assert result["error"]["code"] == "time_limit"
    with RawClient(driver.server) as client:
        assert client.running() == [result["prompt_id"]]
    assert result["prompt_id"] in ended.err
    simulator.signal()
    assert simulator.end().code == 0


def test_a_time_limit_before_anything_is_submitted(driver: Driver) -> None:
    ended = driver.run("--workflow", WORKFLOWS[0], "--server", "sim", "--timeout", "0.000001", env=FAST)
    result = ended.result
    assert (ended.code, result["status"]) == (7, "timeout")
    assert (result["submitted"], result["prompt_state"]) == ("no", "none")
    assert "goes on" not in result["error"]["hint"]


def test_a_limit_for_the_estimate(driver: Driver) -> None:
    simulator = driver.start("simulate", "--port", "0", stream=False)
    poll(lambda: "\n" in simulator.text("out"), LIMIT, "the simulator's address")
    driver.server = simulator.text("out").strip()
    env = {"COMFYREPORT_CACHE": str(driver.folder / "cache"), "COMFYREPORT_NO_LEARN": ""}
    words = ("--workflow", ROOT / "workflows" / "flux-dev.json", "--reporter", "console")
    # A seed of its own lets none of them be cached.
    for seed in ("1", "2"):
        assert driver.run(*words, "--seed", seed, env=env).code == 0
    usual = driver.run(*words, "--seed", "3", "--max-eta", "600", env=env)
    assert usual.code == 0
    assert usual.of("node_progress")[-1]["eta_basis"] == "history"
    ended = driver.run(*words, "--seed", "4", "--max-eta", "1", env=env)
    result = ended.result
    assert (ended.code, result["status"], result["prompt_state"]) == (7, "timeout", "cancelled")
    assert result["error"]["code"] == "time_limit"
    assert result["seconds"] < usual.result["seconds"]
    for text in ("the 1 s of --max-eta", "basis: history", "raise --max-eta"):
        assert text in ended.err
    with RawClient(driver.server) as client:
        assert client.running() == []
    simulator.signal()
    assert simulator.end().code == 0


def test_interrupted_on_the_embedded_simulator(driver: Driver) -> None:
    running = driver.start("--workflow", WORKFLOWS[0], "--server", "sim")
    running.wait_for_type("node_progress")
    running.signal()
    ended = running.end()
    assert (ended.code, ended.result["status"], ended.result["prompt_state"]) == (130, "cancelled", "cancelled")


def test_a_server_that_dies(driver: Driver) -> None:
    simulator = driver.start("simulate", "--port", "0", stream=False)
    poll(lambda: "\n" in simulator.text("out"), LIMIT, "the simulator's address")
    driver.server = simulator.text("out").strip()
    running = driver.start("--workflow", WORKFLOWS[0], "--reporter", "console", env={"COMFYREPORT_TIME_SCALE": "0.1"})
    running.wait_for_type("node_progress")
    simulator.process.kill()
    ended = running.end()
    result = ended.result
    assert (ended.code, result["status"], result["error"]["code"]) == (6, "lost", "server_gone")
    assert "lost" in [event["state"] for event in ended.of("connection_changed")]
    assert result["error"]["hint"]


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "nan"])
def test_a_speed_that_is_none(driver: Driver, speed: str) -> None:
    ended = driver.run("--workflow", WORKFLOWS[0], "--server", "sim", env={"COMFYREPORT_SIM_SPEED": speed})
    assert (ended.code, ended.result["status"]) == (2, "usage")
    assert "COMFYREPORT_SIM_SPEED" in ended.err
