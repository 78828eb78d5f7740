"""The reporters for other programs, as the installed command runs them: all at once, replayed, and in bad places."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.e2e.driver import Driver, Ended
from tests.e2e.installation import ROOT
from tests.plugins.trace_format import TraceFile

pytestmark = pytest.mark.e2e

WORKFLOW = ROOT / "workflows" / "sd15-txt2img.json"
QUICK = {"COMFYREPORT_SIM_SPEED": "50"}
SECRET = "a-secret-for-signatures"
DEAD = "http://user:pass@127.0.0.1:9/t0ken"
Received = tuple[str, list[bytes]]


def run(driver: Driver, *reporters: str, **variables: str) -> Ended:
    """Run a workflow that saves a picture; with these reporters."""
    words = [word for spec in reporters for word in ("--reporter", spec)]
    return driver.run(
        "--workflow", WORKFLOW, "--server", "sim", "--output", "out.png", *words, env={**QUICK, **variables}
    )


def exports(receiver: str) -> tuple[str, ...]:
    return ("github", "trace=run.json", "junit=reports/run.xml", f"webhook={receiver}")


def check(folder: Path, received: Received, status: str) -> None:
    """The files, and what was received: all of them tell of a run with that status."""
    assert TraceFile((folder / "run.json").read_text(encoding="utf-8")).names("run") == [status]
    root = ET.parse(folder / "reports" / "run.xml").getroot()
    assert (root.get("failures"), root.get("errors")) == (("0", "0") if status == "success" else ("2", "0"))
    assert f"ComfyUI run: {status} in " in (folder / "summary.md").read_text(encoding="utf-8")
    assert json.loads(received[1][-1])["status"] == status


def test_all_at_once(driver: Driver, received: Received) -> None:
    summary = str(driver.folder / "summary.md")
    ended = run(driver, *exports(received[0]), GITHUB_STEP_SUMMARY=summary)
    assert (ended.code, ended.out) == (0, "out.png\n")
    assert ended.events[-1]["reporter_failures"] == []
    lines = ended.err.splitlines()
    assert lines[-1].startswith("[OK] Generation complete")
    assert "::endgroup::" in lines
    check(driver.folder, received, "success")
    assert json.loads(received[1][-1]) == ended.result
    assert "<code>out.png</code>" in Path(summary).read_text(encoding="utf-8")


def test_beside_the_console(driver: Driver) -> None:
    words = ("--reporter", "+github=-", "--reporter", "+trace=run.json")
    ended = driver.run("--workflow", WORKFLOW, "--server", "sim", *words, env=QUICK, stream=False)
    assert ended.code == 0
    assert "[OK] Generation complete" in ended.err
    assert "::group::" in ended.out


def test_a_replay(driver: Driver, received: Received) -> None:
    words = [word for spec in exports(received[0]) for word in ("--reporter", spec)]
    summary = {"GITHUB_STEP_SUMMARY": str(driver.folder / "summary.md")}
    ended = driver.run("replay", "node-error", "--speed", "0", *words, env=summary)
    assert ended.code == 1
    assert "::error title=ComfyUI workflow%3A ProbeRaise::" in ended.err
    check(driver.folder, received, "error")


@pytest.mark.parametrize("spec", ["trace=there", "junit=there"])
def test_a_place_that_cant_be_written(driver: Driver, spec: str) -> None:
    (driver.folder / "there").mkdir()
    ended = run(driver, spec)
    assert ended.code == 2
    assert "there: Is a directory" in ended.err
    assert not (driver.folder / "out.png").exists()


def test_a_summary_that_cant_be_written(driver: Driver) -> None:
    ended = run(driver, "github", GITHUB_STEP_SUMMARY=str(driver.folder))
    assert ended.code == 2
    assert ended.err.count("github can't write the step summary") == 1


@pytest.mark.parametrize("spec", ["trace=/dev/full", "junit=/dev/full", "github"])
def test_a_full_disk(driver: Driver, spec: str) -> None:
    ended = run(driver, spec, GITHUB_STEP_SUMMARY="/dev/full" if spec == "github" else "")
    assert (ended.code, ended.result["exit_code"], ended.out) == (5, 0, "out.png\n")
    assert ended.err.count("No space left on device") == 1
    assert len(ended.events[-1]["reporter_failures"]) == 1


@pytest.mark.parametrize("events", ["run_finished", "run_started,run_finished"])
def test_a_receiver_that_isnt_there(driver: Driver, events: str) -> None:
    ended = run(driver, f"webhook={DEAD},retries=1,events={events}", COMFYREPORT_WEBHOOK_SECRET=SECRET)
    assert (ended.code, ended.result["exit_code"], ended.out) == (5, 0, "out.png\n")
    (line,) = (line for line in ended.err.splitlines() if "webhook" in line)
    assert "http://127.0.0.1:9: " in line
    assert "couldn't be sent: it can't be reached" in line
    told = ended.err + json.dumps(ended.events)
    assert not any(each in told for each in ("user", "pass@", "t0ken", SECRET))


def test_secrets_of_the_run_arent_sent(driver: Driver, received: Received) -> None:
    token = "a-token-of-the-server"
    ended = run(driver, f"webhook={received[0]},events=all", COMFYREPORT_TOKEN=token)
    assert ended.code == 0
    told = [json.loads(body)["seq"] for body in received[1]]
    assert {event["seq"] for event in ended.events if event["type"] != "node_progress"} <= {*told}
    assert not any(token.encode() in body for body in received[1])


def test_a_missing_package_is_told_with_its_extra(driver: Driver) -> None:
    ended = run(driver, "junit=run.xml", **driver.without("junitparser"))
    assert ended.code == 2
    assert 'pip install "comfyreport[junit]"' in ended.err
    assert not (driver.folder / "out.png").exists()
