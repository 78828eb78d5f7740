"""The installed command on a real ComfyUI: runs that go well."""

from __future__ import annotations

import io
import json
import struct
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.comfyui_server import ComfyUI
from tests.e2e.driver import Driver, Ended
from tests.e2e.raw_client import Graph, RawClient, chain, counting, node, txt2img

pytestmark = [pytest.mark.real, pytest.mark.e2e]

PREVIEW_PLUGIN = """
import pathlib
from comfyreport import hookimpl

@hookimpl
def comfyreport_node_preview(event):
    name = f"preview-{event.index}-{event.node.id}.jpg"
    pathlib.Path(name).write_bytes(event.image)
"""
PRINTING_PLUGIN = """
import os, sys
from comfyreport import hookimpl

print("printed while loading")

@hookimpl
def comfyreport_event(event):
    print("printed by a plugin", flush=True)
    os.write(1, b"written by a plugin\\n")
    sys.__stdout__.write("written to the first stdout\\n")
"""


def two_frames() -> Graph:
    """Two different pictures as one batch, which is node "2"; node "3" is yet to be said."""
    graph = chain(node("ImageBatch"), size=64)
    graph["2"]["inputs"] = {"image1": ["1", 0], "image2": ["0", 0]}
    graph["0"] = node("EmptyImage", width=64, height=64, batch_size=1, color=0xFF0000)
    return graph


def assert_success(ended: Ended) -> None:
    assert ended.code == 0, ended.err
    assert ended.result["status"] == "success"
    assert (ended.result["prompt_state"], ended.result["submitted"]) == ("finished", "yes")


