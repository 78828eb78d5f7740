"""Pictures, videos and sounds as workflows: what ComfyUI writes is read, and nothing that lies does harm."""

from __future__ import annotations

import contextlib
import io
import json
import random
import struct
import sys
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from comfyreport.errors import WorkflowError
from comfyreport.workflow import embedded as embedded_module, files
from comfyreport.workflow.convert import Converted
from comfyreport.workflow.embedded import embedded, media_of
from comfyreport.workflow.files import load
from tests.workflow import media
from tests.workflow.media import EDITOR, GRAPH, TEXTS, chunk, png

BOTH = {"prompt": TEXTS["prompt"], "workflow": EDITOR}
SIGNATURE = png()[:8]
MADE: dict[str, Callable[[], bytes]] = {
    "png": png,
    "packed.png": lambda: png(packed=True),
    "international.png": lambda: png(international=True),
    "packed-international.png": lambda: png(packed=True, international=True),
    "both-in-a-comment.png": lambda: png({"comment": json.dumps(BOTH)}),
    "animated.png": media.animated_png,
    "webp": lambda: media.exif("webp"),
    "animated.webp": lambda: media.exif("webp", animated=True),
    "old.webp": lambda: media.exif("webp", old=True),
    "jpeg": lambda: media.exif("jpeg"),
    "mp4": lambda: media.video("mp4"),
    "webm": lambda: media.video("webm"),
    "mkv": lambda: media.video("matroska"),
    "comment.mp4": lambda: media.video("mp4", {"comment": json.dumps(BOTH)}),
    "flac": lambda: media.sound("flac"),
    "mp3": lambda: media.sound("mp3"),
    "opus": lambda: media.sound("opus"),
}


def read(data: bytes) -> dict[str, object]:
    found = media_of(data[:16])
    assert found is not None
    return embedded(found, io.BytesIO(data), "made")


def refusal(data: bytes) -> WorkflowError:
    with pytest.raises(WorkflowError) as caught:
        read(data)
    assert caught.value.message.startswith("made is a")
    assert caught.value.hint
    return caught.value


def outcome(data: bytes) -> object:
    """The prompt, if there is one; nothing but a WorkflowError is raised."""
    with contextlib.suppress(WorkflowError):
        return read(data).get("prompt")
    return None


@pytest.mark.parametrize("kind", MADE)
def test_what_comfyui_makes_is_a_workflow(kind: str, tmp_path: Path) -> None:
    """By its bytes: the name says nothing."""
    file = tmp_path / "made"
    file.write_bytes(MADE[kind]())
    found = load(file)
    assert found.graph == GRAPH
    assert found.body({})["extra_data"] == {"extra_pnginfo": {"workflow": EDITOR}}
    assert found.wrapping.left_out == ()


def test_without_the_editors_workflow_there_is_the_prompt_alone(tmp_path: Path) -> None:
    file = tmp_path / "made"
    file.write_bytes(png({"prompt": TEXTS["prompt"], "workflow": "[broken"}))
    assert load(file).body({}) == {"prompt": {key: {"_meta": {}, **node} for key, node in GRAPH.items()}}


def test_what_comfyui_notes_of_a_file_is_not_submitted() -> None:
    """With it, a file that changed meanwhile would be taken from the cache."""
    graph = {**GRAPH, "3": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "is_changed": ["abc"]}}
    made = read(png({"prompt": json.dumps(graph)}))["prompt"]
    assert made == {**GRAPH, "3": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}


@pytest.mark.parametrize("make", [png, partial(media.exif, "webp"), partial(media.video, "mp4")])
def test_with_the_editors_workflow_alone_that_is_the_one(
    make: Callable[[dict[str, str]], bytes], tmp_path: Path
) -> None:
    file = tmp_path / "made"
    file.write_bytes(make({"workflow": TEXTS["workflow"]}))
    assert read(file.read_bytes()) == {"workflow": EDITOR}
    with pytest.raises(WorkflowError, match="editor's format"):
        load(file)
    found = load(file, convert=lambda ui: Converted({"1": {"class_type": str(ui == EDITOR), "inputs": {}}}, ()))
    assert found.graph == {"1": {"class_type": "True", "inputs": {}}}
    assert found.wrapping.extra_data == {"extra_pnginfo": {"workflow": EDITOR}}


