"""Files as inputs on a real ComfyUI, and what it made as the workflow of the next run."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from tests.e2e.conftest import ComfyUIFactory
from tests.e2e.driver import Driver, Ended
from tests.e2e.raw_client import Graph, RawClient, chain, node
from tests.workflow import media

pytestmark = [pytest.mark.real, pytest.mark.e2e]


def picture(color: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (24, 16), color).save(file, "png")
    return file.getvalue()


def pixels(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as opened:
        return opened.convert("RGB").tobytes()


def there(raw: RawClient, name: str) -> bytes:
    answer = raw.get("/view", filename=name, type="input")
    assert answer.status_code == 200
    return answer.content


def asked(raw: RawClient, ended: Ended) -> Any:
    """The prompt that the server ran, and its extra data."""
    assert ended.code == 0, ended.err
    return raw.history(ended.result["prompt_id"])["prompt"][2:4]


def test_a_picture_and_a_mask(real: Driver, raw: RawClient) -> None:
    graph: Graph = {
        "1": node("LoadImage", image="nowhere.png"),
        "2": node("LoadImageMask", image="nowhere.png", channel="red"),
        "3": node("SaveImage", images=["1", 0], filename_prefix="in"),
        "4": node("MaskToImage", mask=["2", 0]),
        "5": node("SaveImage", images=["4", 0], filename_prefix="mask"),
    }
    image, mask = picture("#123456"), picture("#ff0000")
    real.path("ein Bild=ü.png", image)
    real.path("mask.png", mask)
    ended = real.follow(graph, "--image", "1=ein Bild=ü.png", "--mask", "mask.png", "--output", "made/")
    inputs = asked(raw, ended)[0]
    assert there(raw, inputs["1"]["inputs"]["image"]) == image
    assert there(raw, inputs["2"]["inputs"]["image"]) == mask
    made, masked = (event["output"]["path"] for event in ended.of("output_saved"))
    assert pixels((real.folder / made).read_bytes()) == pixels(image)
    assert pixels((real.folder / masked).read_bytes()) == pixels(picture("#ffffff"))


def test_the_same_file_again_and_another_of_its_name(real: Driver, raw: RawClient) -> None:
    graph: Graph = {
        "1": node("LoadImage", image="twice.png"),
        "2": node("SaveImage", images=["1", 0], filename_prefix="in"),
    }
    names = []
    for color in ("#010203", "#010203", "#030201"):
        real.path("twice.png", picture(color))
        ended = real.follow(graph, "--image", "twice.png")
        names.append(asked(raw, ended)[0]["1"]["inputs"]["image"])
        assert there(raw, names[-1]) == picture(color)
    assert names == ["twice.png", "twice.png", "twice (1).png"]


def test_a_path_in_the_workflow(real: Driver, raw: RawClient) -> None:
    real.path("literal.png", picture("#aabbcc"))
    graph: Graph = {
        "1": node("LoadImage", image="literal.png"),
        "2": node("SaveImage", images=["1", 0], filename_prefix="in"),
    }
    assert asked(raw, real.follow(graph))[0]["1"]["inputs"]["image"] == "literal.png"
    assert there(raw, "literal.png") == picture("#aabbcc")
    # Now there is one of that name: it is the server's.
    real.path("literal.png", picture("#000000"))
    assert asked(raw, real.follow(graph))[0]["1"]["inputs"]["image"] == "literal.png"
    assert there(raw, "literal.png") == picture("#aabbcc")


def test_a_file_that_is_too_large_for_it(comfyui_factory: ComfyUIFactory, driver: Driver) -> None:
    driver.server = comfyui_factory(arguments=("--max-upload-size", "0.1")).url
    driver.path("large.png", picture("#aabbcc") + bytes(5_000_000))
    graph: Graph = {"1": node("LoadImage", image="x.png"), "2": node("SaveImage", images=["1", 0], filename_prefix="x")}
    ended = driver.follow(graph, "--image", "large.png", "--reporter", "console")
    assert ended.code == 3
    assert "large.png was not uploaded: " in ended.err
    assert "--max-upload-size" in ended.err
    assert (ended.result["submitted"], ended.result["prompt_state"]) == ("no", "none")


# What it made is a workflow

SAVERS: dict[str, dict[str, Any]] = {
    "png": node("SaveImage", images=["1", 0], filename_prefix="again"),
    "animated png": node("SaveAnimatedPNG", images=["1", 0], filename_prefix="again", fps=6.0, compress_level=4),
    "webp": node(
        "SaveAnimatedWEBP",
        images=["1", 0],
        filename_prefix="again",
        fps=6.0,
        lossless=True,
        quality=80,
        method="default",
    ),
    "webm": node("SaveWEBM", images=["1", 0], filename_prefix="again", codec="vp9", fps=6.0, crf=32.0),
    "mp4": node("SaveVideo", video=["3", 0], filename_prefix="again", format="mp4", codec="h264"),
    "flac": node("SaveAudio", audio=["4", 0], filename_prefix="again"),
    "mp3": node("SaveAudioMP3", audio=["4", 0], filename_prefix="again", quality="128k"),
    "opus": node("SaveAudioOpus", audio=["4", 0], filename_prefix="again", quality="128k"),
}


@pytest.mark.parametrize("kind", SAVERS)
def test_what_it_made_makes_it_again(real: Driver, raw: RawClient, kind: str) -> None:
    graph: Graph = {"1": chain(size=64)["1"], "2": SAVERS[kind]}
    flags: list[str] = []
    if kind == "mp4":
        graph["3"] = node("CreateVideo", images=["1", 0], fps=6.0)
    if kind in ("flac", "mp3", "opus"):
        real.path("in.flac", media.sound("flac"))
        del graph["1"]
        graph["4"] = node("LoadAudio", audio="nowhere.flac")
        flags = ["--audio", "in.flac"]
    editor = {"nodes": [], "links": [], "version": 0.4}
    first = real.follow({"workflow": editor, "output": graph}, *flags, "--output", "made/")
    submitted, extra = asked(raw, first)
    assert extra["extra_pnginfo"] == {"workflow": editor}
    path = first.of("output_saved")[0]["output"]["path"]
    again = real.run("--workflow", path, "--output", "again/")
    resubmitted, extra = asked(raw, again)
    assert resubmitted == submitted
    assert extra["extra_pnginfo"] == {"workflow": editor}
