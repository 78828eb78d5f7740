"""Files that are no state, or can't be read or written: an error names file, cause and next step; none is changed."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from comfyreport.ledger.state import Attempt, State
from comfyreport.ledger.state_file import StateError
from tests.databases import leave_journal_of_making

posix = pytest.mark.skipif(os.name == "nt", reason="no such file there")


def filled(path: Path, ends: int = 300) -> None:
    """A state with something in it."""
    with closing(State(path, entropy=7)) as state:
        state.check("ab", 1000)
        state.begin(Attempt(ends + 1, 1, "http://127.0.0.1:8188", "p", "c"))
        for index in range(1, ends + 1):
            state.end(index, "success", {"index": index, "status": "success", "more": "x" * 200})


def execute(path: Path, *statements: str) -> None:
    """Do something to a database behind the state's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def content(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def check(path: Path, reason: str, hint: str) -> None:
    """A command is told *reason* and *hint*, and leaves the folder as it is."""
    before = content(path.parent)
    with pytest.raises(StateError) as raised, closing(State(path, entropy=1, patience=0.05)) as state:
        state.check("ab", 1000)
    assert raised.value.message.startswith(f"--state {path} can't be used: ")
    assert reason in raised.value.message
    assert hint in raised.value.hint
    assert "\n" not in raised.value.message
    assert content(path.parent) == before


