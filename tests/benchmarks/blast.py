"""A server that plays ComfyUI's part from a load, as fast as the socket takes it: the client's cost is all that counts.

`python -m tests.benchmarks.blast [--clock] [--pace N] LOAD…` prints its address and serves until it is ended. It speaks
just enough HTTP and WebSocket for one client after the other: each POST of a prompt lets the load's frames go at once,
history holds the prompt from then on. What it knows for the runner it prints, a JSON object a line:

- `--clock`: at each POST, `cpu`: the CPU seconds that the client had used by then. A line on stdin is the client's pid.
- `--pace N`: N messages a second, and `sent`: when each went, by the monotonic clock.
- always `ended`: when the last frame had gone, by the same clock.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import socket
import struct
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from io import BufferedReader
from typing import Any

from tests.benchmarks.loads import PROMPT, Message, load

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CHUNK = 256 * 1024
_LAZY_WORDS = ("flood",)  # loads that are large and quick to make: they aren't kept
_CLOSE = 8
_PICTURE = b"\x89PNG\r\n\x1a\n".ljust(1024 * 1024, b"x")


def frame(message: Message) -> bytes:
    """One WebSocket frame of a server."""
    head, data = (0x81, message.encode()) if isinstance(message, str) else (0x82, message)
    if len(data) < 126:
        return struct.pack("!BB", head, len(data)) + data
    if len(data) < 65536:
        return struct.pack("!BBH", head, 126, len(data)) + data
    return struct.pack("!BBQ", head, 127, len(data)) + data


def chunks(messages: Iterator[Message]) -> Iterator[bytes]:
    """The frames of *messages*, many at a time."""
    chunk = bytearray()
    for message in messages:
        chunk += frame(message)
        if len(chunk) > _CHUNK:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)


def cpu_of(pid: int) -> float:
    """The CPU seconds that a process has used, all its threads, to the nanosecond (see clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def say(**known: Any) -> None:
    """Tell the runner."""
    print(json.dumps(known), flush=True)


class Blast:
    """One load, served on a free port of loopback."""

    def __init__(self, words: list[str], *, clock: bool = False, pace: float = 0) -> None:
        self._load = load(words)
        self._clock = clock
        self._pace = pace
        self._prepared = None if pace or words[0] in _LAZY_WORDS else list(chunks(self._load.messages()))
        self._socket: socket.socket | None = None
        self._sending = threading.Lock()
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
        with connection, connection.makefile("rb") as reader:
            try:
                while self._answered(connection, reader):
                    pass
            except (ConnectionError, struct.error):
                # The client is gone.
                return

    def _answered(self, connection: socket.socket, reader: BufferedReader) -> bool:
        """Answer one request; whether another may follow."""
        line = reader.readline()
        if not line:
            return False
        method, path, _ = line.decode().split(" ", 2)
        headers = {}
        while (header := reader.readline().decode().strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("upgrade", "").lower() == "websocket":
            self._upgrade(connection, reader, headers["sec-websocket-key"])
            return False
        body = reader.read(int(headers.get("content-length", 0)))
        if "/view?" in path:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 1048576\r\n\r\n")
            connection.sendall(_PICTURE)
            return True
        submitted = method == "POST" and path.endswith("/prompt")
        if submitted and self._clock:
            say(cpu=cpu_of(int(sys.stdin.readline())))
        made = self._submit(json.loads(body)) if submitted else self._answer(path)
        answer = json.dumps(made).encode()
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer
        )
        if submitted:
            threading.Thread(target=self._send, args=(made["prompt_id"],), daemon=True).start()
        return True

    def _upgrade(self, connection: socket.socket, reader: BufferedReader, key: str) -> None:
        accept = base64.b64encode(hashlib.sha1(key.encode() + _MAGIC).digest())
        # Before the client can know that it may submit.
        self._socket = connection
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        status = {"status": {"exec_info": {"queue_remaining": 0}}, "sid": uuid.uuid4().hex}
        connection.sendall(frame(json.dumps({"type": "status", "data": status})))
        while True:
            code, length = struct.unpack("!BB", reader.read(2))
            length &= 0x7F
            if length > 125:
                (length,) = struct.unpack(*(("!H", reader.read(2)) if length == 126 else ("!Q", reader.read(8))))
            mask, data = reader.read(4), reader.read(length)
            if code & 0xF == _CLOSE:
                with self._sending:
                    connection.sendall(b"\x88\x02\x03\xe8")
                return
            text = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
            if b"feature_flags" in text:
                flags = {"supports_preview_metadata": True, "max_upload_size": 104857600}
                with self._sending:
                    connection.sendall(frame(json.dumps({"type": "feature_flags", "data": flags})))

    def _submit(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt_id = body.get("prompt_id", "")
        if len(prompt_id) != len(PROMPT):
            prompt_id = str(uuid.uuid4())
        messages = [["execution_success", {"prompt_id": prompt_id, "timestamp": 1795377805252}]]
        status = {"status_str": "success", "completed": True, "messages": messages}
        prompt = [1, prompt_id, {}, {"client_id": body.get("client_id")}, list(self._load.outputs)]
        self._history[prompt_id] = {"prompt": prompt, "outputs": self._load.outputs, "status": status, "meta": {}}
        return {"prompt_id": prompt_id, "number": 1, "node_errors": {}}

    def _answer(self, path: str) -> dict[str, Any]:
        if "/history/" in path:
            prompt_id = path.rpartition("/")[2]
            return {prompt_id: self._history[prompt_id]} if prompt_id in self._history else {}
        if path.endswith("/queue"):
            return {"queue_running": [], "queue_pending": []}
        return {}

    def _send(self, prompt_id: str) -> None:
        connection, own = self._socket, prompt_id.encode()
        assert connection is not None
        sent = []
        try:
            if self._pace:
                for message in self._load.messages():
                    time.sleep(1 / self._pace)
                    data = frame(message).replace(PROMPT.encode(), own)
                    sent.append(time.monotonic())
                    with self._sending:
                        connection.sendall(data)
            else:
                for chunk in self._prepared or chunks(self._load.messages()):
                    with self._sending:
                        connection.sendall(chunk.replace(PROMPT.encode(), own))
        except OSError:
            # The client is gone.
            return
        say(ended=time.monotonic(), sent=sent)


def main() -> None:
    """Serve the load that is named."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--clock", action="store_true")
    parser.add_argument("--pace", type=float, default=0)
    parser.add_argument("load", nargs="+")
    arguments = parser.parse_args()
    server = Blast(arguments.load, clock=arguments.clock, pace=arguments.pace)
    print(server.url, flush=True)
    server.serve()


if __name__ == "__main__":
    main()
