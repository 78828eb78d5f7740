"""A server that plays ComfyUI's part from a load, as fast as the socket takes it: the client's cost is all that counts.

`python -m tests.benchmarks.blast LOAD` prints its address and serves until it is ended. It speaks just enough HTTP and
WebSocket for one client after the other: each POST of a prompt lets the load's frames go at once, history
holds the prompt from then on.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import sys
import threading
from pathlib import Path
from typing import Any

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(data: bytes, *, text: bool) -> bytes:
    """One WebSocket frame of a server."""
    head = 0x81 if text else 0x82
    if len(data) < 126:
        return struct.pack("!BB", head, len(data)) + data
    if len(data) < 65536:
        return struct.pack("!BBH", head, 126, len(data)) + data
    return struct.pack("!BBQ", head, 127, len(data)) + data


class Blast:
    """One load, served on a free port of loopback."""

    def __init__(self, messages: list[str], outputs: dict[str, Any]) -> None:
        self._messages = messages
        self._outputs = outputs
        self._socket: socket.socket | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._history: dict[str, Any] = {}

    def serve(self) -> None:
        """Take connections for ever, each on a thread of its own."""
        while True:
            connection, _ = self._listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        while line := reader.readline():
            method, path, _ = line.decode().split(" ", 2)
            headers = {}
            while (header := reader.readline().decode().strip()) != "":
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            if headers.get("upgrade", "").lower() == "websocket":
                self._upgrade(connection, headers["sec-websocket-key"])
                return
            body = reader.read(int(headers.get("content-length", 0)))
            answer = json.dumps(self._answer(method, path, body)).encode()
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer)
                + answer
            )
            if method == "POST" and path == "/prompt":
                threading.Thread(target=self._send, args=(json.loads(body)["prompt_id"],), daemon=True).start()

    def _upgrade(self, connection: socket.socket, key: str) -> None:
        accept = base64.b64encode(hashlib.sha1(key.encode() + _MAGIC).digest())
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self._socket = connection
        status = b'{"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}}}'
        connection.sendall(frame(status, text=True))
        # The client's frames are read and dropped.
        while connection.recv(65536):
            pass

    def _answer(self, method: str, path: str, body: bytes) -> Any:
        if method == "POST" and path == "/prompt":
            prompt_id = json.loads(body)["prompt_id"]
            status = {"status_str": "success", "completed": True, "messages": []}
            self._history[prompt_id] = {"outputs": self._outputs, "status": status}
            return {"prompt_id": prompt_id, "number": 1, "node_errors": {}}
        if path.startswith("/history/"):
            prompt_id = path.rpartition("/")[2]
            return {prompt_id: self._history[prompt_id]} if prompt_id in self._history else {}
        return {"queue_running": [], "queue_pending": []}

    def _send(self, prompt_id: str) -> None:
        assert self._socket is not None
        for message in self._messages:
            self._socket.sendall(frame(message.replace("PROMPT", prompt_id).encode(), text=True))


def main() -> None:
    """Serve the load in the file that is named."""
    load = json.loads(Path(sys.argv[1]).read_text())
    server = Blast(load["messages"], load["outputs"])
    print(server.url, flush=True)
    server.serve()


if __name__ == "__main__":
    main()
