"""Runs that learn of earlier ones, as the installed command: estimates, the usual times, and what may go wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from comfyreport.learning.store import Store
from tests.e2e.comfyui_server import poll
from tests.e2e.driver import LIMIT, Driver, Ended
from tests.learning.seen import execute

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / "workflows" / "sd15-txt2img.json"


def cache(driver: Driver) -> Path:
    return driver.folder / "cache"


def run(driver: Driver, seed: int, *words: str, **env: str) -> Ended:
    """One run that learns, on a simulator of its own."""
    env = {
        "COMFYREPORT_CACHE": os.fspath(cache(driver)),
        "COMFYREPORT_NO_LEARN": "",
        "COMFYREPORT_SIM_SPEED": "10",
        **env,
    }
    return driver.run("--workflow", WORKFLOW, "--server", "sim", "--seed", str(seed), *words, env=env)


def bases(ended: Ended) -> set[str | None]:
    """What the estimates of a run's steps rested on."""
    return {event.get("eta_basis") for event in ended.of("node_progress")}


def warnings(ended: Ended) -> list[str]:
    return [event["message"] for event in ended.of("warning") if event["code"] == "timings_unusable"]


def times(ended: Ended) -> dict[str, Any]:
    return {each["node"]: each for each in ended.result["node_times"]}


def test_the_second_run_knows_how_long_it_takes(driver: Driver) -> None:
    first, second = run(driver, 1), run(driver, 2)
    assert (first.code, second.code) == (0, 0)
    assert "history" not in bases(first)
    assert bases(second) == {"history"}
    began = second.of("node_started")[0]["elapsed"]
    ended = second.of("node_finished")[-1]["elapsed"]
    for event in second.of("node_progress"):
        assert event["run_eta_low"] <= event["run_eta_seconds"] <= event["run_eta_high"]
        # A machine that is busy is late, not early; of what is left at the end, a pause of a second may be the most.
        left = ended - event["elapsed"] - (0 if event["step"] <= 15 else 1)
        assert event["run_eta_seconds"] > 0.3 * left
        done = event["elapsed"] - began
        assert event["fraction"] >= done / (done + event["run_eta_seconds"]) - 0.05
    assert first.result.get("usual_seconds") is None
    assert second.result["usual_seconds"] == pytest.approx(
        sum(each["seconds"] for each in first.result["node_times"]), abs=0.1
    )
    sampler = times(second)["KSampler"]
    assert sampler["usual_seconds"] == pytest.approx(times(first)["KSampler"]["seconds"], abs=0.01)


def test_another_size_is_judged_by_its_like(driver: Driver) -> None:
    run(driver, 1)
    assert "similar" in bases(run(driver, 2, "--size", "768x768", "--steps", "10"))


def test_nothing_is_learned_where_it_is_not_wanted(driver: Driver) -> None:
    for number in (1, 2):
        ended = run(driver, number, "--no-learn")
        assert bases(ended) <= {None, "steps"}
    assert run(driver, 3, COMFYREPORT_NO_LEARN="1").code == 0
    assert not cache(driver).exists()


def test_one_that_is_followed_learns_too(driver: Driver) -> None:
    simulator = driver.start("simulate", "--port", "0", stream=False, env={"COMFYREPORT_SIM_SPEED": "1"})
    poll(lambda: "\n" in simulator.text("out"), LIMIT, "the simulator's address")
    driver.server = simulator.text("out").strip()
    env = {"COMFYREPORT_CACHE": os.fspath(cache(driver)), "COMFYREPORT_NO_LEARN": ""}
    assert driver.run("--workflow", WORKFLOW, "--seed", "1", env=env).code == 0
    unlearned = {**env, "COMFYREPORT_NO_LEARN": "1"}
    detached = driver.run("--workflow", WORKFLOW, "--seed", "2", "--timeout", "1", env=unlearned)
    assert detached.result["status"] == "timeout"
    followed = driver.run("attach", detached.result["prompt_id"], "--take-over", env=env)
    assert followed.code == 0
    assert bases(followed) == {"history"}
    simulator.signal()
    assert simulator.end().code == 0


def test_a_store_of_somebody_else_costs_the_run_nothing(driver: Driver) -> None:
    cache(driver).mkdir()
    path = cache(driver) / "timings.sqlite3"
    execute(path, "CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes()
    ended = run(driver, 1)
    assert (ended.code, ended.result["status"]) == (0, "success")
    assert [line.split(":")[0] for line in warnings(ended)] == [f"the timings in {path} can't be read"]
    assert path.read_bytes() == before


def test_a_folder_that_is_a_file_costs_the_run_nothing(driver: Driver) -> None:
    cache(driver).write_text("a file\n", encoding="utf-8")
    ended = run(driver, 1)
    assert (ended.code, ended.result["status"]) == (0, "success")
    assert warnings(ended)
    assert cache(driver).read_text(encoding="utf-8") == "a file\n"


@pytest.mark.parametrize(("words", "env"), [(["--no-learn"], {}), ([], {"COMFYREPORT_NO_LEARN": "1"})])
def test_a_limit_that_rests_on_nothing_is_refused(driver: Driver, words: list[str], env: dict[str, str]) -> None:
    ended = run(driver, 1, "--max-eta", "60", *words, **env)
    assert (ended.code, ended.result["status"], ended.result["submitted"]) == (2, "usage", "no")
    assert "--max-eta rests on what earlier runs took" in ended.result["error"]["message"]


def test_runs_at_once_keep_what_all_of_them_took(driver: Driver) -> None:
    env = {"COMFYREPORT_CACHE": os.fspath(cache(driver)), "COMFYREPORT_NO_LEARN": "", "COMFYREPORT_SIM_SPEED": "10"}
    words = ("--workflow", WORKFLOW, "--server", "sim")
    started = [driver.start(*words, "--seed", seed, env=env) for seed in "123"]
    for each in started:
        ended = each.end()
        assert (ended.code, warnings(ended)) == (0, [])
    learned = Store(cache(driver) / "timings.sqlite3").summary()
    assert {each.class_type: each.runs for each in learned}["KSampler"] == 3
