"""The report for the browser, from the installed command: beside other reporters, in a replay, where it fails."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.e2e.driver import Driver
from tests.e2e.installation import ROOT

pytestmark = pytest.mark.e2e

WORKFLOW = ROOT / "workflows" / "sd15-txt2img.json"
RUN = ("--workflow", WORKFLOW, "--server", "sim", "--output", "made here/")
FAST = {"COMFYREPORT_SIM_SPEED": "20"}


def page(driver: Driver, name: str = "report.html") -> str:
    return (driver.folder / name).read_text(encoding="utf-8")


def test_a_run_beside_other_reporters_and_its_replay(driver: Driver) -> None:
    words = ("--prompt", "<b>red</b> fox", "--set", "3.cfg=6.5", "--record", "run.recording", "--reporter", "quiet")
    ended = driver.run(*RUN, *words, "--reporter", "html=new/report.html", "--reporter", "filelog=run.log", env=FAST)
    assert (ended.code, ended.err) == (0, "")
    told = page(driver, "new/report.html")
    (link,) = re.findall(r'<a href="(\.\./made[^"]*)">[^<]', told)
    assert link.startswith("../made%20here/")
    assert (driver.folder / "made here" / Path(link).name).is_file()
    assert told.count("data:image/webp;base64,") >= 3
    assert "&lt;b&gt;red&lt;/b&gt; fox" in told
    assert ended.result["workflow"] == str(WORKFLOW)
    assert f"{WORKFLOW.name}, " in told
    inputs = {each["name"]: each["value"] for each in ended.result["inputs"]}
    assert inputs == {"text": "<b>red</b> fox", "cfg": 6.5}
    again = driver.run("replay", "run.recording", "--speed", "0", "--reporter", "html=again.html")
    assert again.code == 0
    assert page(driver, "again.html").count("<tr id=") == told.count("<tr id=")


def test_nothing_was_submitted(driver: Driver) -> None:
    ended = driver.run("--workflow", "nowhere.json", "--reporter", "html=report.html")
    assert ended.code == 2
    assert "nowhere.json" in page(driver)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_told_once(driver: Driver) -> None:
    ended = driver.run(*RUN, "--reporter", "quiet", "--reporter", "html=/dev/full", env=FAST)
    assert ended.code == 5
    (line,) = ended.err.splitlines()
    assert line.startswith("comfyreport: reporter html (comfyreport ")
    assert "No space left on device" in line
    assert ended.result["status"] == "success"
    assert len(ended.events[-1]["reporter_failures"]) == 1


def test_a_file_that_can_not_be_written(driver: Driver) -> None:
    ended = driver.run(*RUN, "--reporter", "html=/dev/null/report.html")
    assert ended.code == 2
    assert "reporter html can't write to" in ended.err


def test_a_missing_extra_is_named(driver: Driver) -> None:
    ended = driver.run(*RUN, "--reporter", "html=report.html", env=driver.without("jinja2"))
    assert ended.code == 2
    assert "reporter html needs a package that isn't installed (jinja2)" in ended.err
    assert 'pip install "comfyreport[html]"' in ended.err
    assert not (driver.folder / "report.html").exists()
