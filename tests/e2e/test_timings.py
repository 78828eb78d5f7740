"""`comfyreport timings` as the installed command, and what says that a run learns nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from comfyreport.learning.store import Store
from tests.e2e.driver import Driver, Ended
from tests.learning.seen import SERVER, execute, seen

pytestmark = pytest.mark.e2e

Command = Callable[..., Ended]


@pytest.fixture
def store(driver: Driver) -> Store:
    """A store with something in it."""
    store = Store(driver.folder / "cache" / "timings.sqlite3")
    store.add(SERVER, [seen(), seen("VAEDecode")])
    return store


@pytest.fixture
def timings(driver: Driver) -> Command:
    """Runs the command on that store."""
    return lambda *words: driver.run(
        "timings", *words, env={"COMFYREPORT_CACHE": os.fspath(driver.folder / "cache")}, stream=False
    )


def test_what_is_kept_is_shown_and_cleared(store: Store, timings: Command) -> None:
    ended = timings()
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[:2] == [f"2 timings in {store.path}", SERVER]
    assert [line.split()[0] for line in lines[3:]] == ["KSampler", "VAEDecode"]
    told = json.loads(timings("--json").out)
    assert (told["path"], len(told["timings"])) == (str(store.path), 2)
    assert timings("--clear").out == f"2 timings cleared in {store.path}\n"
    assert timings().out == f"no timings yet in {store.path}\n"


def test_nothing_is_made_by_looking(driver: Driver, timings: Command) -> None:
    for words in ((), ("--clear",), ("--json",)):
        assert timings(*words).code == 0
    assert not (driver.folder / "cache").exists()


def check_told(ended: Ended, path: Path, *texts: str) -> None:
    """An error on stderr with a cause and a next step; exit code 2."""
    assert (ended.code, ended.out) == (2, "")
    cause, hint = ended.err.splitlines()
    assert cause.startswith(f"comfyreport: error: the timings in {path} can't be ")
    assert hint.startswith("  Hint: ")
    assert [text for text in texts if text not in ended.err] == []


def test_a_database_of_another_program_stays(driver: Driver, timings: Command) -> None:
    path = driver.folder / "cache" / "timings.sqlite3"
    path.parent.mkdir()
    execute(path, "CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes()
    check_told(timings(), path, "the database of another program", "COMFYREPORT_CACHE")
    check_told(timings("--clear"), path, "the database of another program", "COMFYREPORT_CACHE")
    assert path.read_bytes() == before


def test_a_damaged_one_is_removed_by_clear(store: Store, timings: Command) -> None:
    os.truncate(store.path, 5000)
    check_told(timings(), store.path, "it is damaged", "comfyreport timings --clear")
    assert timings("--clear").code == 0
    assert not store.path.exists()


def test_the_users_own_folder_is_the_usual_one(driver: Driver) -> None:
    home = {"HOME": os.fspath(driver.folder), "XDG_CACHE_HOME": "", "COMFYREPORT_CACHE": ""}
    ended = driver.run("timings", env=home, stream=False)
    assert ended.out == f"no timings yet in {driver.folder / '.cache' / 'comfyreport' / 'timings.sqlite3'}\n"


def test_twenty_commands_look_and_clear_at_once(driver: Driver, store: Store) -> None:
    env = {"COMFYREPORT_CACHE": os.fspath(store.path.parent)}
    running = [driver.start("timings", *words, env=env, stream=False) for words in ([], ["--clear"]) * 10]
    cleared = 0
    for each in running:
        ended = each.end()
        assert (ended.code, ended.err) == (0, "")
        cleared += "2 timings cleared" in ended.out
    assert cleared == 1


def test_a_file_in_its_folders_place(driver: Driver) -> None:
    driver.path("cache", "kept")
    ended = driver.run("timings", env={"COMFYREPORT_CACHE": "cache"}, stream=False)
    check_told(ended, driver.folder / "cache" / "timings.sqlite3", "Not a directory", "COMFYREPORT_CACHE")
    assert (driver.folder / "cache").read_text() == "kept"
