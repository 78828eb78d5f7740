"""Files that are written whole: what was there stays where that fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyreport import web_address, write_whole
from comfyreport.saving.names import safe_name


def test_a_new_file_and_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"two", ["a"])
    write_whole(path, bytearray(b"three"))
    assert path.read_bytes() == b"three"


def test_chunks_that_come_to_no_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_whole(path, iter([b"o", b"ne"]))
    assert path.read_bytes() == b"one"

    def chunks() -> Iterator[bytes]:
        yield b"two"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        write_whole(path, chunks())
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"one", ["a"])


@pytest.mark.skipif(sys.platform == "win32", reason="permissions, links")
def test_permissions_and_links_stay(tmp_path: Path) -> None:
    path, link = tmp_path / "a", tmp_path / "link"
    path.write_bytes(b"one")
    path.chmod(0o640)
    link.symlink_to(path)
    write_whole(link, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_device_is_written_to(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        write_whole("/dev/full", b"one")
    write_whole("/dev/null", b"one")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "nowhere" / "a", b"one")


@pytest.mark.parametrize("text", ["", "host", "ftp://host", "http://", "http://h:port", "http://[x", "http://u:a#b@h/"])
def test_what_is_no_web_address(text: str) -> None:
    assert web_address(text) is None


def test_a_web_address() -> None:
    parts = web_address(" https://user:pw@host:99/path?query#fragment ")
    assert parts is not None
    assert (parts.hostname, parts.port) == ("host", 99)


@pytest.mark.parametrize("name", ["##[error]no.png", "a##[b##[c.png"])
def test_no_name_is_a_command_for_a_runner(name: str) -> None:
    assert "##[" not in safe_name(name)