def check_png(path: Path, size: int) -> None:
    """A PNG of so many pixels a side, whole to its last chunk."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", data[16:24]) == (size, size)
    assert data.endswith(b"IEND\xaeB`\x82")


def check_jpeg(data: bytes) -> None:
    """A JPEG from its first marker to its last, with a picture in it."""
    assert data.startswith(b"\xff\xd8\xff")
    assert data.endswith(b"\xff\xd9")
    assert b"\xff\xc0" in data or b"\xff\xc2" in data


def test_a_picture_with_previews(real: Driver, raw: RawClient) -> None:
    real.path("saves_previews.py", PREVIEW_PLUGIN)
    env = {"PYTHONPATH": str(real.folder)}
    output = real.folder / "lighthouse.png"
    ended = real.follow(
        txt2img(steps=4, seed=101), "--output", output, "-p", "saves_previews", "--prompt", "a red kite", env=env
    )
    assert_success(ended)
    check_png(output, 128)
    assert ended.out == f"{output}\n"
    progress = [event for event in ended.of("node_progress") if event["node"] == "KSampler"]
    assert [(event["step"], event["max_steps"]) for event in progress] == [(step, 4) for step in range(1, 5)]
    assert progress[-1]["eta_seconds"] == 0
    assert all(list(event)[:4] == ["step", "max_steps", "eta_seconds", "node"] for event in progress)
    pictures = sorted(real.folder.glob("preview-*-3.jpg"))
    assert len(pictures) == 4
    for picture in pictures:
        check_jpeg(picture.read_bytes())
    assert [event["image_bytes"] for event in ended.of("node_preview")] == [p.stat().st_size for p in pictures]
    (saved,) = ended.of("output_saved")
    assert (saved["output"]["path"], saved["output"]["bytes"]) == (str(output), output.stat().st_size)
    asked = raw.history(ended.result["prompt_id"])["prompt"][2]
    assert asked["6"]["inputs"]["text"] == "a red kite"
    assert asked["7"]["inputs"]["text"] == "blurry"


def test_without_a_plugin_for_previews_there_are_none(real: Driver) -> None:
    ended = real.follow(chain(counting(3, previews=True)))
    assert_success(ended)
    assert not ended.of("node_preview")


def test_a_run_that_is_cached_in_full(real: Driver) -> None:
    graph = chain(counting(2))
    first = real.follow(graph)
    again = real.follow(graph, "--reporter", "console")
    assert_success(first)
    assert_success(again)
    assert set(again.result["cached"]) == set(graph)
    assert again.result["executed"] == []
    assert not again.of("node_started")
    (output,) = again.result["outputs"]
    assert output["cached"] is True
    assert output["filename"] == first.result["outputs"][0]["filename"]
    assert "[INFO] 3 nodes cached" in again.err
    assert "[OK] Generation complete" in again.err


def test_expansion_is_told_as_the_work_of_the_node_that_expands(real: Driver) -> None:
    ended = real.follow(chain(node("ReportExpand", inner="progress", steps=2, seconds=0.05)))
    assert_success(ended)
    assert ended.nodes("node_started") == ["1", "2", "3"]
    assert ended.nodes("node_finished") == ["1", "2", "3"]
    inner = ended.of("node_progress")
    assert {event["node_id"] for event in inner} == {"2"}
    assert all(event["node"] == "ReportExpand" and event["raw_id"].startswith("2.") for event in inner)
    assert [event["step"] for event in inner] == [1, 2, 1, 2]


def test_what_an_inner_node_saves_is_saved(real: Driver) -> None:
    folder = real.folder / "made"
    ended = real.follow(chain(node("ReportExpand", inner="save", steps=1, seconds=0.0)), "--output", f"{folder}/")
    assert_success(ended)
    inner = [output for output in ended.result["outputs"] if output["filename"].startswith("inner")]
    assert [output["node_id"] for output in inner] == ["2"]
    assert sorted(ended.out.split()) == sorted(str(path) for path in folder.iterdir())
    assert len(ended.of("output_saved")) == 2
    for path in folder.iterdir():
        check_png(path, 32)


def test_nodes_that_run_beside_each_other(real: Driver) -> None:
    graph = chain(*(node("ReportParallel", steps=3, seconds=0.1) for _ in range(3)))
    for number in ("2", "3", "4"):
        graph[number]["inputs"]["image"] = ["1", 0]
    graph["6"] = node("ReportJoin", image=["2", 0], image2=["3", 0], image3=["4", 0])
    graph["5"]["inputs"]["images"] = ["6", 0]
    ended = real.follow(graph)
    assert_success(ended)
    kinds = [(event["type"], event.get("node_id")) for event in ended.events]
    last_start = max(kinds.index(("node_started", number)) for number in ("2", "3", "4"))
    first_end = min(kinds.index(("node_finished", number)) for number in ("2", "3", "4"))
    assert last_start < first_end
    for number in ("2", "3", "4"):
        steps = [event["step"] for event in ended.of("node_progress") if event["node_id"] == number]
        assert steps == [1, 2, 3]


def test_progress_text(real: Driver) -> None:
    text = "thinking … 50 %"
    graph = chain(node("ReportText", text=text, times=2, seconds=0.05, broadcast=False))
    ended = real.follow(graph, "--reporter", "console")
    assert_success(ended)
    assert [(event["node_id"], event["text"]) for event in ended.of("node_text")] == [("2", text)] * 2
    assert text in ended.err


def test_an_output_without_anything_to_show(real: Driver) -> None:
    graph = {**chain(), "2": node("ReportNoUi", image=["1", 0])}
    ended = real.follow(graph)
    assert_success(ended)
    assert ended.result["outputs"] == []
    assert "no_outputs" in [event["code"] for event in ended.of("warning")]
    assert ended.out == ""


def test_a_moving_picture_into_a_folder(real: Driver) -> None:
    graph = two_frames()
    graph["3"] = node(
        "SaveAnimatedWEBP",
        images=["2", 0], filename_prefix="films/kite", fps=6.0, lossless=False, quality=80, method="default",
    )  # fmt: skip
    folder = real.folder / "new" / "films"
    ended = real.follow(graph, "--output", f"{folder}/")
    assert_success(ended)
    (path,) = folder.iterdir()
    data = path.read_bytes()
    assert (data[:4], data[8:12]) == (b"RIFF", b"WEBP")
    assert b"ANMF" in data
    (output,) = ended.result["outputs"]
    assert (output["path"], output["media_type"], output["bytes"]) == (str(path), "image/webp", len(data))
    assert (output["subfolder"], output["folder"]) == ("films", "output")


def test_a_video(real: Driver) -> None:
    graph = two_frames()
    graph["3"] = node("CreateVideo", images=["2", 0], fps=8.0)
    graph["4"] = node("SaveVideo", video=["3", 0], filename_prefix="video/kite", format="mp4", codec="h264")
    output = real.folder / "kite.mp4"
    ended = real.follow(graph, "--output", output)
    assert_success(ended)
    assert output.read_bytes()[4:8] == b"ftyp"
    assert [each["kind"] for each in ended.result["outputs"]] == ["video"]


def test_all_reporters_at_once(real: Driver) -> None:
    graph = chain(counting(2, seconds=0.05))
    ended = real.follow(
        graph, "--reporter", "console", "--reporter", "filelog=run.log", "--reporter", "jsonl=short.jsonl,detail=nodes"
    )
    assert_success(ended)
    assert ended.events[0]["reporters"] == ["console", "filelog", "jsonl", "jsonl-2"]
    for line in ("[INFO] Connected to progress stream", "[INFO] Generation started", "[OK] Generation complete in "):
        assert line in ended.err
    assert "[PROGRESS] ReportSteps: 2/2 steps (100%) - ETA: 0s" in ended.err
    short = real.checker.whole((real.folder / "short.jsonl").read_text(encoding="utf-8"))
    assert {event["type"] for event in short} >= {"node_started", "node_finished"}
    assert not [event for event in short if "step" in event]
    log = (real.folder / "run.log").read_text(encoding="utf-8").splitlines()
    assert len(log) >= len(ended.events)
    assert ended.out.startswith(real.server + "/view?filename=chain_")


def test_stdout_is_the_reporter_s_alone(real: Driver) -> None:
    real.path("prints.py", PRINTING_PLUGIN)
    graph = chain()
    ended = real.follow(graph, "-p", "prints", "--json-progress", stream=False, env={"PYTHONPATH": str(real.folder)})
    assert ended.code == 0, ended.err
    events = real.checker.whole(ended.out)
    assert events[-1]["exit_code"] == 0
    for printed in ("printed while loading", "printed by a plugin", "written by a plugin", "to the first stdout"):
        assert printed in ended.err


def test_the_results_are_printed_alone_where_a_plugin_prints(real: Driver) -> None:
    real.path("prints.py", PRINTING_PLUGIN)
    ended = real.follow(chain(), "-p", "prints", env={"PYTHONPATH": str(real.folder)})
    assert_success(ended)
    (line,) = ended.out.splitlines()
    assert line == ended.result["outputs"][0]["url"]


def test_a_result_that_is_not_saved_can_be_fetched(real: Driver, raw: RawClient, comfyui: ComfyUI) -> None:
    ended = real.follow(chain(size=48))
    assert_success(ended)
    url = ended.out.strip()
    picture = raw.get(url.removeprefix(comfyui.url)).content
    assert picture.startswith(b"\x89PNG")
    assert io.BytesIO(picture).getbuffer().nbytes > 50


def test_an_address_in_each_form(real: Driver, comfyui: ComfyUI) -> None:
    place = comfyui.url.removeprefix("http://")
    for address in (place, f"ws://{place}/ws", f"http://{place}/api/", f"{comfyui.url}/"):
        ended = real.follow(chain(), "--server", address)
        assert_success(ended)
        assert ended.events[0]["server"] == comfyui.url


def test_every_manner_of_counting(real: Driver) -> None:
    manners = ("steps", "restart", "float", "growing", "past_total", "zero_total", "two_bars")
    # With previews, for without them a newer server leaves steps out.
    graph = chain(*(counting(3, mode=mode, previews=True) for mode in manners))
    ended = real.follow(graph)
    assert_success(ended)
    steps: dict[str, list[tuple[float, float]]] = {}
    for event in ended.of("node_progress"):
        steps.setdefault(event["node_id"], []).append((event["step"], event["max_steps"]))
    assert steps["2"] == [(1, 3), (2, 3), (3, 3)]
    assert steps["3"] == steps["2"] * 2
    assert steps["4"][-1] == (1, 1)
    assert steps["5"] == [(1, 4), (2, 5), (3, 6)]
    assert steps["6"][-1] == (3, 3)
    assert "7" not in steps
    passes = [event["pass_number"] for event in ended.of("node_progress") if event["node_id"] == "3"]
    assert passes == [1, 1, 1, 2, 2, 2]
    assert json.dumps(ended.result)


def test_files_are_saved_as_their_nodes_end_and_are_those_of_the_server(real: Driver) -> None:
    graph = chain(counting(20, seconds=0.1))
    graph["8"] = node("SaveImage", images=["1", 0], filename_prefix="early")
    graph["9"] = node("SaveImageWebsocket", images=["2", 0])
    ended = real.follow(graph, "--output", f"{real.folder}/{{node}}-{{filename}}.{{ext}}", "--sidecar")
    assert_success(ended)
    assert {output["node_id"] for output in ended.result["outputs"]} == {"3", "8", "9"}
    for output in ended.result["outputs"]:
        made = Path(output["path"])
        assert made.name.startswith(f"{output['node_id']}-")
        assert made.read_bytes().startswith(b"\x89PNG")
        assert json.loads(Path(f"{made}.json").read_text(encoding="utf-8"))["output"]["path"] == output["path"]
        if "url" in output:
            assert made.read_bytes() == urllib.request.urlopen(output["url"], timeout=30).read()
