"""Signals as users, wrappers and supervisors send them: one wish to stop cancels, and says so at once."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.e2e.driver import Driver
from tests.e2e.test_stuck import ENDS, SLOW, WORKFLOW, wait_for_file

pytestmark = pytest.mark.e2e

SAYS = "comfyreport: cancelling… (Ctrl-C again to leave at once)\n"

# In its own group, as the whole of it is in a terminal's foreground; what comes is passed on to the child, which has it
# already.
WRAPPER = """
import os, signal, subprocess, sys
child = subprocess.Popen(sys.argv[1:])
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: child.send_signal(int(os.environ.get("RELAYED", number))))
sys.exit(child.wait())
"""

GREEDY = """
import signal, threading
def take():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN if {ignore} else lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    signal.set_wakeup_fd(-1)
take()
"""

FROM_A_HOOK = """
import ctypes, signal
from comfyreport import hookimpl

@hookimpl
def comfyreport_run_queued():
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(signal.SIGINT, 1)
    libc.signal(signal.SIGTERM, 1)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_cancels_and_says_so(driver: Driver, number: signal.Signals) -> None:
    running = driver.start("--workflow", WORKFLOW, "--server", "sim", "--reporter", "console", env=SLOW)
    running.wait_for_type("node_progress")
    running.signal(number)
    ended = running.end(ENDS)
    assert (ended.code, ended.result["status"], ended.result["prompt_state"]) == (130, "cancelled", "cancelled")
    assert ended.err.count(SAYS) == 1
    assert ended.err.index(SAYS) < ended.err.index("[WARN] Cancelled")


def test_detaching_says_so(driver: Driver) -> None:
    running = driver.start("--workflow", WORKFLOW, "--server", "sim", "--on-interrupt", "detach", env=SLOW)
    running.wait_for_type("node_progress")
    running.signal()
    ended = running.end(ENDS)
    assert (ended.code, ended.result["status"]) == (130, "detached")
    assert "comfyreport: leaving… (Ctrl-C again to leave at once)\n" in ended.err


@pytest.mark.parametrize("relayed", [signal.SIGINT, signal.SIGTERM])
def test_a_wrapper_that_passes_signals_on(driver: Driver, relayed: signal.Signals) -> None:
    command = (sys.executable, driver.path("wrapper.py", WRAPPER), driver.installed.comfyreport)
    env = {**SLOW, "RELAYED": str(int(relayed))}
    running = driver.start(
        "--workflow", WORKFLOW, "--server", "sim", env=env, command=command, start_new_session=True
    )  # fmt: skip
    running.wait_for_type("node_progress")
    os.killpg(running.process.pid, signal.SIGINT)
    ended = running.end(ENDS)
    assert (ended.code, ended.result["status"], ended.result["prompt_state"]) == (130, "cancelled", "cancelled")


def test_nohup(driver: Driver) -> None:
    """SIGHUP that was ignored at the start stays so."""
    command = ("nohup", driver.installed.comfyreport)
    running = driver.start("--workflow", WORKFLOW, "--server", "sim", env=SLOW, command=command)
    running.wait_for_type("node_progress")
    running.signal(signal.SIGHUP)
    ended = running.end()
    assert (ended.code, ended.result["status"]) == (0, "success")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "source", [GREEDY.format(ignore=False), GREEDY.format(ignore=True), FROM_A_HOOK], ids=["takes", "ignores", "hook"]
)
def test_a_plugin_does_not_get_them(driver: Driver, source: str, number: signal.Signals) -> None:
    driver.path("greedy.py", source)
    env = {**SLOW, "PYTHONPATH": os.fspath(driver.folder)}
    running = driver.start("--workflow", WORKFLOW, "--server", "sim", "-p", "greedy", env=env)
    running.wait_for_type("node_progress")
    running.signal(number)
    ended = running.end(ENDS)
    assert (ended.code, ended.result["status"], ended.result["prompt_state"]) == (130, "cancelled", "cancelled")


@pytest.mark.parametrize(("value", "told"), [("1", True), ("0", False), ("false", False), ("", False)])
def test_debugging_is_off_where_it_says_no(driver: Driver, value: str, told: bool) -> None:
    ended = driver.run("--workflow", "nowhere.json", env={"COMFYREPORT_DEBUG": value})
    assert ("debug: " in ended.err) == told


TRACKER = """
import sys
from comfyreport import ProgressTracker
from comfyreport.simulator import Simulator

simulator = Simulator()
simulator.__enter__()
try:
    for event in ProgressTracker(simulator.url, json_progress=True):
        open(event.type, "w").close()
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr, flush=True)
"""

CLOSING = """
import sys
from comfyreport import hookimpl, run_generation

class Slow:
    @hookimpl
    def comfyreport_run_finished(self):
        open("closing", "w").close()
        import time
        time.sleep(1.5)

try:
    run_generation(sys.argv[1], server="sim", reporters=[Slow(), "jsonl=-"])
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr, flush=True)
"""


def test_a_program_whose_tracker_is_interrupted(driver: Driver) -> None:
    running = driver.start("-c", TRACKER, command=(driver.installed.python,), stream=False)
    wait_for_file(driver.folder / "stream_started")
    running.signal()
    ended = running.end(ENDS)
    events = driver.checker.whole(ended.out)
    assert (ended.code, ended.err, events[-1]["exit_code"]) == (0, "interrupted\n", 130)


def test_a_program_that_is_interrupted_while_reporters_are_closed(driver: Driver) -> None:
    command = (driver.installed.python, "-c", CLOSING)
    running = driver.start(WORKFLOW, env={"COMFYREPORT_SIM_SPEED": "20"}, command=command, stream=False)
    wait_for_file(driver.folder / "closing")
    running.signal()
    ended = running.end(ENDS)
    assert (ended.code, ended.err) == (0, "interrupted\n")
    assert driver.checker.whole(ended.out)[-1]["status"] == "success"
