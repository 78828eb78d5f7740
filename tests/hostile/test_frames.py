"""Frames that are too large, broken, or never end; and how much memory they take."""

from __future__ import annotations

import itertools
import json
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from websocket import ABNF, WebSocket, WebSocketException

from comfyreport.net.frames import BLOCK, MESSAGE_LIMIT, TEXT_LIMIT, Frames, Parts, Skipped
from tests.e2e.comfyui_server import poll
from tests.hostile.running import LIMIT, QUICK, follow, measured
from tests.hostile.server import BEGIN, END, Frame, Hostile, Raw, frame, head, own

MIB = 1024 * 1024
# What one run may take beside what a server sends it, in MiB.
USUAL = 60.0


def read(data: bytes, most: int = BLOCK) -> tuple[list[tuple[bool, bytes] | Skipped], list[bytes], str]:
    """The messages in *data*, the pings answered, and how it ended. Each reading stops now and then."""
    left, pongs, stops = bytearray(data), list[bytes](), itertools.cycle([False, False, True])

    def receive(wanted: int) -> bytes:
        if next(stops):
            raise BlockingIOError
        piece = bytes(left[: min(wanted, most)])
        del left[: len(piece)]
        return piece

    websocket = WebSocket(skip_utf8_validation=True)
    websocket.frame_buffer, websocket.cont_frame = frames, _ = (
        Frames(receive),
        Parts(fire_cont_frame=False, skip_utf8_validation=True),
    )
    hooks: Any = websocket
    hooks.pong, hooks.send_close = pongs.append, lambda *args: None
    messages: list[tuple[bool, bytes] | Skipped] = []
    while True:
        try:
            opcode, got = websocket.recv_data_frame()
        except BlockingIOError:
            continue
        except (ConnectionError, WebSocketException) as error:
            return messages, pongs, str(error)
        if opcode == ABNF.OPCODE_CLOSE:
            return messages, pongs, "closed"
        skipped = len(got.data) < frames.size
        messages.append(Skipped(frames.size) if skipped else (opcode == ABNF.OPCODE_TEXT, bytes(got.data)))


@given(
    st.lists(st.tuples(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=3), st.booleans()), max_size=5),
    st.integers(1, 70),
)
def test_messages_come_out_as_they_went_in(parts: list[tuple[bytes, list[int], bool]], most: int) -> None:
    data = b""
    for payload, cuts, text in parts:
        edges = [0, *sorted(min(cut, len(payload)) for cut in cuts), len(payload)]
        for index, (begin, finish) in enumerate(itertools.pairwise(edges)):
            opcode = (1 if text else 2) if index == 0 else 0
            data += frame(payload[begin:finish], last=index == len(edges) - 2, opcode=opcode) + frame(b"hi", opcode=9)
    messages, pongs, end = read(data + frame(b"\x03\xe8", opcode=8), most)
    assert messages == [(text, payload) for payload, _, text in parts]
    assert set(pongs) <= {b"hi"}
    assert end == "closed"


@given(st.binary(max_size=200))
def test_junk_ends_or_is_read(data: bytes) -> None:
    messages, _, end = read(data)
    assert end
    assert all(isinstance(message, (tuple, Skipped)) for message in messages)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x81", "ended"),
        (b"\xc1\x00", "masked or bears"),
        (b"\x81\x80\0\0\0\0", "masked"),
        (b"\x83\x00", "unknown or wrong kind (3)"),
        (b"\x8f\x00", "unknown or wrong kind (15)"),
        (b"\x09\x00", "wrong kind (9)"),
        (b"\x89\x7e\x00\x7e", "wrong kind (9)"),
        (b"\x80\x00", "Illegal frame"),
        (b"\x01\x00\x81\x00", "Illegal frame"),
        (head(2**63, 2), "over"),
        (head(MESSAGE_LIMIT + 1, 1), "over"),
        (head(10, 2, last=False) + b"0123456789" + head(MESSAGE_LIMIT, 0), "over"),
    ],
)
def test_what_is_against_the_protocol_ends_the_connection(data: bytes, words: str) -> None:
    messages, _, end = read(data)
    assert messages == []
    assert words in end


