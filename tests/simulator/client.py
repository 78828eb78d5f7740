"""A plain client for the tests: what it receives is kept in order, and waiting has a deadline."""

from __future__ import annotations

import json
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import requests
import websocket

from comfyreport.simulator import Simulator

DEADLINE = 20.0
"""Seconds: far more than anything here takes."""
Frame = str | bytes


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for a condition, and fails if it doesn't come true."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.002)


class Socket:
    """One open socket and everything it has received."""

    def __init__(self, base: str, client_id: str | None = "", path: str = "/ws") -> None:
        self.client_id = uuid.uuid4().hex if client_id == "" else client_id
        query = "" if self.client_id is None else f"?clientId={self.client_id}"
        self.frames: list[Frame] = []
        self._ws = websocket.create_connection(f"ws{base.removeprefix('http')}{path}{query}", timeout=DEADLINE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                code, data = self._ws.recv_data()
            except (websocket.WebSocketException, OSError):
                return
            if code == websocket.ABNF.OPCODE_CLOSE:
                return
            self.frames.append(data.decode() if code == websocket.ABNF.OPCODE_TEXT else data)

    @property
    def is_open(self) -> bool:
        return self._reader.is_alive()

    def send(self, text: str) -> None:
        self._ws.send(text)

    def close(self) -> None:
        self._ws.close()
        self._reader.join(DEADLINE)

    def messages(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The text frames, decoded; of one type if it is given."""
        start = "{" if kind is None else f'{{"type": "{kind}"'
        return [json.loads(frame) for frame in list(self.frames) if isinstance(frame, str) and frame.startswith(start)]

    def types(self) -> list[str]:
        return [message["type"] for message in self.messages()]

    def ended(self) -> list[str]:
        """The prompts whose very last message has come."""
        return [m["data"]["prompt_id"] for m in self.messages("executing") if m["data"]["node"] is None]

    def wait_for(self, kind: str, count: int = 1) -> None:
        until(lambda: len(self.messages(kind)) >= count, f"{count} of {kind}")

    def wait_end(self, prompt_id: str) -> None:
        until(lambda: prompt_id in self.ended(), f"the end of {prompt_id}")


class Client:
    """Requests to a simulator, with or without a socket."""

    def __init__(self, simulator: Simulator) -> None:
        self.url = simulator.url
        self.session = requests.Session()

    def get(self, path: str) -> Any:
        response = self.session.get(self.url + path, timeout=DEADLINE)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str, body: Any = None) -> requests.Response:
        return self.session.post(self.url + path, json=body, timeout=DEADLINE)

    def submit(self, prompt: dict[str, Any], client_id: str | None = None, **more: Any) -> str:
        body = {"prompt": prompt, **({} if client_id is None else {"client_id": client_id}), **more}
        response = self.post("/prompt", body)
        assert response.status_code == 200, response.text
        return str(response.json()["prompt_id"])

    def run(self, prompt: dict[str, Any]) -> tuple[Socket, str]:
        """Runs a prompt to its end and returns its closed socket."""
        socket = Socket(self.url)
        prompt_id = self.submit(prompt, socket.client_id)
        socket.wait_end(prompt_id)
        socket.close()
        return socket, prompt_id


@contextmanager
def connected(simulator: Simulator) -> Iterator[Client]:
    client = Client(simulator)
    try:
        yield client
    finally:
        client.session.close()


def binary(frame: bytes) -> tuple[int, Any, bytes]:
    """Kind, header (picture format, node id or metadata) and content of a binary frame."""
    kind, size = struct.unpack(">II", frame[:8])
    if kind == 1:
        return kind, size, frame[8:]
    head, rest = frame[8 : 8 + size].decode(), frame[8 + size :]
    return kind, json.loads(head) if kind == 4 else head, rest
