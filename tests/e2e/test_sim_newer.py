"""The installed command on a simulated ComfyUI of 2026: 3D files, outputs, slow bars, previews, failures to try."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from comfyreport.simulator import Simulator
from tests.e2e.comfyui_server import poll
from tests.e2e.driver import LIMIT, Driver
from tests.e2e.installation import ROOT
from tests.e2e.raw_client import RawClient

pytestmark = pytest.mark.e2e

WORKFLOW = ROOT / "workflows" / "sd15-txt2img.json"
FAST = {"COMFYREPORT_SIM_SPEED": "50"}
STRICT = {**FAST, "COMFYREPORT_SIM_STRICT": "1"}


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def image(size: int) -> dict[str, Any]:
    return node("EmptyImage", width=size, height=8, batch_size=1)


def through(class_type: str, **inputs: Any) -> dict[str, Any]:
    """An image, that node, an output."""
    return {
        "1": image(16),
        "2": node(class_type, image=["1", 0], **inputs),
        "3": node("SaveImage", images=["2", 0], filename_prefix="x"),
    }


# --- outputs


@pytest.mark.parametrize(
    ("class_type", "suffix", "start"),
    [
        ("Save3DAdvanced", ".glb", b"glTF"),
        ("SaveGaussianSplat", ".ply", b"ply"),
        ("Preview3DAdvanced", ".glb", b"glTF"),
    ],
)
def test_3d_files_are_saved(driver: Driver, class_type: str, suffix: str, start: bytes) -> None:
    graph = {"1": image(16), "2": node(class_type, model_3d=["1", 0], filename_prefix="3d/cup")}
    ended = driver.follow(
        graph, "--server", "sim", "--output", "made/",
        "--expect-outputs", "1", env=FAST,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    (saved,) = [event["output"] for event in ended.of("output_saved")]
    assert (saved["kind"], Path(saved["path"]).suffix) == ("model", suffix)
    assert (driver.folder / saved["path"]).read_bytes().startswith(start)
    assert ended.out.splitlines() == [saved["path"]]


def test_several_outputs_are_saved_in_the_workflows_order(driver: Driver) -> None:
    """The server is done with the last one first: the others wait for a slower node each."""
    graph = {
        "9": node("SaveImage", images=["8", 0], filename_prefix="first"),
        "8": node("ImageUpscaleWithModel", image=["7", 0]),
        "7": node("ProbeProgress", image=["1", 0], count=3),
        "5": node("SaveImage", images=["7", 0], filename_prefix="second"),
        "1": image(24),
        "2": node("SaveImage", images=["1", 0], filename_prefix="third"),
    }
    ended = driver.follow(graph, "--server", "sim", "--output", "one.png", env=FAST)
    assert ended.code == 0, ended.err
    assert [event["node_id"] for event in ended.of("node_finished") if event["node_id"] in "952"] == ["2", "5", "9"]
    saved = [(event["output"]["node_id"], event["output"]["path"]) for event in ended.of("output_saved")]
    assert saved[0] == ("9", "one.png")
    assert [node_id for node_id, _ in saved] == ["9", "5", "2"]
    assert [output["node_id"] for output in ended.result["outputs"]] == ["9", "5", "2"]


# --- bars


def test_a_bar_of_slow_steps_is_not_stalled(driver: Driver) -> None:
    """Of 2,000 steps each tenth is told, every five seconds; a warning comes after three where nothing explains it."""
    graph = through("ProbeProgress", count=2000, delay=0.5)
    scale = {"COMFYREPORT_TIME_SCALE": "0.1", "COMFYREPORT_SIM_SPEED": "1"}
    running = driver.begin(graph, "--server", "sim", env=scale)
    running.wait_for(lambda event: event.get("step") == 11, "the eleventh step")
    running.signal()
    ended = running.end()
    assert [event["step"] for event in ended.of("node_progress")] == [1, 11]
    assert "stalled" not in [event["code"] for event in ended.of("warning")]
    assert ended.of("node_progress")[1]["steps_per_second"] == pytest.approx(2, rel=0.2)


def test_a_pass_that_was_not_heard_leaves_the_speed_alone(driver: Driver) -> None:
    graph = through("ProbeProgress", mode="restart", count=6, delay=0.2)
    ended = driver.follow(graph, "--server", "sim", env={"COMFYREPORT_SIM_SPEED": "1"})
    steps = [(event["step"], event["pass_number"]) for event in ended.of("node_progress")]
    assert steps == [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (6, 2), (6, 3)]
    assert len({event["steps_per_second"] for event in ended.of("node_progress")[5:]}) == 1


# --- previews

SEES = """
from comfyreport import hookimpl

seen = []

@hookimpl
def comfyreport_node_preview(event, run):
    seen.append(event)

@hookimpl
def comfyreport_run_finished(event, run):
    with open("previews", "w") as file:
        file.write(str(len(seen)))
