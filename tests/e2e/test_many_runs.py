"""Many runs in one command: what runs there are, their stream, their manifest, and where they go on."""

from __future__ import annotations

import os
import signal
import sqlite3
import time

import pytest

from tests.e2e.driver import Driver
from tests.e2e.many import WORKFLOW, indexes, manifest, run_many, simulated

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FAST = {"COMFYREPORT_SIM_SPEED": "50"}
FAILS = ["--set", "KSampler.model=1"]


def test_a_grid_is_one_stream_with_an_end_for_each_run(driver: Driver) -> None:
    words = ["--server", "sim", "--grid", "seed=1..3", "--grid", "steps=2,3", "--manifest", "made.jsonl"]
    ended = run_many(driver, *words, "--output", "made/{run:02}-{seed}.png", env=FAST)
    assert ended.code == 0, ended.err
    assert ended.events[0]["runs_total"] == 6
    assert indexes(ended) == [1, 2, 3, 4, 5, 6]
    lines = sorted(manifest(driver.folder / "made.jsonl"), key=lambda line: int(line["index"]))
    assert [line["inputs"] for line in lines] == [
        {"seed": str(seed), "steps": str(steps)} for seed in (1, 2, 3) for steps in (2, 3)
    ]
    assert [line["seed"] for line in lines] == [1, 1, 2, 2, 3, 3]
    files = sorted(path.name for path in (driver.folder / "made").iterdir())
    assert files == ["01-1.png", "02-1.png", "03-2.png", "04-2.png", "05-3.png", "06-3.png"]
    assert sorted(ended.out.splitlines()) == sorted(f"made/{name}" for name in files)


def test_the_console_tells_a_few_lines_a_run_and_all_failures(driver: Driver) -> None:
    ended = run_many(driver, "--server", "sim", "--repeat", "3", "--reporter", "console", env=FAST)
    assert ended.code == 0
    assert sum(line.startswith("[OK]") for line in ended.err.splitlines()) >= 3, ended.err


def test_a_prompts_file_sets_what_its_columns_name(driver: Driver) -> None:
    rows = 'prompt,seed,output\na stone jar,7,one.png\n"a bowl, of clay",8,two.png\n'
    driver.path("prompts.csv", rows)
    ended = run_many(driver, "--server", "sim", "--prompts", "prompts.csv", env=FAST)
    assert ended.code == 0, ended.err
    assert (driver.folder / "one.png").exists()
    assert (driver.folder / "two.png").exists()
    (first,) = (event for event in ended.of("run_finished") if event["run_index"] == 1)
    assert {(each["name"], each["value"]) for each in first["inputs"]} == {("text", "a stone jar"), ("seed", 7)}


def test_the_first_failure_stops_the_others_unless_it_is_to_go_on(driver: Driver) -> None:
    driver.path("prompts.jsonl", '{"prompt": "a"}\n{"ckpt.x": 1}\n'.replace('"ckpt.x": 1', '"3.steps": 0'))
    words = ["--server", "sim", "--prompts", "prompts.jsonl"]
    ended = run_many(driver, *words, env=FAST)
    assert ended.code in (1, 2, 4), ended.err


def test_ctrl_c_cancels_all_and_the_same_command_goes_on(driver: Driver) -> None:
    with simulated(driver.installed, speed=4.0) as server:
        words = ["--workflow", str(WORKFLOW), "--server", server.url, "--grid", "seed=1..6"]
        words += ["--state", "state.db", "--manifest", "made.jsonl"]
        running = driver.start(*words)
        running.wait_for_type("run_finished")
        running.signal()
        first = running.end()
        assert first.code == 130
        done = {event["run_index"] for event in first.of("run_finished") if event["status"] == "success"}
        assert 0 < len(done) < 6
        again = driver.run(*words)
        assert again.code == 0, again.err
        assert again.events[0]["runs_total"] == 6 - len(done)
        assert set(indexes(again)) == {1, 2, 3, 4, 5, 6} - done
        assert sorted(line["index"] for line in manifest(driver.folder / "made.jsonl")) == [1, 2, 3, 4, 5, 6]
        successes = [each for each in server.history().values() if each["status"]["status_str"] == "success"]
        assert len(successes) == 6
        third = driver.run(*words)
        assert (third.code, third.events[0]["runs_total"], indexes(third)) == (0, 0, [])


def test_killed_twice_it_has_each_run_once(driver: Driver) -> None:
    with simulated(driver.installed, speed=4.0) as server:
        words = ["--workflow", str(WORKFLOW), "--server", server.url, "--grid", "seed=1..8"]
        words += ["--state", "state.db", "--manifest", "made.jsonl", "--output", "made/{run}-{seed}.png"]
        for count in (2, 2):
            running = driver.start(*words)
            deadline = time.monotonic() + 60
            while len(running.text("events.jsonl").split('"type":"run_finished"')) <= count:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            running.signal(signal.SIGKILL)
            running.process.wait()
        ended = driver.run(*words)
        assert ended.code == 0, ended.err
        assert sorted(line["index"] for line in manifest(driver.folder / "made.jsonl")) == list(range(1, 9))
        assert len(server.history()) == 8
        assert sorted(path.name for path in (driver.folder / "made").iterdir()) == [f"{n}-{n}.png" for n in range(1, 9)]


