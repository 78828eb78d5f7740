"""Make the recordings of this folder from full ones: `python tests/recordings/shrink.py FULL_FOLDER`.

A full recording is mostly preview pictures. Here each picture becomes a tiny valid one of the same kind, in
the same frame header, so that a decoder has everything to do that it has with the original:

* `b64` of a binary frame: header and metadata stay, the picture is a 16x16 JPEG (or a 1x1 PNG), `bytes` is the
  new length and `original_bytes` the recorded one;
* `b64` of an answer of `/view` stays (those are under a kilobyte); larger bodies were never recorded.

Files over 60 kB are written as `NAME.jsonl.gz`, with no time stamp: the same input gives the same bytes.
"""

from __future__ import annotations

import base64
import gzip
import json
import struct
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PLAIN_LIMIT = 60_000
"""A recording of more bytes than this is compressed."""

TINY_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhlbXd7gYKBTmCN"
    "l4x9lnN+gXz/2wBDARUXFx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHz/wAAR"
    "CAAQABADASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAABAX/xAAXEAADAQAAAAAAAAAAAAAAAAAAAwRh/8QAFQEBAQAAAAAAAAAAAAAA"
    "AAAAAAL/xAAXEQADAQAAAAAAAAAAAAAAAAAAAwQx/9oADAMBAAIRAxEAPwCKmTCgmTB6ZMHpkwplAirw/9k="
)
TINY_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mNIaFgAAALEAYF2r9doAAAAAElFTkSuQmCC"
)


def tiny_frame(frame: bytes) -> bytes:
    """The same binary frame with a tiny picture; a frame without a picture (kind 3) is left alone."""
    (kind,) = struct.unpack(">I", frame[:4])
    if kind == 1:
        return frame[:8] + (TINY_PNG if frame[4:8] == b"\0\0\0\2" else TINY_JPEG)
    if kind == 4:
        (size,) = struct.unpack(">I", frame[4:8])
        meta = json.loads(frame[8 : 8 + size])
        return frame[: 8 + size] + (TINY_PNG if meta["image_type"] == "image/png" else TINY_JPEG)
    return frame


def shrink(record: dict[str, Any]) -> dict[str, Any]:
    if record["kind"] == "ws-binary" and "b64" in record:
        frame = tiny_frame(base64.b64decode(record["b64"]))
        record["original_bytes"] = record.get("bytes", len(base64.b64decode(record["b64"])))
        record["bytes"] = len(frame)
        record["b64"] = base64.b64encode(frame).decode()
    return record


def main(full: Path) -> None:
    for source in sorted(full.glob("*.jsonl")):
        with source.open(encoding="utf-8") as lines:
            text = "".join(json.dumps(shrink(json.loads(line)), ensure_ascii=False) + "\n" for line in lines)
        data = text.encode()
        if len(data) > PLAIN_LIMIT:
            (HERE / f"{source.name}.gz").write_bytes(gzip.compress(data, 9, mtime=0))
        else:
            (HERE / source.name).write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
