"""The manifest: a line for each run as it ends, none twice, whatever ended the command in between."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from comfyreport.events import ErrorInfo, NodeRef, Output, RunFinished
from comfyreport.ledger.manifest import Manifest, ManifestError, record_of
from comfyreport.ledger.state import State

ROOT = Path(__file__).resolve().parents[2]
posix = pytest.mark.skipif(os.name == "nt", reason="no such file there")


@dataclass(frozen=True)
class Planned:
    index: int
    inputs: tuple[tuple[str, Any], ...] = ()


def finished(**fields: Any) -> RunFinished:
    return RunFinished(seq=9, time=1.0, elapsed=1.0, **{"status": "success", "exit_code": 0, **fields})


def output(name: str | None = "a.png", **fields: Any) -> Output:
    return Output(node=NodeRef(id="9"), index=0, kind="image", filename=name, **fields)


# --- one record


def test_all_that_a_record_tells() -> None:
    error = ErrorInfo(code="download_failed", message="a.png: the disk is full", hint="make room")
    outputs = (
        output(path="out/a.png", url="http://h:1/view?filename=a.png"),
        output("b.png", url="http://h:1/view?filename=b.png"),
        output("c.png", url="http://h:1/view?filename=c.png", folder="temp"),
        output(None, value="a text"),
        output("d.png"),
    )
    result = finished(
        status="partial", exit_code=8, error=error, outputs=outputs, seed=5, server="http://h:1", prompt_id="p-1",
        seconds=1.5, worker="gpu-1", run_index=3,
    )  # fmt: skip
    record = record_of(result, Planned(3, (("seed", "5"), ("3.steps", 20))), 2)
    assert record == {
        "index": 3,
        "inputs": {"seed": "5", "3.steps": 20},
        "seed": 5,
        "server": "http://h:1",
        "worker": "gpu-1",
        "prompt_id": "p-1",
        "status": "partial",
        "exit_code": 8,
        "seconds": 1.5,
        "attempts": 2,
        "outputs": ["out/a.png", "http://h:1/view?filename=b.png"],
        "error": {"code": "download_failed", "message": "a.png: the disk is full"},
    }
    assert next(iter(record)) == "index"


def test_what_is_none_is_left_out() -> None:
    assert record_of(finished(), Planned(1), 1) == {
        "index": 1, "inputs": {}, "status": "success", "exit_code": 0, "seconds": 0.0, "attempts": 1, "outputs": [],
    }  # fmt: skip


def test_temporary_outputs_are_told_where_they_are_results() -> None:
    result = finished(outputs=(output(path="a.png"), output(path="t.png", folder="temp")))
    assert record_of(result, Planned(1), 1)["outputs"] == ["a.png"]
    assert record_of(result, Planned(1), 1, include_temp=True)["outputs"] == ["a.png", "t.png"]


def test_secrets_are_hidden() -> None:
    inputs = (("7.api_key", "sk-1"), ("7.options", {"token": "t-1", "size": 3}), ("3.text", "a key"))
    assert record_of(finished(), Planned(1, inputs), 1)["inputs"] == {
        "7.api_key": "[removed]", "7.options": {"token": "[removed]", "size": 3}, "3.text": "a key",
    }  # fmt: skip


def test_a_value_is_bounded() -> None:
    record = record_of(finished(), Planned(1, (("3.text", "x" * 10**6),)), 1)
    assert len(record["inputs"]["3.text"]) == 65_536


# --- the file


@contextlib.contextmanager
def command(folder: Path, *, state: bool = True, only_failed: bool = False) -> Iterator[tuple[State, Manifest]]:
    """What one command has open."""
    with contextlib.closing(State(folder / "runs.db" if state else None, entropy=1)) as kept:
        kept.check("ab", 10)
        with contextlib.closing(Manifest(folder / "runs.jsonl", kept, only_failed=only_failed)) as manifest:
            yield kept, manifest


def end(state: State, manifest: Manifest | None, index: int, status: str = "success", **more: Any) -> None:
    """A run's end, told to both, or to the state alone before all ended."""
    record = {"index": index, "status": status, **more}
    state.end(index, status, record)
    if manifest is not None:
        manifest.write(record)


def lines(folder: Path) -> list[tuple[int, str]]:
    text = (folder / "runs.jsonl").read_text(encoding="utf-8")
    assert text.endswith("\n") or not text
    return [(each["index"], each["status"]) for each in map(json.loads, text.splitlines())]


def test_each_line_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    with command(tmp_path) as (state, manifest):
        assert lines(tmp_path) == []
        end(state, manifest, 4)
        assert lines(tmp_path) == [(4, "success")]
        end(state, manifest, 1, "error")
        assert lines(tmp_path) == [(4, "success"), (1, "error")]


