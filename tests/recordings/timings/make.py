"""Make the recordings of this folder: `python -m tests.recordings.timings.make`. It takes a quarter of an hour.

The server is the real one of the tests, with one thread on one core and in front of all others where the system
permits that: make them when the machine has nothing else to do. Each series has a server of its own, `RESTART` is a new
process of it. Models are read from the disk at a series' begin, from the page cache behind a restart. A recording that
stands out for a reason that isn't the server's is made again: `--only SERIES` makes that series alone.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.e2e import comfyui_env
from tests.e2e.comfyui_server import CHECKPOINT_NAME, ComfyUI
from tests.e2e.raw_client import Graph, node, txt2img
from tests.recordings.timings import HERE, INDEX, Entry
from tests.recordings.timings.models import checkpoint

DEEP_NAME = "tiny_sd15_deep.safetensors"
SERVER = "http://127.0.0.1:8188"
TIME = 1772600767.25
LEFT_OUT = ("/view", "/object_info", "/system_stats", "/api/jobs", "/models")
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
LIMIT = 300.0
TEXTS = ("a lighthouse at dusk", "a red kite over the sea", "an old bridge in fog", "a cat on a wall", "three boats")


class Planned(NamedTuple):
    """A run to be recorded; `restart`: on a new process of the server."""

    group: str
    graph: Graph
    restart: bool = False


def plain(number: int, size: int = 192, steps: int = 12) -> Graph:
    """Text to image."""
    return txt2img(size=size, steps=steps, seed=1000 + number, text=TEXTS[number % len(TEXTS)])


def twice(number: int, size: int = 128, large: int = 192) -> Graph:
    """Two samplers with an upscale between."""
    graph = txt2img(size=size, steps=14, seed=2000 + number, text=TEXTS[number % len(TEXTS)])
    graph["10"] = node(
        "LatentUpscale", upscale_method="nearest-exact", width=large, height=large, crop="disabled", samples=["3", 0]
    )
    second = {**graph["3"]["inputs"], "latent_image": ["10", 0], "seed": 3000 + number, "steps": 8, "denoise": 0.5}
    graph["11"] = node("KSampler", **second)
    graph["8"]["inputs"]["samples"] = ["11", 0]
    return graph


def from_picture(number: int) -> Graph:
    """Image to image, with another model."""
    graph = txt2img(steps=12, seed=4000 + number, text=TEXTS[number % len(TEXTS)])
    del graph["5"]
    graph["4"]["inputs"]["ckpt_name"] = DEEP_NAME
    graph["10"] = node("LoadImage", image="picture.png")
    graph["11"] = node("ImageScale", upscale_method="lanczos", width=192, height=192, crop="center", image=["10", 0])
    graph["12"] = node("VAEEncode", pixels=["11", 0], vae=["4", 2])
    graph["3"]["inputs"] |= {"latent_image": ["12", 0], "denoise": 0.6}
    return graph


SERIES: dict[str, list[Planned]] = {
    "txt2img": [
        Planned("first", plain(0)),
        Planned("repeat", plain(1)),
        *(Planned("warm", plain(number)) for number in (2, 3, 4)),
        Planned("similar", plain(5, steps=20)),
        Planned("similar", plain(6, size=256)),
        Planned("cold again", plain(7), restart=True),
        Planned("cold again", plain(8), restart=True),
    ],
    "hires": [
        Planned("first", twice(0)),
        Planned("repeat", twice(1)),
        *(Planned("warm", twice(number)) for number in (2, 3)),
        Planned("similar", twice(4, 160, 256)),
    ],
    "img2img": [
        Planned("first", from_picture(0)),
        Planned("repeat", from_picture(1)),
        Planned("warm", from_picture(2)),
    ],
}


class QuietServer(ComfyUI):
    """The server on one core, before all others."""

    def command(self) -> list[str]:
        pin = ["taskset", "-c", "1"] if shutil.which("taskset") else []
        return [*pin, *super().command()]

    def start(self) -> ComfyUI:
        super().start()
        before_all_others(self.pid)
        return self


def before_all_others(pid: int) -> None:
    """Put the session of that process before all others, where the system permits it."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text("-15", encoding="ascii")


def main() -> int:
    """Make what was asked for."""
    parser = argparse.ArgumentParser("python -m tests.recordings.timings.make", description=__doc__)
    parser.add_argument("--only", choices=list(SERIES), nargs="+", default=list(SERIES), metavar="SERIES")
    chosen = parser.parse_args().only
    os.environ.update(THREADS)
    before_all_others(os.getpid())
    environment = comfyui_env.ensure()
    entries = [Entry(**each) for each in (json.loads(INDEX.read_text(encoding="utf-8")) if INDEX.exists() else [])]
    for series in chosen:
        entries = [entry for entry in entries if entry.series != series]
        with tempfile.TemporaryDirectory(prefix="timings-", ignore_cleanup_errors=True) as folder:
            entries += make(series, environment, Path(folder))
        order = sorted(entries, key=lambda entry: list(SERIES).index(entry.series))
        lines = ",\n".join(f" {json.dumps(entry._asdict())}" for entry in order)
        INDEX.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    return 0


def make(series: str, environment: comfyui_env.Environment, folder: Path) -> Iterator[Entry]:
    """Run one series, each run recorded."""
    models = {CHECKPOINT_NAME: checkpoint(1), DEEP_NAME: checkpoint(2)}
    server = QuietServer(environment, folder / "comfyui", previews=False)
    for name, path in models.items():
        (server.base / "models" / "checkpoints" / name).symlink_to(path)
        forget(path)
    (server.base / "input" / "picture.png").write_bytes(png(256))
    process = 1
    with server:
        for number, planned in enumerate(SERIES[series], 1):
            if planned.restart:
                server.restart()
                process += 1
            name = f"{series}-{number}"
            recorded = run(server, planned.graph, folder / f"{name}.jsonl")
            text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in needed(recorded, server.url))
            assert str(folder) not in text
            (HERE / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
            yield Entry(name, series, planned.group, process)


def run(server: ComfyUI, graph: Graph, path: Path) -> list[dict[str, Any]]:
    """The records of one run."""
    workflow = path.with_suffix(".json")
    workflow.write_text(json.dumps(graph), encoding="utf-8")
    command = [sys.executable, "-m", "comfyreport", "run", "--workflow", str(workflow), "--server", server.url]
    done = subprocess.run([*command, "--record", str(path)], timeout=LIMIT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    sys.stderr.write(f"{path.stem}: {done.stderr.decode().splitlines()[-1]}\n")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def needed(records: list[dict[str, Any]], url: str) -> Iterator[dict[str, Any]]:
    """The records that a replay uses, with the usual local address and neither previews nor files."""
    for record in records:
        if record["kind"] == "header":
            record |= {"server": SERVER, "time": TIME}
        if record["kind"] == "ws-binary" or str(record.get("path", "")).startswith(LEFT_OUT):
            continue
        yield json.loads(json.dumps(record).replace(url, SERVER))


def forget(path: Path) -> None:
    """Let the system forget what it has read of a file, where it can."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file, contextlib.suppress(OSError):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def png(size: int) -> bytes:
    """A picture of so many pixels a side."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + bytes(value for x in range(size) for value in (x % 256, y % 256, 96)) for y in range(size))
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


if __name__ == "__main__":
    sys.exit(main())
