"""Images and other media that the simulator serves: real ones, small, and the same for the same input."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath

MAX_SIDE = 2048
"""Pixels; a larger image is served this size, because making it takes time that no test wants to spend."""

MEDIA_TYPES = {
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "glb": "model/gltf-binary",
    "ply": "model/ply",
}

PREVIEW_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhl"
    "bXd7gYKBTmCNl4x9lnN+gXz/2wBDARUXFx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8"
    "fHx8fHx8fHx8fHx8fHx8fHz/wAARCAAQABADASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAABAX/xAAXEAADAQAAAAAA"
    "AAAAAAAAAAAAAwRh/8QAFQEBAQAAAAAAAAAAAAAAAAAAAAL/xAAXEQADAQAAAAAAAAAAAAAAAAAAAwQx/9oADAMBAAIRAxEA"
    "PwCKmTCgmTB6ZMHpkwplAirw/9k="
)
"""A 16x16 colour gradient. A real server's previews are up to 512 pixels wide and 50 to 70 KB."""

_MEDIA = {
    # Zlib and base64. Two colours that take turns for a second, or a tenth of a second of silence.
    "gif": (
        "eNpz93SzsEwUYBBgaGRgOBGgwQADiv+5/VxDgp0dA1yN9AyYGUFCP1kYJIG0DkgepIWBQ5aBkUPGY8OCg80cwloxJzYsPNwu"
        "oOw1x2PjoqONjIwgHYySDIwIHY0aASfgVhDSbQ0Aefgi7A=="
    ),
    "webp": (
        "eNoL8nRz62BgYAh3dQoIC7CI4AKymYCYH4wc/Tx92RhgwNHP100LzoOo+AVUDtTnIwgU0ec/wMzAHrBCSXzp/8aOF/U4dTCg"
        "61gkshOqAwAfMRnU"
    ),
    "png": (
        "eNrrDPBz5+WS4mJgYOD19HAJAtICIMzBBCQnTMwwA1IcickhPkAaJMTwuXdyAZCSSoOIMcA0MMAAIwMLA0PmjUf6QLakp4tj"
        "SMWcZBvBBQcduBKUPL+uaAvkdfZiZmDLYUyovrzaHMkoRuxGfVrN8RvIlk1LcQwBOQJo3BUOCzTjWHUYE+5b+dWAdHm6+rms"
        "c0poAgAYnCrb"
    ),
    "mp4": (
        "eNp9UztPwzAQviTlMTAUlZdEEUWUjVcjhBhhQR0QTDAgBtLaoVFjUsUmEix0YACp8A/4AQxICAQzQxfYWWBk4V+Us5MKUx6n"
        "nL/z+R6+OwcAsq44rHk8YAAmSES2WW2hAAC9bkgp4iYjjgAw7iDdg/CQMRuD1zcLl5pq2GpMLjYfX4413Wh3I//w+LSnqcZ7"
        "G6tvQ1Y/gLXCgiDC4D6LKgS+kfWh2AD5fZHx3apzvwz/kolfVYROFeUdUVU5rZ/RZO7/8/yaN50wQJ4SwRGz1OfiyyOJq3yN"
        "d0Y8B4UcI521LyvebKrNTIX4Yfsk8gjVLbdwHxSdfeJTaWNcMG/fRWEgYiqofs08ic+yJKSuVkbfQejnYtlY56Lko/zKBSea"
        "zTO+huiPVsii01BELP5p0UkjrRauu5QTrhper9c30C2FuJLrj2dVkWsXauYw4o283f1ZJg5u5KB5fgpTcGIOlHF7u+ZE5UV7"
        "1l6aLczb3ehjmLILJREm7Y+jycxcqNG075lKZpbFisuaPjlTmMezI+32Up+R8RNUMhflQPOfRi4dECFHvM2oQkkT+jjxCYRO"
        "rebrrZnx4jczdSUCGXAM/zun3VSs08U6C7as8xMIyn4g"
    ),
    "webm": (
        "eNqTcr2/eL5TWyOj03cg/tTI4vS5kcOpqaU8NSnXqb2Ryam1kUkiuCGdkQEEmAIEfWeX7PLd3R28ukXUc2Va8JrGhRCeWMi6"
        "bCDvhu/uHiBPKORwevCaJkZpCFcmeDdQsolJ4w3EHIZIBloBkKs2aV3f2Mzv5ODb0OuTWJZmZqRnCEQGRuGOqHyXzg6Hfgew"
        "NpDz962Dus70eiNj8dEOoQnspeJWN3fOaWRQ2jqnuTQvpaORoa01LD4swKK5kVH5cXML37NNDQ/aNjQK7GoUAPn5RnHxguQD"
        "DeknZrkubnf1c/Z3cQ1yaUe1tbh4U/KB7mSE+eknFrou7nAJDXIM8fT3c2mfbGBgBUKGegYwwCDvvK3UYdXzRobFWxsZGBoM"
        "mBjmMmoJMAgwMLhztLZ2tLZ0MDExlXzJ92/491+Uv/7na/v/z9f8/z9v8//zEcJlbAyLlzYy/GLYyMjAKrCGQYLBwP4LD9Cj"
        "/95rWkpkXP8/x/v/gvgf3GcYFk9tZPyCUCYRIaH/Aqhw8YZGpndIlrKwQy0VbQJZatMAM2jezP939v/NfcUAivHFu/s3NzJs"
        "7wKmrI9NjBUfGpl3T9jcxPQOSaQCAGWJ1Go="
    ),
    "flac": ("eNpL80l0bmBgUBJiEGJgYOAGIu4dDB8YGIQOlAV+NK3Vm9N/VvtLlda1613/f0RxMDQCFWl3/P8hxcEIZDFUnwEASqwUMA=="),
    "mp3": (
        "eNrzdDFmYQAB5ZDgYFcgzc/AwOyTWJZmZqRnCEQGRgwI8P93yAEGdOCZl5YP0cfAxsDA6sDgiQZy0cEkNLANHdxGB//RAMhe"
        "kCMxHKPCBmWwOlzasc8QTRbo/iMMzAcYGJcAOQoMDCYNDAwsPo4+jr6uxkCvGoQOcgByf2gzmvtDQ4eU+1cxj7p/kLl/yICh"
        "7n4A47bCtA=="
    ),
    "opus": (
        "eNrzT08PZmBigIIdu6ROgOjeMvHDjML+BaXFHqmJKYyMFowNu8EK/EHKGZCVMwLp6ScEzRnNQMpDEtOLeYEiPollaWZGeoZA"
        "ZGAEUiIKxKl5yfkpqUW2KJJgE1l+CCNMBLnGr7Woh40ZDH78/4eGAJLHNWI="
    ),
}


