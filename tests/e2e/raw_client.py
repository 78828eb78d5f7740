"""A bare HTTP client and small graphs for tests of the real server, free of the code that is being tested."""

from __future__ import annotations

import itertools
import json
from typing import Any
from urllib.parse import urlencode

import requests
import websocket

from tests.e2e.comfyui_server import CHECKPOINT_NAME, poll

Graph = dict[str, dict[str, Any]]
_colors = itertools.count(0x102030)


class RawClient:
    """Speaks to one server; every call has a time limit."""

    def __init__(self, url: str, seconds: float = 30.0) -> None:
        self.url = url
        self.seconds = seconds
        self._session = requests.Session()
        self._session.trust_env = False

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, path: str, **query: str) -> requests.Response:
        """GET a path."""
        return self._session.get(self.url + path, params=query, timeout=self.seconds)

    def post(self, path: str, body: object = None) -> requests.Response:
        """POST a JSON body, or none."""
        return self._session.post(self.url + path, json=body, timeout=self.seconds)

    def submit(self, graph: Graph, client_id: str | None = None, **more: object) -> str:
        """Put a prompt into the queue; the server must accept all of it."""
        body: dict[str, object] = {"prompt": graph, **more}
        if client_id is not None:
            body["client_id"] = client_id
        response = self.post("/prompt", body)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer["node_errors"] == {}, answer
        return str(answer["prompt_id"])

    def history(self, prompt_id: str) -> dict[str, Any]:
        """The history entry of a prompt; empty while it isn't finished."""
        entry: dict[str, Any] = self.get(f"/history/{prompt_id}").json().get(prompt_id, {})
        return entry

    def finished(self, prompt_id: str, seconds: float = 60.0) -> dict[str, Any]:
        """Wait for the prompt's end and return its history entry."""
        poll(lambda: bool(self.history(prompt_id)), seconds, f"the end of prompt {prompt_id}")
        return self.history(prompt_id)

    def run(self, graph: Graph, seconds: float = 60.0) -> dict[str, Any]:
        """Submit a prompt and wait for its end."""
        return self.finished(self.submit(graph), seconds)

    def running(self) -> list[str]:
        """The ids of the prompts that run now: one or none."""
        return [item[1] for item in self.get("/queue").json()["queue_running"]]

    def pending(self) -> list[str]:
        """The ids of the prompts that wait."""
        return [item[1] for item in self.get("/queue").json()["queue_pending"]]

    def empty_queue(self, seconds: float = 60.0) -> None:
        """Delete what waits, interrupt what runs, and wait until the server is idle."""
        self.post("/queue", {"clear": True})
        self.post("/interrupt")
        poll(lambda: not self.running() and not self.pending(), seconds, "an idle server")

    def listen(self, client_id: str, *, metadata: bool = False) -> websocket.WebSocket:
        """Open a socket; with metadata, ask for the newer kind of preview frames."""
        query = urlencode({"clientId": client_id})
        address = self.url.replace("http", "ws", 1) + f"/ws?{query}"
        socket = websocket.create_connection(address, timeout=self.seconds, http_no_proxy=["*"])
        if metadata:
            flags = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
            socket.send(json.dumps(flags))
        return socket


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """One node in the API format."""
    return {"class_type": class_type, "inputs": inputs}


def chain(*nodes: dict[str, Any], size: int = 32) -> Graph:
    """An image of a colour not used before, through the given nodes by their input `image`, to SaveImage.

    The ids are "1" (EmptyImage), "2" and so on, and the last one's is SaveImage's. Nothing of it is ever cached.
    """
    graph: Graph = {"1": node("EmptyImage", width=size, height=size, batch_size=1, color=next(_colors))}
    for number, middle in enumerate(nodes, start=2):
        graph[str(number)] = {**middle, "inputs": {**middle["inputs"], "image": [str(number - 1), 0]}}
    last = len(graph)
    graph[str(last + 1)] = node("SaveImage", images=[str(last), 0], filename_prefix="chain")
    return graph


def counting(steps: int, *, seconds: float = 0.0, mode: str = "steps", previews: bool = False) -> dict[str, Any]:
    """A node that reports so many steps."""
    return node("ReportSteps", mode=mode, steps=steps, seconds=seconds, previews=previews)


def txt2img(
    *, size: int = 128, steps: int = 4, seed: int = 1, text: str = "a lighthouse at dusk", prefix: str = "txt2img"
) -> Graph:
    """The stock text-to-image workflow with the tiny checkpoint, with the node ids of ComfyUI's default one."""
    return {
        "3": node(
            "KSampler",
            model=["4", 0],
            positive=["6", 0],
            negative=["7", 0],
            latent_image=["5", 0],
            seed=seed,
            steps=steps,
            cfg=7.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
        ),
        "4": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT_NAME),
        "5": node("EmptyLatentImage", width=size, height=size, batch_size=1),
        "6": node("CLIPTextEncode", text=text, clip=["4", 1]),
        "7": node("CLIPTextEncode", text="blurry", clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix=prefix),
    }
