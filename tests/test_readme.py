"""The README is true: its commands run, its tables are those of the code, its links lead somewhere.

The commands run in the README's order, in a copy of the checkout and in an environment of its own, made by the
README's own command. What can't be run as it stands is in `SUBSTITUTED`, and nothing else is changed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jsonschema
import pytest

from comfyreport import NodeProgress, NodeRef, run_generation, to_line
from comfyreport.cli.arguments import COMMANDS, build_parser
from comfyreport.cli.listing import describe
from comfyreport.events import EXIT_CODES, EXIT_REPORTER_FAILED
from comfyreport.events.schema import json_schema
from comfyreport.net.address import parse_address
from comfyreport.simulator import Simulator
from tests.benchmarks.__main__ import parser as benchmarks_parser
from tests.e2e.installation import Installed, copy_checkout

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LIMIT = 600.0

SUBSTITUTED = {
    # The tests would run themselves; all of them are collected instead.
    "python -m pytest\n": "python -m pytest --collect-only -q\n",
    # It takes minutes, and fetches comfy-cli to compare with.
    "python -m tests.benchmarks\n": "python -m tests.benchmarks --short\n",
    # It runs until it is stopped, and its usual port may be taken.
    "comfyreport simulate\n": "timeout 3 comfyreport simulate --port 0 || test $? = 124\n",
}
# Commands that name no server find a simulated one; it hurries.
ENVIRONMENT = {"COMFYREPORT_SERVER": "sim", "COMFYREPORT_SIM_SPEED": "20"}
# Programs that submit for themselves find a simulated server in the place of this one.
SERVER = "http://127.0.0.1:8188"

# Words that begin with two dashes and are other programs' options.
FOREIGN_OPTIONS = {"--listen"}

# What the commands of some blocks must have left or said, by a piece of the block.
LEFT = {
    "--output sunset.png --server sim": ["sunset.png"],
    "--reporter filelog=run.log": ["run.jsonl", "run.log"],
    "slowest=slowest.txt": ["slowest.txt"],
    "--record": ["run.recording"],
}
SAID = {
    "sunset.png --json-progress": '"type":"stream_finished"',
    "ls -l": "made/sd15",
    "comfyreport simulate": "http://127.0.0.1:",
    "replay": '"type":"run_finished"',
    "subprocess.Popen": "exit code 0",
    "print(result.status": "success 0",
    "tracker.result.status": "success",
}


class Block(NamedTuple):
    """A fenced block: the line it begins in, its language, the file it is, its text."""

    line: int
    language: str
    file: str
    text: str

    @property
    def id(self) -> str:
        return f"line-{self.line}"


def blocks() -> Iterator[Block]:
    """The README's fenced blocks, in order."""
    for found in re.finditer(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        yield Block(README.count("\n", 0, found.start()) + 1, found[1], found[2] or "", found[3])


BLOCKS = list(blocks())
SETUP = next(block for block in BLOCKS if block.language == "bash")
RUN = [block for block in BLOCKS if not block.file and block.language in ("bash", "console", "python")]


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table whose head begins with *heading*."""
    _, _, table = README.partition(f"\n| {heading} |")
    assert table, heading
    lines = table.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def quoted(cell: str) -> list[str]:
    """What stands in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


# --- running


class Place:
    """A copy of the checkout and an environment of its own, in which the README's commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder = copy_checkout(folder / "clone")
        self.venv = Installed(folder / "venv", self.folder)
        subprocess.run([sys.executable, "-m", "venv", self.venv.root], check=True, timeout=LIMIT)
        for block in BLOCKS:
            if block.file:
                path = self.folder / block.file
                path.parent.mkdir(exist_ok=True)
                path.write_text(block.text, encoding="utf-8")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command; its output is kept as a terminal would show it."""
        path = f"{self.venv.root / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.venv.environ({**ENVIRONMENT, "PATH": path}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=LIMIT,
            check=False,
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where the commands run; the README's first command has made it ready."""
    place = Place(tmp_path_factory.mktemp("readme"))
    done = place.run("bash", "-euo", "pipefail", "-c", SETUP.text)
    assert done.returncode == 0, done.stdout
    return place


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """A server for programs that submit for themselves."""
    with Simulator(speed=20) as simulator:
        yield simulator


@pytest.mark.e2e
@pytest.mark.parametrize("block", RUN, ids=lambda block: f"{block.language}-{block.id}")
def test_block_runs(block: Block, place: Place, simulator: Simulator) -> None:
    if block is SETUP:
        # The fixture ran it.
        said = None
    elif block.language == "console":
        check_session(block.text, place)
        said = None
    elif block.language == "python":
        done = place.run("python", "-c", block.text.replace(SERVER, simulator.url))
        assert done.returncode == 0, done.stdout
        said = done.stdout
    else:
        text = block.text
        for original, substitute in SUBSTITUTED.items():
            text = text.replace(original, substitute)
        done = place.run("bash", "-euo", "pipefail", "-c", text)
        assert done.returncode == 0, done.stdout
        said = done.stdout
    for piece, names in LEFT.items():
        if block.language == "bash" and piece in block.text:
            assert all((place.folder / name).stat().st_size for name in names), names
    for piece, words in SAID.items():
        if said is not None and piece in block.text:
            assert words in said, said


def check_session(text: str, place: Place) -> None:
    """Run what stands behind `$ `; the output is what the README shows: `...` is any lines, seconds are any seconds."""
    commands = re.findall(r"^\$ (.*)\n", text, re.MULTILINE)
    shown = re.split(r"^\$ .*\n", text, flags=re.MULTILINE)[1:]
    script = "\n".join(f"{command}\nstatus=$?; printf '\\036'; (exit $status)" for command in commands)
    told = place.run("bash", "-c", script).stdout.split("\036")
    for command, expected, output in zip(commands, shown, told, strict=False):
        pattern = "".join(
            r"(?:.*\n)*" if line == "...\n" else re.escape(normal(line)) for line in expected.splitlines(keepends=True)
        )
        assert re.fullmatch(pattern, normal(output)), f"$ {command}\n{output}"


def normal(text: str) -> str:
    """*text* with all spans of time alike."""
    return re.sub(r"\b\d+\.\d+s\b", "0.0s", text)


def test_substitutions_are_needed() -> None:
    for original in SUBSTITUTED:
        assert any(original in block.text for block in BLOCKS if block.language == "bash"), original


def test_reporter_has_15_lines_at_most() -> None:
    (code,) = (block.text for block in BLOCKS if block.file.endswith(".py"))
    assert len(code.splitlines()) <= 15


# --- tables


def test_exit_codes() -> None:
    told: dict[int, set[str]] = {int(code): set(quoted(statuses)) for code, statuses, _ in rows("code")}
    known: dict[int, set[str]] = {EXIT_REPORTER_FAILED: set()}
    for status, code in EXIT_CODES.items():
        known.setdefault(code, set()).add(status)
    assert told == known


def test_reporters() -> None:
    table = rows("reporter")
    assert {quoted(name)[0] for name, *_ in table} == {"console", "quiet", "jsonl", "filelog"}
    for name, _, destination, options in table:
        about = describe(quoted(name)[0])
        assert (about["default_destination"] or "must be given") == destination
        assert [option["name"] for option in about["options"]] == quoted(options)


def test_addresses() -> None:
    for written, meant in rows("you write"):
        if written != "`sim`":
            assert parse_address(quoted(written)[0]).base == quoted(meant)[0]


def test_json_line() -> None:
    (line,) = (json.loads(block.text) for block in BLOCKS if block.language == "json")
    jsonschema.validate(line, json_schema())
    node = NodeRef(id="3", class_type="KSampler", title="KSampler")
    event = NodeProgress(
        seq=1, time=0.0, elapsed=0.0, prompt_id="p", node=node, step=5, max_steps=20, eta_seconds=12.0,
        steps_per_second=1.25,
    )  # fmt: skip
    assert list(line) == list(json.loads(to_line(event)))


# --- words


def test_options_exist() -> None:
    known = set(FOREIGN_OPTIONS)
    for each in (*map(build_parser, COMMANDS), benchmarks_parser()):
        known.update(re.findall(r"--[a-z][a-z-]+", each.format_help()))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= known


def test_variables_exist() -> None:
    sources = [*ROOT.glob("comfyreport/**/*.py"), *ROOT.glob("tests/e2e/*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    named = set(re.findall(r"COMFYREPORT_[A-Z_]+|NO_COLOR|FORCE_COLOR", README))
    assert len(named) >= 7
    assert not {name for name in named if not re.search(rf'"{name}"', code)}


def test_links_lead_somewhere() -> None:
    headings = re.findall(r"^## (.*)$", README, re.MULTILINE)
    anchors = {"#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target]
    assert len(targets) > len(headings)
    missing = [target for target in targets if target not in anchors and not (ROOT / target.partition("#")[0]).exists()]
    assert not missing


def test_contents_name_all_headings() -> None:
    headings = re.findall(r"^## (.*)$", README, re.MULTILINE)
    listed = re.findall(r"^- \[(.*)\]\(#", README, re.MULTILINE)
    assert listed == [heading for heading in headings if heading != "License"]


@pytest.mark.parametrize("columns", [60, 120])
@pytest.mark.parametrize(
    ("name", "piece"),
    [
        ("queue", "Waiting in the queue: 1 before this one"),
        ("loading", "0/7 nodes"),
        ("sampling", "ETA"),
        ("parallel", "10/30"),
        ("failed", "Generation failed"),
        ("finished", "Slowest: KSampler"),
    ],
)
def test_pictures_are_whole(name: str, piece: str, columns: int) -> None:
    assert f"docs/{name}-{columns}.svg" in README
    text = (ROOT / "docs" / f"{name}-{columns}.svg").read_text(encoding="utf-8")
    assert piece in " ".join(ElementTree.fromstring(text).itertext())
    assert not re.search(r"/(root|home|tmp)/", text)


# --- where it is finer


def test_passes_names_and_cached_nodes(tmp_path: Path, simulator: Simulator) -> None:
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
        "2": {
            "class_type": "ProbeProgress",
            "inputs": {"image": ["1", 0], "mode": "restart", "count": 3, "delay": 0.2},
            "_meta": {"title": "Two rounds"},
        },
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "readme"}},
    }
    told = []
    for name in ("first", "second"):
        path = tmp_path / name
        run_generation(graph, server=simulator.url, reporters=[f"console={path}"])
        told.append(path.read_text(encoding="utf-8"))
    assert re.search(r"\[INFO\] Node: Two rounds\n\[PROGRESS\] Two rounds: 1/3 steps \(33%\) - ETA: \d+s\n", told[0])
    assert "[PROGRESS] Two rounds (pass 2): 1/3 steps (33%)" in told[0]
    assert re.search(r"\[INFO\] Done: Two rounds in \d+\.\ds\n", told[0])
    assert "[INFO] 3 nodes cached\n" in told[1]
    assert re.search(r"\[OK\] Generation complete in \S+ \(0 executed, 3 cached: same inputs as before\)\n", told[1])
