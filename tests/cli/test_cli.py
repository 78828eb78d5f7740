"""The command line in this process: arguments, exit codes, signals, standard streams."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyreport import __version__
from comfyreport.cli.arguments import COMMANDS, ArgumentsError, build_parser, parse_reporting
from comfyreport.cli.main import main
from comfyreport.cli.process import Signals, open_missing_descriptors, report_stdout_failure, standard_streams
from comfyreport.events import EXIT_CODES
from comfyreport.recording.replay import Stop

WORKFLOW = Path(__file__).parents[2] / "workflows" / "sd15-txt2img.json"
LIMIT = 60.0


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYREPORT_SIM_SPEED", "50")


def run(capfd: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    """`main` with these words: its exit code and what it wrote."""
    code = main([str(word) for word in words])
    out, err = capfd.readouterr()
    return code, out, err


# --- arguments


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_in_ascii(capfd: pytest.CaptureFixture[str], command: str) -> None:
    code, out, err = run(capfd, command, "--help")
    assert (code, err) == (0, "")
    assert out.isascii()
    assert len(out.splitlines()) > 3


def test_the_help_names_every_command_and_exit_code(capfd: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capfd, "--help")
    told = out.partition("exit codes:")[2].replace(";", "\n")
    codes = {int(line.split()[0]) for line in told.splitlines() if line.strip()[:1].isdigit()}
    assert codes == {*EXIT_CODES.values(), 5}
    for command in COMMANDS[1:]:
        assert f"comfyreport {command}" in out


def test_the_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(capfd, "--version") == (0, f"comfyreport {__version__}\n", "")


def test_the_command_run_may_be_left_out() -> None:
    assert build_parser().parse_args(["--workflow", "w"]) == build_parser("run").parse_args(["--workflow", "w"])


def test_no_flag_may_be_abbreviated() -> None:
    with pytest.raises(ArgumentsError, match="--json"):
        build_parser().parse_args(["--workflow", "w", "--json"])


@pytest.mark.parametrize(
    ("words", "reporters", "color"),
    [
        (["--nope", "--reporter", "jsonl=a"], ["jsonl=a"], "auto"),
        (["--color", "sometimes", "--reporter", "jsonl=a"], ["jsonl=a"], "auto"),
        (["--color", "never", "x", "y", "--reporter", "a", "--timeout", "soon", "--reporter"], ["a"], "never"),
        (["--reporter=a", "-p"], ["a"], "auto"),
        (["--quiet=yes", "--reporter", "a"], [], "auto"),
        ([], [], "auto"),
    ],
)
def test_reporters_are_found_among_bad_arguments(words: list[str], reporters: list[str], color: str) -> None:
    found = parse_reporting(words)
    assert (found.reporter, found.color) == (reporters, color)


# --- commands


def test_a_run(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "out.png"
    code, out, err = run(capfd, "--workflow", WORKFLOW, "--server", "sim", "--output", picture)
    assert (code, out) == (0, f"{picture}\n")
    assert err.startswith("[INFO] Connected to progress stream\n")


def test_a_run_that_can_not_be(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capfd, "run", "--workflow", "nowhere.json", "--json-progress")
    assert code == 2
    assert [json.loads(line)["type"] for line in out.splitlines()] == [
        "stream_started",
        "run_finished",
        "stream_finished",
    ]
    (line,) = err.splitlines()
    assert line.startswith("comfyreport: nowhere.json doesn't exist")


def test_reporters_of_the_environment_are_told_of_bad_flags(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYREPORT_REPORTER", f"jsonl={tmp_path / 'all.jsonl'}")
    code, _, err = run(capfd, "--nope")
    assert code == 2
    lines = (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[-1])["exit_code"] == 2
    assert len(err.splitlines()) == 1


def test_the_schema(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capfd, "schema")
    assert (code, err) == (0, "")
    assert out.isascii()
    assert json.loads(out)["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize("prompt_id", ["", " ", ".", ".."])
def test_what_is_no_prompts_id(capfd: pytest.CaptureFixture[str], prompt_id: str) -> None:
    code, _, err = run(capfd, "attach", prompt_id)
    assert (code, "is no prompt's id" in err) == (2, True)


def test_the_reporters(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capfd, "reporters", "--json")
    assert (code, err) == (0, "")
    found = {about["name"]: about for about in json.loads(out)}
    assert {"console", "filelog", "jsonl", "quiet"} <= found.keys()
    assert all(found[name]["error"] is None for name in ("console", "filelog", "jsonl", "quiet"))
    assert [option["name"] for option in found["jsonl"]["options"]] == ["detail", "rate"]
    code, out, _ = run(capfd, "reporters", "jsonl")
    assert (code, "DEST: a path" in out) == (0, True)


@pytest.mark.parametrize("t", ["NaN", "1e999", "-1", "1e300", "null", '"1"', "1" + "0" * 400])
def test_a_recording_with_times_that_are_none(capfd: pytest.CaptureFixture[str], tmp_path: Path, t: str) -> None:
    path = tmp_path / "odd.rec"
    path.write_text(f'{{"kind": "header", "time": {t}}}\n{{"kind": "http", "dir": "in", "t": {t}}}\n', encoding="utf-8")
    code, out, _ = run(capfd, "replay", path, "--json-progress")
    assert code == 6
    for event in map(json.loads, out.splitlines()):
        assert event["elapsed"] >= 0
        assert event["time"] > 0


@pytest.mark.parametrize("words", [[], ["nope"], ["--workflow"], ["replay"], ["reporters", "nope"], ["schema", "x"]])
def test_bad_words_are_a_cause_and_a_next_step(capfd: pytest.CaptureFixture[str], words: list[str]) -> None:
    code, out, err = run(capfd, *words)
    assert (code, out) == (2, "")
    cause, hint = err.splitlines()
    assert cause.startswith("comfyreport: error: ")
    assert hint.startswith("  Hint: ")


# --- standard streams


def test_a_stray_write_lands_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with standard_streams() as (out, _):
        out.write("meant\n")
        os.write(1, b"stray\n")
    os.write(1, b"after it\n")
    assert capfd.readouterr() == ("meant\nafter it\n", "stray\n")


def test_missing_streams_are_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    open_missing_descriptors()
    filled: list[Any] = [sys.stdout, sys.stderr]
    assert [stream.fileno() for stream in filled] == [1, 2]
    for stream in filled:
        stream.close()
    for number in range(3):
        os.fstat(number)


def test_a_failed_stdout_is_told_and_a_reader_that_left_is_not() -> None:
    err = io.StringIO()
    report_stdout_failure(BrokenPipeError(32, "Broken pipe"), err)
    assert err.getvalue() == ""
    report_stdout_failure(OSError(28, "No space left on device"), err)
    assert err.getvalue() == "comfyreport: stdout can't be written: No space left on device\n"


# --- signals


@pytest.fixture
def handlers() -> Iterator[None]:
    """The handlers must be the same afterwards."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_acts(number: signal.Signals) -> None:
    told: list[str] = []
    with Signals() as signals:
        signals.use(lambda: told.append("first"))
        signals.use(lambda: told.append("newest"))
        signal.raise_signal(number)
    assert (told, signals.count) == (["newest"], 1)


