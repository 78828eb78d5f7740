"""Files that a user names: where a path leads to, however it is spelt, and that each has one use only."""

from __future__ import annotations

import errno
import itertools
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyreport.files import Claims, FileUsedTwiceError, descriptor_of, is_null, open_to_write, resolve
from tests.systems import needs_posix

pytestmark = needs_posix("links, /dev")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    """A descriptor that the process was given: of a file with something in it, at its end."""
    (tmp_path / "given").write_bytes(b"before ")
    number = os.open(tmp_path / "given", os.O_WRONLY)
    os.lseek(number, 0, os.SEEK_END)
    os.set_inheritable(number, True)
    yield number
    os.close(number)


# --- where a path leads to


@pytest.mark.parametrize("path", ["/dev/fd/{}", "/proc/self/fd/{}", "/proc/{pid}/fd/{}", "/dev/../dev/fd/{}", "link"])
def test_a_path_to_a_descriptor_is_that_descriptor(path: str, opened: int) -> None:
    Path("link").symlink_to("other")
    Path("other").symlink_to(f"/proc/self/fd/{opened}")
    path = path.format(opened, pid=os.getpid())
    assert descriptor_of(path) == opened
    assert resolve(path).descriptor == opened
    with open_to_write(path) as file:
        file.write(b"and after")
    assert Path("given").read_bytes() == b"before and after"
    assert Path("link").is_symlink()


def test_the_standard_streams() -> None:
    assert [resolve(path).descriptor for path in ("-", "/dev/stdout", "/dev/stderr", "/dev/fd/1")] == [1, 1, 2, 1]
    assert [resolve(path).label for path in ("-", "/dev/stdout", "/dev/stderr")] == ["stdout", "stdout", "stderr"]
    assert resolve("./-").descriptor is None


@pytest.mark.parametrize(
    "path", ["x", "/dev/null", "/dev/fd/x", "/dev/fd/", "/proc/1/fd/1", "/proc/self/fd", "1", "fd/1", "loop"]
)
def test_any_other_path_is_no_descriptor(path: str) -> None:
    Path("loop").symlink_to("loop")
    assert descriptor_of(path) is None


def test_descriptors_that_cant_be_written(opened: int, tmp_path: Path) -> None:
    with (tmp_path / "given").open("rb") as file:
        os.set_inheritable(file.fileno(), True)
        with pytest.raises(OSError, match="for reading only"):
            open_to_write(f"/dev/fd/{file.fileno()}")
        os.set_inheritable(file.fileno(), False)
        # One of the process's own, which a user can't know.
        with pytest.raises(OSError, match="Bad file descriptor"):
            resolve(f"/dev/fd/{file.fileno()}")
    for number in (file.fileno() if not file.closed else 9999, 10**30):
        with pytest.raises((OSError, OverflowError)):
            resolve(f"/dev/fd/{number}")


def test_links_are_followed_to_what_is_not_there_yet(tmp_path: Path) -> None:
    Path("volume").mkdir()
    Path("link").symlink_to("volume/file")
    place = resolve("link")
    assert (place.shown, place.path, place.folder) == ("link", str(tmp_path / "volume" / "file"), str(tmp_path))
    assert resolve("x", str(tmp_path / "volume")).path == str(tmp_path / "volume" / "x")


def test_a_loop_leads_nowhere() -> None:
    Path("a").symlink_to("b")
    Path("b").symlink_to("a")
    with pytest.raises(OSError, match="links") as raised:
        resolve("a")
    assert raised.value.errno == errno.ELOOP


def test_the_null_device_by_any_name() -> None:
    Path("nothing").symlink_to("/dev/null")
    assert [is_null(path) for path in ("/dev/null", "nothing", "/dev/full", "x", "a\0b")] == [True, True, *[False] * 3]


# --- one file, one use


def spellings(there: bool) -> list[str]:
    """Paths that all lead to `folder/file`, be it there or not."""
    Path("folder/inner").mkdir(parents=True)
    if there:
        Path("folder/file").touch()
    Path("link").symlink_to("folder")
    Path("alias").symlink_to("folder/file")
    Path("chain").symlink_to("alias")
    paths = ["folder/file", "./folder//file", "folder/inner/../file", os.path.abspath("folder/file"), "link/file"]
    if there:
        os.link("folder/file", "hard")
        paths.append("hard")
    return [*paths, "alias", "chain", "/proc/self/cwd/folder/file"]


