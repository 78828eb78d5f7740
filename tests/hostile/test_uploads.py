"""Uploads to servers that refuse, lie about names, say nothing, or take a file without end."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from comfyreport.inputs.local_files import Given
from tests.hostile.running import LIMIT, QUICK, Told, follow
from tests.hostile.server import Answer, Hostile, Reply
from tests.workflow.media import png

GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "old.png"}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
}


def upload(folder: Path, answer: Answer, **options: Any) -> tuple[Told, Hostile]:
    """A run that uploads one picture."""
    (folder / "a.png").write_bytes(png({"x": "y" * 300_000}))
    file = Given("image", "", str(folder / "a.png"), "a.png")
    with Hostile(upload=answer) as server:
        return follow(server, folder, workflow=GRAPH, files=(file,), **options), server


def check_not_submitted(told: Told, server: Hostile, code: str, text: str) -> None:
    result = told.result
    assert (result.status, result.exit_code, result.submitted, result.prompt_state) == ("unreachable", 3, "no", "none")
    assert result.error is not None
    assert result.error.code == code
    assert "a.png was not uploaded: " in result.error.message
    assert text in result.error.message
    assert result.error.hint
    assert server.body is None


@pytest.mark.parametrize(
    "name", ["\x1b[31m.png", "\u202egnp.a", "../../etc/passwd", "a" * 4000, "\ud800", "x.png [output]"]
)
def test_a_name_is_given_back_as_it_is_and_shown_nowhere(tmp_path: Path, name: str) -> None:
    told, server = upload(tmp_path, lambda _: {"name": name, "subfolder": "", "type": "input"})
    assert told.result.status == "success"
    assert len(server.body["prompt"]["1"]["inputs"]["image"]) == len(name)
    assert len(server.uploads) == 1


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        (Reply(b"too large", status=413), "server_error", "takes no request of this size (HTTP 413)"),
        (Reply(b"", status=400), "server_error", "the server refuses it (HTTP 400)"),
        (Reply(b"", status=403), "auth", "forbids it"),
        (
            Reply(b"<html>", status=302, headers={"Location": "http://u:p@h/login?t=1"}),
            "auth",
            "redirects to http://h/",
        ),
        (Reply(b"x" * 1_000_000, status=500), "not_comfyui", "HTTP 500"),
        (Reply([{"name": "a"}]), "not_comfyui", "HTTP 200"),
        (Reply({"name": ["a"]}), "not_comfyui", "HTTP 200"),
        (Reply({"name": "a", "subfolder": 5}), "not_comfyui", "HTTP 200"),
        (Reply(b"\xff\xfe"), "not_comfyui", "HTTP 200"),
        (Reply(pieces=[b"HTTP/1.1 200 OK\r\n\r\n\0"], raw=True), "not_comfyui", "HTTP 200"),
        (Reply(pieces=[], raw=True), "refused", "broke"),
    ],
)
def test_an_odd_answer_is_an_end_before_anything_is_submitted(
    tmp_path: Path, answer: Reply, code: str, text: str
) -> None:
    told, server = upload(tmp_path, lambda _: answer)
    check_not_submitted(told, server, code, text)


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    released = threading.Event()

    def silent(name: str) -> Reply:
        released.wait(LIMIT)
        return Reply(b"")

    timing = replace(QUICK, submit_timeout=1.0)
    try:
        told, server = upload(tmp_path, silent, timing=timing)
    finally:
        released.set()
    check_not_submitted(told, server, "no_answer", "did not answer in time")
    assert told.result.retryable


def test_an_answer_without_end_is_given_up(tmp_path: Path) -> None:
    def pieces() -> Any:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        until = time.monotonic() + LIMIT
        while time.monotonic() < until:
            yield b"x"
            time.sleep(0.05)

    timing = replace(QUICK, response_timeout=1.0, submit_timeout=1.0)
    told, server = upload(tmp_path, lambda _: Reply(pieces=pieces(), raw=True), timing=timing)
    check_not_submitted(told, server, "no_answer", "did not answer in time")
