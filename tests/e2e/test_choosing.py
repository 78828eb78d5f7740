"""Choosing reporters: added to the default, from the environment with paths as a shell quotes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.driver import Driver, Ended
from tests.e2e.installation import ROOT

pytestmark = pytest.mark.e2e

WORKFLOW = ROOT / "workflows" / "sd15-txt2img.json"


def run(driver: Driver, *words: str, reporters: str = "") -> Ended:
    env = {"COMFYREPORT_SIM_SPEED": "50", "COMFYREPORT_REPORTER": reporters}
    return driver.run("--workflow", WORKFLOW, "--server", "sim", *words, env=env, stream=False)


def started(path: Path) -> list[str]:
    """The names of the reporters, as the stream in a file has them."""
    names: list[str] = json.loads(path.read_text(encoding="utf-8").splitlines()[0])["reporters"]
    return names


def test_one_is_added_to_the_console(driver: Driver) -> None:
    ended = run(driver, "--reporter", "+jsonl=a.jsonl")
    assert ended.code == 0
    assert "[OK] Generation complete" in ended.err
    assert started(driver.folder / "a.jsonl") == ["console", "jsonl"]


def test_one_is_added_to_those_of_the_environment(driver: Driver) -> None:
    ended = run(driver, "--reporter", "+jsonl=a.jsonl", reporters="'filelog=two words.log' quiet")
    assert (ended.code, ended.err) == (0, "")
    assert (driver.folder / "two words.log").exists()
    assert started(driver.folder / "a.jsonl") == ["filelog", "quiet", "jsonl"]


def test_the_environment_adds_to_the_console(driver: Driver) -> None:
    ended = run(driver, reporters='"+jsonl=b c.jsonl"')
    assert ended.code == 0
    assert started(driver.folder / "b c.jsonl") == ["console", "jsonl"]


def test_an_environment_with_half_a_quote_is_a_usage_error(driver: Driver) -> None:
    ended = run(driver, reporters="'jsonl=a.jsonl")
    assert ended.code == 2
    assert "COMFYREPORT_REPORTER" in ended.err
    assert "Traceback" not in ended.err
