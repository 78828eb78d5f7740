"""Pictures, videos and sounds with the metadata that ComfyUI's nodes write, by the libraries that they use."""

from __future__ import annotations

import functools
import io
import json
import struct
import zlib
from typing import Any

import pytest

GRAPH: dict[str, Any] = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0},
        "_meta": {"title": "Größe"},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "made"}},
}
EDITOR: dict[str, Any] = {"nodes": [{"id": 1, "type": "EmptyImage"}], "links": [], "version": 0.4}
TEXTS = {"prompt": json.dumps(GRAPH), "workflow": json.dumps(EDITOR)}


def png(texts: dict[str, str] = TEXTS, *, packed: bool = False, international: bool = False) -> bytes:
    """As `SaveImage` writes it; *packed* and *international*: as other programs write the same texts."""
    chunks = pytest.importorskip("PIL.PngImagePlugin")
    info = chunks.PngInfo()
    for key, text in texts.items():
        if international:
            info.add_itxt(key, text, zip=packed)
        else:
            info.add_text(key, text, zip=packed)
    return _picture("png", pnginfo=info)


def animated_png() -> bytes:
    """As `SaveAnimatedPNG` writes it: behind the first picture, in chunks that are ComfyUI's own."""
    images = pytest.importorskip("PIL.Image")
    chunks = pytest.importorskip("PIL.PngImagePlugin")
    info = chunks.PngInfo()
    for key, text in TEXTS.items():
        info.add(b"comf", key.encode() + b"\0" + text.encode(), after_idat=True)
    return _picture("png", pnginfo=info, save_all=True, append_images=[images.new("RGB", (8, 8), "red")])


def exif(kind: str, texts: dict[str, str] = TEXTS, *, animated: bool = False, old: bool = False) -> bytes:
    """As `SaveAnimatedWEBP` writes it; *old*: as custom nodes did."""
    images = pytest.importorskip("PIL.Image")
    tags = images.Exif()
    for tag, (key, text) in zip((0x010E, 0x010F) if old else (0x0110, 0x010F), texts.items(), strict=False):
        tags[tag] = f"{key.title() if old else key}:{text}"
    more = {"save_all": True, "append_images": [images.new("RGB", (8, 8), "red")]} if animated else {}
    return _picture(kind, exif=tags, **more)


def _picture(kind: str, **options: Any) -> bytes:
    images = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    images.new("RGB", (8, 8)).save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes, size: int | None = None) -> bytes:
    """A chunk of a PNG; *size*: what it pretends to have."""
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data) if size is None else size) + kind + data + checksum


def video(container: str, texts: dict[str, str] = TEXTS) -> bytes:
    """As `SaveVideo` and `SaveWEBM` write it."""
    return _video(container, tuple(texts.items()))


@functools.cache
def _video(container: str, texts: tuple[tuple[str, str], ...]) -> bytes:
    av = pytest.importorskip("av")
    file = io.BytesIO()
    options = {"movflags": "use_metadata_tags"} if container == "mp4" else {}
    with av.open(file, "w", format=container, options=options) as made:
        made.metadata.update(texts)
        stream = made.add_stream("libvpx-vp9" if container == "webm" else "mpeg4", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        made.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        made.mux(stream.encode())
    return file.getvalue()


@functools.cache
def sound(container: str) -> bytes:
    """As `SaveAudio` and its like write it."""
    av = pytest.importorskip("av")
    codec, sample = {"flac": ("flac", "s16"), "mp3": ("libmp3lame", "s16p"), "opus": ("libopus", "s16")}[container]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as made:
        made.metadata.update(TEXTS)
        stream = made.add_stream(codec, rate=48000, layout="mono", format=sample)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame(format=sample, layout="mono", samples=960)
        frame.sample_rate = 48000
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        made.mux(stream.encode(frame))
        made.mux(stream.encode())
    return file.getvalue()
