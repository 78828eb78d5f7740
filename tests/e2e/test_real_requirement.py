"""The requirement word for word on a real ComfyUI: `python3 generate.py` with its flags, its example for agents."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.driver import LIMIT, Driver, Ended
from tests.e2e.installation import ROOT
from tests.e2e.raw_client import RawClient, txt2img

pytestmark = [pytest.mark.real, pytest.mark.e2e]

BASIC = """python3 generate.py --workflow workflows/flux-dev.json \\
    --prompt "a sunset over mountains" \\
    --output /tmp/sunset.png
"""
QUIET = f"{BASIC.rstrip()} \\\n    --quiet\n"
JSON = f"{BASIC.rstrip()} \\\n    --json-progress\n"

FOR_AGENTS = """
import subprocess
import json

proc = subprocess.Popen(
    ["python3", "generate.py", "--workflow", "workflow.json", 
     "--prompt", "test", "--json-progress"],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True
)

for line in proc.stdout:
    try:
        data = json.loads(line)
        if "step" in data:
            print(f"Progress: {data['step']}/{data['max_steps']} - ETA: {data['eta_seconds']:.1f}s")
    except json.JSONDecodeError:
        pass  # Not a progress JSON line
"""  # noqa: W291  as it stands there


class Place:
    """A folder with generate.py, with a workflow under the requirement's name that this server can run."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.folder = driver.folder / "clone"
        self.output = self.folder / "tmp" / "sunset.png"
        (self.folder / "workflows").mkdir(parents=True)
        (self.folder / "generate.py").write_bytes((ROOT / "generate.py").read_bytes())

    def workflow(self, name: str, seed: int) -> None:
        (self.folder / name).write_text(json.dumps(txt2img(steps=3, seed=seed)), encoding="utf-8")

    def environ(self) -> dict[str, str]:
        """`python3` is the interpreter of the installation."""
        binaries = self.driver.installed.root / "bin"
        mine = {"PATH": f"{binaries}:/usr/bin:/bin", "COMFYREPORT_SERVER": self.driver.server}
        return self.driver.installed.environ(mine)

    def shell(self, command: str) -> Ended:
        """Run a command of the requirement; its /tmp is a folder of the test."""
        command = command.replace("/tmp/", f"{shlex.quote(str(self.output.parent))}/")
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder, env=self.environ(), stdin=subprocess.DEVNULL,
            capture_output=True, encoding="utf-8", timeout=LIMIT, check=False,
        )  # fmt: skip
        return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def place(real: Driver) -> Place:
    return Place(real)


def test_basic_progress_tracking(place: Place) -> None:
    place.workflow("workflows/flux-dev.json", 201)
    ended = place.shell(BASIC)
    assert ended.code == 0, ended.err
    lines = ended.err.splitlines()
    assert lines[:2] == ["[INFO] Connected to progress stream", "[INFO] Generation started"]
    progress = [line for line in lines if line.startswith("[PROGRESS] ")]
    for line, (step, percent) in zip(progress, [(1, 33), (2, 66), (3, 100)], strict=True):
        assert re.fullmatch(rf"\[PROGRESS\] Sampling: {step}/3 steps \({percent}%\) - ETA: \d+s", line)
    assert progress[-1].endswith("ETA: 0s")
    assert re.fullmatch(r"\[OK\] Generation complete in \d+\.\ds", lines[-1])
    assert ended.out == f"{place.output}\n"
    assert place.output.read_bytes().startswith(b"\x89PNG")


def test_quiet_mode(place: Place) -> None:
    place.workflow("workflows/flux-dev.json", 202)
    ended = place.shell(QUIET)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"{place.output}\n"
    assert place.output.read_bytes().startswith(b"\x89PNG")


def test_json_progress_mode(place: Place) -> None:
    place.workflow("workflows/flux-dev.json", 203)
    ended = place.shell(JSON)
    assert (ended.code, ended.err) == (0, "")
    progress = [json.loads(line) for line in ended.out.splitlines() if line.startswith('{"step":')]
    assert [list(event)[:4] for event in progress] == [["step", "max_steps", "eta_seconds", "node"]] * len(progress)
    assert (progress[-1]["step"], progress[-1]["max_steps"], progress[-1]["eta_seconds"]) == (3, 3, 0)
    assert {event["node"] for event in progress} == {"KSampler"}
    (result,) = [event for event in place.driver.checker.whole(ended.out) if event["type"] == "run_finished"]
    assert result["outputs"][0]["path"] == str(place.output)
    assert place.output.stat().st_size == result["outputs"][0]["bytes"]


def test_the_prompt_reaches_the_node(place: Place, raw: RawClient) -> None:
    place.workflow("workflows/flux-dev.json", 204)
    ended = place.shell(JSON)
    (result,) = [event for event in place.driver.checker.whole(ended.out) if event["type"] == "run_finished"]
    graph = raw.history(result["prompt_id"])["prompt"][2]
    assert graph["6"]["inputs"]["text"] == "a sunset over mountains"
    assert graph["7"]["inputs"]["text"] == "blurry"
    # ComfyUI 0.33 answers 500 where a node has none.
    as_sent = {key: {**node, "_meta": {}} for key, node in txt2img(steps=3, seed=204).items()}
    assert {key: graph[key] for key in "345789"} == {key: as_sent[key] for key in "345789"}


def test_the_example_for_agents(place: Place) -> None:
    place.workflow("workflow.json", 205)
    done = subprocess.run(
        [sys.executable, "-c", FOR_AGENTS],
        cwd=place.folder, env=place.environ(), stdin=subprocess.DEVNULL,
        capture_output=True, encoding="utf-8", timeout=LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines
    assert all(re.fullmatch(r"Progress: \d/3 - ETA: \d+\.\ds", line) for line in lines), done.stdout
    assert lines[-1] == "Progress: 3/3 - ETA: 0.0s"


def test_what_generate_exports(place: Place) -> None:
    names = "from generate import ProgressTracker, wait_for_completion, run_generation, main"
    program = f"{names}\nresult = run_generation('workflow.json', prompt='a kite', quiet=True)\nprint(result.status)"
    place.workflow("workflow.json", 206)
    ended = place.shell(f"python3 -c {shlex.quote(program)}")
    assert (ended.code, ended.out, ended.err) == (0, "success\n", "")


def test_without_the_package_it_says_what_to_install(place: Place) -> None:
    bare = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    ended = place.shell(f"{shlex.quote(str(bare))} -S -E generate.py --workflow workflow.json")
    assert ended.code == 2
    assert "Hint: install comfyreport first" in ended.err
    assert "Traceback" not in ended.err
