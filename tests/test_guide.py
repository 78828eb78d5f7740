"""The author's guide is true: it names every hook with its arguments, and all that it shows runs, in its order."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import comfyreport
from comfyreport import events as ev
from comfyreport.events import NodeView, RunView
from comfyreport.reporting import hookspecs
from comfyreport.reporting.validation import HOOKS
from comfyreport.simulator import Simulator
from comfyreport.testing import recordings

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")
LIMIT = 300.0

# What the commands of a block must have said or left, by a piece of the block.
SAID = {
    "reporters\n": "bell  (comfyreport-bell 0.1.0)  Ring when a run is over.",
    "reporters bell": ",on=end or failure (default end)  ring at every end, or only if the run was no success",
    "print(result.status": "success 20 steps",
    "-m pytest comfyreport-bell\n": f"{len(recordings()) + 2} passed",
    "test_bell_conforms": "1 passed",
    "test_bell_fixtures": f"{len(recordings())} passed",
    "def follow": "not done yet: running\n",
    "tries=3": "done: ['http://127.0.0.1:",
    "times=3": "\a\a\asuccess after ",
    "ls dist": "comfyreport_bell-0.1.0-py3-none-any.whl",
}
LEFT = {
    "rings.txt,times=2": "rings.txt",
    "least=0.01": "logs/nodes.csv",
    "jsonl=run.jsonl": "run.jsonl",
    "steps.jsonl": "steps.jsonl",
}


class Block(NamedTuple):
    """A fenced block: its line, its language, the file that it is, its text."""

    line: int
    language: str
    file: str
    text: str


def blocks() -> Iterator[Block]:
    for match in re.finditer(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL):
        yield Block(GUIDE.count("\n", 0, match.start()) + 1, match[1], match[2] or "", match[3])


# --- what it says


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_each_hook_is_named_with_its_arguments(hook: str) -> None:
    arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    assert re.search(rf"^\| `{hook}` \| {arguments} ?\|", GUIDE, re.MULTILINE)


def test_no_other_hook_is_named() -> None:
    modules = {"comfyreport_bell", "comfyreport_meter", "comfyreport_notify", "comfyreport_timings", "comfyreport_NAME"}
    modules |= {f"comfyreport_{name}" for name in ("play", "conforms", "stream", "recording")}
    assert set(re.findall(r"comfyreport_\w+", re.sub(r"comfyreport_bell-[\w.-]+", "", GUIDE))) <= HOOKS | modules | {
        "comfyreport_"
    }


def test_all_that_a_run_tells_is_named() -> None:
    for kind, made in ((RunView, RunView()), (NodeView, NodeView(comfyreport.NodeRef(id="1")))):
        names = {name for name in dir(made) if not name.startswith("_") and not callable(getattr(made, name))}
        assert names, kind
        assert [name for name in sorted(names) if f"`{name}`" not in GUIDE] == []


def test_the_fields_are_those_of_the_classes() -> None:
    common = {field.name for field in dataclasses.fields(ev.Event)}
    shared = {field.name for field in dataclasses.fields(ev.ProgressEvent)} - common
    told = dict(re.findall(r"^\| `([A-Z]\w+)` \| (.*) \|$", GUIDE, re.MULTILINE))
    for cls in (*ev.EVENT_CLASSES, ev.NodeRef, ev.Output, ev.ErrorInfo, ev.NodeError):
        own = {field.name for field in dataclasses.fields(cls)}
        cells = [] if told[cls.__name__] == "none" else told[cls.__name__].split(", ")
        assert ("P" in cells) == issubclass(cls, ev.ProgressEvent)
        own -= (common | shared | {"type"}) if issubclass(cls, ev.Event) else set()
        assert {cell.strip("`") for cell in cells} - {"P"} == own, cls


def test_all_shipped_recordings_are_named() -> None:
    assert [name for name in recordings() if f"`{name}`" not in GUIDE] == []


def test_the_first_reporter_has_fifteen_lines() -> None:
    first = next(block for block in blocks() if block.language == "python")
    assert sum(1 for line in first.text.splitlines() if line) <= 15


def test_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", line[3:]).lower().replace(" ", "-") for line in re.findall(r"^## .+$", GUIDE, re.M)
    }
    for target in re.findall(r"\]\((\S+?)\)", GUIDE):
        assert target[1:] in headings if target.startswith("#") else (ROOT / "plugins" / target).exists()


def test_lines_are_not_too_long_to_read() -> None:
    for number, line in enumerate(GUIDE.splitlines(), 1):
        assert len(line) <= 130 or line.startswith("|"), number


# --- what it shows


class Place(NamedTuple):
    """Where the guide is followed: a folder, and one where pip installs what is made in it."""

    folder: Path
    installed: Path
    receiver: str
    server: str

    def run(self, block: Block) -> subprocess.CompletedProcess[str]:
        text = block.text.replace("http://127.0.0.1:9000/", self.receiver)
        text = text.replace("pip install", f"pip install -q --no-deps --upgrade --target '{self.installed}'")
        text = text.replace("PYTHONPATH=.", 'PYTHONPATH=".:$PYTHONPATH"').replace("pip wheel", "pip wheel -q")
        command = ["bash", "-ec", text] if block.language == "bash" else [sys.executable, "-c", block.text]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("COMFYREPORT")}
        environ |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.fspath(self.installed),
            "PYTHONUTF8": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "COMFYREPORT_SIM_SPEED": "50",
            "COMFYREPORT_SERVER": self.server,
        }
        return subprocess.run(
            command, cwd=self.folder, env=environ, capture_output=True, encoding="utf-8", timeout=LIMIT, check=False
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, received: tuple[str, list[bytes]]) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("guide")
    shutil.copytree(ROOT / "workflows", folder / "workflows")
    # So slow that a second doesn't suffice for a run.
    with Simulator(speed=3) as simulator:
        yield Place(folder, tmp_path_factory.mktemp("site-packages"), received[0], simulator.url)


@pytest.mark.e2e
@pytest.mark.parametrize("block", list(blocks()), ids=lambda block: f"{block.language}-{block.file or block.line}")
def test_block(block: Block, place: Place, received: tuple[str, list[bytes]]) -> None:
    if block.file:
        path = place.folder / block.file
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        return
    done = place.run(block)
    assert done.returncode == 0, done.stdout + done.stderr
    for piece, words in SAID.items():
        if piece in block.text:
            assert words in done.stdout + done.stderr
    for piece, file in LEFT.items():
        if piece in block.text:
            assert (place.folder / file).stat().st_size
    if "notify=" in block.text:
        assert b'"run_finished"' in received[1][-1]
