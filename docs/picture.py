"""Makes the README's pictures: a terminal in which comfyreport follows a run of a real ComfyUI.

    python -m pip install -e '.[test]' pyte && python docs/picture.py

Starts the ComfyUI of the end-to-end tests (its environment is made on first use, which takes minutes), types the
command into a shell on a pseudo-terminal, and writes the screen twice as SVG: while the sampler is at work, and at the
end. Nothing on the screen is made up. The model is small and has random weights, and the workflow is the one of
`workflows/` at half its size, so that a machine without a GPU is done in half a minute.
"""

from __future__ import annotations

import codecs
import fcntl
import itertools
import json
import os
import pty
import re
import select
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import pyte

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from tests.e2e import comfyui_env, tiny_checkpoint  # noqa: E402  the checkout isn't on the path before
from tests.e2e.comfyui_server import ComfyUI  # noqa: E402

COLUMNS, ROWS = 88, 24
PROMPT = "$ "
WORKFLOW = "workflows/sd15-txt2img.json"
COMMAND = f'comfyreport --workflow {WORKFLOW} \\\n--prompt "a lighthouse at dusk" --output lighthouse.png\n'
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"  # the name that the workflow gives
PATIENCE = 180.0

# Measures of the SVG, in pixels.
CELL, LINE, SIZE = 9.0, 20.0, 15
MARGIN, BAR, TITLE = 18.0, 30.0, 40.0
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

PAPER, FRAME, INK = "#0d1117", "#30363d", "#c9d1d9"
COLORS = {
    "default": INK,
    "black": "#484f58",
    "red": "#ff7b72",
    "green": "#56d364",
    "brown": "#e3b341",
    "blue": "#79c0ff",
    "magenta": "#d2a8ff",
    "cyan": "#39c5cf",
    "white": "#f0f6fc",
}
BLOCKS = {"█": 1.0, "░": 0.22}


class Style(NamedTuple):
    """How a character looks."""

    color: str
    bold: bool


Cell = tuple[str, Style]


class Terminal:
    """A screen, and a shell whose output goes to it."""

    def __init__(self, environ: dict[str, str], folder: Path) -> None:
        self._screen: Any = pyte.Screen(COLUMNS, ROWS)
        self._stream: Any = pyte.Stream(self._screen)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        child, self._master = pty.fork()
        if child == 0:
            os.chdir(folder)
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environ)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))

    def type(self, text: str) -> None:
        """Type *text*, a line at a time: the shell has to ask for the second one first."""
        for line in text.splitlines(keepends=True):
            os.write(self._master, line.encode())
            typed = line.strip()
            self.wait(partial(_shows, typed), f"the echo of {typed}")

    def wait(self, condition: Callable[[list[str]], bool], what: str) -> None:
        """Read what the shell writes until the screen's lines are as they should be."""
        deadline = time.monotonic() + PATIENCE
        while not condition([line.rstrip() for line in self._screen.display]):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {PATIENCE:g} s\n" + "\n".join(self._screen.display))
            if select.select([self._master], [], [], 0.2)[0]:
                self._stream.feed(self._decoder.decode(os.read(self._master, 65536)))

    def rows(self) -> list[list[Cell]]:
        """The screen's characters down to the last line that has any."""
        rows = [[_cell(self._screen.buffer[y][x]) for x in range(COLUMNS)] for y in range(ROWS)]
        while rows and not "".join(data for data, _ in rows[-1]).strip():
            rows.pop()
        return rows

    def close(self) -> None:
        """Leave the shell."""
        os.write(self._master, b"\x04")
        os.close(self._master)


def _shows(text: str, lines: list[str]) -> bool:
    return any(text in line for line in lines)


def _cell(character: Any) -> Cell:
    return character.data or " ", Style(COLORS.get(character.fg, INK), bool(character.bold))


