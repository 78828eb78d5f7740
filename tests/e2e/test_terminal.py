"""The console on a real terminal: the installed command on a pty, read through a terminal emulator."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from tests.e2e.terminals import Start, bars, sampling

pytestmark = pytest.mark.e2e

# What may stand at the beginning of a line of the region.
NODE = re.compile(r"\S.*  (\d+/\d+|\d+s)|\S.*  [█░]+  ")
WHOLE = re.compile(r"[█░]{10,30}  ?[ \d]{1,3}%,? |Connecting|Submitting|Waiting in the queue")
TOLD = ("[INFO]", "[OK]", "[WARN]", "[ERROR]", "  ")


def last_step(lines: list[str]) -> int:
    """The step that the sampler is at on the screen; 0 if it shows none."""
    return max((int(step) for line in lines for step in re.findall(r" (\d+)/20", line)), default=0)


def test_a_run(start: Start) -> None:
    screen = start("--output", "out.png")
    seen: list[list[str]] = []
    screen.watch = lambda: seen.append(screen.lines)
    assert screen.end() == 0
    assert bars(screen) == []
    assert any(sampling(lines) for lines in seen)
    for lines in seen:
        region = [line for line in lines if not line.startswith(TOLD) and line != "out.png"]
        assert all(NODE.match(line) for line in region[:-1]), lines
        assert not region or WHOLE.match(region[-1]), lines
    lines = screen.lines
    assert lines[:2] == ["[INFO] Connected to progress stream", "[INFO] Generation started"]
    (seconds,) = re.findall(r"^\[OK\] Generation complete in (\d+\.\d)s", "\n".join(lines), re.MULTILINE)
    assert any(line.startswith("  Saved: out.png (") for line in lines)
    assert float(seconds) > 2 or not any("Slowest" in line for line in lines), "it was a short one"
    assert sum("out.png" in line for line in lines) == 1, "the path is told once"
    assert b"\x1b[?25" not in screen.raw
    assert not screen.emulator.cursor.hidden


STRAYS = """
import os, sys, warnings
from comfyreport import hookimpl

@hookimpl
def comfyreport_node_progress(event):
    print(f"printed {event.step:g} of many, a line that is longer than the line of a node on this terminal")
    os.write(2, f"written {event.step:g}\\n\\x1b[31mred\\x1b[0m\\n".encode())
    os.write(1, f"half {event.step:g}".encode())
    sys.stderr.write(" and half\\n")
    warnings.warn(f"warned {event.step:g}")
    print(f"\\rloading 1 %\\rloading {event.step:g} %", file=sys.stderr, flush=True)
