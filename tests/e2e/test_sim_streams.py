"""Standard streams that are closed, full or left by their reader: no traceback, the right exit code, no file spoilt."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.e2e.driver import LIMIT, Driver, Ended
from tests.e2e.installation import ROOT

pytestmark = pytest.mark.e2e

WORKFLOW = ROOT / "workflows" / "sd15-txt2img.json"
RUN = f"comfyreport --workflow '{WORKFLOW}' --server sim"


def shell(driver: Driver, command: str) -> Ended:
    """Run a line of bash with the installed command on its path; the exit code is that of `comfyreport`."""
    binaries = driver.installed.root / "bin"
    env = driver.installed.environ({"PATH": f"{binaries}:/usr/bin:/bin", "COMFYREPORT_SIM_SPEED": "50"})
    done = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"],
        cwd=driver.folder, env=env, stdin=subprocess.DEVNULL,
        capture_output=True, encoding="utf-8", timeout=LIMIT, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)


def read(driver: Driver, name: str) -> list[dict[str, object]]:
    return driver.checker.whole((driver.folder / name).read_text(encoding="utf-8"))


def test_a_reader_that_leaves(driver: Driver) -> None:
    ended = shell(driver, f"{RUN} --json-progress --reporter jsonl=all.jsonl | head -1")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["type"] == "stream_started"
    last = read(driver, "all.jsonl")[-1]
    assert (last["exit_code"], last["reporter_failures"]) == (0, [])


def test_a_reader_that_was_never_there(driver: Driver) -> None:
    ended = shell(driver, f"{RUN} --json-progress | true")
    assert (ended.code, ended.err) == (0, "")


def test_a_reader_of_stderr_that_leaves(driver: Driver) -> None:
    ended = shell(driver, f"{RUN} --reporter console --reporter jsonl=all.jsonl 2>&1 >results | head -1")
    assert ended.code == 0
    assert ended.out == "[INFO] Connected to progress stream\n"
    assert read(driver, "all.jsonl")[-1]["exit_code"] == 0
    assert (driver.folder / "results").read_text(encoding="utf-8").startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("closing", "code"), [(">&-", 0), ("2>&-", 0), (">&- 2>&-", 0), ("<&-", 0), ("<&- >&- 2>&-", 0)]
)
@pytest.mark.parametrize("reporters", ["", "--json-progress", "--quiet"])
def test_streams_that_are_closed(driver: Driver, closing: str, code: int, reporters: str) -> None:
    ended = shell(driver, f"{RUN} {reporters} --output out.png {closing}")
    assert ended.code == code, ended.err
    assert (driver.folder / "out.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_does_not_take_the_place_of_a_closed_stream(driver: Driver) -> None:
    (driver.folder / "prints.py").write_text(
        "import os\nfrom comfyreport import hookimpl\n@hookimpl\ndef comfyreport_event(event):\n"
        "    print('stray', flush=True)\n    os.write(2, b'stray')\n",
        encoding="utf-8",
    )
    command = f"PYTHONPATH=. {RUN} -p prints --reporter jsonl=all.jsonl --record run.rec <&- >&- 2>&-"
    assert shell(driver, command).code == 0
    assert read(driver, "all.jsonl")
    for name in ("all.jsonl", "run.rec"):
        assert "stray" not in (driver.folder / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("words", ["--reporter jsonl=fifo", "--reporter filelog=fifo", "--record fifo"])
def test_a_fifo_that_nobody_reads(driver: Driver, words: str) -> None:
    os.mkfifo(driver.folder / "fifo")
    ended = shell(driver, f"{RUN} {words} --reporter jsonl=all.jsonl")
    assert ended.code == 2
    assert "fifo" in ended.err
    assert "nobody reads this FIFO" in ended.err
    assert [event["type"] for event in read(driver, "all.jsonl")][-1] == "stream_finished"


@pytest.mark.parametrize("words", ["--reporter jsonl=fifo", "--reporter filelog=fifo", "--quiet --record fifo"])
def test_a_fifo_with_a_reader(driver: Driver, words: str) -> None:
    os.mkfifo(driver.folder / "fifo")
    # The reader's own opening waits for the writer's, so it is there for sure only behind one that opens both ways.
    ended = shell(
        driver, f"exec 9<>fifo; (cat <fifo >read) 9>&- & {RUN} {words} 9>&-; code=$?; exec 9>&-; wait; (exit $code)"
    )
    assert (ended.code, ended.err) == (0, "")
    assert len((driver.folder / "read").read_text(encoding="utf-8").splitlines()) > 20


@pytest.mark.parametrize("how", ["sys.stderr.close()", "os.close(2)", "sys.stdout = sys.stderr = None"])
def test_a_reporter_that_closes_what_is_everybodys(driver: Driver, how: str) -> None:
    (driver.folder / "closes.py").write_text(
        "import os, sys\nfrom comfyreport import hookimpl\n@hookimpl\n"
        f"def comfyreport_run_started():\n    {how}\n"
        "@hookimpl\ndef comfyreport_node_finished():\n    1 / 0\n",
        encoding="utf-8",
    )
    ended = shell(
        driver, f"PYTHONPATH=. {RUN} -p closes --reporter console --reporter jsonl=all.jsonl --output out.png"
    )
    assert (ended.code, ended.out) == (5, "out.png\n")
    failure = "closes: comfyreport_node_finished raised ZeroDivisionError: division by zero"
    assert read(driver, "all.jsonl")[-1]["reporter_failures"] == [failure]
    lines = ended.err.splitlines()
    assert f"comfyreport: reporter {failure.replace(': ', ' failed and was switched off: ', 1)}" in lines
    assert lines[-1].startswith("[INFO] Saved: ") or any(line.startswith("[OK] ") for line in lines)


@pytest.mark.parametrize("reporter", ["jsonl=/dev/full", "filelog=/dev/full", "console=/dev/full"])
def test_a_destination_that_is_full(driver: Driver, reporter: str) -> None:
    ended = shell(driver, f"{RUN} --reporter {reporter} --reporter jsonl=all.jsonl --output out.png")
    assert ended.code == 5
    name = reporter.partition("=")[0]
    (line,) = ended.err.splitlines()
    assert line.startswith(f"comfyreport: reporter {name} (comfyreport ")
    assert "No space left on device" in line
    last = read(driver, "all.jsonl")[-1]
    assert (last["exit_code"], last["status"]) == (5, "success")
    assert (driver.folder / "out.png").exists()
    assert ended.out == "out.png\n"


def test_a_stdout_that_is_full(driver: Driver) -> None:
    ended = shell(driver, f"{RUN} --json-progress >/dev/full")
    assert ended.code == 5
    assert "reporter jsonl (comfyreport " in ended.err


def test_results_that_can_not_be_printed_are_missed(driver: Driver) -> None:
    ended = shell(driver, f"{RUN} --quiet --reporter jsonl=all.jsonl >/dev/full")
    assert (ended.code, ended.err) == (5, "comfyreport: stdout can't be written: No space left on device\n")
    last = read(driver, "all.jsonl")[-1]
    assert (last["exit_code"], last["status"], last["reporter_failures"]) == (5, "success", [])


def test_results_that_can_not_be_printed_change_no_other_code(driver: Driver) -> None:
    ended = shell(driver, f"{RUN} --quiet --output made/ --expect-outputs 99 >/dev/full")
    assert ended.code == 8


def test_a_recording_that_can_not_be_written(driver: Driver) -> None:
    ended = shell(driver, f"{RUN} --reporter jsonl=all.jsonl --record /dev/full --output out.png")
    assert (ended.code, ended.out) == (5, "out.png\n")
    assert ended.err == "comfyreport: the recording /dev/full is not whole: No space left on device\n"
    events = read(driver, "all.jsonl")
    assert (events[-1]["exit_code"], events[-1]["status"]) == (5, "success")
    (warning,) = (event for event in events if event["type"] == "warning")
    assert warning["code"] == "record_failed"
    assert "No space left on device" in str(warning["message"])


@pytest.mark.parametrize("command", ["schema", "reporters", "reporters --json", "reporters jsonl", "--help"])
def test_the_listing_commands(driver: Driver, command: str) -> None:
    whole = shell(driver, f"comfyreport {command}")
    assert (whole.code, whole.err) == (0, "")
    assert whole.out
    cut = shell(driver, f"comfyreport {command} | head -1")
    assert (cut.code, cut.err) == (0, "")
    assert cut.out == whole.out.splitlines(keepends=True)[0]
    assert shell(driver, f"comfyreport {command} >&-").code == 0


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "command", ["schema", "reporters", "--help", "--version", "attach --help", "simulate --port 0"]
)
def test_a_listing_that_can_not_be_written(driver: Driver, command: str, unbuffered: str) -> None:
    ended = shell(driver, f"PYTHONUNBUFFERED={unbuffered} comfyreport {command} >/dev/full")
    assert (ended.code, ended.err) == (5, "comfyreport: stdout can't be written: No space left on device\n")


@pytest.mark.parametrize("words", [f"{RUN} --reporter console", "comfyreport --help", "comfyreport reporters", RUN])
def test_a_terminal_of_ascii(driver: Driver, words: str) -> None:
    ended = shell(driver, f"PYTHONUTF8=0 PYTHONIOENCODING=ascii LC_ALL=C {words}")
    assert ended.code == 0, ended.err
    assert ended.out.isascii()
    assert ended.err.isascii()
