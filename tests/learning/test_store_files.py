"""Files that are no store, or can't be read or written: an error names file, cause and next step; none is changed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from comfyreport.learning import store as module
from comfyreport.learning.store import Store, StoreError
from tests.databases import leave_journal_of_making
from tests.learning.seen import SERVER, execute, seen, store_in

FOREIGN = "CREATE TABLE bookmarks (url TEXT)", "INSERT INTO bookmarks VALUES ('https://example.org')"

posix = pytest.mark.skipif(os.name == "nt", reason="no such file there")


def uses(store: Store) -> dict[str, Callable[[], object]]:
    """All that can be done with a store, by the word of its errors."""
    return {
        "read": lambda: store.observed(SERVER, ["KSampler"]),
        "read too": store.summary,
        "written": lambda: store.add(SERVER, [seen()]),
        "cleared": store.clear,
    }


def check(store: Store, reason: str, hint: str, *, but: tuple[str, ...] = ()) -> None:
    """Each use says *reason* and *hint* of the file, and leaves the folder as it is."""
    before = content(store.path.parent)
    for deed, use in uses(store).items():
        if deed in but:
            continue
        with pytest.raises(StoreError) as raised:
            use()
        start = f"the timings in {store.path} can't be {deed.partition(' ')[0]}: "
        assert raised.value.message.startswith(start)
        assert reason in raised.value.message
        assert hint in raised.value.hint
        assert "\n" not in raised.value.message
    assert content(store.path.parent) == before


def content(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def filled(folder: Path) -> Store:
    """A store with something in it."""
    store = store_in(folder)
    store.add(SERVER, [seen(f"Class{number}") for number in range(300)] + [seen()])
    return store


# --- what isn't comfyreport's


def test_a_database_of_another_program(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    execute(store.path, *FOREIGN)
    check(store, "the database of another program", "COMFYREPORT_CACHE")
    execute(store.path, "PRAGMA application_id = 17", "PRAGMA user_version = 1")
    check(store, "the database of another program", "move it away")


@posix
def test_a_database_that_another_program_has_open(tmp_path: Path) -> None:
    """What it has in its log isn't brought into the database by who looks."""
    store = store_in(tmp_path)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        for statement in ("PRAGMA journal_mode = WAL", *FOREIGN):
            connection.execute(statement)
        check(store, "the database of another program", "COMFYREPORT_CACHE")
        assert len(content(tmp_path)) == 3


@pytest.mark.parametrize("text", ["words\n", "SQLite format 3", "\0" * 5000, "{}" * 500])
def test_a_file_of_another_kind(tmp_path: Path, text: str) -> None:
    store = store_in(tmp_path)
    store.path.write_text(text)
    check(store, "no database of comfyreport", "move it away")


def test_a_store_of_a_newer_version(tmp_path: Path) -> None:
    store = filled(tmp_path)
    execute(store.path, "PRAGMA user_version = 7", "ALTER TABLE observed ADD COLUMN mood TEXT")
    check(store, "a newer comfyreport made it (schema 7; this one knows 1)", "upgrade comfyreport")


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.path.mkdir()
    (store.path / "file").write_text("kept")
    check(store, "it is a folder", "move it away")