"""


def test_nothing_is_torn_by_what_others_write(start: Start, tmp_path: Path) -> None:
    (tmp_path / "noise.py").write_text(STRAYS, encoding="utf-8")
    screen = start("-p", "noise", columns=120, rows=400, env={"PYTHONWARNINGS": "always"})
    torn: list[str] = []

    def look() -> None:
        for line in screen.lines:
            whole = re.fullmatch(
                r"printed \d+ of many, a line that is longer than the line of a node on this terminal|written \d+|red"
                r"|half \d+ and half|loading \d+ %|.*UserWarning: warned \d+|  warnings.warn.*|http://127.*",
                line,
            )
            if not (whole or not line or line.startswith(TOLD) or NODE.match(line) or WHOLE.match(line)):
                torn.append(line)

    screen.watch = look
    assert screen.end() == 0
    look()
    assert torn == []
    assert bars(screen) == []
    lines = screen.lines
    for step in range(1, 21):
        for words in (f"written {step}", f"half {step} and half"):
            assert lines.count(words) == 1, words


def test_json_lines_on_the_same_terminal(start: Start) -> None:
    screen = start("--reporter", "console", "--reporter", "jsonl,rate=0", columns=2000, rows=300)
    assert screen.end() == 0
    told = [json.loads(line) for line in screen.lines if line.startswith("{")]
    assert [event["type"] for event in told][-2:] == ["run_finished", "stream_finished"]
    assert [event["step"] for event in told if "step" in event] == list(range(1, 21))
    assert bars(screen) == []


def test_a_reporter_that_is_switched_off_is_named_above_the_region(start: Start, tmp_path: Path) -> None:
    (tmp_path / "cracked.py").write_text(
        "from comfyreport import hookimpl\n@hookimpl\ndef comfyreport_node_progress(event):\n    1 / 0\n",
        encoding="utf-8",
    )
    screen = start("-p", "cracked", columns=160)
    named = "comfyreport: reporter cracked failed and was switched off"
    screen.wait(lambda lines: sampling(lines) and any(line.startswith(named) for line in lines), "the complaint")
    assert screen.end() == 5


@pytest.mark.parametrize("how", ["sys.stderr.close()", "os.close(1); os.close(2)", "sys.stdout = sys.stderr = None"])
def test_one_that_closes_what_is_everybodys_spoils_nothing(start: Start, tmp_path: Path, how: str) -> None:
    (tmp_path / "closes.py").write_text(
        "import os, sys\nfrom comfyreport import hookimpl\n@hookimpl\n"
        f"def comfyreport_run_started():\n    {how}\n"
        "@hookimpl\ndef comfyreport_run_finished():\n    1 / 0\n",
        encoding="utf-8",
    )
    screen = start("-p", "closes", "--output", "out.png", columns=160)
    assert screen.end() == 5
    assert bars(screen) == []
    lines = screen.lines
    assert any(line.startswith("[OK] Generation complete in ") for line in lines)
    assert any(line.startswith("comfyreport: reporter closes failed and was switched off") for line in lines)
    assert sum("out.png" in line for line in lines) == 1, "the path is told once"


@pytest.mark.parametrize(("columns", "rows"), [(40, 24), (120, 24), (20, 5)])
def test_a_resize_is_followed(start: Start, columns: int, rows: int) -> None:
    screen = start()
    screen.wait(sampling, "the sampler at work")
    before = last_step(screen.lines)
    screen.resize(columns, rows)
    screen.wait(lambda lines: last_step(lines) > before, "later steps")
    assert screen.end() == 0
    assert bars(screen) == []
    assert b"Generation complete" in screen.raw


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGHUP, 130)])
def test_a_cancelled_run_leaves_no_bar(start: Start, number: signal.Signals, code: int) -> None:
    screen = start()
    screen.wait(sampling, "the sampler at work")
    screen.signal(number)
    assert screen.end() == code
    assert bars(screen) == []
    assert any(line.startswith("[WARN] Cancelled") for line in screen.lines)


STUCK = """
import time
from comfyreport import hookimpl

@hookimpl
def comfyreport_close():
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_one_that_is_left_at_once_leaves_no_bar(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "stuck.py").write_text(STUCK, encoding="utf-8")
    screen = start("-p", "stuck")
    screen.wait(sampling, "the sampler at work")
    screen.signal(number)
    if number is signal.SIGINT:
        screen.wait(lambda lines: any("Cancelled" in line for line in lines), "the end of the run")
        assert screen.signal_until_the_end(number) == 130
    assert screen.end() == (130 if number is signal.SIGINT else -number)
    assert bars(screen) == []


def test_a_terminal_that_takes_no_more_holds_up_nothing(start: Start) -> None:
    screen = start(env={"COMFYREPORT_TIME_SCALE": "0.1"})
    screen.wait(sampling, "the sampler at work")
    screen.type("\x13")  # Ctrl-S
    assert screen.end() == 5


@pytest.mark.parametrize("value", ["false", "0", "", "False", "no"])
def test_a_ci_that_is_none(start: Start, value: str) -> None:
    screen = start(env={"CI": value})
    screen.wait(sampling, "the sampler at work")
    assert screen.end() == 0


@pytest.mark.parametrize("env", [{"CI": "true"}, {"CI": "1"}, {"TERM": "dumb"}])
def test_no_region_where_nothing_may_be_drawn_over(start: Start, env: dict[str, str]) -> None:
    screen = start(env=env)
    assert screen.end() == 0
    assert b"\x1b[J" not in screen.raw
    assert b"\x1b[1A" not in screen.raw
    assert screen.raw.count(b"\r") == screen.raw.count(b"\r\n"), "the terminal itself adds one to each line"
    assert any(line.startswith("[PROGRESS] Sampling: ") for line in screen.lines)


def test_no_colour_still_draws(start: Start) -> None:
    screen = start(env={"NO_COLOR": "1"})
    screen.wait(sampling, "the sampler at work")
    assert screen.end() == 0
    assert not re.search(rb"\x1b\[\d+m", screen.raw)
    assert b"\x1b[J" in screen.raw


def test_time_goes_on_while_the_server_is_waited_for(start: Start) -> None:
    screen = start("--wait-for-server", "2.5", env={"COMFYREPORT_SERVER": "http://127.0.0.1:9"})
    screen.wait(lambda lines: lines[-1:] == ["Connecting [1s]"], "the first second")
    assert screen.end() == 3
    assert not any("Connecting" in line for line in screen.lines)
