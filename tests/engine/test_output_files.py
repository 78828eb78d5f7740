"""Saving outputs: nothing that a server sends leaves the folder, and a file is there whole or not at all."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from comfyreport.engine.output_files import Target, safe_name, save
from comfyreport.errors import UsageError
from comfyreport.events import NodeRef, Output


def output(filename: str | None = "a.png", folder: str = "output", subfolder: str = "") -> Output:
    return Output(node=NodeRef(id="9"), index=0, kind="image", filename=filename, subfolder=subfolder, folder=folder)


# --- names


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a_00001_.png", "a_00001_.png"),
        ("ünï 画像.png", "ünï 画像.png"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("C:\\x\\y.png", "y.png"),
        ("c:evil.png", "c_evil.png"),
        ("a/", "output"),
        ("", "output"),
        (".", "output"),
        ("..", "output"),
        (" . . ", "output"),
        (".bashrc", "bashrc"),
        ("a.png. .", "a.png"),
        ("a\0b\nc\rd\te.png", "a_b_c_d_e.png"),
        ("\x1b[2Ja\x9b.png", "_[2Ja_.png"),
        ("a\u202egnp.exe", "a_gnp.exe"),
        ("a\u2066\u200b\ufeff\u061c.png", "a____.png"),
        ("a\u2028b.png", "a_b.png"),
        ("\ud800.png", "_.png"),
        ('<>:"|?*.png', "_______.png"),
        ("con", "_con"),
        ("NUL.png", "_NUL.png"),
        ("com1.tar.gz", "_com1.tar.gz"),
        ("Lpt9 .txt", "_Lpt9 .txt"),
        ("conin$", "_conin$"),
        ("com\u00b9.x", "_com\u00b9.x"),
        ("console.png", "console.png"),
        ("x" * 4000 + ".png", "x" * 196 + ".png"),
        ("x." + "y" * 4000, "x." + "y" * 19),
        ("é" * 4000 + ".png", "é" * 98 + ".png"),
        ("a." + "b" * 18 + " c", "a." + "b" * 18),
    ],
)
def test_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_a_name_of_megabytes_costs_no_time() -> None:
    began = time.process_time()
    assert len(safe_name("é" * 3_000_000 + ".png").encode()) <= 200
    assert time.process_time() - began < 5


@given(st.text() | st.from_regex(r"[./\\ a-z:]{0,20}", fullmatch=True))
def test_any_name_is_a_plain_file_name(name: str) -> None:
    safe = safe_name(name)
    assert safe == Path(safe).name == os.path.basename(safe)
    assert 0 < len(safe.encode()) <= 200
    assert safe[0] not in ". "
    assert safe[-1] not in ". "
    assert safe_name(safe) == safe


# --- places


def test_a_folder_keeps_the_servers_names_and_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("mine")
    (tmp_path / "b.png").symlink_to(tmp_path / "nowhere")
    target = Target(tmp_path)
    target.prepare()
    places = [target.place(output(name)).name for name in ("a.png", "a.png", "b.png", "c.png", "../c.png", None)]
    assert places == ["a-2.png", "a-3.png", "b-2.png", "c.png", "c-2.png", "output"]
    assert {target.place(output("d", subfolder="../x")).parent} == {tmp_path}


def seconds_for(count: int, folder: Path) -> float:
    """How long it takes to find a place for each of so many files of one name."""
    target = Target(folder)
    before = time.process_time()
    places = {target.place(output("a.png")) for _ in range(count)}
    assert len(places) == count
    return time.process_time() - before


def test_many_equal_names_cost_no_more_each_than_few(tmp_path: Path) -> None:
    """Sixteen times as many would take 256 times as long, were all numbers tried each time."""
    few = min(seconds_for(250, tmp_path) for _ in range(3))
    assert seconds_for(4000, tmp_path) < 64 * few


def test_numbers_that_the_servers_own_names_have_are_left_out(tmp_path: Path) -> None:
    target = Target(tmp_path)
    names = ("a.png", "a-2.png", "a.png", "a-2.png", "a.png", "a-5.png", "a.png")
    places = [target.place(output(name)).name for name in names]
    assert places == ["a.png", "a-2.png", "a-3.png", "a-2-2.png", "a-4.png", "a-5.png", "a-6.png"]


def test_a_slash_makes_a_folder(tmp_path: Path) -> None:
    target = Target(f"{tmp_path}/new/deep/")
    target.prepare()
    assert target.place(output("a.png")) == tmp_path / "new" / "deep" / "a.png"
    assert os.listdir(tmp_path / "new" / "deep") == []


def test_a_file_is_the_first_outputs_and_the_later_ones_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "sunset.png").write_text("an earlier one")
    (tmp_path / "sunset.mp4").write_text("nobody named this one")
    target = Target(tmp_path / "sunset.png")
    target.prepare()
    names = [target.place(output(name)).name for name in ("a.png", "b.png", "c.mp4", "d", "e.tar.gz", "f.png")]
    assert names == [
        "sunset.png",
        "sunset-2.png",
        "sunset-2.mp4",
        "sunset-3.png",
        "sunset-2.gz",
        "sunset-4.png",
    ]


def test_a_file_without_an_ending(tmp_path: Path) -> None:
    target = Target(tmp_path / "sunset")
    assert [target.place(output("a.png")).name for _ in range(2)] == ["sunset", "sunset-2.png"]


def test_places_that_cant_be_written_are_usage_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x.png", f"{tmp_path}/file/", f"{tmp_path}/nul\0byte/", "/proc/nowhere/x.png"):
        with pytest.raises(UsageError):
            Target(path).prepare()


def test_a_device_is_no_place_for_a_file(tmp_path: Path) -> None:
    """Put in its place, a file would take it away: root would have no /dev/null any more."""
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/null", str(tmp_path / "pipe")):
        with pytest.raises(UsageError):
            Target(path).prepare()


def test_preparing_leaves_nothing_behind(tmp_path: Path) -> None:
    Target(tmp_path / "a" / "x.png").prepare()
    assert os.listdir(tmp_path / "a") == []


# --- files


def pieces(*parts: bytes, error: BaseException | None = None) -> Generator[bytes, None, None]:
    yield from parts
    if error is not None:
        raise error


def test_a_file_is_saved(tmp_path: Path) -> None:
    asked: list[tuple[str, str, str]] = []

    def fetch(*place: str) -> Generator[bytes, None, None]:
        asked.append((place[0], place[1], place[2]))
        return pieces(b"ab", b"", b"cde")

    saved = save(output("../a.png", "temp", "x"), tmp_path / "new" / "b.png", fetch)
    assert (saved.path, saved.bytes, saved.filename) == (str(tmp_path / "new" / "b.png"), 5, "../a.png")
    assert (tmp_path / "new" / "b.png").read_bytes() == b"abcde"
    assert asked == [("../a.png", "x", "temp")]
    assert os.listdir(tmp_path / "new") == ["b.png"]


@pytest.mark.parametrize("error", [OSError("disk full"), RuntimeError("x"), KeyboardInterrupt()])
def test_a_download_that_fails_leaves_nothing(error: BaseException, tmp_path: Path) -> None:
    (tmp_path / "old.png").write_bytes(b"old")
    for name in ("new.png", "old.png"):
        with pytest.raises(type(error)):
            save(output(), tmp_path / name, lambda *_: pieces(b"half", error=error))
    assert os.listdir(tmp_path) == ["old.png"]
    assert (tmp_path / "old.png").read_bytes() == b"old"


def test_a_file_is_not_there_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    seen: list[list[str]] = []

    def fetch(*_: str) -> Generator[bytes, None, None]:
        yield b"half"
        seen.append([name for name in os.listdir(tmp_path) if not name.startswith(".")])
        yield b"whole"

    save(output(), path, fetch)
    assert seen == [[]]
    assert path.read_bytes() == b"halfwhole"


def test_a_folder_in_the_files_place_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OSError, match=r"a\.png"):
        save(output(), tmp_path / "a.png", lambda *_: pieces(b"x"))
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    (tmp_path / "a.png").symlink_to(tmp_path / "precious")
    save(output(), tmp_path / "a.png", lambda *_: pieces(b"new"))
    assert (tmp_path / "precious").read_text() == "x"
    assert not (tmp_path / "a.png").is_symlink()


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_has_the_rights_that_others_have(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        save(output(), tmp_path / "a.png", lambda *_: pieces(b"x"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o666 & ~mask


def test_saving_leaves_the_umask_of_other_threads_alone(tmp_path: Path) -> None:
    """A umask is the process's own: set for a moment here, a reporter's new file would get it."""
    done = threading.Event()
    modes: set[int] = set()

    def other() -> None:
        number = 0
        while not done.is_set():
            number += 1
            path = tmp_path / f"other{number}"
            path.touch()
            modes.add(stat.S_IMODE(path.stat().st_mode))

    thread = threading.Thread(target=other)
    thread.start()
    try:
        for number in range(300):
            save(output(), tmp_path / f"a{number}.png", lambda *_: pieces(b"x"))
    finally:
        done.set()
        thread.join()
    assert len(modes) == 1


def test_long_names_can_be_saved(tmp_path: Path) -> None:
    target = Target(tmp_path)
    for name in ("é" * 4000 + ".png", "画" * 4000 + ".png"):
        for _ in range(2):
            path = target.place(output(name))
            save(output(name), path, lambda *_: pieces(b"x"))
            assert path.exists()
