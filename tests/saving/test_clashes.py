"""Names that clash: two runs that would save to one are told before anything is submitted."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from comfyreport.errors import UsageError
from comfyreport.saving.clashes import check_clashes

posix = pytest.mark.skipif(os.name == "nt", reason="no such path there")


def clash(folder: Path, *outputs: str | None, seeds: tuple[int | None, ...] = (), strict: bool = False) -> str:
    """What is said of the outputs of runs 1, 2, …; nothing where they are apart."""
    seeds = seeds or (None,) * len(outputs)
    try:
        runs = [(number, *each) for number, each in enumerate(zip(outputs, seeds, strict=True), 1)]
        check_clashes(runs, folder=os.fspath(folder), strict=strict)
    except UsageError as error:
        return error.message if error.hint else "without a hint"
    return ""


@pytest.mark.parametrize(
    "outputs",
    [
        ("a.png",), (None, None), ("a.png", None, "b.png"), ("made/", "made/"), ("there", "there"), (".", "./"),
        ("a.png", "b/a.png"), ("{run}.png", "{run}.png"), ("{run:03}/a", "{run:03}/a"),
        ("made/{prompt_id}/{node}", "made/{prompt_id}/{node}"), ("{filename}-{node}", "{filename}-{node}"),
        ("made/{date}/", "made/{date}/"), ("a/{node}.png", "b/{node}.png"), ("{node}-a.png", "{node}-b.png"),
        ("{node}.png", "{title}.png"),
    ],
)  # fmt: skip
def test_names_that_are_apart(tmp_path: Path, outputs: tuple[str | None, ...]) -> None:
    (tmp_path / "there").mkdir()
    assert clash(tmp_path, *outputs) == ""


@pytest.mark.parametrize("second", ["a.png", "./a.png", "b/../a.png", "link.png"])
def test_one_file_for_several_runs(tmp_path: Path, second: str) -> None:
    (tmp_path / "b").mkdir()
    if second == "link.png":
        if sys.platform == "win32":
            pytest.skip("links need a right there, and Wine's lead elsewhere")
        (tmp_path / second).symlink_to(tmp_path / "a.png")
        (tmp_path / "a.png").touch()
    assert clash(tmp_path, "a.png", None, second) == f"--output {second} is one file for several runs (1 and 3)"


def test_the_hint_names_what_can_be_done(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        check_clashes(((index, "a.png", index) for index in range(1, 4)), folder=os.fspath(tmp_path))
    assert raised.value.hint == "name a folder, such as made/, or a template, such as 'made/{run:03}-{node}.{ext}'"


@posix
def test_a_stream_takes_one_run_and_the_null_device_all(tmp_path: Path) -> None:
    assert "one file for several runs (1 and 2)" in clash(tmp_path, "-", "-")
    assert "one file for several runs (1 and 2)" in clash(tmp_path, "-", "/dev/stdout")
    assert clash(tmp_path, "/dev/null", "/dev/null") == ""
    os.mkfifo(tmp_path / "fifo")
    assert "one file for several runs (1 and 2)" in clash(tmp_path, "fifo", "fifo")


@pytest.mark.parametrize("text", ["{node}.png", "made/{title}-{index:02}.{ext}", "{date}/{node}", "{{x}}{ext}"])
def test_a_template_that_tells_no_runs_apart(tmp_path: Path, text: str) -> None:
    assert clash(tmp_path, text, "other.png", text) == f"--output {text}: no field in it tells run 1 from run 3"


def test_seeds_tell_runs_apart_where_they_are_known_and_differ(tmp_path: Path) -> None:
    text = "{seed}-{index}.png"
    assert clash(tmp_path, text, text, text, seeds=(1, 2, 3)) == ""
    assert "tells run 2 from run 3" in clash(tmp_path, text, text, text, seeds=(1, 2, 2))
    assert "tells run 1 from run 3" in clash(tmp_path, text, text, text, seeds=(None, 2, None))
    assert clash(tmp_path, "{seed:03}.png", "{seed}.png", seeds=(5, 5)) == ""
    assert "tells run 1 from run 2" in clash(tmp_path, "{seed:03}.png", "{seed}.png", seeds=(500, 500))


@pytest.mark.parametrize(("first", "second"), [("a.png", "A.png"), ("stra\u00dfe.png", "STRASSE.png")])
@pytest.mark.parametrize("folds", [True, False])
def test_names_that_differ_in_case_clash_where_the_file_system_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, second: str, folds: bool
) -> None:
    monkeypatch.setattr("comfyreport.files._folds_names", lambda *names: folds)
    assert bool(clash(tmp_path, first, "b.png", second)) is folds
    # Whatever that says, the same name is the same.
    assert "(3 and 4)" in clash(tmp_path, "b.png", "c.png", second, second)
    if not folds:
        assert "(2 and 3)" in clash(tmp_path, first, second, second)


def test_names_of_several_servers_are_not_to_be_replaced(tmp_path: Path) -> None:
    for text in ("made/", "{filename}-x.png", "made/{date}/"):
        assert clash(tmp_path, text, text) == ""
        assert clash(tmp_path, text, strict=True) == ""
        assert clash(tmp_path, text, text, strict=True).startswith(f"--output {text}: ")
    for text in ("made/{run}/", "{run:03}-{filename}", "{prompt_id}"):
        assert clash(tmp_path, text, text, strict=True) == ""


@pytest.mark.parametrize("text", ["{sed}.png", "{", "a\0b"])
def test_what_can_not_be_understood(tmp_path: Path, text: str) -> None:
    assert clash(tmp_path, text).startswith("--output ")


def test_nothing_is_made(tmp_path: Path) -> None:
    clash(tmp_path, "new/a.png", "new/{run}.png", "New/a.png", "newer/")
    assert list(tmp_path.iterdir()) == []