def test_only_the_failed_ones_are_run_again(driver: Driver) -> None:
    words = ["--server", "sim", "--grid", "seed=1..3", "--state", "state.db", "--keep-going"]
    assert run_many(driver, *words, env=FAST).code == 0
    with sqlite3.connect(driver.folder / "state.db") as database:
        database.execute("UPDATE ended SET status = 'error' WHERE run = 2")
    database.close()
    ended = run_many(driver, *words, "--only", "failed", env=FAST)
    assert (ended.code, indexes(ended)) == (0, [2])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--grid", "seed=1,x"], "'x' is no seed"),
        (["--grid", "KSampler.sampler_name=euler,elur"], "elur"),
        (["--grid", "nothing.seed=1,2"], "nothing"),
        (["--prompts", "bad.csv"], "line 3"),
        (["--repeat", "2", "--output", "one.png"], "one.png"),
        (["--repeat", "2", "--output", "made/{title}.png"], "made/"),
        (["--repeat", "2", "--record", "r.jsonl"], "--record"),
        (["--repeat", "2", "--output", "-"], "--output"),
        (["--only", "failed"], "--state"),
        (["--repeat", "2", "--state", "bad.csv"], "bad.csv"),
        (["--repeat", "2", "--state", "other.db"], "another command"),
        (["--repeat", "2", "--manifest", "bad.csv", "--state", "bad.csv"], "bad.csv"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_submitted(driver: Driver, words: list[str], told: str) -> None:
    driver.path("bad.csv", "prompt,steps\na,2\nb,x\n")
    if "other.db" in words:
        assert run_many(driver, "--server", "sim", "--repeat", "3", "--state", "other.db", env=FAST).code == 0
    with simulated(driver.installed) as server:
        ended = run_many(driver, "--server", server.url, *words, stream=False)
        assert ended.code == 2, ended.err
        assert told in ended.err
        assert server.history() == {}
    assert (driver.folder / "bad.csv").read_text(encoding="utf-8").startswith("prompt,steps\n")


@pytest.mark.parametrize("output", ["rows.csv", "./made.jsonl", "state.db", "events.jsonl", "flow.json"])
def test_no_output_of_a_row_replaces_what_the_command_uses_itself(driver: Driver, output: str) -> None:
    rows = f"seed,output,workflow\n1,{output},flow.json\n"
    driver.path("rows.csv", rows)
    driver.path("flow.json", WORKFLOW.read_bytes())
    words = ["--server", "sim", "--prompts", "rows.csv", "--manifest", "made.jsonl", "--state", "state.db"]
    ended = driver.run(*words, "--overwrite", "--reporter", "jsonl=events.jsonl", env=FAST, stream=False)
    assert ended.code == 2, ended.err
    assert "uses itself" in ended.err
    assert (driver.folder / "rows.csv").read_text(encoding="utf-8") == rows
    assert (driver.folder / "flow.json").read_bytes() == WORKFLOW.read_bytes()


def test_what_is_no_manifest_is_not_replaced(driver: Driver) -> None:
    driver.path("precious.sh", "#!/bin/sh\n")
    ended = run_many(driver, "--server", "sim", "--repeat", "2", "--manifest", "precious.sh", env=FAST, stream=False)
    assert ended.code == 2, ended.err
    assert (driver.folder / "precious.sh").read_text(encoding="utf-8") == "#!/bin/sh\n"


def test_a_command_that_is_refused_leaves_no_state(driver: Driver) -> None:
    words = ["--server", "sim", "--state", "state.db", "--grid"]
    assert run_many(driver, *words, "steps=2,x", env=FAST, stream=False).code == 2
    assert not (driver.folder / "state.db").exists()
    assert run_many(driver, *words, "steps=2,3", env=FAST, stream=False).code == 0


def test_going_on_tells_what_failed_before(driver: Driver) -> None:
    graph = {
        "1": {"class_type": "SimulateError", "inputs": {"x": 1}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
    }
    words = ["--workflow", os.fspath(driver.path("bad.json", graph)), "--server", "sim", "--grid", "1.x=1..3"]
    words += ["--state", "state.db"]
    assert driver.run(*words, "--keep-going", env=FAST).code == 1
    ended = driver.run(*words, env=FAST)
    assert (ended.code, indexes(ended), ended.events[-1]["status"]) == (1, [], "error")
    assert "3 of 3 runs have ended already, 3 failed" in ended.err


def test_what_would_be_submitted_is_printed(driver: Driver) -> None:
    ended = run_many(driver, "--server", "sim", "--grid", "seed=1..3", "--dry-run", stream=False)
    assert ended.code == 0, ended.err
    assert len(ended.out.splitlines()) == 3


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_runs_that_would_save_to_one_name_are_told(driver: Driver, words: list[str]) -> None:
    words = [*words, "--server", "http://127.0.0.1:1", "--server", "http://127.0.0.1:2"]
    for output, more in (("one.png", ()), ("{title}.png", ()), ("made/", ("--overwrite",))):
        ended = run_many(driver, "--repeat", "2", "--output", output, *more, *words, stream=False)
        assert (ended.code, ended.out) == (2, "")
        assert f"--output {output}" in ended.err


def test_no_file_is_left_beside_a_state_that_is_closed(driver: Driver) -> None:
    assert run_many(driver, "--server", "sim", "--repeat", "2", "--state", "s/state.db", env=FAST).code == 0
    assert os.listdir(driver.folder / "s") == ["state.db"]
