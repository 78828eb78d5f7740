"""What blocks before there is a run: the first signal ends the command, and both ends are told."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.driver import Driver, Ended, Running
from tests.e2e.test_stuck import EARLY, ENDS, WORKFLOW, wait_for_file

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")]

FIFOS = {
    "workflow": ("--workflow", "fifo"),
    "header": ("--workflow", WORKFLOW, "--header", "@fifo"),
    "cacert": ("--workflow", WORKFLOW, "--cacert", "fifo"),
    "attach": ("attach", "some-prompt", "--header", "@fifo"),
    "replay": ("replay", "fifo"),
}

SLEEP = "import time; open('blocked', 'w').close(); time.sleep(1e6)"
STUBBORN = """
import time
open("blocked", "w").close()
while True:
    try:
        time.sleep(1e6)
    except BaseException:
        pass
"""
# No handler of a signal is called meanwhile.
IN_C = """
import ctypes
mutex = ctypes.create_string_buffer(128)
open("blocked", "w").close()
for _ in range(2):
    ctypes.CDLL(None).pthread_mutex_lock(mutex)
"""
TAKES_SIGNALS = f"""
import signal
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: None)
{SLEEP}
"""
RAISES = f"""
import signal
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.default_int_handler)
{SLEEP}
"""
MODULES = {
    "sleep": SLEEP,
    "stubborn": STUBBORN,
    "in C": IN_C,
    "takes signals": TAKES_SIGNALS,
    "raises": RAISES,
    "busy": "open('blocked', 'w').close()\nwhile True: pass",
}


@contextlib.contextmanager
def writer(path: Path) -> Iterator[None]:
    """Open a FIFO for writing, as soon as it is opened for reading, and write nothing."""
    deadline = time.monotonic() + ENDS
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            break
    try:
        yield
    finally:
        os.close(descriptor)


def install(driver: Driver, name: str, source: str) -> dict[str, str]:
    """Install the reporter *name*, a factory of its module; the environment that finds it."""
    driver.path(f"{name}.py", source)
    info = driver.folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[comfyreport]\n{name} = {name}:{name}\n", encoding="utf-8")
    return {"PYTHONPATH": os.fspath(driver.folder)}


def check(ended: Ended) -> None:
    assert (ended.code, ended.result["status"], ended.result["submitted"]) == (130, "cancelled", "no")
    assert "Traceback" not in ended.err


def end_blocked(driver: Driver, running: Running, number: signal.Signals = signal.SIGINT) -> None:
    """Wait until it is blocked, send one signal, and check how it ends."""
    wait_for_file(driver.folder / "blocked")
    running.signal(number)
    check(running.end(ENDS))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", FIFOS.values(), ids=FIFOS)
def test_a_fifo_that_nothing_comes_from(
    driver: Driver, words: tuple[str | os.PathLike[str], ...], number: signal.Signals
) -> None:
    os.mkfifo(driver.folder / "fifo")
    running = driver.start(*words)
    with writer(driver.folder / "fifo"):
        running.signal(number)
        check(running.end(ENDS))


@pytest.mark.parametrize("words", FIFOS.values(), ids=FIFOS)
def test_a_fifo_that_nobody_writes_to(driver: Driver, words: tuple[str | os.PathLike[str], ...]) -> None:
    os.mkfifo(driver.folder / "fifo")
    check(driver.run(*words, env=early(driver), seconds=ENDS))


def early(driver: Driver) -> dict[str, str]:
    """The environment in which the signal comes before anything is read."""
    driver.path("sitecustomize.py", EARLY)
    number = str(int(signal.SIGINT))
    return {"PYTHONPATH": os.fspath(driver.folder), "SIGNAL_BEFORE": "comfyreport.cli.session_runner", "SIGNAL": number}


def test_a_stdin_that_nothing_comes_from(driver: Driver) -> None:
    reading, writing = os.pipe()
    try:
        check(driver.run("--workflow", "/dev/stdin", env=early(driver), stdin=reading, seconds=ENDS))
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("source", MODULES.values(), ids=MODULES)
def test_an_import_that_does_not_return(driver: Driver, source: str, number: signal.Signals) -> None:
    driver.path("guest.py", source)
    env = {"PYTHONPATH": os.fspath(driver.folder)}
    end_blocked(driver, driver.start("--workflow", WORKFLOW, "-p", "guest", env=env), number)


def test_two_imports_that_do_not_return(driver: Driver) -> None:
    driver.path("first.py", SLEEP)
    driver.path("second.py", "import time\ntime.sleep(1e6)")
    env = {"PYTHONPATH": os.fspath(driver.folder)}
    end_blocked(driver, driver.start("--workflow", WORKFLOW, "-p", "first", "-p", "second", env=env))


def test_a_factory_that_does_not_return(driver: Driver) -> None:
    env = install(driver, "guest", f"def guest():\n    {SLEEP}")
    end_blocked(driver, driver.start("--workflow", WORKFLOW, "--reporter", "guest", env=env))


def test_wrong_flags_and_an_import_that_does_not_return(driver: Driver) -> None:
    driver.path("guest.py", SLEEP)
    env = {"PYTHONPATH": os.fspath(driver.folder)}
    running = driver.start("--wrong", "--workflow", WORKFLOW, "-p", "guest", env=env)
    end_blocked(driver, running)


def test_the_others_are_told_on_stdout_too(driver: Driver) -> None:
    driver.path("guest.py", SLEEP)
    env = {"PYTHONPATH": os.fspath(driver.folder)}
    running = driver.start(
        "--workflow", WORKFLOW, "-p", "guest", "--reporter", "jsonl", "--reporter", "console", env=env, stream=False
    )
    wait_for_file(driver.folder / "blocked")
    running.signal()
    ended = running.end(ENDS)
    events = driver.checker.whole(ended.out)
    assert (ended.code, events[0]["reporters"], events[-2]["status"]) == (130, ["jsonl", "console"], "cancelled")
    assert "cancelled by the user" in ended.err.lower()


def test_the_second_signal_leaves_at_once(driver: Driver) -> None:
    """A reporter that never returns is waited for while the end is told, but not behind a second signal."""
    driver.path("guest.py", SLEEP)
    driver.path(
        "other.py",
        "import time\nfrom comfyreport import hookimpl\n@hookimpl\ndef comfyreport_run_finished(event):\n"
        "    open('closing', 'w').close()\n    time.sleep(1e6)\n",
    )
    env = {"PYTHONPATH": os.fspath(driver.folder), "COMFYREPORT_TIME_SCALE": "100"}
    running = driver.start(
        "--workflow", WORKFLOW, "-p", "other", "-p", "guest", "--reporter", "console", env=env, stream=False
    )
    wait_for_file(driver.folder / "blocked")
    running.signal()
    wait_for_file(driver.folder / "closing")
    assert running.signal_until_the_end().code == 130


def test_a_user_of_python_presses_ctrl_c(driver: Driver) -> None:
    os.mkfifo(driver.folder / "fifo")
    program = (
        "from comfyreport import run_generation\n"
        "try: run_generation('fifo', reporters=['jsonl=events.jsonl'])\n"
        "except KeyboardInterrupt: print('interrupted')\n"
    )
    running = driver.start("-c", program, command=(driver.installed.python,), stream=False)
    with writer(driver.folder / "fifo"):
        running.signal()
        ended = running.end(ENDS)
    assert (ended.code, ended.out) == (0, "interrupted\n")
    events = driver.checker.whole((driver.folder / "events.jsonl").read_text(encoding="utf-8"))
    assert (events[-2]["status"], events[-2]["submitted"]) == ("cancelled", "no")
