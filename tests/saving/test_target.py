"""Saving outputs: nothing that a server sends leaves the folder, and a file is there whole or not at all."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from comfyreport.errors import UsageError
from comfyreport.events import NodeRef, Output
from comfyreport.files import Claims, resolve
from comfyreport.protocol.downloads import FilePlace
from comfyreport.saving.names import safe_name
from comfyreport.saving.target import Target
from tests.saving.placing import save_to
from tests.systems import needs_posix


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


def target_of(path: str | os.PathLike[str]) -> Target:
    target = Target(path)
    target.prepare()
    return target


def pieces(*parts: bytes, error: BaseException | None = None) -> Generator[bytes, None, None]:
    yield from parts
    if error is not None:
        raise error


def save(target: Target, name: str | None = "a.png", *parts: bytes, **place: str) -> Path:
    """Where an output of this name is, once it is saved."""
    made = output(name, **place)
    saved = save_to(target, made, lambda *_: pieces(*(parts or (b"x",))))
    assert saved.path is not None
    assert Path(saved.path).is_file()
    return Path(saved.path)


def save_all(target: Target, *names: str | None) -> list[str]:
    return [save(target, name).name for name in names]


def test_a_folder_keeps_the_servers_names_and_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("mine")
    target = target_of(tmp_path)
    names = save_all(target, "a.png", "a.png", "c.png", "../c.png", None)
    assert names == ["a-2.png", "a-3.png", "c.png", "c-2.png", "output"]
    assert save(target, "d", subfolder="../x").parent == tmp_path
    assert (tmp_path / "a.png").read_text() == "mine"


@needs_posix("links")
def test_a_link_in_a_folder_has_its_name(tmp_path: Path) -> None:
    (tmp_path / "b.png").symlink_to(tmp_path / "nowhere")
    assert save_all(target_of(tmp_path), "b.png") == ["b-2.png"]
    assert not (tmp_path / "nowhere").exists()


def test_a_name_is_taken_only_when_the_file_gets_it(tmp_path: Path) -> None:
    """Two runs into one folder, one of which is slow."""
    slow, quick = target_of(tmp_path), target_of(tmp_path)

    def slowly(_: FilePlace) -> Generator[bytes, None, None]:
        yield b"sl"
        assert save(quick, "a.png", b"quick").name == "a.png"
        yield b"ow"

    saved = save_to(slow, output("a.png"), slowly)
    assert saved.path == str(tmp_path / "a-2.png")
    assert [(tmp_path / name).read_bytes() for name in ("a.png", "a-2.png")] == [b"quick", b"slow"]


@pytest.mark.parametrize("links", [True, False])
def test_many_at_once_each_get_a_name_of_their_own(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise PermissionError(1, "no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    together = threading.Barrier(8)

    def run(number: int) -> list[tuple[Path, bytes]]:
        target = target_of(tmp_path)
        together.wait()
        contents = [f"{number} {count}".encode() for count in range(20)]
        return [(save(target, "a.png", content), content) for content in contents]

    with ThreadPoolExecutor(8) as pool:
        saved = [each for several in pool.map(run, range(8)) for each in several]
    assert len(saved) == len({path for path, _ in saved}) == len(os.listdir(tmp_path)) == 160
    assert all(path.read_bytes() == content for path, content in saved)


def seconds_for(count: int, folder: Path) -> float:
    """How long it takes to save so many files of one name."""
    folder.mkdir()
    target = target_of(folder)
    before = time.process_time()
    assert len({save(target) for _ in range(count)}) == count
    return time.process_time() - before


def test_many_equal_names_cost_no_more_each_than_few(tmp_path: Path) -> None:
    """Sixteen times as many would take 256 times as long, were all numbers tried each time."""
    few = min(seconds_for(100, tmp_path / str(number)) for number in range(3))
    assert seconds_for(1600, tmp_path / "many") < 64 * few


def test_numbers_that_the_servers_own_names_have_are_left_out(tmp_path: Path) -> None:
    names = ("a.png", "a-2.png", "a.png", "a-2.png", "a.png", "a-5.png", "a.png")
    assert save_all(target_of(tmp_path), *names) == [
        "a.png",
        "a-2.png",
        "a-3.png",
        "a-2-2.png",
        "a-4.png",
        "a-5.png",
        "a-6.png",
    ]


def test_a_file_with_another_use_is_no_output(tmp_path: Path) -> None:
    claims = Claims()
    claims.claim("--record", resolve(tmp_path / "a.png"))
    assert save(Target(tmp_path, claims=claims)).name == "a-2.png"


def test_a_slash_makes_a_folder(tmp_path: Path) -> None:
    target = target_of(f"{tmp_path}/new/deep/")
    assert os.listdir(tmp_path / "new" / "deep") == []
    assert save(target) == tmp_path / "new" / "deep" / "a.png"


def test_a_file_is_the_first_outputs_and_the_later_ones_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "sunset.png").write_text("an earlier one")
    (tmp_path / "sunset.mp4").write_text("nobody named this one")
    target = target_of(tmp_path / "sunset.png")
    assert save_all(target, "a.png", "b.png", "c.mp4", "d", "e.tar.gz", "f.png") == [
        "sunset.png",
        "sunset-2.png",
        "sunset-2.mp4",
        "sunset-3.png",
        "sunset-2.gz",
        "sunset-4.png",
    ]
    assert (tmp_path / "sunset.mp4").read_text() == "nobody named this one"


def test_a_file_without_an_ending(tmp_path: Path) -> None:
    assert save_all(target_of(tmp_path / "sunset"), "a.png", "a.png") == ["sunset", "sunset-2.png"]


def test_places_that_cant_be_written_are_usage_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x.png", f"{tmp_path}/file/"):
        with pytest.raises(UsageError):
            target_of(path)


@needs_posix("links, /proc")
def test_links_and_folders_that_lead_nowhere_are_usage_errors(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for path in ("/proc/nowhere/x.png", tmp_path / "loop" / "x.png"):
        with pytest.raises(UsageError):
            target_of(path)


def test_preparing_leaves_nothing_behind(tmp_path: Path) -> None:
    target_of(tmp_path / "a" / "x.png")
    assert os.listdir(tmp_path / "a") == []


def test_paths_are_found_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin may change the current folder; what is printed is for whoever started the command."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    targets = [target_of("made/"), target_of("x.png")]
    monkeypatch.chdir(there)
    saved = [save_to(each, output(), lambda *_: pieces(b"x")).path for each in targets]
    assert saved == [os.path.join("made", "a.png"), "x.png"]
    assert all((here / str(path)).is_file() for path in saved)
    assert os.listdir(there) == []


# --- files


def test_a_file_is_saved(tmp_path: Path) -> None:
    asked: list[tuple[str, ...]] = []

    def fetch(place: FilePlace) -> Generator[bytes, None, None]:
        asked.append(tuple(place))
        return pieces(b"ab", b"", b"cde")

    target = target_of(tmp_path / "new" / "b.png")
    made = output("../a.png", "temp", "x")
    saved = save_to(target, made, fetch)
    assert (saved.path, saved.bytes, saved.filename) == (str(tmp_path / "new" / "b.png"), 5, "../a.png")
    assert (tmp_path / "new" / "b.png").read_bytes() == b"abcde"
    assert asked == [("a.png", "x/..", "temp")]
    assert os.listdir(tmp_path / "new") == ["b.png"]


@pytest.mark.parametrize("error", [OSError("disk full"), RuntimeError("x"), KeyboardInterrupt()])
def test_a_download_that_fails_leaves_nothing(error: BaseException, tmp_path: Path) -> None:
    (tmp_path / "old.png").write_bytes(b"old")
    for name in ("new.png", "old.png"):
        target = target_of(tmp_path / name)
        with pytest.raises(type(error)):
            save_to(target, output(), lambda *_: pieces(b"half", error=error))
    assert os.listdir(tmp_path) == ["old.png"]
    assert (tmp_path / "old.png").read_bytes() == b"old"


def test_a_file_is_not_there_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    seen: list[list[str]] = []

    def fetch(_: FilePlace) -> Generator[bytes, None, None]:
        yield b"half"
        seen.append([name for name in os.listdir(tmp_path) if not name.startswith(".")])
        yield b"whole"

    target = target_of(path)
    save_to(target, output(), fetch)
    assert seen == [[]]
    assert path.read_bytes() == b"halfwhole"


def test_a_folder_in_the_files_place_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    target = target_of(tmp_path / "a.png")
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OSError, match=r"a\.png"):
        save(target)
    assert os.listdir(tmp_path) == ["a.png"]


@needs_posix("rights, umask")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_has_the_rights_that_others_have(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        save(target_of(tmp_path / "a.png"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o666 & ~mask


@needs_posix("rights, umask")
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
            save(target_of(tmp_path / f"a{number}.png"))
    finally:
        done.set()
        thread.join()
    assert len(modes) == 1


def test_long_names_can_be_saved(tmp_path: Path) -> None:
    target = target_of(tmp_path)
    for name in ("é" * 4000 + ".png", "画" * 4000 + ".png"):
        for _ in range(2):
            save(target, name)
