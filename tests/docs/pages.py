"""Pages of the documentation: their blocks, headings, links and tables, and a place where their commands run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from comfyreport.simulator import Simulator
from tests.e2e.comfyui_server import free_port
from tests.e2e.installation import ROOT as ROOT, Installed, copy_checkout

LIMIT = 600.0
SERVER = "http://127.0.0.1:8188"
# Other addresses that the pages name: a server, and a receiver of notifications.
GPU_BOX = "gpu-box:9000"
RECEIVER = "http://127.0.0.1:9000/"

# How fast the simulated servers are. Where a limit of a second is shown, a run must last longer than that.
SPEED, SLOW_SPEED = 20.0, 2.0
SLOW = re.compile(r"--timeout|seconds > 1")

# What can't be run as it stands, and what is run instead; nothing else is changed.
SUBSTITUTED = {
    # The tests would run themselves; those that are chosen are collected instead.
    r"python -m pytest(| -.*)$": r"python -m pytest\1 --collect-only -q",
    # These take many minutes; the first one would fetch comfy-cli to compare with.
    r"python -m tests\.benchmarks$": "python -m tests.benchmarks --short",
    r"python -m tests\.windows$": "python -m tests.windows --help",
    r"python -m tests\.faults(.*)$": r"python -m tests.faults\1 --help",
    # What stands in the pages may be taken.
    "8190": str(free_port()),
    # It runs until it is stopped, and its usual port may be taken.
    r"comfyreport simulate$": (
        'exec 3< <(exec comfyreport simulate --port 0) && read -r line <&3 && echo "$line" && kill $!'
    ),
}

_FENCE = re.compile(r"^```(\w*)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


class Block(NamedTuple):
    """A fenced block: the page, the line it begins in, its language, the file it is, its text."""

    page: str
    line: int
    language: str
    file: str
    text: str

    @property
    def id(self) -> str:
        """A name for tests."""
        return f"{self.page}-{self.language}-{self.file or self.line}"

    @property
    def runs(self) -> bool:
        """Whether it is something to run."""
        return not self.file and self.language in ("bash", "console", "python")


class Page:
    """A page in Markdown; `name` is its path in the checkout."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.relative_to(ROOT).as_posix()
        self.text = path.read_text(encoding="utf-8")

    def __repr__(self) -> str:
        return self.name

    @cached_property
    def blocks(self) -> list[Block]:
        """The fenced blocks, in order."""
        return [
            Block(self.name, self.text.count("\n", 0, found.start()) + 1, found[1], found[2] or "", found[3])
            for found in _FENCE.finditer(self.text)
        ]

    @cached_property
    def prose(self) -> str:
        """The text with its blocks empty."""
        return _FENCE.sub(lambda found: "\n" * found[0].count("\n"), self.text)

    @property
    def headings(self) -> list[str]:
        """The headings below the title, of all levels."""
        return re.findall(r"^##+ (.*)$", self.prose, re.MULTILINE)

    @property
    def anchors(self) -> set[str]:
        """What links may name behind a `#`, as GitHub makes it from the headings."""
        titles = re.findall(r"^#+ (.*)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}

    @property
    def links(self) -> list[str]:
        """The targets of links and pictures that lead to files or headings."""
        return [target for target in re.findall(r"\]\(([^)\s]+)\)", self.prose) if "://" not in target]

    def rows(self, heading: str) -> list[list[str]]:
        """The cells of the first table whose head begins with *heading*."""
        _, _, table = self.prose.partition(f"\n| {heading} |")
        assert table, heading
        lines = table.partition("\n\n")[0].splitlines()[2:]
        return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def _pages() -> list[Page]:
    paths = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "plugins" / "README.md", ROOT / "tests" / "README.md"]
    # The first commands of the README come before all others: they install what those need.
    paths.sort(key=lambda path: (path != ROOT / "README.md", path))
    return [Page(path) for path in paths if path.name != "CHANGELOG.md"]


PAGES = _pages()
BY_NAME = {page.name: page for page in PAGES}
README = BY_NAME["README.md"]
BLOCKS = [block for page in PAGES for block in page.blocks]


