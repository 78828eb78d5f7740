"""A server that follows ComfyUI's protocol and lies: each of its answers and each of its frames can be replaced."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

WORKFLOW = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8}},
    "2": {"class_type": "KSampler", "inputs": {"image": ["1", 0], "seed": 7}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}},
}


class Raw(NamedTuple):
    """Bytes that go onto the wire as they are."""

    data: bytes


class Reply(NamedTuple):
    """An HTTP answer. The body is bytes, anything that JSON can tell, or pieces that are written as they come.

    `raw`: the pieces are all that is written, without a status and headers of ours.
    """

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = {"Content-Type": "application/json"}
    pieces: Iterable[bytes] | None = None
    raw: bool = False


Frame = str | bytes | Raw | float
Answer = Callable[[str], Any]


def frame(data: str | bytes, *, last: bool = True, opcode: int | None = None) -> bytes:
    """A WebSocket frame as a server sends it."""
    payload = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    kind = (1 if isinstance(data, str) else 2) if opcode is None else opcode
    return head(len(payload), kind, last=last) + payload


def head(length: int, opcode: int, *, last: bool = True) -> bytes:
    """The beginning of a frame whose payload has so many bytes, or pretends to."""
    first = bytes([opcode | (0x80 if last else 0)])
    if length < 126:
        return first + bytes([length])
    return first + (struct.pack(">BH", 126, length) if length < 65536 else struct.pack(">BQ", 127, length))


def message(kind: str, **data: Any) -> str:
    """A text frame's text; `ID` in it is replaced by the prompt's id when it is sent."""
    return json.dumps({"type": kind, "data": data})


def own(kind: str, **data: Any) -> str:
    """A message about the prompt that was submitted."""
    return message(kind, prompt_id="ID", **data)


BEGIN = (
    own("execution_start", timestamp=1),
    own("execution_cached", nodes=[], timestamp=1),
    own("executing", node="1", display_node="1"),
    own("executing", node="2", display_node="2"),
    own("progress", node="2", value=1, max=2),
)
END = (own("execution_success", timestamp=1), own("executing", node=None))


def picture(name: Any = "made.png", subfolder: Any = "", folder: Any = "output") -> dict[str, Any]:
    """One entry of a node's `images`."""
    return {"filename": name, "subfolder": subfolder, "type": folder}


def history(
    prompt_id: str, outputs: Any = None, *, status: str = "success", messages: Iterable[Any] = (), graph: Any = None
) -> dict[str, Any]:
    """What /history answers of a prompt that has ended."""
    made = {"3": {"images": [picture()]}} if outputs is None else outputs
    return {
        prompt_id: {
            "prompt": [1, prompt_id, WORKFLOW if graph is None else graph, {"client_id": "me"}, ["3"]],
            "outputs": made,
            "status": {"status_str": status, "completed": status == "success", "messages": list(messages)},
            "meta": {},
        }
    }


class _Handler(BaseHTTPRequestHandler):
    server: Hostile
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name that it has there
        pass

    def do_GET(self) -> None:
        server, path = self.server, urlsplit(self.path).path
        server.authorized.append(self.headers.get("Authorization"))
        server.asked.append(f"GET {self.path}")
        if path == "/ws":
            self._socket()
        elif path == "/queue":
            self._answer(server.queue(server.prompt_id))
        elif path.startswith("/history/"):
            self._answer(server.history(server.prompt_id) if server.ended.is_set() else {})
        elif path == "/view":
            query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
            server.viewed.append(query.get("filename", [""])[0])
            self._answer(server.view(server.viewed[-1]))
        else:
            self._answer(Reply(status=404))

    def do_POST(self) -> None:
        server = self.server
        server.authorized.append(self.headers.get("Authorization"))
        server.asked.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/prompt":
            server.body = json.loads(body)
            server.prompt_id = server.body["prompt_id"]
            self._answer(server.post(server.prompt_id))
            server.submitted.set()
        elif self.path == "/upload/image":
            server.uploads.append(body)
            self._answer(server.upload("a.png"))
        else:
            self._answer(Reply(b""))

    def _answer(self, given: Any) -> None:
        reply = given if isinstance(given, Reply) else Reply(given)
        if not reply.raw:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value.encode().decode("latin-1"))
        try:
            if reply.pieces is not None:
                self.close_connection = True
                if not reply.raw:
                    self.end_headers()
                for piece in reply.pieces:
                    self.wfile.write(piece)
                return
            data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            self.close_connection = True

    def _socket(self) -> None:
        server = self.server
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)):
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        server.sockets += 1
        try:
            self.wfile.write(frame(message("status", status={"exec_info": {"queue_remaining": 0}}, sid="me")))
            server.submitted.wait()
            for each in server.frames if server.sockets == 1 else server.frames_again:
                self._send(each)
            server.ended.set()
            server.closing.wait()
        except OSError:
            server.ended.set()

    def _send(self, each: Frame) -> None:
        if isinstance(each, float):
            time.sleep(each)
        elif isinstance(each, Raw):
            self.wfile.write(each.data)
        elif isinstance(each, str):
            self.wfile.write(frame(each.replace("ID", self.server.prompt_id)))
        else:
            self.wfile.write(frame(each))


class Hostile(ThreadingHTTPServer):
    """The server, in threads of its own as long as it is entered. What isn't given is what an honest one does.

    :param frames: sent on the first socket once the prompt is there; *frames_again* on all later ones. A number is a
        wait. When all of them are sent, history has the prompt.
    :param post: and the others answer one route each, given the prompt's id; *view* the file's name.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        frames: Iterable[Frame] = (*BEGIN, *END),
        *,
        frames_again: Iterable[Frame] = (),
        post: Answer = lambda prompt_id: {"prompt_id": prompt_id, "number": 1, "node_errors": {}},
        queue: Answer = lambda prompt_id: {"queue_running": [[1, prompt_id, {}, {}, []]], "queue_pending": []},
        history: Answer = history,
        view: Answer = lambda name: Reply(b"bytes", headers={"Content-Type": "image/png"}),
        upload: Answer = lambda name: {"name": name, "subfolder": "", "type": "input"},
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.frames, self.frames_again = frames, frames_again
        self.post, self.queue, self.history, self.view, self.upload = post, queue, history, view, upload
        self.uploads: list[bytes] = []
        self.prompt_id = ""
        self.body: Any = None
        self.asked: list[str] = []
        self.authorized: list[str | None] = []
        self.viewed: list[str] = []
        self.sockets = 0
        self.submitted = threading.Event()
        self.ended = threading.Event()
        self.closing = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""

    def __enter__(self) -> Hostile:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self.submitted.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
