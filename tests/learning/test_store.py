"""The store of learned durations: what goes in comes out, bounded; what its file may say; who writes at once."""

from __future__ import annotations

import contextlib
import math
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from comfyreport.learning import store as module
from comfyreport.learning.observed import CLASS_LIMIT, Observed
from comfyreport.learning.store import (
    LIKE_ROWS,
    ROWS_OF_EXACT,
    SERVER_LIMIT,
    Learned,
    Store,
    StoreError,
    store_path,
)
from tests.learning.seen import SERVER, digest, execute, seen, store_in

ROOT = Path(__file__).resolve().parents[2]


def tails(store: Store, *class_types: str, server: str = SERVER) -> list[float]:
    """Which ones there are, told apart by their last part."""
    return [each.tail for each in store.observed(server, class_types or ["KSampler"])]


# --- in and out


def test_what_was_seen_comes_back_newest_first(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    first, second = seen(number=1, cold=True), seen("VAEDecode", number=2)
    store.add(SERVER, [first, second])
    store.add(SERVER, [seen(number=3)])
    found = store.observed(SERVER, ["VAEDecode", "KSampler", "KSampler"])
    assert found == [seen(number=3), second, first]
    assert [type(value) for value in found[-1]] == [str, str, str, float, bool, *[float] * 5]


def test_servers_and_classes_are_kept_apart(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.add(SERVER, [seen(tail=1.0), seen("VAEDecode", tail=2.0)])
    store.add("http://other:8188", [seen(tail=3.0)])
    assert tails(store) == [1.0]
    assert tails(store, "VAEDecode", "SaveImage") == [2.0]
    assert tails(store, server="http://other:8188") == [3.0]
    assert store.observed(SERVER, []) == []


def test_a_store_that_is_missing_is_empty_and_not_made_by_reading(tmp_path: Path) -> None:
    store = store_in(tmp_path / "cache" / "comfyreport")
    assert (tails(store), store.summary(), store.clear()) == ([], [], 0)
    store.add(SERVER, [])
    assert list(tmp_path.iterdir()) == []
    store.add(SERVER, [seen()])
    assert tails(store) == [0.5]
    assert [path.name for path in store.path.parent.iterdir()] == ["timings.sqlite3"]


@pytest.mark.skipif(os.name == "nt", reason="rights are other ones there")
def test_only_its_user_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = store_in(tmp_path / "cache")
        store.add(SERVER, [seen()])
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "name", ["a b", "täglich #%20", "x;y&mode=memory", *([] if os.name == "nt" else ["?a", "\\b"])]
)
def test_any_folder_will_do(tmp_path: Path, name: str) -> None:
    store = store_in(tmp_path / name)
    store.add(SERVER, [seen()])
    assert tails(store) == [0.5]
    assert store.path.is_file()


def test_a_summary_is_by_server_and_class(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    assert store.summary() == []
    for tail in (1.0, 2.0, 99.0):
        store.add(SERVER, [seen(tail=tail)])
    store.add(SERVER, [seen(tail=4.0, cold=True), seen("VAEDecode", tail=1.0, cold=True)])
    store.add("http://a:8188", [seen(tail=0.0)])
    assert store.summary() == [
        Learned(SERVER, "KSampler", 4, 14.25, 12.25, 1_700_000_003.0),
        Learned(SERVER, "VAEDecode", 1, 11.25, None, 1_700_000_003.0),
        Learned("http://a:8188", "KSampler", 1, None, 10.25, 1_700_000_004.0),
    ]


def test_clearing_leaves_nothing(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.add(SERVER, [seen(f"Class{number}") for number in range(500)])
    size = store.path.stat().st_size
    assert store.clear() == 500
    assert (store.summary(), store.clear()) == ([], 0)
    assert store.path.stat().st_size < size
    assert b"Class1" not in store.path.read_bytes()
    store.add(SERVER, [seen()])
    assert tails(store) == [0.5]


# --- bounds


def test_of_the_same_node_the_newest_are_kept_cold_and_warm(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    for tail in range(20):
        store.add(SERVER, [seen(tail=tail), seen(tail=100 + tail, cold=True)])
    assert len(tails(store)) == 2 * ROWS_OF_EXACT
    assert {each.tail for each in store.observed(SERVER, ["KSampler"])} == {*range(12, 20), *range(112, 120)}


def test_of_a_class_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_OF_CLASS", 100)
    store = store_in(tmp_path)
    store.add(SERVER, [seen(number=number, tail=number) for number in range(200)])
    store.add("http://other:1", [seen(tail=7.0)])
    assert tails(store) == list(map(float, range(199, 199 - LIKE_ROWS, -1)))
    asked = {seen(number=number).exact for number in (99, 100)}
    assert [each.tail for each in store.observed(SERVER, ["KSampler"], asked)][LIKE_ROWS:] == [100.0]
    assert tails(store, server="http://other:1") == [7.0]


def test_of_all_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 100)
    store = store_in(tmp_path)
    for number in range(30):
        store.add(SERVER, [seen(f"Class{number}-{index}", tail=number) for index in range(7)])
    kept = store.summary()
    assert sum(each.runs for each in kept) == 100
    assert min(each.last for each in kept) == 1_700_000_000.0 + 15
    store.add(SERVER, [seen(f"Many{index}") for index in range(300)])
    assert len(store.summary()) == 100


def test_the_largest_store_is_smaller_than_the_largest_file(tmp_path: Path) -> None:
    """A tenth of it, with the longest names: so that no store of ours is ever too large to be read."""
    store = store_in(tmp_path)
    server = "s" * SERVER_LIMIT
    for start in range(0, module.ROWS // 10, 100):
        names = [f"{start + index}".rjust(CLASS_LIMIT, "c") for index in range(100)]
        store.add(server, [seen(name) for name in names])
    assert len(store.summary()) == module.ROWS // 10
    assert store.path.stat().st_size * 10 < module.FILE_LIMIT


WRONG: list[dict[str, Any]] = [
    {"class_type": ""},
    {"class_type": "ä" * (CLASS_LIMIT // 2 + 1)},
    {"class_type": "\ud800"},
    {"class_type": 3},
    {"exact": "a photograph of a fox"},
    {"exact": "ABC"},
    {"exact": "a" * 65},
    {"like": ""},
    {"like": b"ab"},
    {"units": math.nan},
    {"lead": math.inf},
    {"step": -1.0},
    {"steps": 1e300},
    {"tail": "1"},
    {"passes": None},
    {"cold": 2},
    {"cold": "cold"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_what_is_out_of_bounds_is_not_kept(tmp_path: Path, wrong: dict[str, Any]) -> None:
    store = store_in(tmp_path)
    store.add(SERVER, [seen()._replace(**wrong), seen(tail=2.0)])
    assert tails(store) == [2.0]
    assert [each.runs for each in store.summary()] == [1]


@pytest.mark.parametrize("server", ["", "s" * (SERVER_LIMIT + 1), "\udcff"])
def test_a_server_out_of_bounds_has_nothing(tmp_path: Path, server: str) -> None:
    store = store_in(tmp_path)
    store.add(server, [seen()])
    assert (tails(store, server=server), store.path.exists()) == ([], False)


def test_the_file_has_nothing_but_names_digests_and_numbers(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    prompt = "a photograph of a red fox"
    named = seen()._replace(exact=digest(prompt), like=digest("secret.safetensors"))
    store.add(SERVER, [named, named._replace(exact=prompt), named._replace(like="secret.safetensors")])
    data = store.path.read_bytes()
    assert digest(prompt).encode() in data
    assert SERVER.encode() in data
    assert not [word for word in (b"photograph", b"fox", b"safetensors") if word in data]


# --- what stands in the file


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("exact", "x'00ff'"), ("exact", "'" + "a" * 5000 + "'"), ("exact", "NULL"), ('"like"', "'no'"),
        ("units", "'wide'"), ("units", "-1"), ("cold", "7"), ("cold", "'yes'"), ("lead", "1e999"), ("step", "NULL"),
        ("steps", "x'01'"), ("tail", "-1e999"), ("passes", "1e200"),
    ],
)  # fmt: skip
def test_a_row_that_says_anything_is_left_out(tmp_path: Path, column: str, value: str) -> None:
    store = store_in(tmp_path)
    store.add(SERVER, [seen(tail=1.0), seen(tail=2.0)])
    execute(store.path, f"UPDATE observed SET {column} = {value} WHERE id = 2")
    assert tails(store) == [1.0]
    assert [each.runs for each in store.summary()] == [1]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("server", "''"), ("server", "NULL"), ("server", "x'01'"), ("class_type", "x'4b'"), ("class_type", "''"),
        ("time", "1e300"), ("time", "-1"), ("time", "'noon'"),
    ],
)  # fmt: skip
def test_a_summary_leaves_out_what_is_none(tmp_path: Path, column: str, value: str) -> None:
    store = store_in(tmp_path)
    store.add(SERVER, [seen("VAEDecode")])
    store.add(SERVER, [seen()])
    execute(store.path, f"UPDATE observed SET {column} = {value} WHERE id = 2")
    assert [each.class_type for each in store.summary()] == ["VAEDecode"]


def test_text_that_is_none_is_damage(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.add(SERVER, [seen()])
    execute(store.path, "UPDATE observed SET exact = CAST(x'ff00' AS TEXT)")
    with pytest.raises(StoreError, match="it is damaged") as raised:
        tails(store)
    assert raised.value.hint == "remove it with: comfyreport timings --clear"
    assert (store.clear(), tails(store)) == (1, [])


# --- who writes at once

WRITER = """
import sys
from pathlib import Path
from comfyreport.learning.observed import Observed
from comfyreport.learning.store import Store

# As long as a busy machine may need for all of them.
store, who = Store(Path(sys.argv[1]), patience=60.0), sys.argv[2]
input()
for turn in range(5):
    store.add("http://127.0.0.1:8188", [
        Observed(f"Class{who}-{index}", f"{who}a{index}", "ab", 1.0, False, 0.0, 0.0, 0.0, turn) for index in range(8)
    ])
    assert len(store.observed("http://127.0.0.1:8188", [f"Class{who}-0"])) == turn + 1
"""


@pytest.mark.slow
def test_twenty_processes_write_at_once(tmp_path: Path) -> None:
    """They make it, too, and nothing is lost."""
    path = tmp_path / "cache" / "timings.sqlite3"
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", WRITER, path, str(number)], cwd=ROOT, text=True,
                    stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                )
            )
            for number in range(20)
        ]  # fmt: skip
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        ended = [(*process.communicate(timeout=120), process.returncode) for process in processes]
    assert [(err, code) for _, err, code in ended] == [("", 0)] * 20
    kept = Store(path).summary()
    assert len(kept) == 20 * 8
    assert {each.runs for each in kept} == {5}
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_threads_write_at_once(tmp_path: Path) -> None:
    store, raised = store_in(tmp_path, patience=60), list[BaseException]()

    def work(number: int) -> None:
        try:
            for turn in range(5):
                store.add(SERVER, [seen(f"Class{number}", turn)])
                assert len(tails(store, f"Class{number}")) == turn + 1
        except BaseException as error:  # noqa: BLE001  told by the test
            raised.append(error)

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert raised == []
    assert [each.runs for each in store.summary()] == [5] * 8


# --- where it lies


def test_its_folder_is_the_users_unless_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store_path({"COMFYREPORT_CACHE": "here"}, os.fspath(tmp_path)) == tmp_path / "here" / "timings.sqlite3"
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    monkeypatch.setenv("USERPROFILE", os.fspath(tmp_path))
    assert store_path({"COMFYREPORT_CACHE": "~/here"}) == tmp_path / "here" / "timings.sqlite3"
    for environ in ({}, {"COMFYREPORT_CACHE": ""}):
        path = store_path(environ, "elsewhere")
        assert path.is_absolute()
        assert (path.name, "comfyreport" in path.parts) == ("timings.sqlite3", True)


def test_without_a_home_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *names, **options: Path("~/.cache/comfyreport"))
    with pytest.raises(StoreError, match="no folder for timings is known") as raised:
        store_path({})
    assert "COMFYREPORT_CACHE" in raised.value.hint


def test_in_a_folder_that_was_removed_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getcwd", lambda: os.stat(os.devnull + "/none") and "")
    with pytest.raises(StoreError, match="no folder for timings is known"):
        store_path({"COMFYREPORT_CACHE": "here"})


def test_a_start_loads_neither_sqlite_nor_platformdirs() -> None:
    code = (
        "import sys, comfyreport.jobs.learning, comfyreport.learning.store\n"
        "assert not {'sqlite3', 'platformdirs', 'statistics'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_observed_node_knows_its_seconds() -> None:
    assert Observed("K", "a", "b", 0.0, False, 1.0, 0.5, 4.0, 0.25).seconds == 3.25
