"""What a job learns from earlier runs and keeps for later ones; a store that can't be used is one line, no failure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from comfyreport.estimates.expected import Observation
from comfyreport.jobs.learning import Learner
from comfyreport.learning.store import Store
from tests.learning.seen import SERVER, execute

GRAPH = {"8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0]}}}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the store, in an environment that learns."""
    monkeypatch.delenv("COMFYREPORT_NO_LEARN")
    monkeypatch.setenv("COMFYREPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def learner(*, wanted: bool = True, folder: str = "") -> Learner:
    return Learner(SERVER, wanted=wanted, folder=folder, patience=0.05)


def second_run(first: Learner, second: Learner) -> tuple[str, list[str]]:
    """On which basis a node is judged that ran before, and what both runs warned of."""
    first.expect(GRAPH)
    first.keep([Observation("8", False, 0.0, 0.0, 0.0, 4.0), Observation("unknown", False, 0.0, 0.0, 0.0, 4.0)])
    basis = second.expect(GRAPH)["8"].warm.basis
    return basis, [*first.take_warnings(), *second.take_warnings()]


def test_what_one_run_took_the_next_one_expects(cache: Path) -> None:
    assert second_run(learner(), learner()) == ("history", [])
    assert learner().expect(GRAPH)["8"].warm.seconds == 4.0
    assert [each.class_type for each in Store(cache / "timings.sqlite3").summary()] == ["VAEDecode"]


def test_servers_are_apart(cache: Path) -> None:
    second_run(learner(), learner())
    other = Learner("http://elsewhere:8188", wanted=True, folder="")
    assert other.expect(GRAPH)["8"].warm.basis == "prior"


def test_what_does_not_learn_touches_nothing(cache: Path) -> None:
    silent = learner(wanted=False)
    assert not silent.learns
    assert second_run(silent, silent) == ("prior", [])
    assert not cache.exists()
    second_run(learner(), learner())
    assert silent.expect(GRAPH)["8"].warm.basis == "prior"


@pytest.mark.parametrize(("value", "basis"), [("1", "prior"), ("yes", "prior"), ("", "history"), ("0", "history")])
def test_the_environment_may_say_no(cache: Path, monkeypatch: pytest.MonkeyPatch, value: str, basis: str) -> None:
    monkeypatch.setenv("COMFYREPORT_NO_LEARN", value)
    assert second_run(learner(), learner()) == (basis, [])
    assert (learner().learns, cache.exists()) == (basis == "history", basis == "history")


def test_a_relative_folder_is_seen_from_the_jobs(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYREPORT_CACHE", "mine")
    here = learner(folder=str(tmp_path))
    assert second_run(here, here) == ("history", [])
    assert (tmp_path / "mine" / "timings.sqlite3").is_file()


def test_a_store_that_cannot_be_used_is_told_once_in_one_line(cache: Path) -> None:
    cache.mkdir()
    path = cache / "timings.sqlite3"
    execute(path, "CREATE TABLE bookmarks (url TEXT)")
    reason = "it is the database of another program (move it away, or name another folder with COMFYREPORT_CACHE)"
    one = learner()
    basis, warned = second_run(one, one)
    assert (basis, warned) == ("prior", [f"the timings in {path} can't be read: {reason}"])
    assert one.take_warnings() == []


@pytest.mark.parametrize("name", ["sqlite3", "platformdirs"])
def test_a_python_without_them_runs_all_the_same(cache: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if name == "platformdirs":
        monkeypatch.delenv("COMFYREPORT_CACHE")
    monkeypatch.setitem(sys.modules, name, None)
    basis, (line, *_) = second_run(learner(), learner())
    assert basis == "prior"
    assert line.startswith("what earlier runs took can't be used: ModuleNotFoundError: ")
    assert name in line
