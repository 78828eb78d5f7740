"""What earlier runs took, for a job: read and kept where it may; a store that can't be used is one line, no failure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from comfyreport.jobs.job import Job
from comfyreport.jobs.learning import learns, read_durations, write_durations
from comfyreport.learning.store import Store
from tests.learning.seen import SERVER, execute, seen


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the store, in an environment that learns."""
    monkeypatch.delenv("COMFYREPORT_NO_LEARN")
    monkeypatch.setenv("COMFYREPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def both(job: Job, warned: list[str]) -> list[float]:
    """Write, then read; what was read."""
    write_durations(job, SERVER, [seen(), seen("VAEDecode")], warn=warned.append, patience=0.05)
    found = read_durations(job, SERVER, ["KSampler"], warn=warned.append, patience=0.05)
    return [each.seconds for each in found]


def test_what_is_written_is_read(cache: Path) -> None:
    warned: list[str] = []
    assert both(Job(), warned) == [10.75]
    assert warned == []
    assert [each.class_type for each in Store(cache / "timings.sqlite3").summary()] == ["KSampler", "VAEDecode"]


def test_a_job_that_does_not_learn_touches_nothing(cache: Path) -> None:
    warned: list[str] = []
    assert not learns(Job(learn=False))
    assert (both(Job(learn=False), warned), warned, cache.exists()) == ([], [], False)
    both(Job(), warned)
    assert read_durations(Job(learn=False), SERVER, ["KSampler"], warn=warned.append) == []


@pytest.mark.parametrize(("value", "learned"), [("1", []), ("yes", []), ("", [10.75]), ("0", [10.75])])
def test_the_environment_may_say_no(
    cache: Path, monkeypatch: pytest.MonkeyPatch, value: str, learned: list[float]
) -> None:
    monkeypatch.setenv("COMFYREPORT_NO_LEARN", value)
    assert both(Job(), []) == learned
    assert (learns(Job()), cache.exists()) == (bool(learned), bool(learned))


def test_a_relative_folder_is_seen_from_the_jobs(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYREPORT_CACHE", "mine")
    assert both(Job(folder=str(tmp_path)), []) == [10.75]
    assert (tmp_path / "mine" / "timings.sqlite3").is_file()


def test_a_store_that_cannot_be_used_is_told_in_one_line(cache: Path) -> None:
    cache.mkdir()
    path, warned = cache / "timings.sqlite3", list[str]()
    execute(path, "CREATE TABLE bookmarks (url TEXT)")
    assert both(Job(), warned) == []
    reason = "it is the database of another program (move it away, or name another folder with COMFYREPORT_CACHE)"
    assert warned == [f"the timings in {path} can't be {deed}: {reason}" for deed in ("written", "read")]


@pytest.mark.parametrize("name", ["sqlite3", "platformdirs"])
def test_a_python_without_them_runs_all_the_same(cache: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if name == "platformdirs":
        monkeypatch.delenv("COMFYREPORT_CACHE")
    monkeypatch.setitem(sys.modules, name, None)
    warned: list[str] = []
    write_durations(Job(), SERVER, [seen()], warn=warned.append)
    (line,) = warned
    assert line.startswith("what earlier runs took can't be used: ModuleNotFoundError: ")
    assert name in line
