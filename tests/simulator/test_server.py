"""Files, prefix, life and death of the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from comfyreport.simulator import Simulator, serve
from comfyreport.simulator.simulator import close_listener

from .client import DEADLINE, Client, Socket, connected, until
from .prompts import picture, probe


def view(client: Client, file: dict[str, str]) -> Any:
    return client.session.get(f"{client.url}/view", params=file, timeout=DEADLINE)


def outputs(client: Client, prompt: dict[str, Any]) -> dict[str, Any]:
    _, prompt_id = client.run(prompt)
    found: dict[str, Any] = client.get(f"/history/{prompt_id}")[prompt_id]["outputs"]
    return found


def png_parts(data: bytes) -> dict[bytes, bytes]:
    """The chunks of a PNG, their checksums verified."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    parts, at = {}, 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.pack(">I", zlib.crc32(kind + body)) == data[at + 8 + size : at + 12 + size]
        parts[kind] = body
        at += 12 + size
    return parts


def test_picture_is_a_png_of_the_size_asked_for(client: Client) -> None:
    (file,) = outputs(client, picture(7))["7"]["images"]
    answer = view(client, file)
    assert answer.headers["Content-Type"] == "image/png"
    parts = png_parts(answer.content)
    assert struct.unpack(">II", parts[b"IHDR"][:8]) == (96, 64)
    assert len(zlib.decompress(parts[b"IDAT"])) == 64 * (1 + 3 * 96)
    assert json.loads(parts[b"tEXt"].removeprefix(b"prompt\0")) == picture(7)


def test_picture_follows_from_the_seed(client: Client) -> None:
    pixels = []
    for seed in (7, 8, 7):
        (file,) = outputs(client, picture(seed))["7"]["images"]
        pixels.append(png_parts(view(client, file).content)[b"IDAT"])
    assert pixels[0] == pixels[2] != pixels[1]


def test_batch_makes_several_pictures_with_numbers(client: Client) -> None:
    prompt = picture()
    prompt["4"]["inputs"]["batch_size"] = 3
    files = outputs(client, prompt)["7"]["images"]
    assert [file["filename"] for file in files] == ["test_00001_.png", "test_00002_.png", "test_00003_.png"]


@pytest.mark.parametrize(
    ("class_type", "inputs", "key", "start"),
    [
        ("SaveAnimatedWEBP", {}, "images", b"RIFF"),
        ("SaveAnimatedPNG", {}, "images", b"\x89PNG"),
        ("SaveWEBM", {}, "images", b"\x1aE\xdf\xa3"),
        ("SaveVideo", {}, "images", b"\0\0\0"),
        ("VHS_VideoCombine", {"format": "image/gif"}, "gifs", b"GIF89a"),
        ("VHS_VideoCombine", {}, "gifs", b"\0\0\0"),
        ("SaveAudio", {}, "audio", b"fLaC"),
        ("SaveAudioMP3", {}, "audio", b""),
        ("SaveAudioOpus", {}, "audio", b"OggS"),
        ("PreviewAudio", {}, "audio", b"fLaC"),
        ("SaveGLB", {}, "3d", b"glTF"),
    ],
)
def test_clips_are_real_files(client: Client, class_type: str, inputs: dict[str, Any], key: str, start: bytes) -> None:
    prompt = probe("ImageInvert")
    prompt["3"] = {"class_type": class_type, "inputs": {"images": ["2", 0], "filename_prefix": "a/b", **inputs}}
    (file,) = outputs(client, prompt)["3"][key]
    assert file["subfolder"] == "a"
    answer = view(client, {name: file[name] for name in ("filename", "subfolder", "type")})
    assert answer.status_code == 200
    assert answer.content.startswith(start)
    assert answer.content


