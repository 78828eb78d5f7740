"""Answers to `/object_info` that are kept: for an hour, by server and version, and nothing that is wrong does harm."""

from __future__ import annotations

import gzip
import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from comfyreport.inputs import info_cache
from comfyreport.inputs.info_cache import FILES, KEPT_SECONDS, InfoCache

INFO = {"A": {"input": {"required": {"x": ["INT", {"max": float("inf")}]}}}}
SERVER, VERSION = "http://127.0.0.1:8188", "0.33.0"
POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")


class Time:
    """A time of day that a test sets; it begins with that of the files."""

    def __init__(self, folder: Path) -> None:
        self.now = folder.stat().st_mtime

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(tmp_path: Path) -> Time:
    return Time(tmp_path)


@pytest.fixture
def cache(tmp_path: Path, time: Time) -> InfoCache:
    return InfoCache(tmp_path / "cache", clock=time)


def file(cache: InfoCache) -> Path:
    (path,) = cache.folder.iterdir()
    return path


def test_what_is_written_is_read_for_an_hour(cache: InfoCache, time: Time) -> None:
    assert cache.read(SERVER, VERSION) is None
    cache.write(SERVER, VERSION, INFO)
    assert cache.read(SERVER, VERSION) == INFO
    time.now += KEPT_SECONDS - 1
    assert cache.read(SERVER, VERSION) == INFO
    time.now += 2
    assert cache.read(SERVER, VERSION) is None
    time.now -= 2 * KEPT_SECONDS
    assert cache.read(SERVER, VERSION) is None


def test_other_servers_and_versions_are_others(cache: InfoCache) -> None:
    cache.write(SERVER, VERSION, INFO)
    assert cache.read(SERVER, "0.34.0") is None
    assert cache.read("http://127.0.0.1:8189", VERSION) is None


@POSIX
def test_it_is_the_users_alone(cache: InfoCache) -> None:
    cache.write(SERVER, VERSION, INFO)
    assert stat.S_IMODE(file(cache).stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700


def test_few_are_kept(cache: InfoCache, time: Time) -> None:
    for port in range(FILES + 5):
        cache.write(f"http://127.0.0.1:{port}", VERSION, INFO)
    assert len(list(cache.folder.iterdir())) == FILES
    (cache.folder / ".abc.part").write_bytes(b"left by a process that was ended")
    (cache.folder / "mine.txt").write_bytes(b"somebody else's")
    time.now += KEPT_SECONDS + 60
    cache.write(SERVER, VERSION, INFO)
    assert {path.name for path in cache.folder.iterdir()} >= {"mine.txt"}
    assert not (cache.folder / ".abc.part").exists()


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut off": lambda data: data[:-20],
    "no gzip": lambda data: b"x" * 100,
    "changed": lambda data: data[:30] + bytes([data[30] ^ 255]) + data[31:],
    "no JSON": lambda data: gzip.compress(b"{"),
    "nested": lambda data: gzip.compress(b"[" * 100_000),
    "a list": lambda data: gzip.compress(b"[]"),
    "no UTF-8": lambda data: gzip.compress(b"\xff\xfe\xfa"),
    "another server's": lambda data: gzip.compress(
        json.dumps({**json.loads(gzip.decompress(data)), "server": "x"}).encode()
    ),
    "no time": lambda data: gzip.compress(json.dumps({**json.loads(gzip.decompress(data)), "time": "x"}).encode()),
    "no classes": lambda data: gzip.compress(
        json.dumps({**json.loads(gzip.decompress(data)), "object_info": []}).encode()
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_wrong_is_none(cache: InfoCache, name: str) -> None:
    cache.write(SERVER, VERSION, INFO)
    path = file(cache)
    path.write_bytes(WRONG[name](path.read_bytes()))
    assert cache.read(SERVER, VERSION) is None
    cache.write(SERVER, VERSION, INFO)
    assert cache.read(SERVER, VERSION) == INFO


def test_what_is_too_large_is_neither_kept_nor_read(cache: InfoCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write(SERVER, VERSION, INFO)
    monkeypatch.setattr(info_cache, "SIZE_LIMIT", 50)
    assert cache.read(SERVER, VERSION) is None
    cache.write("http://other", VERSION, INFO)
    assert len(list(cache.folder.iterdir())) == 1


@POSIX
def test_a_pipe_in_its_place_blocks_nobody(cache: InfoCache) -> None:
    cache.write(SERVER, VERSION, INFO)
    path = file(cache)
    path.unlink()
    os.mkfifo(path)
    assert cache.read(SERVER, VERSION) is None


@pytest.mark.parametrize("make", [lambda path: path.write_bytes(b""), lambda path: path.mkdir(mode=0o500)])
def test_a_folder_that_can_not_be_used(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "cache")
    cache = InfoCache(tmp_path / "cache")
    cache.write(SERVER, VERSION, INFO)
    assert cache.read(SERVER, VERSION) in (None, INFO)  # root may write everywhere


def test_a_full_disk_leaves_nothing(cache: InfoCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(data: bytes, level: int) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gzip, "compress", full)
    cache.write(SERVER, VERSION, INFO)
    assert list(cache.folder.iterdir()) == []


def test_many_write_at_once(cache: InfoCache) -> None:
    found = []

    def work() -> None:
        for _ in range(20):
            cache.write(SERVER, VERSION, INFO)
            found.append(cache.read(SERVER, VERSION))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # On Windows a file that is just being replaced can't be opened: the server is asked then.
    assert [each for each in found if each is not None or os.name != "nt"] == [INFO] * (80 - found.count(None))
    assert cache.read(SERVER, VERSION) == INFO
    assert len(list(cache.folder.iterdir())) == 1
