"""The bodies of requests, as they are sent and as a recording has them; what the server answers to an upload. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import BinaryIO

from comfyreport.protocol.decode import dumps
from comfyreport.protocol.messages import Json
from comfyreport.text import FILE_NAME_LIMIT

_CHUNK = 64 * 1024


class Body:
    """A request's body: of *size* bytes, of which `sent` were taken. It may take its time while the server takes it.

    `shown` is what a recording has of it; `on_turn` is called before each piece and behind the last.
    """

    def __init__(self, pieces: Iterable[bytes], size: int, media_type: str, shown: Json) -> None:
        self.size = size
        self.sent = 0
        self.headers = {"Content-Type": media_type, "Content-Length": str(size)}
        self.shown = shown
        self.on_turn: Callable[[], object] = lambda: None
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.on_turn()
            yield piece
            self.sent += len(piece)
        self.on_turn()


class FileChangedError(Exception):
    """The file that was being uploaded became shorter meanwhile."""


def json_body(content: Json) -> Body:
    """*content* as JSON."""
    data = dumps(content)
    return Body(_pieces(data), len(data), "application/json", content)


def upload_body(file: BinaryIO, size: int, filename: str, fields: Mapping[str, str]) -> Body:
    """A form that uploads *size* bytes of *file* as `image`, whatever they are; *filename* needs no quoting.

    Its pieces raise FileChangedError where there are fewer.
    """
    boundary = f"comfyreport-{uuid.uuid4().hex}"
    begin = f"--{boundary}\r\nContent-Disposition: form-data; name="
    head = "".join(f'{begin}"{name}"\r\n\r\n{value}\r\n' for name, value in fields.items())
    head += f'{begin}"image"; filename="{filename}"\r\nContent-Type: application/octet-stream\r\n\r\n'
    first, last = head.encode(), f"\r\n--{boundary}--\r\n".encode()
    pieces = chain([first], _file_pieces(file, size), [last])
    shown = {**fields, "image": {"filename": filename, "bytes": size}}
    return Body(pieces, len(first) + size + len(last), f"multipart/form-data; boundary={boundary}", shown)


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), _CHUNK):
        yield data[start : start + _CHUNK]


def _file_pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        piece = file.read(min(size, _CHUNK))
        if not piece:
            raise FileChangedError
        size -= len(piece)
        yield piece


def read_uploaded(body: Json) -> str | None:
    """What a loader's input has to be for an upload that *body* answers; None where it is none of ComfyUI's."""
    name = body.get("name") if isinstance(body, dict) else None
    subfolder = body.get("subfolder", "") if isinstance(body, dict) else None
    if not isinstance(name, str) or not isinstance(subfolder, str) or not 0 < len(name) <= FILE_NAME_LIMIT:
        return None
    return f"{subfolder}/{name}" if 0 < len(subfolder) <= FILE_NAME_LIMIT else name
