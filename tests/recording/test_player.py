"""Recordings read and played: what the recorder wrote can be played, and what is no recording is refused."""

from __future__ import annotations

import base64
import gzip
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from comfyreport import events as ev
from comfyreport.errors import UsageError
from comfyreport.recording.player import Player, Recording, parse_recording, read_recording
from comfyreport.recording.recorder import Recorder
from tests import recordings
from tests.playing import check, executing, play, short, text, text_frame, the_end

SERVER = "http://127.0.0.1:8188"


def described(events: list[ev.Event]) -> list[str]:
    return [short(event) for event in events]


@pytest.mark.parametrize("name", ["c_partial_cache", "d_node_error", "k6_expansion_inner_progress", "m_reconnect"])
def test_what_is_recorded_can_be_played(name: str, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "deep" / "run.jsonl", server=SERVER)
    for each in recordings.load(name):
        recorder.tap({key: value for key, value in each.items() if key != "t"})
    recorder.close()
    recording = read_recording(tmp_path / "deep" / "run.jsonl")
    assert recording.server == SERVER
    events = list(Player(recording).events())
    check(events)
    assert described(events) == described(play(recordings.load(name)))
    assert [event.time - recording.time for event in events] == pytest.approx(
        [event.elapsed for event in events], abs=1e-5
    )


# --- reading

LINE = b'{"t": 1.5, "dir": "in", "kind": "ws-text", "text": "x"}'
HEADER = b'{"kind": "header", "recording": 1, "server": "http://h", "time": 1e9}'


def test_a_last_line_that_was_cut_off_is_left_out() -> None:
    for length in range(len(LINE)):
        recording = parse_recording(HEADER + b"\n" + LINE + b"\n" + LINE[:length], "r")
        assert len(recording.records) == 1
        assert (recording.server, recording.time, recording.duration) == ("http://h", 1e9, 1.5)


def test_a_recording_may_be_compressed(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(gzip.compress(HEADER + b"\n" + LINE + b"\n", mtime=0))
    assert len(read_recording(tmp_path / "r").records) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"hello",
        b"{",
        b"[]",
        b"7",
        b"null",
        b'{"type": "stream_started", "seq": 1}',
        b'{"3": {"class_type": "KSampler", "inputs": {}}}',
        b'{"kind": 7}',
        b'{"kind": "workflow"}',
        LINE + b"\nnot json\n" + LINE,
        HEADER + b"\n[]\n",
        HEADER + b'\n{"kind": "x"}\n' + LINE,
        b"\xff\xfe\x00" * 10,
        b"[" * 100_000,
        b"\x1f\x8bnot gzip",
        gzip.compress(LINE * 100, mtime=0)[:-20],
        gzip.compress(LINE * 100, mtime=0)[:20] + b"\xff" * 50,
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_what_is_no_recording_is_a_usage_error(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(data)
    with pytest.raises(UsageError) as caught:
        read_recording(tmp_path / "r")
    assert str(tmp_path / "r") in caught.value.message
    assert caught.value.hint


def test_files_that_arent_there() -> None:
    for path in ("/nowhere/at/all", "/", "nul\0byte"):
        with pytest.raises(UsageError):
            read_recording(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ANY_RECORD = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["http", "ws-open", "ws-close", "ws-text", "ws-binary", "note", "header"]) | st.text(),
        "dir": st.sampled_from(["in", "out", "note"]) | st.text(),
    },
    optional={
        "t": JSON,
        "sock": JSON | st.just("A"),
        "path": JSON | st.sampled_from(["/prompt", "/queue", "/history/p", "/ws?clientId=None", "/ws?clientId=c"]),
        "method": JSON | st.sampled_from(["GET", "POST"]),
        "status": JSON | st.sampled_from([200, "success", "partial"]),
        "request": JSON | st.fixed_dictionaries({"prompt": JSON, "client_id": JSON | st.just("c"), "prompt_id": JSON}),
        "response": JSON | st.fixed_dictionaries({"prompt_id": JSON | st.just("p"), "p": JSON}),
        "text": JSON | st.just(executing("3")),
        "b64": JSON,
        "note": JSON | st.sampled_from(["end", "saved", "cancel"]),
        "index": JSON,
        "file": JSON | st.lists(JSON, min_size=4, max_size=4),
        "bytes": JSON,
        "error": JSON,
        "prompt_state": JSON,
        "submitted": JSON,
        "retryable": JSON,
        "server": JSON,
        "time": JSON,
    },
)


