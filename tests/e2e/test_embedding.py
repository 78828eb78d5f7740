"""Used from a notebook, and from a program without a terminal or standard streams: plain, and where it belongs."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyreport.simulator import Simulator
from tests.e2e.installation import ROOT

pytestmark = pytest.mark.e2e

LIMIT = 120.0
WORKFLOW = ROOT / "workflows" / "sd15-txt2img.json"

NOTEBOOK = """
import json, sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.v4.new_notebook()
notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in json.load(sys.stdin)]
NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
told = [[[each.get("name"), each.get("text", each.output_type)] for each in cell.outputs] for cell in notebook.cells]
json.dump(told, open("told.json", "w"))
json.dump([[each.get("data", {}) for each in cell.outputs] for cell in notebook.cells], open("shown.json", "w"))
"""


@pytest.fixture
def server() -> Iterator[Simulator]:
    with Simulator(speed=10) as simulator:
        yield simulator


def python(code: str, folder: Path, server: Simulator, *, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own."""
    environ = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR", "FORCE_COLOR")}
    environ |= {"COMFYREPORT_SERVER": server.url, "IPYTHONDIR": str(folder), "JUPYTER_PLATFORM_DIRS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder, env=environ, input=given, capture_output=True, encoding="utf-8", timeout=LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def test_a_notebook(server: Simulator, tmp_path: Path) -> None:
    cells = [
        "import os\nos.environ['NO_COLOR'] = '1'\nfrom comfyreport import hookimpl, run_generation\n"
        "class Ear:\n    steps = []\n    @hookimpl\n    def comfyreport_node_progress(self, event):\n"
        "        self.steps.append(event.step)\n"
        f"result = run_generation({str(WORKFLOW)!r}, reporters=[Ear()])\nprint(result.status, len(Ear.steps))",
        f"print(run_generation({str(WORKFLOW)!r}, prompt='a pier').status)",
        f"print(run_generation({str(WORKFLOW)!r}, prompt='a fog horn', quiet=True).status)",
    ]
    python(NOTEBOOK, tmp_path, server, given=json.dumps(cells))
    told: list[Any] = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))
    assert told[0] == [["stdout", "success 20\n"]], "an object alone writes nothing"
    shown = "".join(text for name, text in told[1] if name == "stderr")
    assert [text for name, text in told[1] if name == "stdout"] == ["success\n"]
    assert "\r" not in shown
    assert "\x1b" not in shown
    assert shown.startswith("[INFO] Connected to progress stream\n")
    assert 1 < len(re.findall(r"^\[PROGRESS\] Sampling: ", shown, re.MULTILINE)) <= 21
    assert re.search(r"^\[OK\] Generation complete in \S+\n\Z", shown, re.MULTILINE)
    assert told[2] == [["stdout", "success\n"]]


def test_the_notebook_reporter(server: Simulator, tmp_path: Path) -> None:
    start = f"run_generation({str(WORKFLOW)!r}, reporters=['notebook'], "
    cells = [
        "from comfyreport import run_generation\n" + start + "output='out.png')\nprint('next')",
        start + "prompt='a pier', output='pier.png')\n" + start + "prompt='a pier', output='again.png');",
        start + "server='127.0.0.1:9');",
    ]
    python(NOTEBOOK, tmp_path, server, given=json.dumps(cells))
    told: list[Any] = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))
    shown: list[Any] = json.loads((tmp_path / "shown.json").read_text(encoding="utf-8"))
    # A bar that was drawn many times is one output, and where it began: before what the cell writes later.
    assert [text for _, text in told[0]] == ["display_data", "display_data", "next\n"]
    assert [text for _, text in told[1]] == ["display_data"] * 4
    assert 'aria-valuenow="100"' in shown[0][0]["text/html"]
    assert "Generation complete" in shown[0][0]["text/html"]
    assert "Saved: out.png" in shown[0][0]["text/html"]
    data = base64.b64decode(shown[0][1]["image/png"])
    assert data == (tmp_path / "out.png").read_bytes()
    assert [[*each] for each in shown[1]] == [["text/plain", "text/html"], ["image/png", "text/plain"]] * 2
    assert "widget" not in json.dumps(shown)
    (bar,) = shown[2]
    assert "unreachable" in bar["text/html"]


def test_the_notebook_reporter_elsewhere(server: Simulator, tmp_path: Path) -> None:
    done = python(
        "from comfyreport import ReporterError, run_generation\ntry:\n"
        f"    run_generation({str(WORKFLOW)!r}, reporters=['notebook'])\n"
        "except ReporterError as error:\n    print(error.message)\n",
        tmp_path,
        server,
    )
    assert "this is no notebook" in done.stdout


def test_a_program_without_standard_streams(server: Simulator, tmp_path: Path) -> None:
    python(
        "import sys\nfrom comfyreport import run_generation\n"
        "sys.stdout = sys.stderr = None\n"
        "forms = {}, {'json_progress': True}, {'quiet': True}\n"
        f"ends = [run_generation({str(WORKFLOW)!r}, **more) for more in forms]\n"
        "open('ends', 'w').write(' '.join(f'{end.status} {end.exit_code}' for end in ends))\n",
        tmp_path,
        server,
    )
    assert (tmp_path / "ends").read_text() == "success 0 success 0 success 0"


def test_lines_go_where_stderr_points_now(server: Simulator, tmp_path: Path) -> None:
    done = python(
        "import contextlib, io, sys\nfrom comfyreport import run_generation\n"
        "text = io.StringIO()\nwith contextlib.redirect_stderr(text):\n"
        f"    run_generation({str(WORKFLOW)!r})\n"
        "print(text.getvalue().count('[PROGRESS]'), text.getvalue().splitlines()[-1])\n",
        tmp_path,
        server,
    )
    assert done.stderr == ""
    assert re.fullmatch(r"\d+ \[OK\] Generation complete in \S+\n", done.stdout)
