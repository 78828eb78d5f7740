"""Files that another program has open, as on Windows; the names of those that aren't whole yet."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from comfyreport import files
from comfyreport.errors import UsageError
from comfyreport.events import NodeRef, Output
from comfyreport.saving.names import safe_name
from comfyreport.saving.target import Target
from tests.saving.placing import save_to
from tests.saving.test_target import save, target_of


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_WINDOWS", True)
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def holding(path: Path, tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody holds *path* for so many tries to replace it."""
    replace, left = os.replace, [None] * tries

    def refuse(source: Any, target: Any) -> None:
        if left and Path(target) == path:
            left.pop()
            raise PermissionError(13, "Access is denied", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)


@pytest.mark.usefixtures("windows")
def test_a_file_that_is_let_go_soon_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_text("old")
    holding(path, 2, monkeypatch)
    assert save(target_of(path), "x.png", b"new") == path
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.usefixtures("windows")
def test_beside_one_that_stays_held_the_output_gets_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_text("old")
    (tmp_path / "a-2.png").write_text("another")
    holding(path, 100, monkeypatch)
    assert save(target_of(path), "x.png", b"new") == tmp_path / "a-3.png"
    assert (tmp_path / "a-3.png").read_bytes() == b"new"
    assert (path.read_text(), (tmp_path / "a-2.png").read_text()) == ("old", "another")
    assert len(os.listdir(tmp_path)) == 3


def test_what_a_thread_that_was_given_up_holds_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink, refused = os.unlink, list[Any]()

    def refuse(path: Any) -> None:
        # As Windows does until the file is closed.
        if not refused:
            refused.append(path)
            raise PermissionError(13, "Sharing violation", str(path))
        unlink(path)

    def stand_still() -> Generator[bytes, None, None]:
        yield b"half"
        monkeypatch.setattr(os, "unlink", refuse)
        target.close()
        yield b"more"

    target = target_of(tmp_path / "a.png")
    made = Output(node=NodeRef(id="9"), index=0, kind="image", filename="x.png")
    with pytest.raises(ValueError, match="closed"):
        save_to(target, made, lambda *_: stand_still())
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("windows")
def test_a_read_only_file_is_told_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "a.png")
    with pytest.raises(UsageError, match=r"a\.png: can't write there: the file is read-only"):
        target_of(tmp_path / "a.png")
    target_of(tmp_path / "b.png")


@pytest.mark.parametrize("name", ["a", "B", "ab", "a.png", "thirteen.webp", "sixteen.a1.jpeg", "x" * 251 + ".png"])
def test_what_isnt_whole_has_no_longer_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    seen: list[str] = []

    def look() -> Generator[bytes, None, None]:
        yield b"half"
        seen.extend(os.listdir(tmp_path / "made"))

    made = Output(node=NodeRef(id="9"), index=0, kind="image", filename="x.png")
    target = Target(tmp_path / "made" / name)
    for _ in range(2):
        save_to(target, made, lambda *_: look(), target.spot(made)._replace(path=tmp_path / "made" / name, named=True))
    parts = [each for each in seen if each != name]
    assert len(parts) == 2
    assert all(len(os.fsencode(part)) <= len(os.fsencode(name)) for part in parts)
    assert os.listdir(tmp_path / "made") == [name]


def test_short_names_that_are_all_taken(tmp_path: Path) -> None:
    for taken in "0123456789abcdef":
        (tmp_path / taken).write_text("taken")
    assert save(target_of(tmp_path / "0"), "x.png", b"new").read_bytes() == b"new"
    assert len(os.listdir(tmp_path)) == 16


@pytest.mark.parametrize("name", ["x" * 199 + " y", "x" * 199 + "." + "." * 30, "x" * 195 + ". .png"])
def test_a_name_that_is_cut_ends_as_any_system_has_it(name: str) -> None:
    assert safe_name(name)[-1] not in " ."