@given(st.lists(ANY_RECORD, max_size=12))
def test_a_recording_of_any_content_is_played_to_its_end(records: list[dict[str, Any]]) -> None:
    data = b"\n".join(json.dumps(each).encode() for each in records)
    try:
        recording = parse_recording(data, "wild")
    except UsageError:
        return
    check(list(Player(recording).events()))


# --- playing

GRAPH = {"9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}}, "8": {"class_type": "A", "inputs": {}}}
SUBMITTED: list[dict[str, Any]] = [
    {"dir": "out", "kind": "ws-open", "path": "/ws?clientId=c", "sock": "A"},
    {"dir": "out", "kind": "http", "method": "POST", "path": "/prompt", "request": {"prompt": GRAPH, "client_id": "c"}},
    {
        "dir": "in",
        "kind": "http",
        "method": "POST",
        "path": "/prompt",
        "status": 200,
        "response": {"prompt_id": "p", "node_errors": {}},
    },
]
DONE: dict[str, Any] = {
    "outputs": {"9": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}},
    "status": {"status_str": "success", "messages": []},
}
HISTORY = {
    "dir": "in",
    "kind": "http",
    "method": "GET",
    "path": "/history/p",
    "status": 200,
    "response": {"p": DONE},
}


def note(name: str, **fields: Any) -> dict[str, Any]:
    return {"dir": "note", "kind": "note", "note": name, **fields}


def played(*more: dict[str, Any]) -> list[ev.Event]:
    events = list(Player(Recording((*SUBMITTED, *more), server=SERVER)).events())
    check(events)
    return events


def test_saved_outputs_are_played() -> None:
    events = played(HISTORY, note("saved", index=0, path="/x/a.png", bytes=7), note("saved", index=5, path="/x"))
    assert described(events)[-3:] == ["output_ready", "output_saved", "run_finished"]
    [output] = the_end(events).outputs
    assert (output.path, output.bytes, output.url) == (
        "/x/a.png",
        7,
        f"{SERVER}/view?filename=a.png&subfolder=&type=output",
    )


def test_outputs_that_were_saved_before_the_end_are_played() -> None:
    frames = [
        {"dir": "in", "kind": "ws-text", "sock": "A", "text": text(kind, prompt_id="p", node="9", **data)}
        for kind, data in (("executing", {}), ("executed", {"output": DONE["outputs"]["9"]}))
    ]
    saved = note("saved", index=None, file=["9", "a.png", "", "output"], path="/x/a.png", bytes=7)
    other = note("saved", index=None, file=["9", "b.png", "", "output"], path="/x/b.png", bytes=7)
    events = played(*frames, saved, other, HISTORY)
    assert described(events)[-4:] == ["output_ready", "output_saved", "node_finished 9", "run_finished"]
    [output] = the_end(events).outputs
    assert (output.path, output.bytes, output.index) == ("/x/a.png", 7, 0)


def test_a_cancelled_run_stays_one() -> None:
    stopped = {**DONE, "status": {"status_str": "error", "messages": [["execution_interrupted", {"node_id": "8"}]]}}
    events = played(note("cancel"), {**HISTORY, "response": {"p": stopped}})
    assert the_end(events).status == "cancelled"


def test_a_run_that_a_limit_cancelled_stays_one() -> None:
    stopped = {**DONE, "status": {"status_str": "error", "messages": [["execution_interrupted", {"node_id": "8"}]]}}
    cancel = note("cancel", reason="it won't be done in time", hint="raise it")
    end = the_end(played(cancel, {**HISTORY, "response": {"p": stopped}}))
    assert (end.status, end.exit_code, end.prompt_state) == ("timeout", 7, "cancelled")
    assert end.error is not None
    assert (end.error.code, end.error.message, end.error.hint) == ("time_limit", "it won't be done in time", "raise it")
    assert end.error.node is not None


