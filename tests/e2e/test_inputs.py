"""Workflows as users have them: on stdin, as a whole body, as the editor's script gives them, without the flag."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from comfyreport.simulator import Simulator
from tests.e2e.driver import Driver
from tests.e2e.installation import ROOT

pytestmark = pytest.mark.e2e

WORKFLOW = ROOT / "workflows" / "sd15-txt2img.json"
GRAPH = json.loads(WORKFLOW.read_text(encoding="utf-8"))


@pytest.fixture
def simulated(driver: Driver) -> Iterator[Driver]:
    with Simulator(speed=50) as simulator:
        driver.server = simulator.url
        yield driver


def submitted(driver: Driver) -> tuple[Any, Any]:
    """The workflow and the extra data of the one prompt that the server took."""
    with requests.Session() as session:
        session.trust_env = False
        (entry,) = session.get(f"{driver.server}/history", timeout=10).json().values()
    return entry["prompt"][2], entry["prompt"][3]


def test_stdin(simulated: Driver) -> None:
    with WORKFLOW.open("rb") as stdin:
        ended = simulated.run("--workflow", "-", stdin=stdin)
    assert ended.code == 0, ended.err
    assert list(submitted(simulated)[0]) == list(GRAPH)


def test_nothing_on_stdin(simulated: Driver) -> None:
    ended = simulated.run("--workflow", "-")
    assert ended.code == 2
    assert ended.result["error"]["message"] == "stdin is empty"


def test_a_whole_body(simulated: Driver) -> None:
    body = {"client_id": "abc", "prompt": GRAPH, "extra_data": {"a": {"b": [1]}, "api_key": "file-key-123"}, "x": 1}
    ended = simulated.follow(body, "--extra-data", "api_key=flag-key-123")
    assert ended.code == 0, ended.err
    extra = submitted(simulated)[1]
    assert (extra["a"], extra["api_key"]) == ({"b": [1]}, "flag-key-123")
    assert extra["client_id"] == ended.of("run_queued")[0]["client_id"] != "abc"
    (warning,) = [event for event in ended.of("warning") if event["code"] == "not_submitted"]
    assert warning["message"].endswith(": x")


def test_what_the_editor_gives(simulated: Driver) -> None:
    editor = {"nodes": [], "links": [], "version": 0.4}
    ended = simulated.follow({"workflow": editor, "output": GRAPH})
    assert ended.code == 0, ended.err
    assert submitted(simulated)[1]["extra_pnginfo"] == {"workflow": editor}
    assert ended.of("warning") == []


@pytest.mark.parametrize("words", [["w.json"], ["run", "w.json"], ["--output", "x/", "w.json"], ["W.JSON"], ["w"]])
def test_a_workflow_without_its_flag(simulated: Driver, words: list[str]) -> None:
    simulated.path("w", GRAPH)
    ended = simulated.run(*words, stream=False)
    assert ended.code == 2
    assert "--workflow is missing" in ended.err


def test_a_second_file_is_no_missing_flag(simulated: Driver) -> None:
    ended = simulated.run("--workflow", WORKFLOW, "w.json", stream=False)
    assert ended.code == 2
    assert "is missing" not in ended.err
