"""Every recording through every reporter, compared with `tests/golden/RECORDING.REPORTER.txt`.

`COMFYREPORT_UPDATE_GOLDEN=1 python -m pytest tests/plugins/test_golden.py` writes those files anew: read the
difference as a user would before it is kept. A recording of several prompts is played for the first of them.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest
from comfyreport_console import console
from comfyreport_filelog import filelog
from comfyreport_jsonl import jsonl
from comfyreport_quiet import quiet

from comfyreport import __version__
from comfyreport.events.schema import json_schema
from comfyreport.recording.player import Recording, read_recording
from comfyreport.testing import play
from comfyreport.text import cell_width
from tests import recordings
from tests.plugins.terminal import Terminal

GOLDEN = Path(__file__).parent.parent / "golden"
UPDATE = "COMFYREPORT_UPDATE_GOLDEN"
WIDTHS = (60, 80, 120)
DRAWS = 4
"""So many moments of each terminal are kept, evenly spread over the draws, and its end."""


@functools.cache
def recorded(name: str) -> Recording:
    (path,) = (path for path in recordings.HERE.glob(f"{name}.jsonl*"))
    return read_recording(path)


def on_terminals(recording: Recording) -> str:
    return "\n".join(line for width in WIDTHS for line in on_terminal(recording, width)) + "\n"


def on_terminal(recording: Recording, width: int) -> Iterator[str]:
    """A terminal of *width* columns at some moments: the last lines of its screen, and all of it at the end."""
    out = Terminal(width)
    play(console(out), recording)
    draws = list(out.writes)
    moments = sorted({round(len(draws) * part / (DRAWS + 1)) for part in range(1, DRAWS + 1)} - {0, len(draws)})
    for moment in [*moments, len(draws)]:
        out.writes = draws[:moment]
        screen = out.screen
        assert all(cell_width(line) < width for line in screen if not line.startswith(("[", "  ")))
        last = moment == len(draws)
        yield f"== {width} columns, " + ("at the end" if last else f"after draw {moment} of {len(draws)}")
        yield from screen if last else screen[-4:]


REPORTERS: dict[str, Callable[[Recording], str]] = {
    "console": lambda recording: play(console, recording),
    "console-all": lambda recording: play(console, recording, nodes="all"),
    "console-tty": on_terminals,
    "quiet": lambda recording: play(quiet, recording),
    "jsonl-summary": lambda recording: play(jsonl, recording, detail="summary"),
    "jsonl-nodes": lambda recording: play(jsonl, recording, detail="nodes"),
    "jsonl": lambda recording: play(jsonl, recording, rate=0),
    "filelog": lambda recording: play(filelog, recording),
}


@pytest.fixture
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not hasattr(time, "tzset"):
        if time.timezone:
            pytest.skip("not on Windows: another time zone than the machine's")
        yield
        return
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_utc")
@pytest.mark.parametrize("reporter", REPORTERS)
@pytest.mark.parametrize("name", recordings.names())
def test_golden(name: str, reporter: str) -> None:
    text = REPORTERS[reporter](recorded(name)).replace(__version__, "VERSION")
    path = GOLDEN / f"{name}.{reporter}.txt"
    if os.environ.get(UPDATE) == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    assert path.exists(), f"there is no {path.name} yet: {UPDATE}=1 writes it"
    assert text == path.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    wanted = {f"{name}.{reporter}.txt" for name in recordings.names() for reporter in REPORTERS}
    assert {path.name for path in GOLDEN.glob("*.txt")} == wanted


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.jsonl*.txt")), ids=lambda path: path.name)
def test_json_lines_are_valid(path: Path) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        validator.validate(line)
    assert [line["type"] for line in lines[:1] + lines[-2:]] == ["stream_started", "run_finished", "stream_finished"]
    assert all(later["seq"] > earlier["seq"] for earlier, later in itertools.pairwise(lines))
