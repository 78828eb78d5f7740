"""Files on Windows, whose answers are given here: names that it can't have, its null device, files that others hold."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from comfyreport import files
from comfyreport.files import expanded, is_null, patiently, resolve


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(files, "_WINDOWS", True)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were slept, without sleeping them."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


# --- names


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize(
    ("path", "part", "why"),
    [
        ("CON", "'CON'", "device"),
        ("sub\\nul.png", "'nul.png'", "device"),
        ("sub/NUL", "'NUL'", "device"),
        ("aux.txt", "'aux.txt'", "device"),
        ("com1 .log", "'com1 .log'", "device"),
        ("LPT²", "'LPT²'", "device"),
        ("prn/made.png", "'prn'", "device"),
        ("a?b.png", r"'a\?b\.png'", r"'\?'"),
        ("a|b", r"'a\|b'", r"'\|'"),
        ("a\tb", r"'a\\tb'", r"'\\t'"),
        ("made.png:x", "'made.png:x'", "':'"),
        ("C:\\made.png:x:$DATA", "'made.png:x:", "':'"),
        ("sub./a.png", r"'sub\.'", "dot or a space"),
        ("sub \\a.png", "'sub '", "dot or a space"),
        ("...", r"'\.\.\.'", "dot or a space"),
    ],
)
def test_a_name_that_cant_be_is_told_with_its_part_and_why(path: str, part: str, why: str) -> None:
    with pytest.raises(OSError, match=f"{part}.*{why}"):
        resolve(path)


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize(
    "path",
    ["a.png", "C:\\made\\a.png", "C:a.png", "..\\.\\a.png", "made\\", "made//a.png",
     "\\\\?\\C:\\a.png", "console.png", "nullable", "com10", ".hidden", "a b.png", "~$a.png"],
)  # fmt: skip
def test_any_other_name_can_be(path: str) -> None:
    assert resolve(path).shown == path


@pytest.mark.usefixtures("windows")
def test_the_null_device_by_its_names() -> None:
    for path in ("NUL", "nul", "nul:", "\\\\.\\NUL", "//./nul", Path("Nul")):
        assert is_null(path)
        assert is_null(resolve(path).path) or os.name != "nt"
    assert not any(map(is_null, ("nul.png", "sub\\nul", "null", "/dev/null")))


def test_elsewhere_these_are_names_like_any_other(tmp_path: Path) -> None:
    if os.name == "nt":
        pytest.skip("they aren't")
    for name in ("CON", "a?b.png", "nul", "a:b", "a."):
        assert resolve(name, str(tmp_path)).path == str(tmp_path / name)


# --- home folders


def test_a_home_folder_stands_for_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert Path(expanded("~/x.png")) == tmp_path / "x.png"
    assert expanded("~") == str(tmp_path)
    assert expanded("~/made/").endswith(("/", os.sep))


@pytest.mark.parametrize("path", ["./~", "a~b", "made/~/x", "", "-", "~nobody.of.that.name/x"])
def test_any_other_tilde_is_one(path: str) -> None:
    assert expanded(path) == path


def test_a_home_that_is_only_guessed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_WINDOWS", True)
    # As ntpath does it.
    monkeypatch.setattr("os.path.expanduser", lambda path: path.replace("~", f"{tmp_path}{os.sep}", 1))
    (tmp_path / "other").mkdir()
    assert expanded("~lock.png") == "~lock.png"
    assert Path(expanded("~other/x.png")) == tmp_path / "other" / "x.png"


# --- files that others hold


def held(times: int) -> Callable[[], str]:
    """Fails so many times as Windows does with a file that another program has open."""
    left = [None] * times

    def action() -> str:
        if left:
            left.pop()
            raise PermissionError(13, "Sharing violation")
        return "done"

    return action


@pytest.mark.usefixtures("windows")
def test_it_is_tried_again_for_about_so_long(pauses: list[float]) -> None:
    assert patiently(held(0), 1.0) == "done"
    assert pauses == []
    assert patiently(held(2), 1.0) == "done"
    assert len(pauses) == 2
    pauses.clear()
    with pytest.raises(PermissionError):
        patiently(held(9), 1.0)
    assert 0.9 <= sum(pauses) <= 1.0


@pytest.mark.usefixtures("windows")
def test_another_error_is_final(pauses: list[float], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        patiently(lambda: os.unlink(tmp_path / "none"))
    assert pauses == []


def test_elsewhere_nobody_is_waited_for(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_WINDOWS", False)
    with pytest.raises(PermissionError):
        patiently(held(1))
    assert pauses == []
