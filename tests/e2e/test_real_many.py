"""Many runs on a real ComfyUI: a grid that is killed and continued has each of its runs once."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from tests.e2e.driver import Driver
from tests.e2e.many import manifest
from tests.e2e.raw_client import RawClient, txt2img

pytestmark = [pytest.mark.real, pytest.mark.e2e]


def history(raw: RawClient) -> dict[str, Any]:
    """All that the server has done."""
    found: dict[str, Any] = raw.get("/history?max_items=100000").json()
    return found


def test_a_grid_that_is_killed_twice_has_each_run_once(real: Driver, raw: RawClient) -> None:
    seed = time.time_ns() % 10**9
    workflow = real.path("grid.json", txt2img(size=64, steps=4, seed=1))
    words = ["--workflow", str(workflow), "--grid", f"seed={seed}..{seed + 11}", "--grid", "KSampler.cfg=5,7"]
    words += ["--state", "state.db", "--manifest", "made.jsonl", "--output", "made/{run:02}.{ext}"]
    before = set(history(raw))
    for ends in (3, 9):
        running = real.start(*words)
        deadline = time.monotonic() + 90
        while running.text("events.jsonl").count('"type":"run_finished"') < ends:
            assert time.monotonic() < deadline
            assert running.process.poll() is None, running.text("err")
            time.sleep(0.01)
        running.signal(signal.SIGKILL)
        running.process.wait()
    ended = real.run(*words)
    assert ended.code == 0, ended.err
    lines = manifest(real.folder / "made.jsonl")
    assert sorted(line["index"] for line in lines) == list(range(1, 25))
    assert {line["status"] for line in lines} == {"success"}
    made = {prompt_id: entry for prompt_id, entry in history(raw).items() if prompt_id not in before}
    assert {line["prompt_id"] for line in lines} == set(made)
    assert sorted(path.stem for path in (real.folder / "made").iterdir()) == [f"{number:02}" for number in range(1, 25)]
