"""Pipes that stay open and that nobody reads, and signals whatever the process waits for: it ends, and says how."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.driver import Driver
from tests.e2e.installation import ROOT

pytestmark = pytest.mark.e2e

WORKFLOW = ROOT / "workflows" / "sd15-txt2img.json"
QUICK = {"COMFYREPORT_SIM_SPEED": "20", "COMFYREPORT_TIME_SCALE": "0.1"}
SLOW = {"COMFYREPORT_SIM_SPEED": "0.5", "COMFYREPORT_TIME_SCALE": "0.1"}
ENDS = 40.0
"""Seconds within which a run ends that takes a few."""


def fill(writing: int) -> None:
    """Write into a pipe until it takes no more."""
    os.set_blocking(writing, False)
    for size in (65536, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, bytes(size))
    os.set_blocking(writing, True)


@contextlib.contextmanager
def full_pipe() -> Iterator[int]:
    """The writing end of a pipe that takes nothing: it is full, and nobody reads it."""
    reading, writing = os.pipe()
    fill(writing)
    try:
        yield writing
    finally:
        os.close(writing)
        os.close(reading)


@pytest.mark.parametrize("reporters", [("jsonl=-,rate=0",), ("jsonl=-,rate=0", "console"), ("console=-",)])
def test_a_stdout_that_nobody_reads(driver: Driver, reporters: tuple[str, ...]) -> None:
    words = [word for spec in reporters for word in ("--reporter", spec)]
    with full_pipe() as stdout:
        ended = driver.run(
            "--workflow", WORKFLOW, "--server", "sim", *words, env=QUICK, stdout=stdout, seconds=ENDS
        )  # fmt: skip
    assert (ended.code, ended.result["status"]) == (5, "success")
    name = reporters[0].partition("=")[0]
    assert f"comfyreport: reporter {name} (comfyreport " in ended.err
    assert "did not return from comfyreport_" in ended.err


@pytest.mark.parametrize("reporter", ["jsonl=stderr,rate=0", "console", "quiet"])
def test_a_stderr_that_nobody_reads(driver: Driver, reporter: str) -> None:
    with full_pipe() as stderr:
        ended = driver.run(
            "--workflow", WORKFLOW, "--server", "sim", "--reporter", reporter, env=QUICK, stderr=stderr, seconds=ENDS
        )  # fmt: skip
    assert (ended.code, ended.result["status"]) == (0 if reporter == "quiet" else 5, "success")
    assert ended.out.startswith("http://127.0.0.1:")


def test_complaints_that_nobody_reads(driver: Driver) -> None:
    driver.path("cracked.py", "from comfyreport import hookimpl\n@hookimpl\ndef comfyreport_event(): 1 / 0\n")
    with full_pipe() as stderr:
        ended = driver.run(
            "--workflow", WORKFLOW, "--server", "sim", "-p", "cracked",
            env={**QUICK, "PYTHONPATH": os.fspath(driver.folder), "COMFYREPORT_DEBUG": "1"},
            stderr=stderr, seconds=ENDS,
        )  # fmt: skip
    assert ended.code == 5
    (failure,) = ended.of("stream_finished")[0]["reporter_failures"]
    assert failure == "cracked: comfyreport_event raised ZeroDivisionError: division by zero"


def test_results_that_nobody_takes(driver: Driver) -> None:
    with full_pipe() as stdout:
        ended = driver.run("--workflow", WORKFLOW, "--server", "sim", env=QUICK, stdout=stdout, seconds=ENDS)
    assert (ended.code, ended.result["status"]) == (5, "success")
    assert ended.err == "comfyreport: stdout can't be written: nobody reads it\n"


def test_both_streams_are_stuck(driver: Driver) -> None:
    with full_pipe() as pipe:
        ended = driver.run(
            "--workflow", WORKFLOW, "--server", "sim", "--reporter", "console", "--reporter", "filelog=run.log",
            env=QUICK, stdout=pipe, stderr=pipe, seconds=ENDS,
        )  # fmt: skip
    assert ended.code == 5


def test_one_signal_cancels_while_stderr_is_stuck(driver: Driver) -> None:
    with full_pipe() as stderr:
        running = driver.start(
            "--workflow", WORKFLOW, "--server", "sim", "--reporter", "jsonl=stderr,rate=0", env=SLOW, stderr=stderr
        )
        running.wait_for_type("node_progress")
        running.signal()
        ended = running.end(ENDS)
    assert (ended.code, ended.result["status"]) == (130, "cancelled")


CLOGGED = """
import os, sys, threading, time