@pytest.mark.parametrize(
    ("class_type", "name", "folder", "start"),
    [
        ("Save3DAdvanced", "a/b_00001.glb", "output", b"glTF"),
        ("SaveGaussianSplat", "a/b_00001.ply", "output", b"ply"),
        ("SavePointCloud", "a/b_00001.ply", "output", b"ply"),
        ("Preview3D", "preview3d_HEX.glb", "output", b"glTF"),
        ("Preview3DAdvanced", "preview3d_advanced_HEX.glb", "temp", b"glTF"),
        ("PreviewGaussianSplat", "preview_splat_HEX.ply", "temp", b"ply"),
        ("PreviewPointCloud", "preview_pointcloud_HEX.ply", "temp", b"ply"),
    ],
)
def test_3d_files_are_told_as_strings(client: Client, class_type: str, name: str, folder: str, start: bytes) -> None:
    prompt = probe("ImageInvert")
    prompt["3"] = {"class_type": class_type, "inputs": {"model_3d": ["2", 0], "filename_prefix": "a/b"}}
    path, camera, info = outputs(client, prompt)["3"]["result"]
    assert re.sub("[0-9a-f]{32}", "HEX", path) == name
    assert (camera, info) == (None, [])
    subfolder, _, filename = path.rpartition("/")
    assert view(client, {"filename": filename, "subfolder": subfolder, "type": folder}).content.startswith(start)
    if subfolder:
        assert view(client, {"filename": path, "type": folder}).status_code == 404


def test_unknown_file_is_not_found_and_an_escape_refused(client: Client) -> None:
    assert view(client, {"filename": "nothing.png"}).status_code == 404
    assert view(client, {"filename": "../secret"}).status_code == 400
    assert view(client, {}).status_code == 400


def test_upload_is_stored_renamed_or_replaced(client: Client) -> None:
    def upload(content: bytes, **fields: str) -> Any:
        files = {"image": ("cat.png", content, "image/png")}
        answer = client.session.post(f"{client.url}/upload/image", files=files, data=fields, timeout=DEADLINE)
        return answer.json()

    assert upload(b"one") == {"name": "cat.png", "subfolder": "", "type": "input"}
    assert upload(b"one")["name"] == "cat.png"
    assert upload(b"two")["name"] == "cat (1).png"
    assert upload(b"three", overwrite="true")["name"] == "cat.png"
    assert upload(b"four", subfolder="pets") == {"name": "cat.png", "subfolder": "pets", "type": "input"}
    assert view(client, {"filename": "cat.png", "type": "input"}).content == b"three"
    assert client.session.post(f"{client.url}/upload/image", files={"other": b"x"}, timeout=9).status_code == 400


def test_only_files_that_are_there_can_be_loaded() -> None:
    prompt = probe("ImageInvert")
    prompt["1"] = {"class_type": "LoadImage", "inputs": {"image": "cat.png"}}
    with Simulator(speed=1000, files=[]) as strict, connected(strict) as client:
        refused = client.post("/prompt", {"prompt": prompt}).json()
        assert refused["node_errors"]["1"]["errors"][0]["type"] == "custom_validation_failed"
        client.session.post(f"{client.url}/upload/image", files={"image": ("cat.png", b"x")}, timeout=DEADLINE)
        assert client.post("/prompt", {"prompt": prompt}).status_code == 200


def test_failing_output_node_is_named_in_the_answer(client: Client) -> None:
    prompt = probe("ImageInvert")
    del prompt["3"]["inputs"]["filename_prefix"]
    refused = client.post("/prompt", {"prompt": prompt}).json()
    assert refused["error"]["details"] == "Required input is missing: filename_prefix"
    prompt["3"]["inputs"] = {"images": ["99", 0], "filename_prefix": "x"}
    refused = client.post("/prompt", {"prompt": prompt}).json()
    assert refused["node_errors"]["3"]["errors"][0]["type"] == "exception_during_validation"


@pytest.mark.parametrize("body", ["{", "null", "[]", '{"prompt": null}', '{"prompt": {"1": 5}}'])
def test_nonsense_is_a_server_error(client: Client, body: str) -> None:
    answer = client.session.post(f"{client.url}/prompt", data=body, timeout=DEADLINE)
    assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (500, "text/plain")
    assert client.get("/prompt") == {"exec_info": {"queue_remaining": 0}}