def quoted(cell: str) -> list[str]:
    """What stands in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


def substituted(text: str) -> str:
    """Commands as they are run."""
    for original, substitute in SUBSTITUTED.items():
        text = re.sub(original, substitute, text, flags=re.MULTILINE)
    return text


class Place:
    """Where the commands of the pages run: a copy of the checkout for each page, and one environment for all.

    The first commands of the README, for users and for developers, make the environment ready.

    :param receiver: a URL that takes the notifications that an example sends.
    """

    def __init__(self, folder: Path, receiver: str) -> None:
        self._folder = folder
        self._receiver = receiver
        self._venv = Installed(folder / "venv", folder)
        self._said: dict[Block, str] = {}
        subprocess.run([sys.executable, "-m", "venv", self._venv.root], check=True, timeout=LIMIT)
        for block in [block for block in README.blocks if block.language == "bash"][:2]:
            self._said[block] = self.run(block)

    def folder(self, page: str) -> Path:
        """Where the commands of *page* run."""
        folder = self._folder / page.replace("/", "-")
        return folder if folder.exists() else copy_checkout(folder)

    def run(self, block: Block) -> str:
        """Run what *block* shows, once, with a server of its own; what it said. Sessions must say what they show."""
        if block in self._said:
            return self._said[block]
        folder = self.folder(block.page)
        for earlier in BY_NAME[block.page].blocks:
            if earlier.file and earlier.line < block.line:
                path = folder / earlier.file
                path.parent.mkdir(exist_ok=True)
                path.write_text(earlier.text, encoding="utf-8")
        with Simulator(speed=SLOW_SPEED if SLOW.search(block.text) else SPEED) as simulator:
            variables = {
                "COMFYREPORT_SERVER": simulator.url,
                "COMFYREPORT_SIM_SPEED": f"{SPEED:g}",
                "COMFYREPORT_CACHE": os.fspath(self._folder / "cache"),
                "PIP_DISABLE_PIP_VERSION_CHECK": "1",
                "PATH": f"{self._venv.root / 'bin'}{os.pathsep}{os.environ['PATH']}",
            }
            shell = _Shell(folder, self._venv.environ(variables), simulator.url, self._receiver)
            if block.language == "console":
                return shell.follow(block.text)
            command = ["python", "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
            code, output = shell.run(*command, block.text)
            assert code == 0, output
            return output


class _Shell(NamedTuple):
    """Runs commands; the addresses that the pages name lead to servers of the tests."""

    folder: Path
    environ: dict[str, str]
    server: str
    receiver: str

    def run(self, *command: str) -> tuple[int, str]:
        """Run a command whose last word is taken from a page: its exit code, and what a terminal would show."""
        text = substituted(command[-1]).replace(SERVER, self.server).replace(RECEIVER, self.receiver)
        for named in (GPU_BOX, SERVER.removeprefix("http://")):
            text = text.replace(named, self.server.removeprefix("http://"))
        done = subprocess.run(
            [*command[:-1], text],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=LIMIT,
            check=False,
        )
        return done.returncode, done.stdout.replace(self.server, SERVER)

    def follow(self, session: str) -> str:
        """Run what stands behind `$ `, and compare what it says with what the page shows.

        `...` is any lines, and seconds are any seconds. An id that was shown is, in later commands, the one that was
        said in its place.
        """
        said, code = "", 0
        ids: dict[str, str] = {}
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE):
            for theirs, ours in ids.items():
                command = command.replace(theirs, ours)
            # The exit code of one command is known to the next.
            code, output = self.run("bash", "-c", f"(exit {code})\n{command}")
            pattern = "".join(
                r"(?:.*\n)*" if line == "...\n" else re.escape(_normal(line))
                for line in shown.splitlines(keepends=True)
            )
            assert re.fullmatch(pattern, _normal(output)), f"$ {command}\n{output}"
            ids |= dict(zip(_UUID.findall(shown), _UUID.findall(output), strict=False))
            said += output
        return said


def _normal(text: str) -> str:
    """*text* with all spans of time alike, and all ids."""
    return _UUID.sub("0" * 8, re.sub(r"\b\d+\.\d+s\b", "0.0s", text))
