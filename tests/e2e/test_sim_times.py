"""What each node took, and how long the run still takes, as the installed command tells it: on pipes and terminals."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from comfyreport.simulator import Simulator
from tests.e2e.driver import Driver, Ended, Event
from tests.e2e.installation import ROOT
from tests.e2e.terminals import Start

pytestmark = pytest.mark.e2e

WORKFLOW = ROOT / "workflows" / "sd15-txt2img.json"
TWO_PASSES = ROOT / "workflows" / "hires-fix.json"
# With the simulator four times as fast, over two seconds of sampling: what is shorter has no table.
LONG = ("--steps", "60")
ROW = re.compile(r"  +(\d+\.\ds) +(\d+)%(?:  +(\d+\.\d (?:it/s|s/it)))?$")


@pytest.fixture
def simulated(driver: Driver) -> Iterator[Driver]:
    """The driver of a simulated server that keeps its cache between two commands."""
    with Simulator(speed=4) as simulator:
        driver.server = simulator.url
        yield driver


def table(lines: list[str], lead: str) -> list[str]:
    """The table of the slowest nodes without its lead."""
    first = next(number for number, line in enumerate(lines) if line.startswith(lead))
    rows = [lines[first].removeprefix(lead)]
    for line in lines[first + 1 :]:
        if not line.startswith(" " * len(lead)):
            break
        rows.append(line[len(lead) :])
    return rows


def times(ended: Ended) -> dict[str, Event]:
    """What `run_finished` tells of each node, by id."""
    found = {each["node_id"]: each for each in ended.result["node_times"]}
    assert len(found) == len(ended.result["node_times"])
    return found


def test_the_table_on_a_pipe_is_what_the_stream_tells(simulated: Driver) -> None:
    ended = simulated.run("--workflow", WORKFLOW, *LONG, "--output", "out.png", "--reporter", "console")
    assert ended.code == 0, ended.err
    *_, last = lines = ended.err.splitlines()
    assert last.startswith("[OK] Generation complete in "), "the verdict stays the last line"
    rows = table(lines, "[INFO] Slowest: ")
    assert rows[0].startswith("KSampler ")
    sampler = times(ended)["3"]
    told = ROW.search(rows[0])
    assert told, rows
    assert told.groups() == (
        f"{sampler['seconds']:.1f}s",
        f"{100 * sampler['share']:.0f}",
        f"{sampler['steps_per_second']:.1f} it/s",
    )
    assert len(rows) <= 5
    assert sum(each["share"] for each in times(ended).values()) == pytest.approx(1, abs=0.01)
    assert "\x1b" not in ended.err


def test_each_node_of_two_samplers(simulated: Driver) -> None:
    ended = simulated.run("--workflow", TWO_PASSES, "--output", "out.png", "--reporter", "filelog=run.log")
    assert ended.code == 0, ended.err
    found = times(ended)
    assert list(found) == ended.result["executed"]
    assert {key: each["seconds"] for key, each in found.items()} == ended.result["node_seconds"]
    assert {key for key, each in found.items() if "steps_per_second" in each} == {"3", "11"}
    for event in ended.of("node_progress"):
        last = event
    assert found["11"]["steps_per_second"] == last["steps_per_second"]
    log = (simulated.folder / "run.log").read_text(encoding="utf-8").splitlines()
    taken = [line.split("Time: ")[1] for line in log if " Time: " in line]
    assert len(taken) == len(found)
    assert sum("it/s" in line for line in taken) == 2
    assert " Generation complete in " in log[-2]


def test_cached_nodes_are_told_as_such(simulated: Driver) -> None:
    words = ("--workflow", WORKFLOW, "--output", "out.png", "--seed", "keep")
    assert simulated.run(*words).code == 0
    ended = simulated.run(*words, "--prompt", "another", "--overwrite", "--reporter", "filelog=second.log")
    assert ended.code == 0, ended.err
    cached = {key for key, each in times(ended).items() if each["cached"]}
    assert cached == set(ended.result["cached"]) != set()
    assert all(times(ended)[key]["seconds"] == times(ended)[key]["share"] == 0 for key in cached)
    log = (simulated.folder / "second.log").read_text(encoding="utf-8").splitlines()
    assert sum(line.endswith(": cached") for line in log) == len(cached)


def test_a_replay_tells_the_same_times(simulated: Driver) -> None:
    recorded = simulated.run("--workflow", WORKFLOW, *LONG, "--record", "run.rec", "--reporter", "console")
    assert recorded.code == 0, recorded.err
    played = simulated.run("replay", "run.rec", "--speed", "1000", "--reporter", "console")
    assert played.code == 0, played.err
    before = table(recorded.err.splitlines(), "[INFO] Slowest: ")
    after = table(played.err.splitlines(), "[INFO] Slowest: ")
    assert [row.split("  ")[0] for row in after] == [row.split("  ")[0] for row in before]
    assert times(played)["3"]["seconds"] == pytest.approx(times(recorded)["3"]["seconds"], abs=0.2)


def test_a_run_that_was_stopped_tells_what_took_long_until_then(simulated: Driver) -> None:
    words = ("--workflow", WORKFLOW, "--steps", "400", "--reporter", "console", "--reporter", "quiet=failures.txt")
    running = simulated.start(*words)
    running.wait_for(lambda event: event["elapsed"] > 3 and event["type"] == "node_progress", "three seconds")
    running.signal()
    ended = running.end()
    assert ended.code == 130
    assert table(ended.err.splitlines(), "[INFO] Slowest: ")[0].startswith("KSampler ")
    assert times(ended)["3"]["seconds"] > 2
    assert "Slowest" not in (simulated.folder / "failures.txt").read_text(encoding="utf-8")


def test_summaries_for_language_models_have_no_times(simulated: Driver) -> None:
    ended = simulated.run("--workflow", WORKFLOW, "--reporter", "jsonl,detail=summary")
    (end,) = (event for event in map(json.loads, ended.out.splitlines()) if event["type"] == "run_finished")
    assert "node_times" not in end
    assert "node_times" in ended.result


def test_the_table_and_the_countdown_on_a_terminal(start: Start) -> None:
    screen = start(*LONG, "--output", "out.png", columns=100)
    seen: list[str] = []
    screen.watch = lambda: seen.extend(line for line in screen.lines if " left" in line)
    assert screen.end() == 0
    rows = table(screen.lines, "  Slowest: ")
    assert rows[0].startswith("KSampler ")
    assert ROW.search(rows[0]), rows
    words = re.compile(r"[█░]{10,30} +\d{1,2}%, (about \d+s|up to \d+s|\d+s to \d+s) left \(\d/7 nodes\) ")
    assert seen, "the run's time left was drawn"
    assert [line for line in seen if not words.match(line)] == []
