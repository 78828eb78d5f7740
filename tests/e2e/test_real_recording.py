"""`--record` on a real ComfyUI, and `replay` of what was recorded: the same events, the same exit code."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.e2e.driver import Driver, Event
from tests.e2e.raw_client import Graph, chain, counting, node, txt2img

pytestmark = [pytest.mark.real, pytest.mark.e2e]

# They hold what was learned, which a replay has nothing of.
ESTIMATES = (
    "eta_seconds", "run_eta_seconds", "run_eta_low", "run_eta_high", "eta_basis", "steps_per_second", "fraction",
    "node_times", "usual_seconds",
)  # fmt: skip
# And a replay has no workflow's file.
TIMES = ("workflow", "elapsed", "node_seconds", "queue_seconds", "seconds", "seq", "time", *ESTIMATES)
NOT_PLAYED = ("heartbeat", "stream_started")

GRAPHS: dict[str, tuple[Graph, int]] = {
    "success": (txt2img(steps=3, seed=301), 0),
    "expansion": (chain(node("ReportExpand", inner="progress", steps=2, seconds=0.02)), 0),
    "error": (chain(counting(2), node("ReportRaise", message="recorded", steps=1, seconds=0.0)), 1),
    "rejected": (chain(node("NodeOfSomebodyElse")), 4),
    "blocked": (chain(node("ReportBlock", verbose=True, message="recorded")), 8),
}


def timeless(event: Any) -> Any:
    """An event, or a part of one, without what depends on the time at which it was told."""
    if isinstance(event, dict):
        return {key: timeless(value) for key, value in event.items() if key not in TIMES}
    return [timeless(item) for item in event] if isinstance(event, list) else event


def told(events: list[Event]) -> list[Event]:
    return [timeless(event) for event in events if event["type"] not in NOT_PLAYED]


@pytest.mark.parametrize("name", GRAPHS)
def test_a_replay_tells_the_same(real: Driver, name: str) -> None:
    graph, code = GRAPHS[name]
    output = real.folder / "out.png"
    recorded = real.follow(graph, "--record", "run.rec", "--output", output)
    assert recorded.code == code, recorded.err
    output.unlink(missing_ok=True)
    replayed = real.run("replay", "run.rec", "--speed", "0")
    assert replayed.code == code
    assert told(replayed.events) == told(recorded.events)
    assert replayed.events[0]["command"] == "replay"
    assert replayed.events[0]["server"] == real.server
    assert not output.exists()


def test_a_recording_in_the_console(real: Driver) -> None:
    steps = chain(counting(3, seconds=0.05))
    recorded = real.follow(steps, "--record", "run.rec", "--reporter", "console")
    replayed = real.run("replay", "run.rec", "--speed", "0", "--reporter", "console")
    assert recorded.code == replayed.code == 0
    assert [line for line in replayed.err.splitlines() if " in " not in line and "ETA" not in line] == [
        line for line in recorded.err.splitlines() if " in " not in line and "ETA" not in line
    ]
    assert "[PROGRESS] ReportSteps: 3/3 steps (100%) - ETA: 0s" in replayed.err


def test_a_cancelled_run(real: Driver) -> None:
    running = real.begin(chain(counting(600, seconds=0.1)), "--record", "run.rec")
    running.wait_for_type("node_progress")
    running.signal()
    recorded = running.end()
    assert recorded.code == 130
    replayed = real.run("replay", "run.rec", "--speed", "0")
    assert replayed.code == 130
    assert told(replayed.events) == told(recorded.events)


def test_what_is_in_a_recording(real: Driver) -> None:
    recorded = real.follow(chain(counting(2, previews=True)), "--record", "deep/er/run.rec")
    assert recorded.code == 0
    path = real.folder / "deep" / "er" / "run.rec"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert records[0]["kind"] == "header"
    assert {record["kind"] for record in records} >= {"http", "ws-open", "ws-text", "ws-binary", "note"}
    times = [record["t"] for record in records[1:]]
    assert times == sorted(times)
    assert [record["status"] for record in records if record.get("note") == "end"] == ["success"]
    packed = real.path("run.rec.gz", gzip.compress(path.read_bytes()))
    assert told(real.run("replay", packed, "--speed", "0").events) == told(recorded.events)


def test_a_recording_that_was_cut_off(real: Driver) -> None:
    real.follow(txt2img(steps=3, seed=302), "--record", "run.rec")
    whole = (real.folder / "run.rec").read_bytes()
    for part in (0.3, 0.6, 0.9):
        cut = real.path("cut.rec", whole[: int(len(whole) * part)])
        ended = real.run("replay", cut, "--speed", "0")
        assert (ended.code, ended.result["status"]) in ((0, "success"), (6, "lost"))


def test_its_own_pace(real: Driver) -> None:
    recorded = real.follow(chain(counting(5, seconds=0.2)), "--record", "run.rec")
    replayed = real.run("replay", "run.rec", "--speed", "2")
    lasted = recorded.events[-2]["elapsed"]
    # Times in a replay are those of the recording, whatever its speed.
    assert replayed.events[-2]["elapsed"] == pytest.approx(lasted, rel=0.5)
    assert [event["step"] for event in replayed.of("node_progress")] == [1, 2, 3, 4, 5]