# The main thread waits for the lock of a file that another thread holds, which is stuck in writing to it: no handler
# of a signal is called then.
reading, writing = os.pipe()
file = open(writing, "wb")
threading.Thread(target=lambda: file.write(bytes(10_000_000)), daemon=True).start()
time.sleep(0.2)
threading.Thread(target=lambda: (time.sleep(0.2), open("clogged", "w").close()), daemon=True).start()
file.flush()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_whatever_the_main_thread_waits_for(driver: Driver, number: signal.Signals) -> None:
    driver.path("clogged.py", CLOGGED)
    env = {"PYTHONPATH": os.fspath(driver.folder)}
    running = driver.start("--workflow", WORKFLOW, "--server", "sim", "-p", "clogged", env=env)
    wait_for_file(driver.folder / "clogged")
    running.signal(number)
    ended = running.end(ENDS)
    assert (ended.code, ended.result["status"]) == (130, "cancelled")


def test_a_recording_that_takes_nothing_costs_itself_alone(driver: Driver) -> None:
    os.mkfifo(driver.folder / "fifo")
    reading = os.open(driver.folder / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(driver.folder / "fifo", os.O_WRONLY)
    fill(writing)
    ended = driver.run(
        "--workflow", WORKFLOW, "--server", "sim", "--record", "fifo", "--output", "out.png", env=QUICK, seconds=ENDS
    )
    os.close(writing)
    os.close(reading)
    assert (ended.code, ended.result["status"], ended.out) == (5, "success", "out.png\n")
    # On a busy machine a reporter may be called slow beside it.
    warnings = [event["code"] for event in ended.of("warning") if event["code"] != "slow_reporter"]
    assert warnings == ["record_failed"]
    assert ended.err == (
        "comfyreport: the recording fifo is not whole: it takes what is written too slowly, or not at all\n"
    )


def wait_for_file(path: Path, seconds: float = ENDS) -> None:
    """Wait until *path* is there."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if path.exists():
            return
        pause.wait(0.02)
    raise TimeoutError(path)


# Sends a signal when a module is about to be imported.
EARLY = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["SIGNAL_BEFORE"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))

if "SIGNAL" in os.environ:
    sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "module",
    [
        "argparse",
        "comfyreport.access.credentials",
        "urllib3",
        "comfyreport.jobs.session",
        "comfyreport_jsonl",
        "comfyreport.simulator",
    ],
)
def test_an_early_signal_cancels_with_a_whole_stream(driver: Driver, module: str, number: signal.Signals) -> None:
    driver.path("sitecustomize.py", EARLY)
    env = {"PYTHONPATH": os.fspath(driver.folder), "SIGNAL_BEFORE": module, "SIGNAL": str(int(number))}
    ended = driver.run("--workflow", WORKFLOW, "--server", "sim", "--reporter", "console", env=env, seconds=ENDS)
    assert (ended.code, ended.result["status"], ended.result["submitted"]) == (130, "cancelled", "no")
    assert "Traceback" not in ended.err


def test_an_early_signal_cuts_no_stream_that_tells_an_error(driver: Driver) -> None:
    driver.path("sitecustomize.py", EARLY)
    number = str(int(signal.SIGINT))
    env = {"PYTHONPATH": os.fspath(driver.folder), "SIGNAL_BEFORE": "comfyreport.jobs.session", "SIGNAL": number}
    ended = driver.run("--workflow", "nowhere.json", env=env, seconds=ENDS)
    assert (ended.code, ended.result["status"]) == (2, "usage")


@pytest.mark.parametrize("words", [("schema",), ("reporters",)])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_listing_is_ended_without_a_traceback(
    driver: Driver, words: tuple[str, ...], number: signal.Signals, code: int
) -> None:
    driver.path("sitecustomize.py", EARLY)
    for module in ("argparse", "comfyreport.events"):
        env = {"PYTHONPATH": os.fspath(driver.folder), "SIGNAL_BEFORE": module, "SIGNAL": str(int(number))}
        ended = driver.run(*words, env=env, stream=False, seconds=ENDS)
        assert (ended.code, ended.err) == (code, ""), module