def svg(rows: list[list[Cell]], *, lines: int, label: str) -> str:
    """The screen as a picture; all pictures with the same *lines* have the same size."""
    width = COLUMNS * CELL + 2 * MARGIN
    height = TITLE + lines * LINE + MARGIN
    dots = "".join(
        f'<circle cx="{MARGIN + 4 + 18 * index:g}" cy="{BAR / 2:g}" r="5.5" fill="{color}"/>'
        for index, color in enumerate(("#ff5f56", "#ffbd2e", "#27c93f"))
    )
    body = "\n".join(piece for y, row in enumerate(rows) for piece in _line(row, TITLE + y * LINE))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{escape(label)}">\n'
        f"<title>{escape(label)}</title>\n"
        f'<rect x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}" rx="8" '
        f'fill="{PAPER}" stroke="{FRAME}"/>\n'
        f'<path d="M0.5 {BAR:g}H{width - 0.5:g}" stroke="{FRAME}"/>\n{dots}\n'
        f'<g font-family="{FONTS}" font-size="{SIZE}" xml:space="preserve">\n{body}\n</g>\n</svg>\n'
    )


def _line(row: list[Cell], top: float) -> Iterator[str]:
    """Pieces of a row that look alike; blocks are drawn, so that no font leaves gaps between them."""
    at = 0
    for (style, opacity), group in itertools.groupby(row, key=lambda cell: (cell[1], BLOCKS.get(cell[0]))):
        text = "".join(data for data, _ in group)
        x, columns = MARGIN + at * CELL, len(text)
        at += columns
        if opacity is not None:
            yield (
                f'<rect x="{x:g}" y="{top + 3:g}" width="{columns * CELL:g}" height="{LINE - 8:g}" '
                f'fill="{style.color}" fill-opacity="{opacity:g}"/>'
            )
            continue
        yield from _words(text, style, x, top + LINE * 0.72)


def _words(text: str, style: Style, x: float, baseline: float) -> Iterator[str]:
    """*text* with its length fixed, so that columns stay columns in any font."""
    shown = text.strip()
    if not shown:
        return
    x += (len(text) - len(text.lstrip())) * CELL
    weight = ' font-weight="bold"' if style.bold else ""
    yield (
        f'<text x="{x:g}" y="{baseline:g}" textLength="{len(shown) * CELL:g}" '
        f'lengthAdjust="spacingAndGlyphs" fill="{style.color}"{weight}>{escape(shown)}</text>'
    )


def _folder(stack: ExitStack) -> Path:
    """Where the command runs: a folder with the workflow and nothing else."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="comfyreport-picture-")))
    graph = json.loads((ROOT / WORKFLOW).read_text(encoding="utf-8"))
    for node in graph.values():
        if node["class_type"] == "EmptyLatentImage":
            node["inputs"].update(width=256, height=256)
    (folder / WORKFLOW).parent.mkdir()
    (folder / WORKFLOW).write_text(json.dumps(graph), encoding="utf-8")
    return folder


def _server(stack: ExitStack) -> ComfyUI:
    """A real ComfyUI; the tiny checkpoint lies there under the name that the workflow wants."""
    base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="comfyreport-picture-")))
    server = ComfyUI(comfyui_env.ensure(), base)
    (base / "models" / "checkpoints" / CHECKPOINT).symlink_to(tiny_checkpoint.ensure())
    return stack.enter_context(server)


def _sampling(lines: Iterable[str]) -> bool:
    return any(re.search(r"█.* (9|1[0-4])/20 ", line) for line in lines)


def _finished(lines: list[str]) -> bool:
    told = [line for line in lines if line]
    return any(line.startswith("[OK]") for line in told) and told[-1] == PROMPT.strip()


def main() -> int:
    """Make both pictures."""
    with ExitStack() as stack:
        server = _server(stack)
        environ = {
            "COMFYREPORT_SERVER": server.url,
            "HOME": os.environ.get("HOME", "/"),
            "LANG": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PS1": PROMPT,
            "PS2": "    ",
            "TERM": "xterm-256color",
        }
        terminal = Terminal(environ, _folder(stack))
        stack.callback(terminal.close)
        terminal.wait(lambda lines: lines[0] == PROMPT.strip(), "the shell's prompt")
        terminal.type(COMMAND)
        terminal.wait(_sampling, "the sampler at work")
        sampling = terminal.rows()
        terminal.wait(_finished, "the end of the run")
        finished = terminal.rows()
    for name, rows, label in (
        ("sampling", sampling, "comfyreport in a terminal while the sampler is at work"),
        ("finished", finished, "comfyreport in a terminal after the run"),
    ):
        picture = svg(rows, lines=len(rows), label=label)
        (HERE / f"{name}.svg").write_text(picture, encoding="utf-8")
        sys.stdout.write("\n".join("".join(data for data, _ in row).rstrip() for row in rows) + "\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
