"""Writing what was fetched: names are taken or not at all, a file that is named stays what it is, pipes end."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from pathlib import Path

import pytest

from comfyreport.errors import UsageError
from comfyreport.events import NodeRef, Output
from comfyreport.saving.target import Target
from comfyreport.saving.writing import copy_out, overwrite, put, take
from tests.saving.placing import save_to
from tests.saving.test_target import pieces, save, target_of
from tests.systems import needs_posix

pytestmark = needs_posix("links, rights, FIFOs")


def refusing(number: int, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let functions of the module os fail with this error."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    for name in names:
        monkeypatch.setattr(os, name, refuse)


# --- taking a name


@pytest.mark.parametrize("links", [True, False])
def test_a_name_that_is_taken_stays(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:
        refusing(errno.EOPNOTSUPP, monkeypatch, "link")
    part = tmp_path / "part"
    part.write_text("new")
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").symlink_to("nowhere")
    (tmp_path / "c").mkdir()
    for name in ("a", "b", "c"):
        with pytest.raises(FileExistsError):
            take(part, tmp_path / name)
    take(part, tmp_path / "d")
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c", "d"]
    assert [(tmp_path / name).read_text() for name in ("a", "d")] == ["old", "new"]


def test_a_name_that_is_not_taken_in_the_end_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(errno.EIO, monkeypatch, "link", "replace")
    (tmp_path / "part").touch()
    with pytest.raises(OSError, match="Input/output"):
        take(tmp_path / "part", tmp_path / "a")
    assert os.listdir(tmp_path) == ["part"]


# --- the file that was named


@pytest.mark.parametrize("there", [True, False])
def test_what_a_link_leads_to_is_written_and_the_link_stays(there: bool, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    real = tmp_path / "volume" / "real.png"
    if there:
        real.write_text("old")
    (tmp_path / "chain").symlink_to("latest.png")
    (tmp_path / "latest.png").symlink_to("volume/real.png")
    target = target_of(tmp_path / "chain")
    assert save(target, "a.png", b"new") == tmp_path / "chain"
    assert real.read_bytes() == b"new"
    assert (tmp_path / "chain").is_symlink()
    assert (tmp_path / "latest.png").is_symlink()
    # The next one stands beside the name that was given.
    assert save(target, "b.png") == tmp_path / "chain-2.png"
    assert os.listdir(tmp_path / "volume") == ["real.png"]


def test_a_links_folder_is_made(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("new/real.png")
    save(target_of(tmp_path / "a.png"))
    (tmp_path / "folder").symlink_to("elsewhere")
    save(target_of(f"{tmp_path}/folder/"))
    assert (tmp_path / "new" / "real.png").is_file()
    assert (tmp_path / "elsewhere" / "a.png").is_file()


def test_a_loop_is_a_usage_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="links"):
        Target(tmp_path / "loop")
    assert (tmp_path / "loop").is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o444, 0o755])
def test_a_replaced_file_keeps_its_rights(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch()
    path.chmod(mode)
    save(target_of(path), "a.png", b"new")
    assert (stat.S_IMODE(path.stat().st_mode), path.read_bytes()) == (mode, b"new")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_a_replaced_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch()
    os.chown(path, 12345, 23456)
    save(target_of(path))
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


def test_a_file_whose_owner_cant_be_kept_is_written_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part, path = tmp_path / "part", tmp_path / "a.png"
    part.write_text("new")
    path.write_text("older and longer")
    before = path.stat()
    fields = list(before)
    fields[stat.ST_UID] += 1
    monkeypatch.setattr(Path, "stat", lambda self, **_: os.stat_result(fields) if self == path else os.stat(self))
    refusing(errno.EPERM, monkeypatch, "chown")
    put(part, path)
    assert (os.stat(path).st_ino, path.read_text()) == (before.st_ino, "new")
    assert os.listdir(tmp_path) == ["a.png"]


def test_another_name_of_a_replaced_file_keeps_its_content(tmp_path: Path) -> None:
    """Only the very name that was given is replaced: the other may be a backup."""
    (tmp_path / "backup.png").write_text("old")
    os.link(tmp_path / "backup.png", tmp_path / "a.png")
    save(target_of(tmp_path / "a.png"))
    assert (tmp_path / "backup.png").read_text() == "old"


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EROFS, errno.EXDEV, errno.EACCES])
def test_what_cant_be_replaced_is_written_in_place(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_text("older and longer")
    before = path.stat().st_ino
    refusing(number, monkeypatch, "replace")
    save(target_of(path), "a.png", b"new")
    assert (path.stat().st_ino, path.read_bytes()) == (before, b"new")
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_disk_error_is_no_reason_to_write_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_text("old")
    refusing(errno.EIO, monkeypatch, "replace")
    with pytest.raises(OSError, match="Input/output"):
        save(target_of(path))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.png"]


def test_what_doesnt_fit_in_place_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_text("old")
    refusing(errno.ENOSPC, monkeypatch, "posix_fallocate")
    with pytest.raises(OSError, match="No space"):
        overwrite(io.BytesIO(b"longer than it was"), path)
    assert path.read_text() == "old"


# --- pipes and devices


def make(name: str = "a.png") -> Output:
    return Output(node=NodeRef(id="9"), index=0, kind="image", filename=name)


def test_a_fifo_gets_the_whole_file_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[bytes] = []
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    target = target_of(path)
    os.set_blocking(reader, True)
    content = os.urandom(300_000)

    def take_all() -> None:
        with open(reader, "rb") as file:
            read.append(file.read())

    thread = threading.Thread(target=take_all)
    thread.start()
    saved = save_to(target, make(), lambda *_: pieces(content))
    target.close()
    thread.join()
    assert target.single
    assert (saved.path, saved.bytes, read) == (str(path), len(content), [content])
    assert os.listdir(tmp_path) == ["pipe"]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_fifo_without_a_reader_is_a_usage_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="nobody reads this FIFO"):
        target_of(tmp_path / "pipe")


def test_a_download_that_fails_writes_nothing_to_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with open(os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        target = target_of(tmp_path / "pipe")
        with pytest.raises(RuntimeError):
            save_to(target, make(), lambda *_: pieces(b"half", error=RuntimeError()))
        target.close()
        assert reader.read() == b""


def test_devices_are_written_and_stay(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/null")
    for path in (Path("/dev/null"), tmp_path / "link"):
        target = target_of(path)
        assert not target.single
        for _ in range(2):
            saved = save_to(target, make(), lambda *_: pieces(b"x"))
            assert saved.path == str(path)
        target.close()
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    full = target_of("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        save_to(full, make(), lambda *_: pieces(b"x"))
    full.close()


def test_a_terminal_gets_no_outputs() -> None:
    outer, inner = os.openpty()
    target = Target(os.ttyname(inner))
    with pytest.raises(UsageError, match="leads to a terminal"):
        target.prepare()
    target.close()
    os.close(inner)
    os.close(outer)


class StopError(Exception):
    """What the user's wish to stop raises."""


@pytest.mark.parametrize("blocking", [True, False])
def test_a_pipe_that_takes_no_more_ends_when_the_user_stops_or_the_limit_is_over(blocking: bool) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, blocking)
    waited = []

    def stop() -> None:
        waited.append(1)
        raise StopError

    with open(reader, "rb"), open(writer, "wb") as sink:
        with pytest.raises(StopError):
            copy_out(io.BytesIO(bytes(1 << 20)), sink, wait=stop, limit=60)
        with pytest.raises(TimeoutError, match="nobody has read"):
            copy_out(io.BytesIO(bytes(1 << 20)), sink, wait=lambda: None, limit=0)
    assert waited == [1]


def test_a_reader_that_left_is_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as sink, pytest.raises(BrokenPipeError):
        copy_out(io.BytesIO(b"x"), sink, wait=lambda: None, limit=1)