"""


@pytest.mark.parametrize(
    ("words", "asked", "count"),
    [
        (("-p", "sees"), "auto", 20),
        (("-p", "sees", "--extra-data", "preview_method=none"), "none", 0),
        ((), None, None),
    ],
)
def test_previews_are_asked_for_where_a_reporter_wants_them(
    driver: Driver, words: tuple[str, ...], asked: str | None, count: int | None
) -> None:
    """The server, as it is by default, makes none by itself."""
    driver.path("sees.py", SEES)
    with Simulator(speed=50, previews=False) as simulator:
        driver.server = simulator.url
        ended = driver.run("--workflow", WORKFLOW, *words, env={"PYTHONPATH": str(driver.folder)})
        assert ended.code == 0, ended.err
        with RawClient(simulator.url) as client:
            (entry,) = client.get(f"/history/{ended.result['prompt_id']}").json().values()
    assert entry["prompt"][3].get("preview_method") == asked
    if count is not None:
        assert int((driver.folder / "previews").read_text()) == count


# --- failures to try


@pytest.mark.parametrize(
    ("class_type", "told_of", "code", "error"),
    [
        ("SimulateError", "SimulateError", 1, "node_error"),
        ("SimulateOutOfMemory", "SimulateOutOfMemory", 1, "out_of_memory"),
        ("SimulateBlock", "SaveImage", 8, "blocked"),
    ],
)
def test_nodes_that_fail(driver: Driver, class_type: str, told_of: str, code: int, error: str) -> None:
    """A block is told of the output that it blocks, as ComfyUI does."""
    graph = through(class_type, message="as I asked for")
    ended = driver.follow(graph, "--server", "sim", "--reporter", "console", env=STRICT)
    assert (ended.code, ended.result["error"]["code"]) == (code, error)
    assert told_of in ended.err
    assert ("as I asked for" in ended.err) == (class_type != "SimulateOutOfMemory")


@pytest.mark.parametrize(
    ("graph", "error"),
    [
        (through("NobodyKnowsThis"), "missing_node"),
        (through("UNETLoader", unet_name="mine.safetensors"), "missing_model"),
    ],
)
def test_a_strict_simulator_refuses_what_it_lacks(driver: Driver, graph: dict[str, Any], error: str) -> None:
    path = driver.path("w.json", graph)
    assert driver.run("--workflow", path, "--server", "sim", env=FAST).code == 0
    ended = driver.run("--workflow", path, "--server", "sim", env=STRICT)
    assert (ended.code, ended.result["error"]["code"]) == (4, error)
    simulator = driver.start("simulate", "--port", "0", "--speed", "50", "--strict", stream=False)
    poll(lambda: "\n" in simulator.text("out"), LIMIT, "the simulator's address")
    ended = driver.run("--workflow", path, "--server", simulator.text("out").strip())
    assert (ended.code, ended.result["error"]["code"]) == (4, error)
    simulator.signal()
    assert simulator.end().code == 0


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda path: path.stem)
def test_a_strict_simulator_takes_each_shipped_workflow(driver: Driver, path: Path) -> None:
    assert driver.run("--workflow", path, "--server", "sim", env={**STRICT, "COMFYREPORT_SIM_SPEED": "200"}).code == 0


def test_a_strictness_that_is_none(driver: Driver) -> None:
    ended = driver.run("--workflow", WORKFLOW, "--server", "sim", env={"COMFYREPORT_SIM_STRICT": "yes"})
    assert (ended.code, ended.result["status"]) == (2, "usage")
    assert "COMFYREPORT_SIM_STRICT" in ended.err


# --- recordings by name


def test_a_shipped_recording_is_replayed_by_its_name(driver: Driver) -> None:
    ended = driver.run("replay", "node-error", "--speed", "0")
    assert (ended.code, ended.result["status"]) == (1, "error")
    driver.path("cached").mkdir()
    assert driver.run("replay", "cached", "--speed", "0").code == 0


def test_a_file_of_a_shipped_recordings_name_wins(driver: Driver) -> None:
    recorded = driver.run("--workflow", WORKFLOW, "--server", "sim", "--record", "node-error", env=FAST)
    ended = driver.run("replay", "node-error", "--speed", "0")
    assert (ended.code, ended.result["prompt_id"]) == (0, recorded.result["prompt_id"])


def test_an_unknown_recording_is_a_usage_error_that_lists_the_names(driver: Driver) -> None:
    ended = driver.run("replay", "nod-error", "--reporter", "console")
    assert (ended.code, ended.result["status"]) == (2, "usage")
    assert "nod-error" in ended.err
    names = json.dumps(ended.result["error"]["hint"])
    assert all(name in names for name in ("node-error", "txt2img", "throttled", "model-3d"))
    ended = driver.run("replay", "nowhere/node-error")
    assert (ended.code, ended.result["status"]) == (2, "usage")
