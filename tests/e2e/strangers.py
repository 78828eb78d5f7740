"""Servers on loopback that are no ComfyUI: each takes connections and answers in a way of its own, or not at all."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

Answer = Callable[[socket.socket, bytes], None]
REQUEST_LIMIT = 1_000_000
TLS = b"\x16"


def http(status: str, body: bytes = b"", *headers: str) -> Answer:
    """Answers every request in the same way."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return lambda connection, request: connection.sendall(head + body)


def garbage(connection: socket.socket, request: bytes) -> None:
    """Answers in no language at all."""
    connection.sendall(bytes(range(256)) * 8)


def hang_up(connection: socket.socket, request: bytes) -> None:
    """Says nothing and closes."""


def hang(connection: socket.socket, request: bytes) -> None:
    """Says nothing and waits for the other side to give up."""
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass


class Stranger:
    """One such server; `requests` are those that it got, each from its first line on."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[bytes] = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def submissions(self) -> list[bytes]:
        """The requests that would have put a prompt into the queue."""
        return [request for request in self.requests if request.startswith(b"POST")]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        request = b""
        with contextlib.suppress(OSError), connection:
            # What begins with no letter is no HTTP, and no server waits for its end.
            while b"\r\n\r\n" not in request and len(request) < REQUEST_LIMIT and request[:1] != TLS:
                piece = connection.recv(65536)
                if not piece:
                    break
                request += piece
            if request:
                self.requests.append(request)
            self._answer(connection, request)

    def close(self) -> None:
        """Stop listening and end all connections."""
        for each in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)


@contextlib.contextmanager
def stranger(answer: Answer) -> Iterator[Stranger]:
    """A server that answers so, for as long as it is needed."""
    server = Stranger(answer)
    try:
        yield server
    finally:
        server.close()
