"""Replacing what is there, and outputs that are fetched and have no name yet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from comfyreport.errors import UsageError
from comfyreport.files import Claims, resolve
from comfyreport.saving.target import Target
from tests.saving.test_target import output, pieces, save, save_all, target_of
from tests.systems import needs_posix


def test_files_in_a_folder_are_replaced_where_that_is_asked_for(tmp_path: Path) -> None:
    for name in ("a.png", "a-2.png", "b.png"):
        (tmp_path / name).write_text("old")
    (tmp_path / "c.png").mkdir()
    target = Target(tmp_path, overwrite=True)
    target.prepare()
    assert save_all(target, "a.png", "a.png", "a-2.png", "c.png") == ["a.png", "a-2.png", "a-2-2.png", "c-2.png"]
    assert [(tmp_path / name).read_text() for name in ("a.png", "a-2.png", "b.png")] == ["x", "x", "old"]


def test_no_file_of_this_run_is_replaced_whatever_the_file_system_takes_for_one_name(tmp_path: Path) -> None:
    """As where letters have no case: two names that lead to one file."""
    (tmp_path / "a.png").write_text("old")
    target = Target(tmp_path, overwrite=True)
    target.prepare()
    save(target, "a.png", b"first")
    os.link(tmp_path / "a.png", tmp_path / "A2.png")
    assert save(target, "A2.png", b"second").name == "A2-2.png"
    assert (tmp_path / "a.png").read_bytes() == b"first"


def test_a_file_with_another_use_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("a workflow")
    claims = Claims()
    claims.claim("--workflow", resolve(tmp_path / "a.png"))
    target = Target(tmp_path, overwrite=True, claims=claims)
    assert save(target).name == "a-2.png"
    assert (tmp_path / "a.png").read_text() == "a workflow"


def test_several_are_fetched_before_one_has_its_name(tmp_path: Path) -> None:
    target = target_of(tmp_path)
    spots = [target.spot(output()) for _ in range(3)]
    parts = [target.fetch(output(), spot, lambda *_: pieces(b"x")) for spot in spots]
    assert not (tmp_path / "a.png").exists()
    saved = [target.put(output(), part, spot).path for part, spot in zip(parts, spots, strict=True)]
    assert saved == [str(tmp_path / name) for name in ("a.png", "a-2.png", "a-3.png")]
    assert sorted(os.listdir(tmp_path)) == ["a-2.png", "a-3.png", "a.png"]


def test_what_never_gets_its_name_is_removed_at_the_end(tmp_path: Path) -> None:
    target = target_of(tmp_path / "a.png")
    target.fetch(output(), target.spot(output()), lambda *_: pieces(b"x"))
    assert len(os.listdir(tmp_path)) == 1
    target.close()
    assert os.listdir(tmp_path) == []


@needs_posix("/dev/full")
def test_a_full_disk_is_told_before_anything_is_submitted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: open("/dev/full", "wb"))  # noqa: SIM115  it is closed
    with pytest.raises(UsageError, match="No space left"):
        target_of(tmp_path)
