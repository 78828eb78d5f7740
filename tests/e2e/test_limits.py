"""A machine that gives no descriptor, no thread, no memory: a message that says so, a whole stream, no traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.comfyui_server import poll
from tests.e2e.driver import LIMIT, Driver, Ended, Running
from tests.e2e.test_stuck import WORKFLOW

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.e2e

FAST = {"COMFYREPORT_SIM_SPEED": "30"}
SAYS = {
    "files": "this process can open no more files",
    "threads": "no thread can be started",
    "memory": "there is not enough memory",
}

# Lets some threads start, and then none: a limit of the system isn't one for root.
THREADS = """
import os, threading
if "THREADS" in os.environ:
    left = int(os.environ["THREADS"])
    name = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"
    start = getattr(threading, name)
    def limited(*words, **options):
        global left
        left -= 1
        if left < 0:
            raise RuntimeError("can't start new thread")
        return start(*words, **options)
    setattr(threading, name, limited)
"""

# Takes all descriptors, in the midst of the run.
LEAK = """
import os
from comfyreport import hookimpl

@hookimpl
def comfyreport_node_progress():
    try:
        while True:
            os.open(os.devnull, os.O_RDONLY)
    except OSError:
        pass
"""


@pytest.fixture
def server(driver: Driver) -> Running:
    simulator = driver.start("simulate", "--port", "0", "--speed", "30", stream=False)
    poll(lambda: "\n" in simulator.text("out"), LIMIT, "the simulator's address")
    driver.server = simulator.text("out").strip()
    return simulator


def limited(kind: str, value: int) -> Callable[[], None]:
    number = {"files": resource.RLIMIT_NOFILE, "memory": resource.RLIMIT_AS}[kind]
    return lambda: resource.setrlimit(number, (value, value))


def check(driver: Driver, ended: Ended, *limits: str) -> dict[str, Any]:
    """It ended well, or by one of *limits*, which it names on stderr and in the stream, if there is one."""
    assert "Traceback" not in ended.err
    # 8: what is open at once differs from run to run, and there may be too few for the outputs alone.
    assert ended.code in (0, 8, 70), ended.err
    events = driver.checker.whole(ended.out) if ended.out.endswith("}\n") else []
    if events:
        assert events[-1]["exit_code"] == ended.code
    error: dict[str, Any] = events[-2].get("error", {}) if events else {}
    if ended.code:
        assert any(SAYS[limit] in ended.err for limit in limits), ended.err
        assert "please report" not in ended.err
        assert not events or error["code"] == "machine_limit" or ended.code == 8
    return error


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("count", [6, 7, 8, 9, 10, 11, 12, 14])
def test_few_descriptors(driver: Driver, count: int) -> None:
    ended = driver.run(
        "--workflow", WORKFLOW, "--json-progress", "--output", "made/", env=FAST, stream=False,
        preexec_fn=limited("files", count),
    )  # fmt: skip
    check(driver, ended, "files")
    assert ended.code == 70 or count > 9


@pytest.mark.parametrize("count", [8, 10, 12, 14, 18, 24])
def test_few_descriptors_for_the_embedded_simulator(driver: Driver, count: int) -> None:
    words = ("--workflow", WORKFLOW, "--server", "sim", "--json-progress")
    ended = driver.run(*words, env=FAST, stream=False, preexec_fn=limited("files", count))
    check(driver, ended, "files")
    assert ended.code == 70


@pytest.mark.usefixtures("server")
def test_descriptors_that_a_plugin_takes(driver: Driver) -> None:
    driver.path("leak.py", LEAK)
    ended = driver.run(
        "--workflow", WORKFLOW, "--json-progress", "--output", "made/", "-p", "leak",
        env={**FAST, "PYTHONPATH": os.fspath(driver.folder)}, stream=False, preexec_fn=limited("files", 64),
    )  # fmt: skip
    error = check(driver, ended, "files")
    assert (ended.code, error["code"]) == (70, "machine_limit")


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 7])
def test_few_threads(driver: Driver, count: int) -> None:
    driver.path("sitecustomize.py", THREADS)
    env = {**FAST, "PYTHONPATH": os.fspath(driver.folder), "THREADS": str(count)}
    ended = driver.run("--workflow", WORKFLOW, "--json-progress", "--output", "made/", env=env, stream=False)
    check(driver, ended, "threads")
    assert ended.code == 70 or count > 4


@pytest.mark.parametrize("reporter", ["console", "filelog=run.log"])
def test_few_threads_beside_another_reporter(driver: Driver, reporter: str) -> None:
    driver.path("sitecustomize.py", THREADS)
    env = {**FAST, "PYTHONPATH": os.fspath(driver.folder), "THREADS": "4"}
    words = ("--workflow", WORKFLOW, "--server", "sim", "--reporter", reporter, "--reporter", "jsonl=-,rate=0")
    ended = driver.run(*words, env=env, stream=False)
    assert check(driver, ended, "threads")["code"] == "machine_limit"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="such a limit isn't kept here")
@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("megabytes", [32, 50, 80, 100, 130, 200, 300])
def test_little_memory(driver: Driver, megabytes: int) -> None:
    ended = driver.run(
        "--workflow", WORKFLOW, "--json-progress", "--output", "made/", env=FAST, stream=False,
        preexec_fn=limited("memory", megabytes * 1_000_000),
    )  # fmt: skip
    check(driver, ended, "memory", "threads")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="such a limit isn't kept here")
def test_a_workflow_that_does_not_fit_into_memory(driver: Driver) -> None:
    node = {"class_type": "SaveImage", "inputs": {"text": "x" * 200}}
    path = driver.path("large.json", {str(number): node for number in range(150_000)})
    ended = driver.run(
        "--workflow", path, "--server", "127.0.0.1:1", "--json-progress", stream=False,
        preexec_fn=limited("memory", 400_000_000),
    )  # fmt: skip
    check(driver, ended, "memory", "threads")
    assert ended.code == 70
