"""Saving what a run made from servers that are silent, slow, refuse, or send without end."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from comfyreport.api import run_generation
from comfyreport.protocol.downloads import CHUNK
from comfyreport.saving.queue import AT_ONCE
from tests.hostile.running import LIMIT, QUICK, Told, follow
from tests.hostile.server import WORKFLOW, Answer, Hostile, Reply, history, picture

PNG = {"Content-Type": "image/png"}
# After a second; the machine may be late by another one.
SILENT = re.compile(r"the server has not answered for \d+ s$")


def serve(view: Answer, *names: str) -> Hostile:
    """A server whose run leaves files of these names."""
    return Hostile(
        history=lambda prompt_id: history(prompt_id, {"3": {"images": list(map(picture, names))}}), view=view
    )


def names(count: int) -> list[str]:
    return [f"{number}.png" for number in range(count)]


def messages(told: Told) -> list[str]:
    assert set(told.codes()) == {"download_failed"}
    return [line["message"] for line in told.of("warning")]


def beats_of_saving(told: Told) -> list[dict[str, Any]]:
    """The heartbeats while the outputs are saved: where the machine stood still, the run may have some, too."""
    kinds = [line["type"] for line in told.lines]
    saving = told.lines[kinds.index("output_ready") : kinds.index("output_saved")]
    return [line for line in saving if line["type"] == "heartbeat"]


def test_a_silent_server_is_given_up_once_for_all_files(tmp_path: Path) -> None:
    released = threading.Event()

    def silent(name: str) -> Reply:
        released.wait(LIMIT)
        return Reply(b"")

    timing = replace(QUICK, read_timeout=5.0, lost_after=1.0)
    try:
        with serve(silent, *names(100)) as server:
            told = follow(server, tmp_path, output=f"{tmp_path}/made/", timing=timing)
    finally:
        released.set()
    *first, rest = messages(told)
    assert sorted(each.partition(" could not be saved to ")[0] for each in first) == names(AT_ONCE)
    assert all(SILENT.search(each) for each in first)
    assert rest.startswith(f"{100 - AT_ONCE} more files were not saved: the server has not answered for ")
    assert sorted(server.viewed) == names(AT_ONCE)
    assert (told.result.status, told.result.exit_code, told.result.retryable) == ("partial", 8, True)
    assert told.result.error is not None
    assert told.result.error.code == "download_failed"
    assert re.search(r"9\.png and 90 more \(the server has not answered for \d+ s\)$", told.result.error.message)
    assert list((tmp_path / "made").iterdir()) == []


def test_silence_is_counted_over_several_files(tmp_path: Path) -> None:
    """Each waits for less than the limit: it is not to be multiplied by their number."""
    released = threading.Event()

    def silent(name: str) -> Any:
        released.wait(LIMIT)

    timing = replace(QUICK, connect_timeout=0.1, read_timeout=0.2, lost_after=1.0)
    try:
        with serve(silent, *names(100)) as server:
            told = follow(server, tmp_path, output=f"{tmp_path}/made/", timing=timing)
    finally:
        released.set()
    assert 2 * AT_ONCE <= len(server.viewed) < 100
    assert SILENT.search(messages(told)[-1])


def test_a_server_that_refuses_each_file_slowly_is_asked_for_all(tmp_path: Path) -> None:
    def refuse(name: str) -> Reply:
        time.sleep(0.15)
        return Reply(b"", status=404)

    with serve(refuse, *names(10)) as server:
        told = follow(server, tmp_path, output=f"{tmp_path}/made/", timing=replace(QUICK, lost_after=1.0))
    assert sorted(server.viewed) == names(10)
    assert len(messages(told)) == 10


def trickle(seconds: float, count: int) -> Iterator[bytes]:
    for _ in range(count):
        # As much as is taken at once.
        yield b"x" * CHUNK
        time.sleep(seconds)


def test_a_long_download_has_heartbeats(tmp_path: Path) -> None:
    with serve(lambda _: Reply(headers=PNG, pieces=trickle(0.05, 40)), "a.png") as server:
        told = follow(server, tmp_path, output=f"{tmp_path}/made/")
    assert told.result.status == "success"
    beats = beats_of_saving(told)
    # Two seconds, or what they become on a busy machine, and a heartbeat is due after a quarter of one.
    assert 2 <= len(beats) <= told.result.seconds / QUICK.silence + 1
    assert all(beat["state"] == "running" and "node" not in beat for beat in beats)
    assert all(beat["silent_seconds"] < 2 for beat in beats)
    # One may come before anything has.
    received = [beat["received_bytes"] for beat in beats if beat is not beats[0] or "received_bytes" in beat]
    assert received == sorted(received)
    assert 0 < received[0] < received[-1] <= 40 * CHUNK
    assert "INFO    Fetching the outputs: " in told.log


def test_a_large_download_tells_how_far_it_is(tmp_path: Path) -> None:
    headers = {**PNG, "Content-Length": str(40 * CHUNK)}
    with serve(lambda _: Reply(headers=headers, pieces=trickle(0.02, 40)), "a.png") as server:
        told = follow(server, tmp_path, output=f"{tmp_path}/made/")
    assert {beat["total_bytes"] for beat in beats_of_saving(told)} == {40 * CHUNK}
    assert " of 2.6 MB\n" in told.log


def test_a_silent_download_tells_for_how_long(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"x" * CHUNK
        time.sleep(0.95)

    with serve(lambda _: Reply(headers=PNG, pieces=pieces()), "a.png") as server:
        told = follow(server, tmp_path, output=f"{tmp_path}/made/", timing=replace(QUICK, read_timeout=LIMIT))
    assert told.result.status == "success"
    silences = [beat["silent_seconds"] for beat in beats_of_saving(told)]
    assert silences == sorted(silences)
    assert silences[-1] >= 0.5


def test_quick_files_have_no_heartbeats(tmp_path: Path) -> None:
    with serve(lambda _: Reply(b"x", headers=PNG), *names(50)) as server:
        told = follow(server, tmp_path, output=f"{tmp_path}/made/", timing=replace(QUICK, silence=5.0))
    assert told.result.status == "success"
    assert told.of("heartbeat") == []


def test_no_more_is_taken_than_the_server_said_that_there_is(tmp_path: Path) -> None:
    endless = Reply(headers={**PNG, "Content-Length": "1000"}, pieces=itertools.repeat(b"x" * 1024))
    with serve(lambda _: endless, "a.png", "b.png") as server:
        told = follow(server, tmp_path, output=f"{tmp_path}/made/")
    assert told.result.status == "success"
    assert {path.stat().st_size for path in (tmp_path / "made").iterdir()} == {1000}


@pytest.mark.parametrize(("expected", "status"), [(1, "success"), (2, "partial")])
def test_only_files_that_are_saved_are_expected(tmp_path: Path, expected: int, status: str) -> None:
    images = [picture("a.png"), picture("preview.png", folder="temp")]
    with Hostile(history=lambda prompt_id: history(prompt_id, {"3": {"images": images}})) as server:
        result = run_generation(
            WORKFLOW, server=server.url, output=tmp_path / "made/", expect_outputs=expected, reporters=[]
        )
    assert result.status == status
    assert [output.filename for output in result.outputs if output.path is not None] == ["a.png"]
