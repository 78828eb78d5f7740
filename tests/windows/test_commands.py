"""The command as users of Windows have it, each time as a process, with pipes for its streams."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from comfyreport import NodeFinished, ProgressTracker, hookimpl, run_generation
from comfyreport.simulator import Simulator
from tests.docs.pages import README, ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(sys.platform != "win32", reason="tests/e2e has this for POSIX")]

COMMAND = [sys.executable, "-m", "comfyreport"]
WORKFLOW = ROOT / "workflows" / "sd15-txt2img.json"
LIMIT = 120.0
# A plugin that notes what becomes of Ctrl-Break.
NOTES = """
import signal
from comfyreport import hookimpl
@hookimpl
def comfyreport_run_started(event):
    print("handler:", repr(signal.getsignal(signal.SIGBREAK)))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with Simulator(speed=50) as simulator:
        yield simulator.url


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in a folder of their own; they find the comfyreport of this checkout."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: object) -> subprocess.CompletedProcess[bytes]:
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, check=False)


def events(output: bytes) -> list[dict[str, Any]]:
    assert b"\r" not in output
    return [json.loads(line) for line in output.splitlines()]


def test_version() -> None:
    assert run("--version").stdout.startswith(b"comfyreport ")


def test_help() -> None:
    done = run("--help")
    assert (done.returncode, b"--workflow" in done.stdout) == (0, True)


def test_reporters() -> None:
    done = run("reporters")
    assert done.returncode == 0
    assert all(name in done.stdout for name in (b"console", b"quiet", b"jsonl", b"filelog"))


