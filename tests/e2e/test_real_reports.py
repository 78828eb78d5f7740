"""All reporters at once on a real ComfyUI: each has what it is for, and what they cost is printed.

`pytest -s tests/e2e/test_real_reports.py` prints the seconds of runs with and without them, in turns. A machine that
does something else beside has others.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.conftest import ComfyUIFactory
from tests.e2e.driver import Driver, Ended
from tests.e2e.raw_client import txt2img
from tests.plugins.collector import Collector, collecting
from tests.plugins.trace_format import TraceFile

pytestmark = [pytest.mark.real, pytest.mark.e2e]

PAIRS = 2
MOST = 1.5
"""Times as long as without reporters: far more than they cost, for the machine may do anything beside."""
FILES = {
    "console": "run.txt",
    "github": "github.txt",
    "filelog": "run.log",
    "html": "report.html",
    "trace": "run.json",
    "junit": "run.xml",
}


def run(driver: Driver, number: int, *reporters: str, **env: str) -> Ended:
    """Make a picture that no run before it has made a part of."""
    graph = txt2img(size=128, steps=12, seed=900 + number, text=f"a harbour, {number}")
    words = [word for spec in reporters for word in ("--reporter", spec)]
    ended = driver.follow(graph, "--output", f"out-{number}.png", *words, env=env)
    assert ended.code == 0, ended.err
    return ended


def check(folder: Path, ended: Ended, collector: Collector, bodies: list[bytes]) -> None:
    """Each reporter's work on the last run."""
    result = ended.result
    assert "[OK] Generation complete" in (folder / "run.txt").read_text(encoding="utf-8")
    assert "::endgroup::" in (folder / "github.txt").read_text(encoding="utf-8")
    assert result["prompt_id"] in (folder / "run.log").read_text(encoding="utf-8")
    assert "data:image/webp;base64," in (folder / "report.html").read_text(encoding="utf-8")
    assert TraceFile((folder / "run.json").read_text(encoding="utf-8")).names("run") == ["success"]
    suite = ET.parse(folder / "run.xml").getroot()
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")
    assert json.loads(bodies[-1]) == result
    # Those of a run that takes long come in several parts.
    sent = [span for trace in collector.traces for span in trace.resource_spans[0].scope_spans[0].spans]
    spans = [span for span in sent if span.trace_id == sent[-1].trace_id]
    assert len(spans) == 1 + len(result["executed"]) + len(result["cached"])
    with Image.open(folder / "run.webp") as animation:
        assert animation.n_frames > 3  # type: ignore[attr-defined]
    assert any((folder / "previews").iterdir())


def test_all_at_once(
    driver: Driver,
    comfyui_factory: ComfyUIFactory,
    received: tuple[str, list[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Threads that wait for each other are the slower the less of the machine is free.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    driver.server = comfyui_factory(checkpoint=True).url
    url, bodies = received
    without, together = [], []
    # The first run loads the model.
    run(driver, 0)
    with collecting() as collector:
        specs = [f"{name}={path}" for name, path in FILES.items()]
        specs += ["preview=previews", "preview=run.webp", f"webhook={url}", f"otel={collector.url}"]
        for number in range(1, 1 + PAIRS):
            without.append(run(driver, 2 * number, "quiet").result["seconds"])
            ended = run(driver, 2 * number + 1, *specs)
            together.append(ended.result["seconds"])
            assert ended.events[-1]["reporter_failures"] == []
    # Whatever else the machine does makes a run slower, never faster.
    ratio = min(together) / min(without)
    print(f"\nseconds without reporters {without}, with all of them {together}, ratio of the fastest {ratio:.3f}")
    check(driver.folder, ended, collector, bodies)
    assert ratio < MOST
