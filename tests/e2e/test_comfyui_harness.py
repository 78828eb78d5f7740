"""The harness itself: the real server, each node of the pack, the tiny checkpoint."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Iterable
from typing import Any

import pytest
from websocket import WebSocket

from tests.e2e.comfyui_env import COMFYUI_VARIABLE, PACKED_VERSION
from tests.e2e.comfyui_server import ComfyUI, poll
from tests.e2e.conftest import ComfyUIFactory
from tests.e2e.raw_client import RawClient, chain, node, txt2img

pytestmark = pytest.mark.real

Arrival = tuple[float, str, Any]

# What three steps in each mode of ReportSteps tell: value and total.
MANNERS: dict[str, list[tuple[float, float]]] = {
    "steps": [(1, 3), (2, 3), (3, 3)],
    "restart": [(1, 3), (2, 3), (3, 3), (1, 3), (2, 3), (3, 3)],
    "float": [(1 / 3, 1.0), (2 / 3, 1.0), (1.0, 1.0)],
    "growing": [(1, 4), (2, 5), (3, 6)],
    "past_total": [(1, 3), (2, 3), (3, 3), (3, 3), (3, 3)],
    "zero_total": [(0, 0), (0, 0), (0, 0)],
    "two_bars": [(1, 3), (1, 2), (2, 2), (2, 3), (1, 2), (2, 2), (3, 3), (1, 2), (2, 2)],
}
# Of those, what a newer server passes on where they come fast and without previews: the first, and what fills a bar.
THROTTLED: dict[str, list[tuple[float, float]]] = {
    "steps": [(1, 3), (3, 3)],
    "restart": [(1, 3), (3, 3), (3, 3)],
    "float": [(1 / 3, 1.0), (1.0, 1.0)],
    "growing": [(1, 4)],
    "past_total": [(1, 3), (3, 3), (3, 3), (3, 3)],
    "zero_total": [(0, 0), (0, 0), (0, 0)],
    "two_bars": [(1, 3), (2, 2), (2, 2), (3, 3), (2, 2)],
}


def listen_to_end(socket: WebSocket) -> list[Arrival]:
    """Everything that arrives up to the end of a prompt: when, of what kind, and what it holds."""
    arrivals: list[Arrival] = []
    while True:
        frame = socket.recv()
        now = time.monotonic()
        if isinstance(frame, bytes):
            arrivals.append((now, "binary", frame))
            continue
        message = json.loads(frame)
        arrivals.append((now, message["type"], message["data"]))
        if message["type"] == "executing" and message["data"]["node"] is None:
            return arrivals


def follow(raw: RawClient, graph: dict[str, Any], client_id: str, *, metadata: bool = False) -> list[Arrival]:
    """Run a graph and return all that its client was told."""
    socket = raw.listen(client_id, metadata=metadata)
    try:
        raw.submit(graph, client_id)
        return listen_to_end(socket)
    finally:
        socket.close()


def of_kind(arrivals: Iterable[Arrival], kind: str) -> list[Any]:
    """What the messages of one kind hold."""
    return [data for _, found, data in arrivals if found == kind]


def message_names(entry: dict[str, Any]) -> list[str]:
    """The names of the messages that the history keeps of a prompt."""
    return [message[0] for message in entry["status"]["messages"]]


def failure(entry: dict[str, Any]) -> dict[str, Any]:
    """What the history says about the error that ended a prompt."""
    assert entry["status"]["status_str"] == "error"
    found: dict[str, Any] = dict(entry["status"]["messages"])["execution_error"]
    return found


def assert_success(entry: dict[str, Any]) -> None:
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]


def test_the_server_answers_and_loaded_all_its_nodes(comfyui: ComfyUI, raw: RawClient) -> None:
    version = comfyui.environment.version
    assert raw.get("/system_stats").json()["system"]["comfyui_version"] == version
    assert version == PACKED_VERSION or os.environ.get(COMFYUI_VARIABLE)
    assert {"KSampler", "SaveVideo", "ImageUpscaleWithModel", "ReportSteps"} <= raw.get("/object_info").json().keys()
    assert "IMPORT FAILED" not in comfyui.log.read_text(encoding="utf-8")
    sys.stdout.write(f"the server answered after {comfyui.started_in:.1f} s\n")


@pytest.mark.parametrize("previews", [False, True])
@pytest.mark.parametrize("mode", MANNERS)
def test_steps_in_every_manner(comfyui: ComfyUI, raw: RawClient, mode: str, previews: bool) -> None:
    """With previews every step is told, by servers of each generation."""
    expected = THROTTLED if comfyui.environment.newer and not previews else MANNERS
    steps = node("ReportSteps", mode=mode, steps=3, seconds=0.0, previews=previews)
    arrivals = follow(raw, chain(steps), f"steps-{mode}-{previews}")
    assert [(data["value"], data["max"]) for data in of_kind(arrivals, "progress")] == expected[mode]


def test_steps_with_previews(raw: RawClient) -> None:
    steps = node("ReportSteps", mode="steps", steps=3, seconds=0.0, previews=True)
    frames = of_kind(follow(raw, chain(steps), "node-previews"), "binary")
    assert len(frames) == 3
    assert all(frame.startswith(b"\x00\x00\x00\x01\x00\x00\x00\x01\xff\xd8") for frame in frames)


def test_raise(raw: RawClient) -> None:
    entry = raw.run(chain(node("ReportRaise", message="by design", steps=2, seconds=0.0)))
    error = failure(entry)
    assert (error["node_id"], error["node_type"]) == ("2", "ReportRaise")
    assert (error["exception_type"], error["exception_message"]) == ("RuntimeError", "by design\n")


def test_out_of_memory(raw: RawClient) -> None:
    error = failure(raw.run(chain(node("ReportOutOfMemory"))))
    assert error["exception_type"] == "torch.OutOfMemoryError"
    assert "This error means you ran out of memory" in error["exception_message"]


@pytest.mark.parametrize("verbose", [True, False])
def test_block(raw: RawClient, verbose: bool) -> None:
    graph = chain(node("ReportBlock", verbose=verbose, message="not today"))
    arrivals = follow(raw, graph, f"block-{verbose}")
    errors = of_kind(arrivals, "execution_error")
    assert [error["exception_message"] for error in errors] == ["Execution Blocked: not today"] * verbose
    assert of_kind(arrivals, "execution_success")
    assert not of_kind(arrivals, "executed")


def test_expand_into_nodes_with_progress(raw: RawClient) -> None:
    graph = chain(node("ReportExpand", inner="progress", steps=2, seconds=0.0))
    arrivals = follow(raw, graph, "expand")
    inner = [data for data in of_kind(arrivals, "executing") if data["node"] not in (None, *graph)]
    assert [data["display_node"] for data in inner] == ["2", "2"]
    assert [data["value"] for data in of_kind(arrivals, "progress")] == [1, 2, 1, 2]


def test_expand_into_a_node_that_saves(raw: RawClient) -> None:
    entry = raw.run(chain(node("ReportExpand", inner="save", steps=1, seconds=0.0)))
    assert_success(entry)
    assert any(key.startswith("2.") for key in entry["outputs"])


def test_expand_into_a_node_that_raises(raw: RawClient) -> None:
    error = failure(raw.run(chain(node("ReportExpand", inner="raise", steps=1, seconds=0.0))))
    assert (error["node_id"], error["node_type"]) == ("2", "ReportExpand")


def test_expand_twice_over(raw: RawClient) -> None:
    graph = chain(node("ReportExpand", inner="nested", steps=1, seconds=0.0))
    arrivals = follow(raw, graph, "nested")
    assert {data["display_node"] for data in of_kind(arrivals, "executing")[:-1]} == {"1", "2", "3"}
    assert of_kind(arrivals, "execution_success")


def test_parallel_nodes_run_at_once(raw: RawClient) -> None:
    graph = chain(*(node("ReportParallel", steps=4, seconds=0.1) for _ in range(3)))
    for number in ("2", "3", "4"):
        graph[number]["inputs"]["image"] = ["1", 0]
    graph["6"] = node("ReportJoin", image=["2", 0], image2=["3", 0], image3=["4", 0])
    graph["5"]["inputs"]["images"] = ["6", 0]
    arrivals = follow(raw, graph, "parallel")
    most = max(
        sum(state["state"] == "running" for state in data["nodes"].values())
        for data in of_kind(arrivals, "progress_state")
    )
    assert most == 3
    assert of_kind(arrivals, "execution_success")


def test_text(raw: RawClient) -> None:
    graph = chain(node("ReportText", text="thinking … 50 %", times=2, seconds=0.0, broadcast=False))
    frames = of_kind(follow(raw, graph, "text"), "binary")
    assert frames == [b"\x00\x00\x00\x03\x00\x00\x00\x012" + "thinking … 50 %".encode()] * 2


def test_broadcast_text_reaches_a_bystander(raw: RawClient) -> None:
    socket = raw.listen("bystander")
    try:
        raw.run(chain(node("ReportText", text="to all", times=1, seconds=0.0, broadcast=True)))
        while not isinstance(frame := socket.recv(), bytes):
            pass
        assert frame.endswith(b"to all")
    finally:
        socket.close()


@pytest.mark.parametrize("interruptible", [True, False])
def test_silence(raw: RawClient, interruptible: bool) -> None:
    arrivals = follow(raw, chain(node("ReportSilence", seconds=0.3, interruptible=interruptible)), "silence")
    assert not of_kind(arrivals, "progress")
    assert of_kind(arrivals, "execution_success")


def test_an_interrupt_ends_a_silence(raw: RawClient) -> None:
    prompt_id = raw.submit(chain(node("ReportSilence", seconds=600.0, interruptible=True)))
    poll(lambda: raw.running() == [prompt_id], 10, "the start of the prompt")
    raw.post("/interrupt", {"prompt_id": prompt_id})
    assert "execution_interrupted" in message_names(raw.finished(prompt_id, 10))


def test_an_output_without_any_ui(raw: RawClient) -> None:
    graph = chain()
    graph["2"] = node("ReportNoUi", image=["1", 0])
    arrivals = follow(raw, graph, "no-ui")
    assert not of_kind(arrivals, "executed")
    assert of_kind(arrivals, "execution_success")


@pytest.mark.parametrize("metadata", [False, True])
def test_a_picture_with_the_tiny_checkpoint(raw: RawClient, metadata: bool) -> None:
    size = 192 if metadata else 128
    arrivals = follow(raw, txt2img(size=size, steps=4, seed=3021), f"t2i-{size}", metadata=metadata)
    assert of_kind(arrivals, "execution_success"), arrivals[-3:]
    previews = of_kind(arrivals, "binary")
    assert [frame[3] for frame in previews] == [4 if metadata else 1] * 4
    (saved,) = of_kind(arrivals, "executed")
    (image,) = saved["output"]["images"]
    picture = raw.get("/view", **image).content
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > size * size  # a uniform picture, of nothing or of NaN, would pack to 1 KB
    times = [at for at, kind, _ in arrivals if kind == "progress"]
    gaps = ", ".join(f"{later - earlier:.2f}" for earlier, later in itertools.pairwise(times))
    sys.stdout.write(f"{size} pixels: seconds between steps {gaps}\n")


def test_a_server_of_ones_own_can_be_frozen_killed_and_restarted(comfyui_factory: ComfyUIFactory) -> None:
    server = comfyui_factory(checkpoint=True, previews=False)
    pid = server.pid
    with RawClient(server.url) as client:
        socket = client.listen("no-previews")
        client.submit(txt2img(steps=2), "no-previews")
        assert not of_kind(listen_to_end(socket), "binary")
        socket.close()
        server.freeze()
        assert not server.answers(seconds=0.5)
        server.thaw()
        poll(server.answers, 10, "an answer after the thaw")
        server.kill()
        assert not server.running
        assert not server.answers()
        url = server.url
        server.restart()
        assert server.url == url
        assert server.pid != pid
        assert client.get("/history").json() == {}
