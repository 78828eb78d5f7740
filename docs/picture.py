"""Draws the pictures of the documentation: terminals in which the console reporter follows recorded runs.

    python -m pip install -e ".[test]" && python docs/picture.py

The runs are recordings of a real ComfyUI that ship with comfyreport. They are played through the console reporter at
the recordings' own time, on emulated terminals of 60 and 120 columns, and what those show is written as SVG. It needs
no server and no clock: the same recordings and the same program always give the same pictures.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import pyte
from comfyreport_console import console

from comfyreport import RunFinished
from comfyreport.testing import FakeStream, play, stream_of

HERE = Path(__file__).resolve().parent

WIDTHS, ROWS = (60, 120), 24
PROMPT = "$ "

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


class Scene(NamedTuple):
    """A picture: its name, what it shows, the recording, the command that the recording is of, and the moment.

    The moment is a pattern of a line; the picture is the first screen that has such a line. None: the end.
    """

    name: str
    label: str
    recording: str
    command: str
    moment: str | None


CAT = 'comfyreport --workflow txt2img.json --prompt "a photo of a cat" --output sunset.png'
SCENES = (
    Scene("queue", "waiting in the queue", "queue", CAT, r"^Waiting in the queue: 1 .*\[4s"),
    Scene("loading", "a model being loaded", "txt2img", CAT, r"^Load Checkpoint  2s$"),
    Scene("sampling", "the sampler at work", "txt2img", CAT, r"^KSampler .* 9/20 "),
    Scene("parallel", "nodes side by side", "parallel", "comfyreport --workflow parallel.json", r" 0\.4\d/1\.5 "),
    Scene("failed", "a run that failed", "node-error", CAT, None),
    Scene("finished", "a run that is finished", "txt2img", CAT, None),
)


class Style(NamedTuple):
    """How a character looks."""

    color: str
    bold: bool


Cell = tuple[str, Style]


class Terminal(FakeStream):
    """A terminal that a person sees: `picture` is the first screen with a line like *moment*, else the last one."""

    def __init__(self, columns: int, moment: str | None) -> None:
        super().__init__(width=columns, height=ROWS, tty=True, color=True)
        self._moment = moment
        self._emulator: Any = pyte.Screen(columns, ROWS)
        self._emulator.set_mode(pyte.modes.LNM)
        self._input: Any = pyte.Stream(self._emulator)
        self._taken: list[list[Cell]] | None = None

    def write(self, text: str) -> None:
        """Show *text*."""
        super().write(text)
        self._input.feed(text)
        lines = self._emulator.display if self._taken is None and self._moment is not None else []
        if any(re.search(self._moment or "", line.rstrip()) for line in lines):
            self._taken = self._rows()

    @property
    def picture(self) -> list[list[Cell]]:
        """The characters of the screen down to the last line that has any; LookupError if the moment never came."""
        if self._taken is None and self._moment is not None:
            raise LookupError(f"no screen has a line like {self._moment}")
        return self._rows() if self._taken is None else self._taken

    def _rows(self) -> list[list[Cell]]:
        emulator = self._emulator
        found = [[_cell(emulator.buffer[y][x]) for x in range(emulator.columns)] for y in range(emulator.lines)]
        while found and not "".join(data for data, _ in found[-1]).strip():
            found.pop()
        return found


def _cell(character: Any) -> Cell:
    return character.data or " ", Style(COLORS.get(character.fg, INK), bool(character.bold))


def svg(rows: list[list[Cell]], *, label: str) -> str:
    """The screen as a picture."""
    width = len(rows[0]) * CELL + 2 * MARGIN
    height = TITLE + len(rows) * LINE + MARGIN
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


def draw(scene: Scene, columns: int) -> str:
    """One picture, as SVG."""
    terminal = Terminal(columns, scene.moment)
    terminal.write(f"{PROMPT}{scene.command}\n")
    play(console(terminal), scene.recording)
    for event in stream_of(scene.recording):
        if isinstance(event, RunFinished):
            # The command itself prints them, when the reporters are closed.
            terminal.write("".join(f"{output.path}\n" for output in event.outputs if output.path))
    return svg(terminal.picture, label=f"comfyreport in a terminal of {columns} columns: {scene.label}")


def pictures() -> Mapping[str, str]:
    """All pictures by the names of their files."""
    return {f"{scene.name}-{columns}.svg": draw(scene, columns) for scene in SCENES for columns in WIDTHS}


def main() -> int:
    """Write all pictures."""
    for name, text in pictures().items():
        (HERE / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
