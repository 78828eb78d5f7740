"""Writing a recording: as it happens, without secrets, whatever comes; a place that can't be written is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from comfyreport.access.redaction import PLACEHOLDER
from comfyreport.errors import UsageError
from comfyreport.recording import recorder as recorder_module
from comfyreport.recording.player import read_recording
from comfyreport.recording.recorder import Recorder
from comfyreport.timing import Timing
from tests.systems import needs_posix

SERVER = "http://127.0.0.1:8188"
LIMIT = 60.0


def record(path: Path, *taps: dict[str, Any], secrets: tuple[str, ...] = ()) -> bytes:
    recorder = Recorder(path, server=SERVER, secrets=secrets)
    for tap in taps:
        recorder.tap(tap)
    recorder.close()
    assert recorder.failure is None
    return path.read_bytes()


def test_a_recording_is_written_as_it_happens(tmp_path: Path) -> None:
    """A process that is killed leaves all that it had heard."""
    recorder = Recorder(tmp_path / "r", server=SERVER)
    recorder.tap({"dir": "in", "kind": "ws-text", "text": "x"})
    recorder.flush()
    assert (tmp_path / "r").read_bytes().count(b"\n") == 2
    recorder.close()
    recorder.close()
    recorder.tap({"dir": "in", "kind": "ws-text", "text": "late"})
    assert b"late" not in (tmp_path / "r").read_bytes()
    assert recorder.failure is None


def test_how_the_run_ended_is_the_last_line(tmp_path: Path) -> None:
    """The socket's thread may be late with what it has heard."""
    recorder = Recorder(tmp_path / "r", server=SERVER)
    recorder.end(status="success")
    recorder.tap({"dir": "in", "kind": "ws-close"})
    recorder.close()
    last = json.loads((tmp_path / "r").read_bytes().splitlines()[-1])
    assert (last["note"], last["status"]) == ("end", "success")
    assert recorder.failure is None


# --- secrets

SECRETS = {
    "json": 'pa"ss\\word',
    "unicode": "pässwörd-\U0001f511",
    "url": "a b/c?d=e&f%g",
    "lines": "line\nbreak",
    "long": "s" * 10_000,
    "html": "<html>&amp;",
    "undecodable": "secret\udcff\udcfe",
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_secrets_are_never_in_the_file(secret: str, tmp_path: Path) -> None:
    body = {"extra_data": {"api_key": secret, secret: [secret]}}
    written = record(
        tmp_path / "r",
        {"dir": "out", "kind": "http", "method": "POST", "path": f"/prompt?token={secret}", "request": body},
        {"dir": "in", "kind": "http", "method": "GET", "path": "/history/p", "status": 200, "response": {"p": body}},
        {"dir": "in", "kind": "ws-text", "text": json.dumps(body), "sock": "A"},
        {"dir": "in", "kind": "ws-text", "text": json.dumps(body, ensure_ascii=False), "sock": "A"},
        {"dir": "in", "kind": "http", "status": 500, "path": "/queue", "text": f"Error: {secret} is wrong"},
        secrets=(secret,),
    )
    removed = {"extra_data": {"api_key": "[removed]", "[removed]": ["[removed]"]}}
    lines = [json.loads(line) for line in written.splitlines()]
    assert lines[1]["request"] == removed
    assert lines[1]["path"] == "/prompt?token=[removed]"
    assert lines[2]["response"] == {"p": removed}
    assert [json.loads(line["text"]) for line in lines[3:5]] == [removed] * 2
    assert lines[5]["text"] == "Error: [removed] is wrong"


def test_the_percent_escaped_form_of_a_secret_is_one_too(tmp_path: Path) -> None:
    tap = {"dir": "out", "kind": "http", "path": "/view?token=a%20b%2Fcdefgh&x=a+b%2Fcdefgh"}
    written = record(tmp_path / "r", tap, secrets=("a b/cdefgh",))
    assert b"token=[removed]&x=[removed]" in written


def test_a_secret_within_another_leaves_nothing_of_it(tmp_path: Path) -> None:
    tap = {"dir": "in", "kind": "ws-text", "text": "Bearer abcdefghijk"}
    assert b"ijk" not in record(tmp_path / "r", tap, secrets=("abcdefgh", "abcdefghijk", ""))


# --- faults while writing


def test_a_record_that_no_json_could_hold_ends_nothing(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    circle: list[Any] = []
    circle.append(circle)
    odd: list[Any] = [deep, circle, {(1, 2): 3}, object(), b"\xff", "\ud800"]
    for secrets in ((), ("topsecret",)):
        path = tmp_path / f"r{len(secrets)}"
        written = record(
            path, *({"dir": "in", "kind": "http", "x": each, "path": "/topsecret"} for each in odd), secrets=secrets
        )
        assert [json.loads(line)["kind"] for line in written.splitlines()] == ["header"] + ["http"] * len(odd)
        assert (b"/topsecret" in written) == (not secrets)


@needs_posix("/dev/full")
def test_a_full_disk_is_noted_and_not_raised() -> None:
    told: list[str] = []
    recorder = Recorder("/dev/full", server=SERVER, on_failure=told.append)
    for _ in range(10_000):
        recorder.tap({"dir": "in", "kind": "ws-text", "text": "x" * 100})
    recorder.note("end")
    recorder.close()
    assert recorder.failure == "No space left on device"
    assert told == [recorder.failure]


def test_a_place_that_cant_be_written_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "r", tmp_path / ("n" * 300), "nul\0byte"):
        with pytest.raises(UsageError):
            Recorder(path, server=SERVER)


@needs_posix("FIFOs")
def test_a_fifo_that_nobody_reads_is_a_usage_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="nobody reads this FIFO"):
        Recorder(tmp_path / "fifo", server=SERVER)


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A FIFO, and the end of it that nobody reads; no thread of a recorder is left once that end is closed."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no FIFOs here")
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, reading
    os.close(reading)
    for thread in [each for each in threading.enumerate() if each.name == "comfyreport-recorder"]:
        thread.join(LIMIT)
        assert not thread.is_alive()