def test_first_command_of_the_readme(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, typed into cmd."""
    monkeypatch.setenv("COMFYREPORT_SIM_SPEED", "20")
    monkeypatch.chdir(ROOT)
    line = README.blocks[0].text.splitlines()[-1]
    output = shlex.split(line)[shlex.split(line).index("--output") + 1]
    line = line.replace(f"--output {output}", f'--output "{place / output}"')
    line = line.replace("comfyreport", subprocess.list2cmdline(COMMAND), 1)
    done = subprocess.run(line, shell=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout) == (0, f"{place / output}\n".encode()), done.stderr
    assert (place / output).read_bytes().startswith(b"\x89PNG")
    assert b"[OK] Generation complete" in done.stderr
    assert b"\r" not in done.stderr


def test_several_reporters_a_recording_a_replay_and_attach(server: str, place: Path) -> None:
    log = place / "sub" / "run.log"
    reporters = ("--reporter", "console", "--reporter", "jsonl,detail=nodes", "--reporter", f"filelog={log}")
    done = run(
        "--workflow", WORKFLOW, "--server", server, "--output", "made\\", "--record", "run.recording", *reporters
    )
    assert done.returncode == 0, done.stderr
    told = events(done.stdout)
    assert (told[0]["type"], told[-1]["type"], told[-1]["exit_code"]) == ("stream_started", "stream_finished", 0)
    assert b"[INFO] Saved: made\\" in done.stderr
    assert "Generation complete" in log.read_text(encoding="utf-8")
    done = run("replay", "run.recording", "--speed", "0", "--reporter", "jsonl,detail=nodes")
    nodes = [each["type"] for each in told if each["type"].startswith("node_")]
    assert done.returncode == 0, done.stderr
    assert [each["type"] for each in events(done.stdout) if each["type"].startswith("node_")] == nodes
    prompt_id = next(each["prompt_id"] for each in told if "prompt_id" in each)
    done = run("attach", prompt_id, "--server", server, "--reporter", "jsonl,detail=summary")
    assert (done.returncode, events(done.stdout)[-2]["type"]) == (0, "run_finished")


def test_a_name_that_is_taken(server: str, place: Path) -> None:
    words = ("--workflow", WORKFLOW, "--server", server, "--output", "made/", "--quiet")
    done = [run(*words) for _ in range(2)]
    assert [each.returncode for each in done] == [0, 0]
    assert done[1].stdout.endswith(b"-2.png\n")
    assert done[1].stderr == b""
    assert len(list((place / "made").iterdir())) == 2


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, ("--workflow", WORKFLOW)),
        (2, ("--workflow", "none.json")),
        (2, ("--workflow", WORKFLOW, "--output", "sub\\nul.png")),
        (3, ("--workflow", WORKFLOW, "--server", "127.0.0.1:1")),
        (4, ("--workflow", "refused.json")),
    ],
)
def test_exit_codes(server: str, place: Path, code: int, words: tuple[object, ...]) -> None:
    nodes = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    next(iter(nodes.values()))["class_type"] = "NodeNotInstalled"
    (place / "sub").mkdir()
    (place / "refused.json").write_text(json.dumps(nodes), encoding="utf-8")
    servers = () if "--server" in words else ("--server", server)
    done = run(*servers, "--quiet", *words)
    assert (done.returncode, b"Traceback" in done.stderr) == (code, False), done.stderr


def test_generate_py(server: str) -> None:
    command = [sys.executable, str(ROOT / "generate.py"), "--workflow", str(WORKFLOW), "--quiet", "--server", server]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout[:7]) == (0, b"http://"), done.stderr


def test_a_reader_that_leaves(server: str) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--workflow", str(WORKFLOW), "--server", server, "--reporter", "jsonl"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    assert (process.communicate(timeout=LIMIT)[1], process.returncode) == (b"", 0)


def test_without_standard_streams(server: str, place: Path) -> None:
    """As a task of the scheduler runs it, with pythonw."""
    command = [sys.executable.replace("python.exe", "pythonw.exe"), *COMMAND[1:], "--workflow", str(WORKFLOW)]
    flags = getattr(subprocess, "DETACHED_PROCESS", 0)
    done = subprocess.run(
        [*command, "--output", "made.png", "--server", server], creationflags=flags, timeout=LIMIT, check=False
    )
    assert (done.returncode, (place / "made.png").exists()) == (0, True)


def test_a_log_that_somebody_reads(server: str, place: Path) -> None:
    """Windows renames no file that is open: the log grows on."""
    log = place / "run.log"
    log.write_text("earlier\n", encoding="utf-8")
    with log.open(encoding="utf-8"):
        done = run("--workflow", WORKFLOW, "--server", server, "--reporter", "filelog=run.log,max_bytes=500")
    assert done.returncode == 0, done.stderr
    assert "Generation complete" in log.read_text(encoding="utf-8")


def test_ctrl_break_is_taken(server: str, place: Path) -> None:
    """Wine knows no Ctrl-Break: what would take it is there."""
    (place / "notes.py").write_text(NOTES, encoding="utf-8")
    done = run("--workflow", WORKFLOW, "--server", server, "-p", "notes")
    assert b"handler: " in done.stderr
    assert b"SIG_DFL" not in done.stderr


def test_run_generation(server: str, place: Path) -> None:
    titles = []

    class Titles:
        @hookimpl
        def comfyreport_node_finished(self, event: NodeFinished) -> None:
            titles.append(event.node.title)

    result = run_generation(
        WORKFLOW, prompt=uuid.uuid4().hex, output="made.png", server=server, reporters=[Titles()], quiet=True
    )
    assert (result.status, result.outputs[0].path, bool(titles)) == ("success", "made.png", True)


def test_progress_tracker(server: str) -> None:
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    with ProgressTracker(server, quiet=True) as tracker:
        assert tracker.connected.wait(LIMIT)
        body = {"prompt": workflow, "client_id": tracker.client_id}
        tracker.prompt_id = requests.post(f"{server}/prompt", json=body, timeout=LIMIT).json()["prompt_id"]
        assert [event.type for event in tracker][-1] == "stream_finished"
    assert tracker.result is not None
    assert tracker.result.status == "success"
