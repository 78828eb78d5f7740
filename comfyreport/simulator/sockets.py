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
MAX_UPLOAD = 100 * 1024 * 1024
"""Bytes: the largest request body."""
FLAGS = {"supports_preview_metadata": True, "max_upload_size": MAX_UPLOAD}
"""The server's answer to a client's feature flags."""

Frame = str | bytes


class Sockets:
    """One socket an id. Messages for all or for one id go out in the order in which they were sent; one slow
    reader holds up all of them, as in the real server."""

    def __init__(self, outgoing: Callable[[Frame], Awaitable[list[Frame]]]) -> None:
        self.outgoing = outgoing
        """What goes out instead of a frame."""
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._flags: dict[str, dict[str, Any]] = {}
        self._outbox: asyncio.Queue[tuple[Frame, str | None]] = asyncio.Queue()

    def open(self, sid: str, socket: web.WebSocketResponse) -> None:
        """A newer socket takes the place of an older one with the same id, which hears nothing more."""
        self._sockets[sid] = socket
        self._flags[sid] = {}

    def close(self, sid: str) -> None:
        """Forgets the id, even where a newer socket has taken it: that one is deaf from now on."""
        self._sockets.pop(sid, None)
        self._flags.pop(sid, None)

    def set_flags(self, sid: str, flags: dict[str, Any]) -> None:
        if sid in self._flags:
            self._flags[sid] = flags

    def wants_metadata(self, client: str | None) -> bool:
        return bool(self._flags.get(client or "", {}).get("supports_preview_metadata"))

    def send(self, event: str, data: dict[str, Any], client: str | None) -> None:
        """Puts a message in line for one client, or for all sockets (None)."""
        self._outbox.put_nowait((message(event, data), client))

    def send_picture(self, kind: int, picture: bytes, about: dict[str, Any] | None, client: str | None) -> None:
        """A picture (1 JPEG, 2 PNG), with metadata if there is some."""
        if about is None:
            frame = struct.pack(">II", PREVIEW, kind) + picture
        else:
            text = json.dumps({**about, "image_type": "image/jpeg" if kind == 1 else "image/png"}).encode()
            frame = struct.pack(">II", PREVIEW_WITH_METADATA, len(text)) + text + picture
        self._outbox.put_nowait((frame, client))

    def send_text(self, node_id: str, text: str, client: str | None) -> None:
        node = node_id.encode()
        self._outbox.put_nowait((struct.pack(">II", TEXT, len(node)) + node + text.encode(), client))

    async def publish(self) -> None:
        """Sends what is in line, for ever."""
        while True:
            frame, client = await self._outbox.get()
            if client is None:
                targets = list(self._sockets.values())
            else:
                targets = [self._sockets[client]] if client in self._sockets else []
            for socket in targets:
                await self.deliver(socket, frame)

    async def deliver(self, socket: web.WebSocketResponse, frame: Frame) -> None:
        """Writes one frame to one socket; a socket that is gone is no error."""
        try:
            for each in await self.outgoing(frame):
                if isinstance(each, str):
                    await socket.send_str(each)
                else:
                    await socket.send_bytes(each)
        except (ClientError, ConnectionError, RuntimeError):
            pass


def message(event: str, data: dict[str, Any]) -> str:
    """A text frame; ASCII alone, as the real server writes it."""
    return json.dumps({"type": event, "data": data})