SHORT = Timing().scaled(0.01)
LONG = replace(SHORT, record_limit=1e6)
"""With which nothing but what is tested ends a recording."""


def test_what_takes_nothing_ends_the_recording(fifo: tuple[Path, int]) -> None:
    told: list[str] = []
    recorder = Recorder(fifo[0], server=SERVER, on_failure=told.append, timing=SHORT)
    deadline = time.monotonic() + LIMIT
    while recorder.failure is None and time.monotonic() < deadline:
        recorder.tap({"dir": "in", "kind": "ws-text", "text": "x" * 1000})
    recorder.note("end")
    recorder.flush()
    recorder.close()
    assert recorder.failure == "it takes what is written too slowly, or not at all"
    assert told == [recorder.failure]


@pytest.mark.parametrize("act", [Recorder.flush, Recorder.close])
def test_what_is_left_is_waited_for_with_a_limit(act: Callable[[Recorder], None], fifo: tuple[Path, int]) -> None:
    told: list[str] = []
    recorder = Recorder(fifo[0], server=SERVER, on_failure=told.append, timing=SHORT)
    recorder.tap({"dir": "in", "kind": "ws-text", "text": "x" * 1_000_000})
    act(recorder)
    assert told == [recorder.failure] == ["it takes what is written too slowly, or not at all"]


def test_a_user_in_a_hurry_is_not_kept(fifo: tuple[Path, int]) -> None:
    recorder = Recorder(fifo[0], server=SERVER, timing=LONG)
    recorder.tap({"dir": "in", "kind": "ws-text", "text": "x" * 1_000_000})
    recorder.hurry = lambda: True
    recorder.close()
    assert recorder.failure is not None


def test_no_more_waits_than_memory_should_hold(fifo: tuple[Path, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MOST_WAITING", 100_000)
    recorder = Recorder(fifo[0], server=SERVER, timing=LONG)
    taken = 0
    while recorder.failure is None:
        recorder.tap({"dir": "in", "kind": "ws-text", "text": "x" * 10_000})
        taken += 1
    # What waits, and what a pipe holds.
    assert 10 <= taken < 100


def test_what_is_merely_slow_gets_all(fifo: tuple[Path, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MOST_WAITING", 100_000)
    path, reading = fifo
    os.set_blocking(reading, True)
    read: list[bytes] = []

    def work() -> None:
        while data := os.read(reading, 4096):
            read.append(data)

    thread = threading.Thread(target=work)
    recorder = Recorder(path, server=SERVER, timing=replace(LONG, backpressure=LIMIT))
    thread.start()
    for _ in range(100):
        recorder.tap({"dir": "in", "kind": "ws-text", "text": "x" * 10_000})
    recorder.close()
    thread.join(LIMIT)
    assert recorder.failure is None
    assert b"".join(read).count(b"\n") == 101


@needs_posix("SIGKILL")
def test_a_killed_process_leaves_whole_lines(tmp_path: Path) -> None:
    source = (
        "import sys\nfrom comfyreport.recording.recorder import Recorder\n"
        "recorder = Recorder(sys.argv[1], server='x')\n"
        "while recorder.failure is None: recorder.tap({'dir': 'in', 'kind': 'ws-text', 'text': 'x' * 300})\n"
    )
    with subprocess.Popen([sys.executable, "-c", source, os.fspath(tmp_path / "r")]) as process:
        deadline = time.monotonic() + LIMIT
        while not (tmp_path / "r").exists() or (tmp_path / "r").stat().st_size < 100_000:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    records = read_recording(tmp_path / "r").records
    assert {each["text"] for each in records} == {"x" * 300}


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r", server=SERVER, secrets=("topsecret",))

    def work(name: int) -> None:
        for number in range(200):
            recorder.tap({"dir": "in", "kind": "ws-text", "text": f"{name} {number} topsecret " + "x" * 200})

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close()
    records = read_recording(tmp_path / "r").records
    assert len(records) == 1600
    for name in range(8):
        mine = [str(each["text"]).split()[1] for each in records if str(each["text"]).startswith(f"{name} ")]
        assert mine == [str(number) for number in range(200)]


SECRET = "s3cr3t-pa55"


def test_a_recording_holds_no_secret_and_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    recorder = Recorder(path, server="http://host", secrets=[SECRET, "1", "t", "http"])
    recorder.tap({"dir": "in", "kind": "http", "response": {"a": SECRET, "n": 11}})
    recorder.tap({"dir": "in", "kind": "ws-text", "text": json.dumps({"a": f"<{SECRET}>"})})
    recorder.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["header", "http", "ws-text"]
    assert lines[1]["response"] == {"a": PLACEHOLDER, "n": 11}
    assert json.loads(lines[2]["text"]) == {"a": f"<{PLACEHOLDER}>"}
