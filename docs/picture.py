"""Makes the README's pictures: terminals in which comfyreport follows runs of a real ComfyUI.

    python -m pip install -e '.[test]' && python docs/picture.py

Starts the ComfyUI of the end-to-end tests (its environment is made on first use, which takes minutes), runs the command
on pseudo-terminals of 60 and 120 columns, and writes what they show as SVG: waiting in the queue, loading, sampling,
with nodes side by side, failed, finished. Nothing on the screens is made up, but for the server's folder, which is
shown as /opt/ComfyUI. The model is small and has random
weights, so that a machine without a GPU is done in a minute or two.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import requests

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from tests.e2e import comfyui_env, tiny_checkpoint  # noqa: E402  the checkout isn't on the path before
from tests.e2e.comfyui_server import CHECKPOINT_NAME, ComfyUI  # noqa: E402
from tests.e2e.screen import Screen  # noqa: E402

WIDTHS, ROWS = (60, 120), 24
PROMPT = "$ "
COMMAND = "comfyreport --workflow lighthouse.json --output lighthouse.png"

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


def rows(screen: Screen) -> list[list[Cell]]:
    """The command, and the screen's characters down to the last line that has any."""
    emulator = screen.emulator
    plain = Style(INK, False)
    found = [[(data, plain) for data in (PROMPT + COMMAND).ljust(emulator.columns)[: emulator.columns]]]
    found += [[_cell(emulator.buffer[y][x]) for x in range(emulator.columns)] for y in range(emulator.lines)]
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


def _workflow(*, steps: int = 20, size: int = 192, seed: int = 7, failing: bool = False) -> dict[str, Any]:
    """The workflow of the README at a size that a CPU is done with soon; *failing*: its picture meets a bad node."""
    graph: dict[str, Any] = json.loads((ROOT / "workflows" / "sd15-txt2img.json").read_text(encoding="utf-8"))
    for node in list(graph.values()):
        inputs = node["inputs"]
        if node["class_type"] == "EmptyLatentImage":
            inputs.update(width=size, height=size)
        elif node["class_type"] == "CheckpointLoaderSimple":
            inputs["ckpt_name"] = CHECKPOINT_NAME
        elif node["class_type"] == "KSampler":
            inputs.update(steps=steps, seed=seed)
        elif failing and node["class_type"] == "SaveImage":
            graph["90"] = {
                "class_type": "ReportRaise",
                "inputs": {"image": inputs["images"], "message": "the mask has another size than the image",
                           "steps": 3, "seconds": 0.05},
                "_meta": {"title": "Apply Mask"},
            }  # fmt: skip
            inputs["images"] = ["90", 0]
    return graph


def _side_by_side() -> dict[str, Any]:
    """Three nodes that the server runs at the same time, as those do that wait for other services."""
    graph: dict[str, Any] = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}}
    }
    for number, (title, steps) in enumerate((("Describe", 12), ("Translate", 30), ("Upscale online", 20)), 2):
        inputs = {"image": ["1", 0], "steps": steps, "seconds": 0.2}
        graph[str(number)] = {"class_type": "ReportParallel", "inputs": inputs, "_meta": {"title": title}}
    joined = {"image": ["2", 0], "image2": ["3", 0], "image3": ["4", 0]}
    graph["5"] = {"class_type": "ReportJoin", "inputs": joined, "_meta": {"title": "Join"}}
    graph["6"] = {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "side"}}
    return graph


class Scene(NamedTuple):
    """A picture: its name, what it shows, the workflow, and the moment; None: the end."""

    name: str
    label: str
    graph: dict[str, Any]
    moment: Callable[[list[str]], object] | None
    behind: bool = False


def _matches(pattern: str) -> Callable[[list[str]], object]:
    return lambda lines: any(re.search(pattern, line) for line in lines)


def scenes() -> Iterator[Scene]:
    """All pictures; the first one that needs the model finds it not yet loaded."""
    yield Scene(
        "loading", "a model being loaded", _workflow(seed=1), _matches(r"^(Load Checkpoint|CLIP Text Encode.*)  \d+s$")
    )
    yield Scene(
        "queue", "waiting in the queue", _workflow(seed=2), _matches(r"^Waiting in the queue: 1 .*\[[2-9]s"), True
    )
    yield Scene("sampling", "the sampler at work", _workflow(seed=3), _matches(r"█.* (9|1[0-4])/20 "))
    yield Scene("parallel", "nodes side by side", _side_by_side(), _matches(r"█.* (1\d)/30 "))
    yield Scene("failed", "a run that failed", _workflow(seed=4, failing=True, steps=6), None)
    yield Scene("finished", "a run that is finished", _workflow(seed=5), None)


def shoot(scene: Scene, columns: int, server: ComfyUI, folder: Path) -> None:
    """Run the command until the moment has come, and write the picture."""
    (folder / "lighthouse.json").write_text(json.dumps(scene.graph), encoding="utf-8")
    environ = {**os.environ, "COMFYREPORT_SERVER": server.url, "LANG": "C.UTF-8", "TERM": "xterm-256color"}
    environ = {name: value for name, value in environ.items() if name not in ("CI", "NO_COLOR", "FORCE_COLOR")}
    if scene.behind:
        body = {"prompt": _workflow(steps=12, seed=columns), "client_id": "somebody"}
        requests.post(f"{server.url}/prompt", json=body, timeout=30).raise_for_status()
    words = [Path(sys.executable).parent / "comfyreport", *COMMAND.split()[1:]]
    place = {str(server.environment.comfyui): "/opt/ComfyUI", str(server.base): "/opt/ComfyUI"}
    screen = Screen(words, environ, folder, columns, ROWS, shown=place)
    try:
        if scene.moment is None:
            screen.end()
        else:
            screen.wait(scene.moment, scene.label)
        shown = rows(screen)
        if scene.moment is not None:
            screen.type("\x03")
            screen.end()
    finally:
        screen.close()
    label = f"comfyreport in a terminal of {columns} columns: {scene.label}"
    (HERE / f"{scene.name}-{columns}.svg").write_text(svg(shown, label=label), encoding="utf-8")
    sys.stdout.write("\n".join("".join(data for data, _ in row).rstrip() for row in shown) + "\n\n")
    requests.post(f"{server.url}/free", json={"unload_models": True, "free_memory": True}, timeout=30)


def main() -> int:
    """Make all pictures."""
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="comfyreport-picture-")))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="comfyreport-picture-")))
        server = stack.enter_context(ComfyUI(comfyui_env.ensure(), base, checkpoint=tiny_checkpoint.ensure()))
        for columns in WIDTHS:
            for scene in scenes():
                shoot(scene, columns, server, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
