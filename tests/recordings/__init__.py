"""Recorded traffic of real ComfyUI servers (0.3.64): one JSON object a line, in the order one client saw it.

`t` seconds, `dir` `out` (client to server) or `in`, `kind` one of `http`, `ws-open`, `ws-text`, `ws-binary`,
`ws-close`, `ws-error`, `http-error`, `note`; `sock` names the socket. `workflows/NAME.json` is what was
submitted: a workflow, or a dict of them where the recording has several prompts. The pictures are
replaced by tiny ones: see `shrink.py`.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def names() -> list[str]:
    """The recordings that there are, sorted."""
    return sorted(path.name.split(".jsonl")[0] for path in HERE.glob("*.jsonl*"))


def load(name: str) -> list[dict[str, Any]]:
    """All records of one recording."""
    packed = HERE / f"{name}.jsonl.gz"
    data = gzip.decompress(packed.read_bytes()) if packed.exists() else (HERE / f"{name}.jsonl").read_bytes()
    return [json.loads(line) for line in data.decode().splitlines()]


def workflow(name: str) -> dict[str, Any]:
    """What was submitted in one recording."""
    submitted: dict[str, Any] = json.loads((HERE / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    return submitted
