"""The open sockets and what goes out on them. Everything that leaves on a socket leaves through `deliver`."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import ClientError, web

PREVIEW, TEXT, PREVIEW_WITH_METADATA = 1, 3, 4
"""The kinds of binary frames."""
JPEG, PNG = 1, 2
"""The image formats of a preview."""
MAX_UPLOAD = 100 * 1024 * 1024
"""Bytes: the largest request body."""
FEATURE_FLAGS = {"supports_preview_metadata": True, "max_upload_size": MAX_UPLOAD}
"""The server's answer to a client's feature flags."""

Frame = str | bytes


class Sockets:
    """One socket a client id (sid). Messages for all or for one go out in the order in which they were sent; one slow
    reader holds up all of them, as in the real server."""

    def __init__(self, outgoing: Callable[[Frame], Awaitable[list[Frame]]]) -> None:
        self._outgoing = outgoing
        """What goes out instead of a frame."""
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._feature_flags: dict[str, dict[str, Any]] = {}
        self._queue: asyncio.Queue[tuple[Frame, str | None]] = asyncio.Queue()

    def open(self, sid: str, socket: web.WebSocketResponse) -> None:
        """A newer socket takes the place of an older one with the same id, which is sent nothing more."""
        self._sockets[sid] = socket
        self._feature_flags[sid] = {}

    def close(self, sid: str) -> None:
        """Forgets the id, even where a newer socket has taken it: that one is sent nothing from now on."""
        self._sockets.pop(sid, None)
        self._feature_flags.pop(sid, None)

    def set_feature_flags(self, sid: str, flags: dict[str, Any]) -> None:
        if sid in self._feature_flags:
            self._feature_flags[sid] = flags

    def wants_metadata(self, sid: str | None) -> bool:
        return bool(self._feature_flags.get(sid or "", {}).get("supports_preview_metadata"))

    def send(self, event: str, data: dict[str, Any], sid: str | None) -> None:
        """Queues a message for one client, or for all sockets (None)."""
        self._queue.put_nowait((message(event, data), sid))

    def send_preview(self, image_format: int, image: bytes, metadata: dict[str, Any] | None, sid: str | None) -> None:
        if metadata is None:
            frame = struct.pack(">II", PREVIEW, image_format) + image
        else:
            image_type = "image/jpeg" if image_format == JPEG else "image/png"
            text = json.dumps({**metadata, "image_type": image_type}).encode()
            frame = struct.pack(">II", PREVIEW_WITH_METADATA, len(text)) + text + image
        self._queue.put_nowait((frame, sid))

    def send_text(self, node_id: str, text: str, sid: str | None) -> None:
        node = node_id.encode()
        self._queue.put_nowait((struct.pack(">II", TEXT, len(node)) + node + text.encode(), sid))

    async def publish_loop(self) -> None:
        """Sends what is queued, for ever."""
        while True:
            frame, sid = await self._queue.get()
            if sid is None:
                targets = list(self._sockets.values())
            else:
                targets = [self._sockets[sid]] if sid in self._sockets else []
            for socket in targets:
                await self.deliver(socket, frame)

    async def deliver(self, socket: web.WebSocketResponse, frame: Frame) -> None:
        """Writes one frame to one socket; a socket that is gone is no error."""
        try:
            for each in await self._outgoing(frame):
                if isinstance(each, str):
                    await socket.send_str(each)
                else:
                    await socket.send_bytes(each)
        except (ClientError, ConnectionError, RuntimeError):
            pass


def message(event: str, data: dict[str, Any]) -> str:
    """A text frame; ASCII alone, as the real server writes it."""
    return json.dumps({"type": event, "data": data})
