"""Reporters that raise, sleep, never return, print or leave: the run goes on, and they are named."""

from __future__ import annotations

import pytest

from tests.e2e.driver import Driver, Ended
from tests.e2e.installation import ROOT

pytestmark = pytest.mark.e2e

WORKFLOW = ROOT / "workflows" / "sd15-txt2img.json"
HEAD = "import sys, threading, time\nfrom comfyreport import hookimpl\n"


def hook(name: str, body: str) -> str:
    arguments = "" if name == "close" else "elapsed" if name == "tick" else "event"
    return f"{HEAD}@hookimpl\ndef comfyreport_{name}({arguments}):\n    {body}\n"


def run(driver: Driver, program: str, *words: str, scale: str = "1") -> Ended:
    """Run a workflow with the program as a plugin."""
    driver.path("guest.py", program)
    env = {"PYTHONPATH": str(driver.folder), "COMFYREPORT_SIM_SPEED": "50", "COMFYREPORT_TIME_SCALE": scale}
    return driver.run("--workflow", WORKFLOW, "--server", "sim", "-p", "guest", *words, env=env)


RAISING = {
    "an error": (hook("run_started", "raise ValueError('by design')"), "comfyreport_run_started", "by design"),
    "at the first event": (hook("stream_started", "1 / 0"), "comfyreport_stream_started", "ZeroDivisionError"),
    "at every event": (hook("event", "raise RuntimeError"), "comfyreport_event", "RuntimeError"),
    "at the run's end": (hook("run_finished", "{}['x']"), "comfyreport_run_finished", "KeyError"),
    "SystemExit": (hook("node_progress", "sys.exit(0)"), "comfyreport_node_progress", "SystemExit"),
    "KeyboardInterrupt": (hook("node_started", "raise KeyboardInterrupt"), "comfyreport_node_started", "Keyboard"),
    "at the close": (hook("close", "raise OSError(28, 'No space')"), "comfyreport_close", "No space"),
    "a recursion": (f"{HEAD}def f(): f()\n" + hook("node_finished", "f()"), "comfyreport_node_finished", "Recursion"),
}


@pytest.mark.parametrize("name", RAISING)
def test_one_that_raises(driver: Driver, name: str) -> None:
    program, place, text = RAISING[name]
    ended = run(driver, program, "--output", "out.png")
    assert ended.code == 5, ended.err
    assert ended.result["status"] == "success"
    assert ended.result["exit_code"] == 0
    (line,) = ended.err.splitlines()
    assert line.startswith("comfyreport: reporter guest failed and was switched off: ")
    assert place in line
    assert text in line
    (failure,) = ended.events[-1]["reporter_failures"]
    assert failure.startswith("guest: ")
    assert place in failure
    assert ended.out == "out.png\n"


def test_one_that_raises_while_the_run_fails(driver: Driver) -> None:
    driver.path("guest.py", hook("event", "raise RuntimeError"))
    ended = driver.run("--workflow", "nowhere.json", "-p", "guest", env={"PYTHONPATH": str(driver.folder)})
    assert ended.code == 2
    assert len(ended.events[-1]["reporter_failures"]) == 1


@pytest.mark.parametrize("where", ["node_started", "run_finished", "close", "tick"])
def test_one_that_never_returns(driver: Driver, where: str) -> None:
    program = hook(where, "threading.Event().wait()")
    slow = {"COMFYREPORT_SIM_SPEED": "10"} if where == "tick" else {"COMFYREPORT_SIM_SPEED": "50"}
    driver.path("guest.py", program)
    env = {"PYTHONPATH": str(driver.folder), "COMFYREPORT_TIME_SCALE": "0.1", **slow}
    ended = driver.run("--workflow", WORKFLOW, "--server", "sim", "-p", "guest", "--reporter", "console", env=env)
    assert ended.code == 5, ended.err
    assert "[OK] Generation complete" in ended.err
    late = where in ("run_finished", "close") and "too slow" in ended.err
    assert late or f"did not return from comfyreport_{where}" in ended.err


def test_one_that_is_slow_loses_nothing_but_time(driver: Driver) -> None:
    program = hook("node_progress", "time.sleep(0.03)\n    print(event.step, flush=True)")
    ended = run(driver, program, "--reporter", "console")
    assert ended.code == 0, ended.err
    assert ended.events[-1]["reporter_failures"] == []
    assert [event["step"] for event in ended.of("node_progress")] == list(range(1, 21))


def test_one_that_is_too_slow_is_left_behind(driver: Driver) -> None:
    ended = run(driver, hook("event", "time.sleep(0.2)"), scale="0.1")
    assert ended.code == 5, ended.err
    assert "reporter guest failed" in ended.err
    assert "too slow" in ended.err or "did not return" in ended.err


def test_one_that_closes_stdout(driver: Driver) -> None:
    ended = run(driver, hook("run_started", "sys.stdout.close()"), "--output", "out.png")
    assert ended.code == 0, ended.err
    assert ended.out == "out.png\n"


def test_one_that_leaves_a_thread_behind(driver: Driver) -> None:
    program = hook("run_started", "threading.Thread(target=threading.Event().wait).start()")
    assert run(driver, program).code == 0


def test_one_that_is_blocked(driver: Driver) -> None:
    ended = run(driver, hook("event", "raise RuntimeError"), "-p", "no:guest")
    assert (ended.code, ended.events[0]["reporters"]) == (0, ["jsonl"])
    ended = driver.run(
        "--workflow", WORKFLOW, "--server", "sim", "--reporter", "console", "-p", "no:console",
        env={"COMFYREPORT_SIM_SPEED": "50"},
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")


def test_plugins_and_reporters_of_the_environment(driver: Driver) -> None:
    driver.path("guest.py", hook("run_finished", "print('told', event.status, flush=True)"))
    env = {
        "PYTHONPATH": str(driver.folder), "COMFYREPORT_PLUGINS": "guest", "COMFYREPORT_SIM_SPEED": "50",
        "COMFYREPORT_REPORTER": "quiet jsonl=all.jsonl", "COMFYREPORT_SERVER": "sim",
    }  # fmt: skip
    ended = driver.run("--workflow", WORKFLOW, env=env, stream=False)
    assert (ended.code, ended.err) == (0, "told success\n")
    events = driver.checker.whole((driver.folder / "all.jsonl").read_text(encoding="utf-8"))
    assert events[0]["reporters"] == ["guest", "quiet", "jsonl"]