@pytest.mark.parametrize("there", [True, False])
def test_one_file_by_two_spellings(there: bool) -> None:
    for first, second in itertools.permutations(spellings(there), 2):
        claims = Claims()
        claims.claim("--output", resolve(first))
        with pytest.raises(FileUsedTwiceError) as raised:
            claims.claim("--record", resolve(second))
        assert raised.value.message == f"--output and --record both use {Path(second)}"
        claims.claim("--record", resolve("folder/other"))


def test_a_file_that_came_between() -> None:
    claims = Claims()
    claims.claim("--output", resolve("file"))
    Path("file").touch()
    os.link("file", "hard")
    with pytest.raises(FileUsedTwiceError):
        claims.claim("--record", resolve("hard"))


def test_two_that_nobody_has_made_yet_below_one_folder_under_two_names() -> None:
    Path("folder").mkdir()
    Path("link").symlink_to("folder")
    claims = Claims()
    claims.claim("--output", resolve("folder/new/x"))
    with pytest.raises(FileUsedTwiceError):
        claims.claim("--record", resolve("link/new/x"))
    claims.claim("--record", resolve("link/new/y"))


@pytest.mark.parametrize("folds", [True, False])
@pytest.mark.parametrize(("first", "second"), [("A.log", "a.LOG"), ("é", "e\u0301"), ("new/Ä", "new/a\u0308")])
def test_names_that_some_file_systems_take_for_one(
    first: str, second: str, folds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folded(path: object) -> str:
        return unicodedata.normalize("NFC", str(path)).casefold()

    def exists(path: str) -> bool:
        folder = os.path.dirname(path)
        there = os.listdir(folder) if os.path.isdir(folder) else []
        return any(folded(os.path.join(folder, each)) == folded(path) for each in there)

    if folds:
        monkeypatch.setattr(os.path, "exists", exists)
    claims = Claims()
    claims.claim("--output", resolve(first))
    if folds:
        with pytest.raises(FileUsedTwiceError):
            claims.claim("--record", resolve(second))
    else:
        claims.claim("--record", resolve(second))
    assert os.listdir() == []


def test_the_null_device_has_any_number_of_uses() -> None:
    claims = Claims()
    for _ in range(2):
        claims.claim("--output", resolve("/dev/null"))


def test_a_stream_has_one_use_and_so_has_the_file_behind_it(opened: int) -> None:
    claims = Claims()
    claims.claim("--output", resolve(f"/dev/fd/{opened}"))
    for path in (f"/proc/self/fd/{opened}", "given"):
        with pytest.raises(FileUsedTwiceError):
            claims.claim("--record", resolve(path))
    claims.claim("reporter jsonl", resolve("-"))
    claims.claim("reporter console", resolve("/dev/stderr"))
    assert (claims.has_descriptor(1), claims.has_descriptor(0)) == (True, False)


def test_what_a_log_is_renamed_to_is_claimed_with_it() -> None:
    claims = Claims()
    claims.claim("reporter filelog", resolve("run.log"), numbered=True)
    for path in ("run.log.1", "./run.log.23"):
        assert claims.has_path(resolve(path).path)
        with pytest.raises(FileUsedTwiceError):
            claims.claim("--record", resolve(path))
    for path in ("run.log.", "run.log.x", "run.log1", "xrun.log.1"):
        claims.claim("--record", resolve(path))
    claims.claim("--output", resolve("other.log.1"))
    with pytest.raises(FileUsedTwiceError):
        claims.claim("reporter filelog", resolve("other.log"), numbered=True)


def test_what_two_wanted_is_disputed_until_it_is_released() -> None:
    claims = Claims()
    claims.claim("--output", resolve("x"))
    assert not claims.is_disputed(resolve("x"))
    with pytest.raises(FileUsedTwiceError):
        claims.claim("--record", resolve("./x"))
    assert claims.is_disputed(resolve("x"))
    claims.release(resolve("x"))
    claims.claim("--record", resolve("./x"))
