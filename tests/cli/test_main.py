"""The commands in this process: output and exit codes."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from comfyreport import __version__
from comfyreport.cli.main import main
from comfyreport.errors import UsageError
from comfyreport.events import EXIT_CODES
from comfyreport.flags.arguments import COMMANDS
from comfyreport.jobs.job import Job
from comfyreport.jobs.replay import Stop
from comfyreport.jobs.session import Session
from tests.packages import Packages

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


# --- help


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_in_ascii(capfd: pytest.CaptureFixture[str], command: str) -> None:
    code, out, err = run(capfd, command, "--help")
    assert (code, err) == (0, "")
    assert out.isascii()
    assert len(out.splitlines()) > 3


def test_the_help_names_every_command_and_exit_code(capfd: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capfd, "--help")
    listed = out.partition("exit codes:")[2].replace(";", "\n")
    codes = {int(line.split()[0]) for line in listed.splitlines() if line.strip()[:1].isdigit()}
    assert codes == {*EXIT_CODES.values(), 5}
    for command in COMMANDS[1:]:
        assert f"comfyreport {command}" in out


def test_the_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(capfd, "--version") == (0, f"comfyreport {__version__}\n", "")


# --- commands


def test_a_run(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "out.png"
    code, out, err = run(capfd, "--workflow", WORKFLOW, "--server", "sim", "--output", picture)
    assert (code, out) == (0, f"{picture}\n")
    assert err.startswith("[INFO] Connected to progress stream\n")


def test_a_workflow_that_does_not_exist(capfd: pytest.CaptureFixture[str]) -> None:
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


def test_the_timings(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYREPORT_CACHE", str(tmp_path))
    path = tmp_path / "timings.sqlite3"
    assert run(capfd, "timings") == (0, f"no timings yet in {path}\n", "")
    path.write_text("words")
    code, out, err = run(capfd, "timings", "--clear")
    assert (code, out) == (2, "")
    assert err == (
        f"comfyreport: error: the timings in {path} can't be cleared: it is no database of comfyreport\n"
        "  Hint: move it away, or name another folder with COMFYREPORT_CACHE\n"
    )
    assert path.read_text() == "words"


@pytest.mark.parametrize("words", [("--workflow", "w.json"), ("attach", "3ce5d3da")])
def test_a_run_learns_unless_it_is_told_not_to(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    learned: list[bool] = []

    def note(session: Session, job: Job, **others: object) -> None:
        learned.append(job.learn)
        session.fail(UsageError("not now"))

    monkeypatch.setattr("comfyreport.jobs.job.run_job", note)
    for more in ((), ("--no-learn",)):
        assert main([*words, *more]) == 2
    assert learned == [True, False]


def test_the_schema(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capfd, "schema")
    assert (code, err) == (0, "")
    assert out.isascii()
    assert json.loads(out)["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize("prompt_id", ["", " ", ".", ".."])
def test_prompt_ids_that_are_refused(capfd: pytest.CaptureFixture[str], prompt_id: str) -> None:
    code, _, err = run(capfd, "attach", prompt_id)
    assert (code, "is no prompt's id" in err) == (2, True)


def test_the_reporters(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capfd, "reporters", "--json")
    assert (code, err) == (0, "")
    reporters = {about["name"]: about for about in json.loads(out)}
    ours = {"console", "filelog", "github", "jsonl", "junit", "quiet", "trace", "webhook"}
    assert ours <= reporters.keys()
    assert all(reporters[name]["error"] is None for name in ours)
    assert [option["name"] for option in reporters["jsonl"]["options"]] == ["detail", "rate"]
    code, out, _ = run(capfd, "reporters", "jsonl")
    assert (code, "DEST: a path" in out) == (0, True)


@pytest.mark.parametrize("t", ["NaN", "1e999", "-1", "1e300", "null", '"1"', "1" + "0" * 400])
def test_a_recording_with_impossible_times(capfd: pytest.CaptureFixture[str], tmp_path: Path, t: str) -> None:
    path = tmp_path / "odd.rec"
    path.write_text(f'{{"kind": "header", "time": {t}}}\n{{"kind": "http", "dir": "in", "t": {t}}}\n', encoding="utf-8")
    code, out, _ = run(capfd, "replay", path, "--json-progress")
    assert code == 6
    for event in map(json.loads, out.splitlines()):
        assert event["elapsed"] >= 0
        assert event["time"] > 0


@pytest.mark.parametrize("words", [[], ["nope"], ["--workflow"], ["replay"], ["reporters", "nope"], ["schema", "x"]])
def test_a_usage_error_has_a_cause_and_a_hint(capfd: pytest.CaptureFixture[str], words: list[str]) -> None:
    code, out, err = run(capfd, *words)
    assert (code, out) == (2, "")
    cause, hint = err.splitlines()
    assert cause.startswith("comfyreport: error: ")
    assert hint.startswith("  Hint: ")


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


# --- plugins, which are loaded before the arguments are parsed

PLUGIN = """
from comfyreport import UsageError, hookimpl

@hookimpl
def comfyreport_addoption(parser):
    parser.add_argument("--limit", type=int, default=9)

@hookimpl
def comfyreport_prepare(workflow, options):
    if len(workflow) > options.limit:
        raise UsageError(f"more than {options.limit} nodes")
    del workflow["7"]["inputs"]["filename_prefix"]
"""


@pytest.fixture
def guest(packages: Packages) -> str:
    """A plugin that refuses large workflows."""
    return packages.add("guest", PLUGIN, {})


def test_a_plugin_has_a_flag_and_refuses(capfd: pytest.CaptureFixture[str], guest: str) -> None:
    code, out, err = run(capfd, "--workflow", WORKFLOW, "--server", "sim", "-p", guest, "--limit", "3")
    assert (code, out, err) == (2, "", "[ERROR] more than 3 nodes\n  Hint: see comfyreport --help\n")


def test_a_wrong_value_of_a_plugins_flag(capfd: pytest.CaptureFixture[str], guest: str) -> None:
    code, out, err = run(capfd, "--workflow", WORKFLOW, f"-p{guest}", "--limit", "x")
    assert (code, out) == (2, "")
    assert err.splitlines()[0] == "comfyreport: error: argument --limit: invalid int value: 'x'"
    code, out, err = run(capfd, "--workflow", WORKFLOW, "-p", guest, "--limit", "x", "--json-progress")
    assert (code, json.loads(out.splitlines()[1])["error"]["message"]) == (
        2,
        "argument --limit: invalid int value: 'x'",
    )


def test_the_help_has_a_plugins_flags_on_stdout(capfd: pytest.CaptureFixture[str], guest: str) -> None:
    code, out, err = run(capfd, "--help", "-p", guest)
    assert (code, err) == (0, "")
    assert "plugin guest:\n  --limit LIMIT" in out
    assert run(capfd, "--version", "-p", guest) == (0, f"comfyreport {__version__}\n", "")


def test_a_blocked_plugin_adds_no_flag(capfd: pytest.CaptureFixture[str], guest: str) -> None:
    code, _, err = run(capfd, "--workflow", WORKFLOW, "-p", guest, "-p", f"no:{guest}", "--limit", "3")
    assert code == 2
    assert "unrecognized arguments: --limit" in err
