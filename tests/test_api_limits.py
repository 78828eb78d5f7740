"""The limit for a run's estimate from Python, against a simulated server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import requests

from comfyreport import RunFinished, run_generation, wait_for_completion
from comfyreport.estimates.estimator import Estimate
from comfyreport.recording.player import Player, read_recording
from comfyreport.run.nodes import Nodes
from comfyreport.simulator import Simulator
from comfyreport.timing import Timing

pytestmark = pytest.mark.slow

WORKFLOW = Path(__file__).parents[1] / "workflows" / "sd15-txt2img.json"
TIMING = replace(Timing(), eta_look=0.1)
LIMIT = 60.0


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def server() -> Iterator[str]:
    """A server whose runs take seconds."""
    with Simulator(speed=1) as simulator:
        yield simulator.url


@pytest.fixture(autouse=True)
def learning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let runs learn, for the limit rests on it."""
    monkeypatch.delenv("COMFYREPORT_NO_LEARN")
    monkeypatch.setenv("COMFYREPORT_CACHE", str(tmp_path / "cache"))


def estimate(monkeypatch: pytest.MonkeyPatch, basis: Literal["history", "similar"]) -> None:
    """Let each run be estimated to take long, on that basis."""
    monkeypatch.setattr(Nodes, "estimate", lambda nodes, at: Estimate(100.0, 90.0, 110.0, basis))


def check(result: RunFinished, basis: str) -> None:
    assert (result.status, result.exit_code, result.prompt_state) == ("timeout", 7, "cancelled")
    assert result.error is not None
    assert "the 5 s of --max-eta" in result.error.message
    assert f"basis: {basis}" in result.error.message


def test_a_run_and_its_recording(
    server: str, http: requests.Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    estimate(monkeypatch, "history")
    record = tmp_path / "run.rec"
    result = run_generation(WORKFLOW, server=server, reporters=[], max_eta=5.0, timing=TIMING, record=record)
    check(result, "history")
    assert http.get(f"{server}/queue", timeout=LIMIT).json() == {"queue_running": [], "queue_pending": []}
    played = list(Player(read_recording(record)).events())[-1]
    assert isinstance(played, RunFinished)
    assert (played.status, played.prompt_state, played.error) == (result.status, result.prompt_state, result.error)


def test_an_attach(server: str, http: requests.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    estimate(monkeypatch, "similar")
    body = {"prompt": json.loads(WORKFLOW.read_text(encoding="utf-8")), "client_id": "me"}
    prompt_id = http.post(f"{server}/prompt", json=body, timeout=LIMIT).json()["prompt_id"]
    check(wait_for_completion(prompt_id, server=server, reporters=[], max_eta=5.0, timing=TIMING), "similar")