ERROR = {"code": "download_failed", "message": "m", "hint": "h"}


@pytest.mark.parametrize("before", [[], [HISTORY]])
@pytest.mark.parametrize(("status", "code"), [("partial", 8), ("timeout", 7), ("unreachable", 3), ("internal", 70)])
def test_the_recorded_end_decides(before: list[dict[str, Any]], status: str, code: int) -> None:
    """Outputs that could not be saved, a time limit, and the like: no wire shows them."""
    end = the_end(played(*before, note("end", status=status, error=ERROR, prompt_state="finished", submitted="yes")))
    assert (end.status, end.exit_code, end.prompt_state, end.submitted) == (status, code, "finished", "yes")
    assert end.error == ev.ErrorInfo(code="download_failed", message="m", hint="h")


def test_a_recorded_end_that_says_the_same_takes_nothing_away() -> None:
    failed = {**DONE, "status": {"status_str": "error", "messages": [["execution_error", {"node_id": "8"}]]}}
    error = {"code": "node_error", "message": "m", "hint": ""}
    end = the_end(played({**HISTORY, "response": {"p": failed}}, note("end", status="error", error=error)))
    assert end.error is not None
    assert end.error.node is not None
    assert end.error.node.id == "8"


def test_the_play_can_be_stopped() -> None:
    times: list[float] = []

    def wait(seconds: float) -> bool:
        times.append(seconds)
        return len(times) < 20

    events = list(Player(Recording(tuple(recordings.load("c_partial_cache")))).events(wait))
    check(events)
    assert the_end(events).status == "lost"
    assert len(times) == 20
    assert times == sorted(times)


def test_frames_of_other_clients_sockets_are_not_ours() -> None:
    other = {"dir": "out", "kind": "ws-open", "path": "/ws?clientId=other", "sock": "B"}
    frame = {"dir": "in", "kind": "ws-text", "text": executing("8", prompt_id="p")}
    assert "node_started 8" not in described(played(other, {**frame, "sock": "B"}))
    assert "node_started 8" in described(played(other, {**frame, "sock": "A"}))


def test_binary_frames_are_played() -> None:
    frames = [
        {"dir": "in", "kind": "ws-text", "sock": "A", "text": executing("8", prompt_id="p")},
        {"dir": "in", "kind": "ws-binary", "sock": "A", "b64": base64.b64encode(text_frame("8", "hello")).decode()},
        {"dir": "in", "kind": "ws-binary", "sock": "A", "b64": base64.b64encode(struct.pack(">II", 1, 1)).decode()},
        {"dir": "in", "kind": "ws-text", "sock": "A", "text": text("status", status={})},
    ]
    assert described(played(*frames))[-4:] == ["node_started 8", "node_text 8", "node_preview 8", "run_finished"]


def test_an_upload_is_no_submission() -> None:
    """What happens between the two has no prompt yet."""
    upload = {"kind": "http", "method": "POST", "path": "/upload/image"}
    prompt = {"kind": "http", "method": "POST", "path": "/prompt"}
    body = {"prompt": {"1": {"class_type": "A", "inputs": {}}}, "client_id": "me", "prompt_id": "p"}
    opened = {"dir": "out", "kind": "ws-open", "path": "/ws?clientId=me", "sock": "A"}
    records: list[dict[str, Any]] = [
        opened,
        {**upload, "dir": "out", "request": {"image": {"filename": "a.png", "bytes": 3}}},
        {**upload, "dir": "in", "status": 200, "response": {"name": "a.png", "subfolder": "", "type": "input"}},
        {"dir": "in", "kind": "ws-close", "sock": "A"},
        {**opened, "sock": "B"},
        {**prompt, "dir": "out", "request": body},
        {**prompt, "dir": "in", "status": 200, "response": {"prompt_id": "p", "number": 1, "node_errors": {}}},
    ]
    events = list(Player(Recording(tuple(records))).events())
    changes = [event for event in events if isinstance(event, ev.ConnectionChanged)]
    assert [(event.state, event.prompt_id) for event in changes] == [
        ("connected", None),
        ("lost", None),
        ("restored", None),
    ]
    assert [event.prompt_id for event in events if isinstance(event, ev.RunQueued)] == ["p"]