def test_a_folder_is_made(tmp_path: Path) -> None:
    with contextlib.closing(State(None, entropy=1)) as state:
        Manifest("new/runs.jsonl", state, folder=os.fspath(tmp_path)).close()
    assert (tmp_path / "new" / "runs.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    "half", [b"", b"{", b'{"ind', b'{"index":', b'{"index":3,"status":"succ', b'{"index":3,"st\xc3']
)
def test_going_on_makes_it_whole(tmp_path: Path, half: bytes) -> None:
    with command(tmp_path) as (state, manifest):
        end(state, manifest, 4)
        end(state, None, 3)
    with (tmp_path / "runs.jsonl").open("ab") as file:
        file.write(half)
    with command(tmp_path) as (state, manifest):
        assert lines(tmp_path) == [(4, "success"), (3, "success")]
        end(state, manifest, 1)
    assert lines(tmp_path) == [(4, "success"), (3, "success"), (1, "success")]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["runs.db", "runs.jsonl"]


def test_one_that_was_removed_is_written_anew(tmp_path: Path) -> None:
    with command(tmp_path) as (state, manifest):
        end(state, manifest, 4)
    (tmp_path / "runs.jsonl").unlink()
    with command(tmp_path):
        assert lines(tmp_path) == [(4, "success")]


def test_what_is_done_again_has_one_line(tmp_path: Path) -> None:
    with command(tmp_path) as (state, manifest):
        for index, status in ((1, "success"), (2, "error"), (3, "lost"), (4, "error")):
            end(state, manifest, index, status)
    with command(tmp_path, only_failed=True) as (state, manifest):
        assert lines(tmp_path) == [(1, "success")]
        end(state, manifest, 4, "success")
    # The others were not begun: their failures are not forgotten.
    with command(tmp_path) as (state, manifest):
        assert lines(tmp_path) == [(1, "success"), (2, "error"), (4, "success")]
        end(state, manifest, 3, "success")
    assert lines(tmp_path) == [(1, "success"), (2, "error"), (4, "success"), (3, "success")]


def test_without_a_state_that_goes_on_it_is_replaced(tmp_path: Path) -> None:
    for status in ("error", "success"):
        with command(tmp_path, state=False) as (state, manifest):
            end(state, manifest, 1, status)
    assert lines(tmp_path) == [(1, "success")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"my notes", "it is no manifest (line 1)"),
        (b"my notes\n", "it is no manifest (line 1)"),
        (b'{"index":1,"status":"success"}\n\n', "it is no manifest (line 2)"),
        (b'{"type":"stream_started"}\n', "it is no manifest (line 1)"),
        (b'{"index":9,"status":"success"}\n', "line 1 tells of a run that the state file doesn't know"),
        (b'{"index":1,"status":"success"}\n{"index":"a"}\n', "line 2 tells of a run"),
        (b'{"index":1e400}\n', "line 1 tells"),
        (b'{"index":%s}\n' % (b"9" * 30), "line 1 tells"),
        (b'{"index":\xff}\n', "line 1 tells"),
        (b'{"index":%s\n' % (b"[" * 100_000), "line 1 tells"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_no_manifest_of_the_command_stays_as_it_is(tmp_path: Path, data: bytes, reason: str) -> None:
    with command(tmp_path) as (state, manifest):
        end(state, manifest, 1)
    path = tmp_path / "runs.jsonl"
    path.write_bytes(data)
    with pytest.raises(ManifestError) as raised, command(tmp_path):
        pass
    assert raised.value.message.startswith(f"--manifest {path} can't be used: {reason}")
    assert "name another file with --manifest" in raised.value.hint
    assert path.read_bytes() == data


def refused(path: str | Path) -> str:
    with contextlib.closing(State(None, entropy=1)) as state, pytest.raises(ManifestError) as raised:
        Manifest(path, state)
    assert raised.value.hint
    return raised.value.message


@posix
def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert "stdout is no file" in refused("-")
    assert "stdout is no file" in refused("/dev/stdout")
    assert "no regular file" in refused("/dev/null")
    assert "no regular file" in refused(tmp_path / "fifo")
    assert "it is a folder" in refused(tmp_path)
    (tmp_path / "file").touch()
    assert "File exists" in refused(tmp_path / "file" / "runs.jsonl")
    assert "null" in refused("a\0b")


def test_a_disk_that_is_full_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, room = os.write, 10

    def write_some(descriptor: int, data: bytearray) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = min(room, len(data))
        room -= taken
        return write(descriptor, data[:taken])

    with contextlib.closing(State(None, entropy=1)) as state:
        manifest = Manifest(tmp_path / "runs.jsonl", state)
        monkeypatch.setattr(os, "write", write_some)
        for index in (1, 2):
            with pytest.raises(OSError, match="No space left"):
                manifest.write({"index": index, "status": "success"})
        assert (tmp_path / "runs.jsonl").read_bytes() == b'{"index":1'
        room = 10**6
        manifest.write({"index": 3, "status": "success"})
        assert [index for index, _ in lines(tmp_path)] == [1, 2, 3]
        room = 0
        with pytest.raises(OSError, match="No space left"):
            manifest.write({"index": 4, "status": "success"})
        room = 10**6
        manifest.close()
    assert [index for index, _ in lines(tmp_path)] == [1, 2, 3, 4]


WRITER = """
import sys
from comfyreport.ledger.manifest import Manifest
from comfyreport.ledger.state import State
state = State(sys.argv[1] + "/runs.db", entropy=1)
state.check("ab", 100000)
manifest = Manifest(sys.argv[1] + "/runs.jsonl", state)
for index in state.todo():
    record = {"index": index, "status": "success", "more": "x" * 1000}
    state.end(index, "success", record)
    manifest.write(record)
    print(index, flush=True)
"""


@posix
def test_after_kill_9_it_has_each_run_once(tmp_path: Path) -> None:
    told: list[str] = []
    for count in (1, 100, 300):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process, contextlib.closing(process.stdout):
            told += [process.stdout.readline() for _ in range(count)]
            process.send_signal(signal.SIGKILL)
            told += process.stdout.readlines()
    with contextlib.closing(State(tmp_path / "runs.db", entropy=1)) as state:
        state.check("ab", 100000)
        Manifest(tmp_path / "runs.jsonl", state).close()
        found = [index for index, _ in lines(tmp_path)]
        assert found == [each["index"] for each in state.ended()]
    assert len(found) == len(set(found))
    assert {int(line) for line in told if line.endswith("\n")} <= set(found)