@pytest.mark.parametrize("workflow", ["{", "[1]"])
def test_an_editors_workflow_that_is_no_json_object(workflow: str) -> None:
    assert "whose workflow can't be read as JSON" in refusal(png({"workflow": workflow})).message


@pytest.mark.parametrize("data", [png({}), png({"parameters": "a cat"}), media.video("mp4", {})])
def test_without_metadata_it_is_none(data: bytes) -> None:
    assert refusal(data).message.endswith("that holds no workflow")


@pytest.mark.parametrize("prompt", ["{", "[1]", "9" * 5000, "[" * 100_000])
def test_a_prompt_that_is_no_json_object(prompt: str) -> None:
    assert "can't be read as JSON" in refusal(png({"prompt": prompt})).message


def test_what_is_in_it_is_checked_as_a_file_is(tmp_path: Path) -> None:
    file = tmp_path / "made.png"
    file.write_bytes(png({"prompt": '{"1": {"inputs": {}}}'}))
    with pytest.raises(WorkflowError, match=r"made\.png: node 1 has no class_type"):
        load(file)


def test_a_sound_without_the_package_that_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = media.sound("flac")
    monkeypatch.setitem(sys.modules, "av", None)
    error = refusal(data)
    assert "(av)" in error.message
    assert error.hint == 'pip install "comfyreport[media]"'


def test_a_picture_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    data = [png(), media.exif("webp"), media.exif("jpeg")]
    for name in ("av", "PIL"):
        monkeypatch.setitem(sys.modules, name, None)
    assert [read(each)["prompt"] for each in data] == [GRAPH] * 3


# Lies


@pytest.mark.parametrize("kind", MADE)
def test_a_file_that_is_cut_off_anywhere(kind: str) -> None:
    data = MADE[kind]()
    places = random.Random(kind).sample(range(16, len(data)), 40)
    for place in places:
        assert outcome(data[:place]) in (GRAPH, None)


@pytest.mark.parametrize("kind", MADE)
def test_a_file_with_bytes_changed(kind: str) -> None:
    data, chance = bytearray(MADE[kind]()), random.Random(kind)
    for _ in range(40):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 30)):
            changed[chance.randrange(16, len(data))] = chance.randrange(256)
        assert isinstance(outcome(bytes(changed)), (dict, type(None)))


def test_a_text_that_says_it_is_larger_than_it_is() -> None:
    assert "cut off" in refusal(SIGNATURE + chunk(b"tEXt", b"prompt\0{}", 1000)).message
    assert "makes no sense" in refusal(SIGNATURE + chunk(b"tEXt", b"prompt\0{}", 2**32 - 1)).message


def test_a_text_that_becomes_huge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_module, "MAX_BYTES", 100_000)
    packed = zlib.compress(b" " * 1_000_000)
    assert "makes no sense" in refusal(SIGNATURE + chunk(b"zTXt", b"prompt\0\0" + packed)).message
    monkeypatch.setattr(embedded_module, "_MOST_TEXT", 1000)
    small = zlib.compress(b" " * 400)
    assert "no workflow" in refusal(SIGNATURE + chunk(b"zTXt", b"comment\0\0" + small) + chunk(b"IEND", b"")).message
    many = chunk(b"zTXt", b"comment\0\0" + small) * 3
    assert "makes no sense" in refusal(SIGNATURE + many + chunk(b"IEND", b"")).message


def test_exif_that_points_outside_and_at_itself() -> None:
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    endless = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry
    outside = b"II*\0" + struct.pack("<I", 2**31)
    for exif in (endless, outside, b"II", b""):
        data = b"RIFF\0\0\0\0WEBPEXIF" + struct.pack("<I", len(exif)) + exif
        assert "WebP picture" in refusal(data).message


def test_a_large_file_is_not_read_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 10_000)
    file = tmp_path / "made.png"
    file.write_bytes(png()[:-12] + chunk(b"more", bytes(100_000)) + png()[-12:])
    assert load(file).graph == GRAPH