@dataclass(frozen=True, slots=True)
class Image:
    """A still image that is made when it is asked for. Sizes in pixels."""

    width: int = 512
    height: int = 512
    seed: int = 0
    text: str = ""
    """What goes into the PNG as its text chunk `prompt`, as ComfyUI does with the workflow."""

    def png(self) -> bytes:
        """A diagonal gradient whose colours follow from the seed."""
        width, height = (min(max(side, 1), MAX_SIDE) for side in (self.width, self.height))
        offsets = [(self.seed * step) % 256 for step in (7, 31, 101)]
        ramp = [*range(0, 256, 2), *range(255, 0, -2)]
        wave = bytes((ramp[x % 256] + offset) % 256 for x in range(256) for offset in offsets)
        stripe = wave * ((width + height) // 256 + 1)
        rows = b"".join(b"\0" + stripe[3 * y : 3 * (y + width)] for y in range(height))
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        text = _chunk(b"tEXt", b"prompt\0" + self.text.encode("latin-1", "replace")) if self.text else b""
        body = _chunk(b"IDAT", zlib.compress(rows, 1))
        return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + text + body + _chunk(b"IEND", b"")


def _chunk(chunk_type: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + chunk_type + data + struct.pack(">I", zlib.crc32(chunk_type + data))


_PLY = "ply\nformat ascii 1.0\nelement vertex 1\n{}end_header\n0 0 0\n"


def media_content(suffix: str) -> bytes:
    """An animated image, a video, a sound or a 3D model whose file name ends in `suffix` (no dot)."""
    if suffix == "glb":
        scene = b'{"asset":{"version":"2.0"},"scene":0,"scenes":[{}]}'.ljust(52)
        return struct.pack("<4sIIII", b"glTF", 2, 20 + len(scene), len(scene), 0x4E4F534A) + scene
    if suffix == "ply":
        return _PLY.format("".join(f"property float {axis}\n" for axis in "xyz")).encode()
    return zlib.decompress(base64.b64decode(_MEDIA[suffix]))


def media_type(filename: str) -> str:
    return MEDIA_TYPES.get(PurePosixPath(filename).suffix[1:].lower(), "application/octet-stream")
