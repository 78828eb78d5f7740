"""Each workflow of `workflows/` is one that a real ComfyUI accepts, with its models in place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.comfyui_server import ComfyUI, poll
from tests.e2e.raw_client import RawClient, chain, node

pytestmark = pytest.mark.real

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))

# Where the server looks for the file that an input of a loader names.
FOLDERS = {
    ("CheckpointLoaderSimple", "ckpt_name"): "models/checkpoints",
    ("UNETLoader", "unet_name"): "models/diffusion_models",
    ("CLIPLoader", "clip_name"): "models/text_encoders",
    ("DualCLIPLoader", "clip_name1"): "models/text_encoders",
    ("DualCLIPLoader", "clip_name2"): "models/text_encoders",
    ("VAELoader", "vae_name"): "models/vae",
    ("LoadImage", "image"): "input",
}


def load(name: str) -> dict[str, dict[str, Any]]:
    """One workflow in the API format."""
    graph: dict[str, dict[str, Any]] = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    return graph


def wanted_files(graph: dict[str, dict[str, Any]]) -> Iterator[Path]:
    """The files, relative to the server's base directory, that a workflow names."""
    for item in graph.values():
        for name, value in item["inputs"].items():
            folder = FOLDERS.get((item["class_type"], name))
            if folder is not None:
                yield Path(folder) / value


@pytest.fixture
def placed(comfyui: ComfyUI) -> Iterator[None]:
    """Empty files under the names of all models and inputs, for the time of a test."""
    made = []
    for name in NAMES:
        for relative in wanted_files(load(name)):
            path = comfyui.base / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.touch()
                made.append(path)
    yield
    for path in made:
        path.unlink()


@pytest.fixture
def occupied(raw: RawClient) -> Iterator[RawClient]:
    """The server busy with a prompt of its own, so that whatever is put into its queue waits there."""
    occupier = raw.submit(chain(node("ReportSilence", seconds=600.0, interruptible=True)))
    poll(lambda: raw.running() == [occupier], 10, "the start of the occupier")
    yield raw
    assert raw.running() == [occupier]
    raw.post("/interrupt", {"prompt_id": occupier})
    raw.finished(occupier, 10)


def test_there_are_workflows() -> None:
    assert {"flux-dev", "sd15-txt2img", "image-ops"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("placed")
def test_the_server_accepts_it(occupied: RawClient, name: str) -> None:
    response = occupied.post("/prompt", {"prompt": load(name)})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["node_errors"] == {}
    prompt_id = answer["prompt_id"]
    assert occupied.pending() == [prompt_id]
    occupied.post("/queue", {"delete": [prompt_id]})
    assert occupied.pending() == []
    assert occupied.history(prompt_id) == {}


@pytest.mark.parametrize("name", NAMES)
def test_every_node_has_a_title_and_known_inputs_alone(raw: RawClient, name: str) -> None:
    for item in load(name).values():
        known = raw.get(f"/object_info/{item['class_type']}").json()[item["class_type"]]["input"]
        assert item["_meta"]["title"]
        assert item["inputs"].keys() <= known["required"].keys() | known.get("optional", {}).keys()


def test_the_one_without_a_model_runs(raw: RawClient) -> None:
    entry = raw.run(load("image-ops"))
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    (image,) = entry["outputs"]["7"]["images"]
    assert raw.get("/view", **image).content.startswith(b"\x89PNG")
