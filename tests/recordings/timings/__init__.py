"""Recordings of the same workflows run again and again on a real ComfyUI 0.3.75, for estimates learned from them.

`index.json` has one entry for each, in the order in which they were made: `name`, `series` (what one user ran one after
the other; a memory of durations belongs to one), `group` and `server` (which process of the server: a new number is a
restart). Groups: `first` (cold, nothing is known), `repeat` (the second run, warm), `warm` (the later ones: other seed,
other text), `similar` (other steps or another size), `cold again` (the same behind a restart). `make.py` made them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from comfyreport.recording.player import Recording, read_recording

HERE = Path(__file__).resolve().parent
INDEX = HERE / "index.json"
GROUPS = ("first", "repeat", "warm", "similar", "cold again")


class Entry(NamedTuple):
    """One recording: `server` counts the server's processes in its series."""

    name: str
    series: str
    group: str
    server: int

    def load(self) -> Recording:
        """The recording itself."""
        return read_recording(HERE / f"{self.name}.jsonl.gz")


def entries() -> list[Entry]:
    """All of them, in their order."""
    return [Entry(**entry) for entry in json.loads(INDEX.read_text(encoding="utf-8"))]