@pytest.mark.usefixtures("handlers")
def test_a_signal_that_comes_too_early_is_kept() -> None:
    told: list[str] = []
    with Signals() as signals:
        signal.raise_signal(signal.SIGINT)
        signals.use(lambda: told.append("kept"))
        signals.use(lambda: told.append("not again"))
    assert told == ["kept"]


@pytest.mark.usefixtures("handlers")
def test_a_signal_that_was_kept_is_given_back() -> None:
    signals = Signals().install()
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signals.restore(raise_pending=True)
    signals.restore(raise_pending=True)


@pytest.mark.usefixtures("handlers")
def test_signals_that_were_given_back_end_nothing() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing)
    try:
        with Signals() as signals:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            assert signals.count == 2
        for thread in [each for each in threading.enumerate() if each.name == "comfyreport-signals"]:
            thread.join(LIMIT)
            assert not thread.is_alive()
        assert signal.set_wakeup_fd(before) == writing
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.usefixtures("handlers")
def test_signals_are_left_alone_outside_the_main_thread() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with Signals() as signals:
                signals.use(lambda: None)
        except BaseException as error:  # noqa: BLE001  it must be seen in the test
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(LIMIT)
    assert failures == []


def test_a_wish_to_stop_ends_a_wait() -> None:
    stop = Stop()
    stop.wait(0.0)
    assert not stop.is_set
    threading.Timer(0.05, stop.set).start()
    began = time.monotonic()
    stop.wait(1e300)
    assert stop.is_set
    stop.wait(1e300)
    assert time.monotonic() - began < LIMIT
