"""The installed command on real ComfyUIs of both generations: what a newer one does in another way, or does alone."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.e2e.comfyui_server import ComfyUI
from tests.e2e.conftest import ComfyUIFactory
from tests.e2e.driver import Driver
from tests.e2e.raw_client import Graph, RawClient, chain, counting, node, txt2img

pytestmark = [pytest.mark.real, pytest.mark.e2e]

COUNTS_PREVIEWS = """
import pathlib
from comfyreport import hookimpl

@hookimpl
def comfyreport_node_preview(event):
    pathlib.Path(f"seen-{event.index}").touch()
"""


def test_outputs_are_told_and_saved_in_the_workflows_order(real: Driver) -> None:
    """The server begins with any of them: which one, differs from one start to the next."""
    graph: Graph = {
        f"{number}": node("SaveImage", images=["99", 0], filename_prefix=f"p{number}") for number in (7, 3, 11, 5, 2)
    }
    graph["99"] = chain()["1"]
    ended = real.follow(graph, "--output", "one.png")
    assert ended.code == 0, ended.err
    wanted = ["7", "3", "11", "5", "2"]
    assert [event["output"]["node_id"] for event in ended.of("output_ready")] == wanted
    saved = [event["output"] for event in ended.of("output_saved")]
    assert [output["node_id"] for output in saved] == wanted
    assert saved[0]["path"] == "one.png"


def test_a_second_pass_of_the_same_bar(real: Driver, comfyui: ComfyUI) -> None:
    """A newer server tells nothing of it but its end."""
    ended = real.follow(chain(counting(6, seconds=0.2, mode="restart")))
    assert ended.code == 0, ended.err
    steps = ended.of("node_progress")
    passes = [event["pass_number"] for event in steps]
    assert passes == ([1] * 6 + [2] if comfyui.environment.newer else [1] * 6 + [2] * 6)
    assert steps[-1]["step"] == steps[-1]["max_steps"] == 6
    for event in steps[5:]:
        assert event["steps_per_second"] == pytest.approx(5, rel=0.35)


def test_an_inner_bar_makes_no_speed_up(real: Driver) -> None:
    """Four steps of 0.6 s, each with two inner ones of 0.2 s."""
    ended = real.follow(chain(counting(4, seconds=0.2, mode="two_bars")))
    assert ended.code == 0, ended.err
    for event in ended.of("node_progress"):
        speed = event.get("steps_per_second")
        # A first step is counted from what was heard before it, which may have come late.
        fastest = 10 if event["max_steps"] == 2 or event["step"] == 1 else 3.5
        assert speed is None or speed < 1.2 * fastest, event


def test_previews_are_asked_for(driver: Driver, comfyui_factory: ComfyUIFactory) -> None:
    """The server makes none by itself; an older one can't be asked."""
    server = comfyui_factory(checkpoint=True, previews=False)
    driver.server = server.url
    driver.path("counts.py", COUNTS_PREVIEWS)
    env = {"PYTHONPATH": str(driver.folder)}
    ended = driver.follow(txt2img(steps=4, seed=5), "-p", "counts", env=env)
    assert ended.code == 0, ended.err
    assert len(list(driver.folder.glob("seen-*"))) == (4 if server.environment.newer else 0)
    ended = driver.follow(txt2img(steps=4, seed=6), env=env)
    assert ended.code == 0, ended.err
    with RawClient(server.url) as raw:
        assert "preview_method" not in raw.history(ended.result["prompt_id"])["prompt"][3]


def model() -> bytes:
    """A triangle in the binary form of glTF."""
    points = struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)
    scene = (
        b'{"asset":{"version":"2.0"},"scene":0,"scenes":[{"nodes":[0]}],"nodes":[{"mesh":0}],'
        b'"meshes":[{"primitives":[{"attributes":{"POSITION":0}}]}],"buffers":[{"byteLength":36}],'
        b'"bufferViews":[{"buffer":0,"byteLength":36}],"accessors":[{"bufferView":0,"componentType":5126,"count":3,'
        b'"type":"VEC3","min":[0,0,0],"max":[1,1,0]}]}'
    )
    scene += b" " * (-len(scene) % 4)
    chunks = struct.pack("<I4s", len(scene), b"JSON") + scene + struct.pack("<I4s", len(points), b"BIN\0") + points
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


@pytest.mark.parametrize("class_type", ["Save3DAdvanced", "Preview3DAdvanced"])
def test_3d_files_are_saved(real: Driver, comfyui: ComfyUI, class_type: str) -> None:
    """They are told as strings, the preview's in the temp folder."""
    if not comfyui.environment.newer:
        pytest.skip(f"ComfyUI {comfyui.environment.version} has no node that tells a 3D file so")
    folder = comfyui.base / "input" / "3d"
    folder.mkdir(exist_ok=True)
    (folder / "triangle.glb").write_bytes(model())
    state: dict[str, object] = {"viewport_state": {}, "width": 64, "height": 64}
    graph: Graph = {
        "1": node("Load3DAdvanced", model_file="3d/triangle.glb", **state),
        "2": node(
            class_type, model_3d=["1", 0], **state, **({"filename_prefix": "3d/tri"} if "Save" in class_type else {})
        ),
    }
    ended = real.follow(graph, "--output", "made/", "--expect-outputs", "1")
    assert ended.code == 0, ended.err
    (saved,) = [event["output"] for event in ended.of("output_saved")]
    assert saved["kind"] == "model"
    assert (real.folder / Path(saved["path"])).read_bytes().startswith(b"glTF")