@posix
def test_a_fifo_in_its_place(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    os.mkfifo(store.path)
    check(store, "no regular file", "move it away")


@posix
def test_a_file_in_its_folders_place(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("kept")
    store = store_in(tmp_path / "cache")
    with pytest.raises(StoreError, match="can't be read: Not a directory"):
        store.summary()
    with pytest.raises(StoreError, match="can't be written: Not a directory") as raised:
        store.add(SERVER, [seen()])
    assert "COMFYREPORT_CACHE" in raised.value.hint
    assert (tmp_path / "cache").read_text() == "kept"


# --- our own, broken


def cut(store: Store, size: int) -> None:
    os.truncate(store.path, size)


def scribbled(store: Store) -> None:
    data = store.path.read_bytes()
    store.path.write_bytes(data[:100] + b"\xa5" * (len(data) - 100))


def grown(store: Store) -> None:
    os.truncate(store.path, module.FILE_LIMIT + 1)


BROKEN: dict[str, Callable[[Store], object]] = {
    "cut in the header": lambda store: cut(store, 80),
    "cut behind the header": lambda store: cut(store, 100),
    "cut in a page": lambda store: cut(store, 1000),
    "cut behind a page": lambda store: cut(store, 4096),
    "scribbled over": scribbled,
    "too large": grown,
    "no tables": lambda store: execute(store.path, "DROP TABLE observed"),
    "another table": lambda store: execute(store.path, "CREATE TABLE more (id)"),
    "another column": lambda store: execute(store.path, "ALTER TABLE observed ADD COLUMN mood TEXT"),
    "a trigger": lambda store: execute(
        store.path, "CREATE TRIGGER grow AFTER INSERT ON observed BEGIN DELETE FROM observed; END"
    ),
    "a view": lambda store: execute(
        store.path,
        "DROP TABLE observed",
        "CREATE VIEW observed AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
    ),
    "no schema": lambda store: execute(store.path, "PRAGMA user_version = 0"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_one_that_is_broken_is_removed_by_clear_alone(tmp_path: Path, how: str) -> None:
    store = filled(tmp_path)
    (tmp_path / "neighbour").write_text("kept")
    BROKEN[how](store)
    # A store without tables is one that can be written.
    writable = ("written",) if how == "no tables" else ()
    before = content(tmp_path)
    check(store, "it", "comfyreport timings --clear", but=("cleared", *writable))
    assert content(tmp_path) == before
    assert store.clear() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["neighbour"]
    store.add(SERVER, [seen()])
    assert len(store.observed(SERVER, ["KSampler"])) == 1


def test_damage_far_inside_is_found_or_harmless(tmp_path: Path) -> None:
    """Each page, one after the other, is garbage: what is told is a row that was written, or an error."""
    store = filled(tmp_path)
    data = store.path.read_bytes()
    known = set(store.observed(SERVER, ["KSampler", "Class7"]))
    errors = []
    for start in range(4096, len(data), 4096):
        store.path.write_bytes(data[:start] + b"\x0d" * 4096 + data[start + 4096 :])
        try:
            found = store.observed(SERVER, ["KSampler", "Class7"])
        except StoreError as error:
            errors.append(error)
        else:
            assert set(found) <= known
    assert errors
    assert all(error.broken for error in errors)


def test_an_empty_file_is_one_that_was_just_made(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.path.touch()
    assert (store.summary(), store.clear()) == ([], 0)
    store.add(SERVER, [seen()])
    assert len(store.summary()) == 1


def test_what_a_process_left_half_written_is_taken_back(tmp_path: Path) -> None:
    """A copy of a store in the midst of a transaction, as a process leaves it that is killed."""
    store, left = filled(tmp_path), store_in(tmp_path / "left")
    left.path.parent.mkdir()
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        # So few pages fit into the memory that others must be written before the end.
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE observed SET tail = 9, class_type = class_type || 'x'")
        for name in ("timings.sqlite3", "timings.sqlite3-journal"):
            shutil.copy(tmp_path / name, left.path.parent / name)
    assert (tmp_path / "timings.sqlite3").read_bytes() != left.path.read_bytes()
    assert left.observed(SERVER, ["KSampler"]) == [seen()]
    assert [path.name for path in left.path.parent.iterdir()] == ["timings.sqlite3"]


def test_one_that_was_killed_while_it_was_made_is_none_yet(tmp_path: Path) -> None:
    for use in ("read", "cleared", "written"):
        store = filled(tmp_path / use)
        leave_journal_of_making(store.path)
        if use == "read":
            assert store.observed(SERVER, ["KSampler"]) == []
        elif use == "cleared":
            assert store.clear() == 0
            assert store.path.exists()
        else:
            store.add(SERVER, [seen()])
            assert len(store.summary()) == 1


# --- what the machine refuses


def test_one_that_another_process_keeps_is_given_up(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert len(store.observed(SERVER, ["KSampler"])) == 1
        with pytest.raises(StoreError, match="can't be written: another process is at it"):
            store.add(SERVER, [seen()])
        connection.execute("ROLLBACK")
        connection.execute("BEGIN EXCLUSIVE")
        for use in uses(store).values():
            with pytest.raises(StoreError, match="another process is at it") as raised:
                use()
            assert not raised.value.broken
    assert len(store.observed(SERVER, ["KSampler"])) == 1


def test_one_that_another_thread_keeps_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, connect, connecting = filled(tmp_path), sqlite3.connect, threading.Event()

    def tell(*words: Any, **options: Any) -> Any:
        connecting.set()
        return connect(*words, **options)

    with closing(connect(store.path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr(sqlite3, "connect", tell)
        patient = threading.Thread(target=store_in(tmp_path, patience=60).summary)
        patient.start()
        assert connecting.wait(60)
        check(store, "another thread is at it", "try again")
        connection.execute("ROLLBACK")
        patient.join(60)
    assert len(store.summary()) == 301


class Limited(sqlite3.Connection):
    """A connection to a disk that has no room for another page."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        (pages,) = self.execute("PRAGMA page_count").fetchone()
        self.execute(f"PRAGMA max_page_count = {max(pages, 1)}")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path)
    before, connect = store.path.read_bytes(), sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *words, **options: connect(*words, factory=Limited, **options))
    with pytest.raises(StoreError, match="can't be written: the disk is full") as raised:
        store.add(SERVER, [seen(f"More{number}") for number in range(300)])
    assert raised.value.hint.startswith("make room, name another folder with COMFYREPORT_CACHE")
    assert store.path.read_bytes() == before
    assert len(store.summary()) == 301
    empty = store_in(tmp_path / "new")
    with pytest.raises(StoreError, match="the disk is full"):
        empty.add(SERVER, [seen()])
    assert empty.summary() == []


class ReadOnly(sqlite3.Connection):
    """A connection to a disk that is mounted for reading."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self.execute("PRAGMA query_only = ON")


def test_a_file_that_is_for_reading_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, connect = filled(tmp_path), sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *words, **options: connect(*words, factory=ReadOnly, **options))
    assert len(store.observed(SERVER, ["KSampler"])) == 1
    for name, use in (("written", lambda: store.add(SERVER, [seen()])), ("cleared", store.clear)):
        with pytest.raises(StoreError, match=f"can't be {name}: attempt to write a readonly database") as raised:
            use()
        assert "rights" in raised.value.hint
        assert not raised.value.broken


def test_a_folder_that_may_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *words: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied", os.fspath(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    store = store_in(tmp_path / "cache")
    with pytest.raises(StoreError, match="can't be written: Permission denied"):
        store.add(SERVER, [seen()])
    assert store.summary() == []


def test_a_broken_file_that_may_not_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path)
    scribbled(store)

    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(StoreError, match="can't be removed: Permission denied"):
        store.clear()