def test_every_route_exists_under_api_too(client: Client) -> None:
    socket = Socket(client.url, path="/api/ws")
    answer = client.post("/api/prompt", {"prompt": picture(), "client_id": socket.client_id})
    prompt_id = answer.json()["prompt_id"]
    socket.wait_end(prompt_id)
    socket.close()
    for path in ("/prompt", "/queue", "/history", f"/history/{prompt_id}", "/system_stats", "/object_info"):
        assert client.get(f"/api{path}").keys() == client.get(path).keys()


def test_server_tells_about_itself(simulator: Simulator, client: Client) -> None:
    stats = client.get("/system_stats")
    assert stats["system"]["comfyui_version"] == simulator.settings.version
    assert stats["devices"][0]["vram_total"] > stats["devices"][0]["vram_free"] > 0
    sampler = client.get("/object_info/KSampler")["KSampler"]
    assert sampler["input"]["required"]["steps"][1]["max"] == 10000
    assert sampler["output"] == ["LATENT"]
    assert client.get("/object_info")["SaveImage"]["output_node"]
    assert client.get("/object_info/Nothing") == {}


def test_taken_port_reaches_the_caller() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        simulator = Simulator(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="error while attempting to bind on address"):
            simulator.start()
    assert not [thread for thread in threading.enumerate() if thread.name == "comfyreport-simulator"]


def test_impossible_port_and_speed_are_refused() -> None:
    with pytest.raises(OverflowError):
        Simulator(port=99999).start()
    with pytest.raises(ValueError, match="speed"):
        Simulator(speed=0)


def test_server_stops_at_once_and_starts_anew_on_the_same_port() -> None:
    simulator = Simulator(speed=0.01)
    url = simulator.start()
    open_socket = Socket(url)
    with connected(simulator) as client:
        client.submit(picture(), open_socket.client_id)
        open_socket.wait_for("execution_start")
    began = time.monotonic()
    simulator.stop()
    simulator.stop()
    assert time.monotonic() - began < DEADLINE
    open_socket.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "comfyreport-simulator"]
    with Simulator(port=int(url.rsplit(":", 1)[1])) as again, connected(again) as client:
        assert client.get("/queue") == {"queue_running": [], "queue_pending": []}
        assert client.get("/history") == {}


@pytest.mark.parametrize("turns", range(6))
def test_connection_that_comes_while_the_server_stops_is_not_left_open(turns: int) -> None:
    class Closing(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.close()

    async def accept_and_stop(client: socket.socket) -> None:
        listener = await asyncio.get_running_loop().create_server(Closing, "127.0.0.1", 0)
        client.connect(listener.sockets[0].getsockname())
        for _ in range(turns):
            await asyncio.sleep(0)
        await close_listener(listener)

    with socket.socket() as client:
        client.settimeout(DEADLINE)
        asyncio.run(accept_and_stop(client))
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_reader_that_reads_nothing_does_not_keep_the_server_from_stopping() -> None:
    simulator = Simulator(speed=1e6)
    simulator.start()
    address = ("127.0.0.1", int(simulator.url.rsplit(":", 1)[1]))
    with socket.create_connection(address, timeout=DEADLINE) as deaf, connected(simulator) as client:
        deaf.sendall(
            b"GET /ws?clientId=deaf HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert deaf.recv(12) == b"HTTP/1.1 101"
        prompt = probe("SaveImageWebsocket")
        prompt["1"]["inputs"] = {"width": 2048, "height": 2048, "batch_size": 200}
        prompt_id = client.submit(prompt, "deaf")
        until(lambda: client.get(f"/history/{prompt_id}") != {}, "history")
        began = time.monotonic()
        simulator.stop()
        assert time.monotonic() - began < DEADLINE


def test_serving_ends_with_ctrl_c() -> None:
    told: list[str] = []

    def announce(url: str) -> None:
        told.append(url)
        raise KeyboardInterrupt

    serve(0, 1.0, announce)
    assert told[0].startswith("http://127.0.0.1:")


def test_missing_aiohttp_is_told_with_the_remedy() -> None:
    code = "import sys; sys.modules['aiohttp'] = None\nimport comfyreport.simulator"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=60, check=False
    )
    assert 'pip install "comfyreport[sim]"' in done.stderr