def test_a_text_that_is_too_large_is_counted_in_whatever_pieces_it_comes() -> None:
    block = b"x" * MIB
    whole = head(TEXT_LIMIT + 1, 1) + block * 32 + b"x"
    pieces = b"".join(head(MIB, 1 if n == 0 else 0, last=n == 40) + block for n in range(41))
    exact = head(TEXT_LIMIT, 1) + block * 32
    messages, _, _ = read(whole + pieces + exact + frame("after"))
    assert messages[0] == Skipped(TEXT_LIMIT + 1)
    assert messages[1] == Skipped(41 * MIB)
    assert messages[2] == (True, block * 32)
    assert messages[3] == (True, b"after")


# --- whole runs


def blocks(size: int, opcode: int) -> Iterator[Frame]:
    """One frame of so many bytes, in pieces, so that this process needs little memory."""
    yield Raw(head(size, opcode))
    for _ in range(size // MIB):
        yield Raw(b"x" * MIB)
    yield Raw(b"x" * (size % MIB))


@pytest.mark.e2e
def test_a_run_as_usual_takes_little_memory(tmp_path: Path) -> None:
    with Hostile() as server:
        code, peak, _ = measured(server, tmp_path, "--output", "made.png")
    print(f"a usual run: {peak:.1f} MiB")
    assert code == 0
    assert peak <= USUAL


@pytest.mark.e2e
def test_a_text_frame_of_200_mb(tmp_path: Path) -> None:
    size = 200 * 1000 * 1000
    with Hostile(frames=(*BEGIN, *blocks(size, 1), *blocks(size, 1), *END)) as server:
        code, peak, lines = measured(server, tmp_path, "--record", "recording")
    print(f"two text frames of 200 MB: {peak:.1f} MiB")
    assert code == 0
    warnings = [line for line in lines if line["type"] == "warning"]
    assert [line["code"] for line in warnings] == ["frame_too_large"], "told once, not each time"
    assert str(size) in warnings[0]["message"]
    assert peak <= 2.2 * size / MIB + USUAL
    # Far better than asked for, since it is never held.
    assert peak <= USUAL + 10


def preview(size: int) -> Iterator[Frame]:
    yield Raw(head(size + 8, 2) + struct.pack(">II", 1, 1))
    for _ in range(size // MIB):
        yield Raw(b"j" * MIB)


PREVIEW_PLUGIN = """
from comfyreport import hookimpl

@hookimpl
def comfyreport_node_preview(event):
    assert len(event.image) == {size}
"""


@pytest.mark.e2e
@pytest.mark.parametrize("megabytes", [64, 250])
def test_a_large_preview(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, megabytes: int) -> None:
    size = megabytes * MIB
    (tmp_path / "takes_previews.py").write_text(PREVIEW_PLUGIN.format(size=size))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Hostile(frames=(*BEGIN, *preview(size), *END)) as server:
        code, peak, lines = measured(server, tmp_path, "-p", "takes_previews")
    print(f"a preview of {megabytes} MiB: {peak:.1f} MiB")
    assert code == 0
    (event,) = [line for line in lines if line["type"] == "node_preview"]
    assert event["image_bytes"] == size
    assert server.sockets == 1
    assert peak <= 2.2 * megabytes + USUAL


@pytest.mark.e2e
def test_many_large_previews_are_not_all_held(tmp_path: Path) -> None:
    frames: list[Frame] = [*BEGIN, *(part for _ in range(12) for part in preview(32 * MIB)), *END]
    with Hostile(frames=frames) as server:
        code, peak, _ = measured(server, tmp_path)
    print(f"twelve previews of 32 MiB that nobody wants: {peak:.1f} MiB")
    assert code == 0


@pytest.mark.parametrize("opcode", [1, 2])
def test_a_frame_beyond_all_limits_loses_the_connection_and_http_decides(tmp_path: Path, opcode: int) -> None:
    with Hostile(frames=(*BEGIN, Raw(head(2**40, opcode)), b"x" * MIB)) as server:
        told = follow(server, tmp_path)
    assert told.result.status == "success"
    (lost,) = [line for line in told.of("connection_changed") if line["state"] == "lost"][:1]
    assert str(2**40) in lost["detail"]


def test_a_connection_that_is_dead_without_a_word_is_opened_anew(tmp_path: Path) -> None:
    """As behind a firewall that forgot it: nothing comes, and no ping is answered."""
    timing = replace(QUICK, pong_timeout=0.5)
    with Hostile(frames=(*BEGIN, LIMIT), frames_again=END) as server:
        told = follow(server, tmp_path, timing=timing, ping_interval=0.1)
    assert told.result.status == "success"
    states = [line["state"] for line in told.of("connection_changed")]
    assert [state for state in states if state != "polling"] == ["connected", "lost", "restored"]
    (lost,) = [line for line in told.of("connection_changed") if line["state"] == "lost"]
    assert "not even an answer to a ping" in lost["detail"]


@pytest.mark.parametrize(
    "broken",
    [
        Raw(b"\xff" * 200),
        Raw(b"\x81\xff" + b"\0" * 20),
        Raw(b"\x01\x05hello\x81\x00"),
        Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        Raw(frame(b"", opcode=8)),
        Raw(frame(b"x" * 300, opcode=9)),
    ],
)
def test_broken_frames_lose_the_connection_and_http_decides(tmp_path: Path, broken: Raw) -> None:
    with Hostile(frames=(*BEGIN, broken), frames_again=END) as server:
        told = follow(server, tmp_path)
    assert told.result.status == "success"
    assert "lost" in [line["state"] for line in told.of("connection_changed")]
    assert set(told.result.executed) == {"1", "2", "3"}


def deep(opening: str, closing: str, middle: str = "") -> str:
    return opening * 10_000 + middle + closing * 10_000


@pytest.mark.parametrize("nested", [deep("[", "]"), deep('{"a":', "}", "1"), deep('[{"a":', "}]", "1"), "[" * 100_000])
def test_json_that_is_nested_too_deep(tmp_path: Path, nested: str) -> None:
    frames: list[Frame] = [
        *BEGIN,
        nested,
        f'{{"type": "executed", "data": {{"prompt_id": "ID", "node": "2", "output": {{"text": {nested}}}}}}}',
        f'{{"type": "progress_state", "data": {{"prompt_id": "ID", "nodes": {nested}}}}}',
        struct.pack(">II", 4, len(nested)) + nested.encode() + b"image",
        *END,
    ]
    with Hostile(frames=frames) as server:
        assert follow(server, tmp_path).result.status == "success"


@pytest.mark.parametrize("depth", [60, 500, 900, 1020])
def test_outputs_that_are_nested_deep_but_can_be_read(tmp_path: Path, depth: int) -> None:
    value = "[" * depth + "]" * depth
    output = f'{{"type": "executed", "data": {{"prompt_id": "ID", "node": "2", "output": {{"text": [{value}]}}}}}}'
    with Hostile(frames=(*BEGIN, output, *END)) as server:
        assert follow(server, tmp_path).result.status == "success"


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", '"5"', "-1", "1e400", "9" * 5000, "true", "null", "[]", "{}"]
)
def test_numbers_that_are_none(tmp_path: Path, number: str) -> None:
    frames = [
        *BEGIN,
        f'{{"type": "progress", "data": {{"prompt_id": "ID", "node": "2", "value": {number}, "max": 20}}}}',
        f'{{"type": "progress", "data": {{"prompt_id": "ID", "node": "2", "value": 1, "max": {number}}}}}',
        f'{{"type": "progress", "data": {{"prompt_id": "ID", "node": {number}, "value": 1, "max": 2}}}}',
        f'{{"type": "status", "data": {{"status": {{"exec_info": {{"queue_remaining": {number}}}}}}}}}',
        '{"type": "progress_state", "data": {"prompt_id": "ID", "nodes": {"2": {"state": "running", "value": NUMBER}}}}'
        "".replace("NUMBER", number),
        f'{{"type": {number}, "data": {number}}}',
        number,
        own("progress", node="2", value=2, max=2),
        *END,
    ]
    with Hostile(frames=frames) as server:
        told = follow(server, tmp_path)
    assert told.result.status == "success"
    steps = [(line["step"], line["max_steps"]) for line in told.of("node_progress")]
    assert steps[-1] == (2, 2)
    assert all(0 < step <= most for step, most in steps)
    assert json.dumps(steps, allow_nan=False)


def test_a_million_pings(tmp_path: Path) -> None:
    pings = Raw(frame(b"x" * 125, opcode=9) * 2000)
    with Hostile(frames=(*BEGIN, *[pings] * 20, *END)) as server:
        assert follow(server, tmp_path).result.status == "success"


def test_no_thread_is_left(tmp_path: Path) -> None:
    before = threading.active_count()
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        with Hostile(frames=(*BEGIN, Raw(head(2**40, 1)))) as server:
            follow(server, tmp_path / str(number))
    poll(lambda: threading.active_count() <= before + 1, LIMIT, "the threads' end")