def test_one_that_was_killed_while_it_was_made_is_none_yet(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    filled(path)
    # As it is at first, before a log is kept.
    execute(path, "PRAGMA journal_mode = DELETE")
    leave_journal_of_making(path)
    with closing(State(path, entropy=8)) as state:
        assert not state.goes_on
        state.check("cd", 7)
        assert len(state.todo()) == 7
    with closing(State(path, entropy=9)) as state:
        assert (state.goes_on, state.entropy) == (True, 8)


def test_what_is_no_database(tmp_path: Path) -> None:
    for name, data in (("notes.txt", b"my notes\n"), ("a.png", b"\x89PNG" + bytes(5000))):
        (tmp_path / name).write_bytes(data)
        check(tmp_path / name, "it is no database of comfyreport", "name another file with --state")


def test_the_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "bookmarks.db"
    execute(path, "CREATE TABLE bookmarks (url TEXT)")
    check(path, "it is the database of another program", "name another file with --state")


def test_one_that_a_newer_version_made(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    filled(path)
    execute(path, "PRAGMA user_version = 2")
    check(path, "a newer comfyreport made it (schema 2; this one knows 1)", "upgrade comfyreport")


@pytest.mark.parametrize(
    ("fingerprint", "total", "reason"), [("cd", 1000, "command"), ("ab", 24, ": 1000 runs, not 24")]
)
def test_the_state_of_another_command(tmp_path: Path, fingerprint: str, total: int, reason: str) -> None:
    path = tmp_path / "runs.db"
    filled(path)
    with closing(State(path, entropy=1)) as state, pytest.raises(StateError) as raised:
        state.check(fingerprint, total)
    assert "it is the state of another command" in raised.value.message
    assert raised.value.message.endswith(reason)
    assert raised.value.hint.startswith("give the same workflows, inputs,")
    assert raised.value.hint.endswith("or name another file with --state")


def test_a_folder_and_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    check(tmp_path / "folder", "it is a folder", "name another file")
    (tmp_path / "file").touch()
    check(tmp_path / "file" / "runs.db", "Not a directory" if os.name != "nt" else "", "rights")


@posix
@pytest.mark.parametrize("path", ["-", "/dev/stdout", "/dev/fd/1", "/dev/null"])
def test_a_stream_or_a_device(path: str) -> None:
    with pytest.raises(StateError, match=r"it is no (regular )?file"):
        State(path, entropy=1)


@posix
def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    check(tmp_path / "fifo", "it is no regular file", "name another file")


@pytest.mark.parametrize("path", ["a\0b", "x" * 300])
def test_a_path_that_can_be_none(tmp_path: Path, path: str) -> None:
    with pytest.raises(StateError, match="can't be used: ") as raised, closing(State(path, entropy=1)) as state:
        state.check("ab", 1)
    assert raised.value.message.isprintable()


# --- damage


@pytest.mark.parametrize("size", [99, 100, 4096, 10_000, 40_000])
def test_one_that_was_cut(tmp_path: Path, size: int) -> None:
    path = tmp_path / "runs.db"
    filled(path)
    os.truncate(path, size)
    check(path, "it is damaged", "move it away to begin anew, or name another file")


def test_one_with_other_bytes_in_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    filled(path)
    data = bytearray(path.read_bytes())
    for page in range(1, len(data) // 4096):
        data[page * 4096 : page * 4096 + 100] = bytes(range(100))
        path.write_bytes(data)
        check(path, "it is damaged", "move it away")


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE ended",
        "CREATE TABLE more (a)",
        "CREATE TRIGGER t AFTER INSERT ON ended BEGIN DELETE FROM attempts; END",
        "CREATE VIEW v AS SELECT 1",
        "DELETE FROM command",
        "INSERT INTO command SELECT * FROM command",
        "UPDATE command SET entropy = 'much'",
        "UPDATE ended SET run = 1001 WHERE run = 5",
        "UPDATE ended SET run = -1 WHERE run = 5",
        "UPDATE attempts SET run = 0",
        "UPDATE ended SET status = CAST(x'ff00' AS TEXT)",
    ],
)
def test_what_it_says_can_not_be(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "runs.db"
    filled(path)
    execute(path, statement)
    if "status" in statement:
        with closing(State(path, entropy=1)) as state:
            assert len(state.todo()) == 999
        return
    check(path, "it is damaged", "move it away")


def test_records_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    filled(path)
    execute(path, "UPDATE ended SET record = '{' WHERE run = 7")
    with (
        closing(State(path, entropy=1)) as state,
        pytest.raises(StateError, match=r"it is damaged \(a record is no JSON"),
    ):
        list(state.ended())
    execute(path, "UPDATE ended SET record = CAST(x'ff00' AS TEXT) WHERE run = 7")
    with closing(State(path, entropy=1)) as state, pytest.raises(StateError, match="it is damaged"):
        list(state.ended())


# --- what may not be written, or has no room


class Limited(sqlite3.Connection):
    """A connection to a disk that is soon full."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        (pages,) = self.execute("PRAGMA page_count").fetchone()
        self.execute(f"PRAGMA max_page_count = {max(pages, 4)}")


def use(monkeypatch: pytest.MonkeyPatch, factory: type[sqlite3.Connection]) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *words, **options: connect(*words, factory=factory, **options))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="its rights would not stop this user")
def test_a_read_only_file_or_folder(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    filled(path)
    path.chmod(0o400)
    check(path, "it is read-only", "see what rights it and its folder have")
    path.chmod(0o600)
    tmp_path.chmod(0o500)
    check(path, "", "see what rights it and its folder have")
    tmp_path.chmod(0o700)


def test_a_file_that_is_for_reading_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.db"
    filled(path)
    monkeypatch.setattr(os, "access", lambda *words: False)
    check(path, "it is read-only", "see what rights it and its folder have")


def test_a_folder_that_may_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *words: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied", os.fspath(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    check(tmp_path / "new" / "runs.db", "Permission denied", "see what rights it and its folder have")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.db"
    filled(path, 10)
    use(monkeypatch, Limited)
    with closing(State(path, entropy=1)) as state:
        state.check("ab", 1000)
        before = list(state.ended()), state.open_attempts(), list(state.todo())
        with pytest.raises(StateError, match="the disk is full") as raised:
            state.end(11, "success", {"index": 11, "more": "x" * 100_000})
        assert raised.value.hint == "make room, and run the command again"
        # Neither half of it was done.
        assert (list(state.ended()), state.open_attempts(), list(state.todo())) == before
        state.give_up(11)
    with pytest.raises(StateError, match="the disk is full"), closing(State(tmp_path / "new.db", entropy=1)) as state:
        state.check("ab", 1000)


def test_after_an_error_the_file_is_free(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    filled(path)
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    execute(copy, "DELETE FROM command")
    good, bad = path.read_bytes(), copy.read_bytes()
    path.write_bytes(bad)
    check(path, "it is damaged", "move it away")
    path.write_bytes(good)
    with closing(State(path, entropy=1)) as state:
        state.check("ab", 1000)
        assert state.goes_on
