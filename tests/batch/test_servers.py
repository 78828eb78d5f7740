"""The servers of a command: how they are named, and that none is named twice."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from comfyreport.batch.servers import FILE_LIMIT, check_apart, read_servers
from comfyreport.errors import UsageError

# --- reading


def listed(folder: Path, text: str | bytes) -> Path:
    path = folder / "servers.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(*texts: str, file: Path | None = None) -> UsageError:
    with pytest.raises(UsageError) as raised:
        read_servers(texts, file)
    assert raised.value.hint
    assert raised.value.message.isprintable()
    return raised.value


def test_flags_come_before_the_lines_of_the_file(tmp_path: Path) -> None:
    text = "\ufeff# our machines\r\ngpu-1\r\n\r\n  gpu-2:9000  # slow\n\t#gpu-3\nhttps://u:pw@gpu-4/comfy#x\t# x\n#"
    assert read_servers(["gpu-0"], listed(tmp_path, text)) == (
        "gpu-0",
        "gpu-1",
        "gpu-2:9000",
        "https://u:pw@gpu-4/comfy#x",
    )
    assert read_servers(["a", "b"]) == ("a", "b")
    assert read_servers([], "servers.txt", folder=os.fspath(tmp_path))[0] == "gpu-1"


def test_there_must_be_one(tmp_path: Path) -> None:
    assert refused().message == "there is no server"
    path = listed(tmp_path, "# none\n\n")
    assert refused(file=path).message == f"there is no server: --servers {path} names none"


def test_a_simulated_one_is_alone(tmp_path: Path) -> None:
    assert read_servers(["sim"]) == read_servers([], listed(tmp_path, "sim\n")) == ("sim",)
    for texts in (["sim", "sim"], ["gpu-1", "sim"]):
        assert "2 servers" in refused(*texts).message


@pytest.mark.parametrize("line", ["ftp://gpu-3", "gpu 3", "gpu-3:x", "http:/gpu-3", "https://kim:pass word@gpu-3"])
def test_a_line_that_is_no_server_is_told_by_its_number(tmp_path: Path, line: str) -> None:
    path = listed(tmp_path, f"gpu-1\n\n# a comment\n{line}\n")
    message = refused(file=path).message
    assert message.startswith(f"--servers {path}, line 4: '")
    assert "pass" not in message
    assert refused("gpu-1", line).message.startswith("--server '")


def test_a_host_that_can_not_be(tmp_path: Path) -> None:
    path = listed(tmp_path, f"{'ä' * 70}\n")
    assert refused(file=path).message.startswith(f"--servers {path}, line 1: http://ää")


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert refused(file=missing).message == f"--servers {missing} can't be read: No such file or directory"
    assert "can't be read: " in refused(file=tmp_path).message
    assert "can't be read: " in refused(file=Path("a\0b")).message
    path = listed(tmp_path, b"gpu-1\n\xff\n")
    assert refused(file=path).message == f"--servers {path} isn't UTF-8 text (byte 6)"
    path = listed(tmp_path, b"#" * (FILE_LIMIT + 1))
    assert refused(file=path).message == f"--servers {path} is larger than 1 MiB"


# --- apart

NAMES = {"gpu-1": {"10.0.0.1"}, "gpu-one": {"10.0.0.9", "10.0.0.1"}, "gpu-2": {"10.0.0.2"}, "me": {"127.0.0.1"}}


def resolve(host: str, port: int) -> frozenset[str]:
    return frozenset(NAMES.get(host, ()))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("gpu-7", "gpu-7"), ("gpu-7", "http://GPU-7:8188/"), ("gpu-7", "gpu-7."), ("gpu-7", "ws://gpu-7:8188/ws"),
        ("http://gpu-7", "gpu-7:80"), ("https://gpu-7", "wss://gpu-7:443/api"), ("gpu-7", "kim:pw@gpu-7"),
        ("gpu-7", "gpu-7?token=x"), ("http://gpu-7/a", "http://gpu-7/a/"), ("gpu-7:8188", "https://gpu-7:8188"),
        ("localhost", "127.0.0.1"), ("127.0.0.1", "::1"), ("a.localhost", "localhost"), ("0.0.0.0", "localhost"),
        ("::1", "[0:0::1]:8188"), ("10.0.0.1", "::ffff:10.0.0.1"), ("fe80::1", "[FE80:0:0::1]"),
        ("gpu-1", "gpu-one"), ("gpu-1", "10.0.0.1"), ("10.0.0.9", "gpu-one"), ("me", "localhost"),
        ("http://gpu-1:8000/a", "http://gpu-one:8000/a"), ("bücher", "xn--bcher-kva"),
    ],
)  # fmt: skip
def test_two_that_are_the_same(first: str, second: str) -> None:
    for several in ([first, second], [second, "gpu-2", first]):
        with pytest.raises(UsageError, match="two servers are the same one: http") as raised:
            check_apart(several, resolve=resolve)
        assert not [word for word in ("kim", "pw", "token") if word in raised.value.message]


@pytest.mark.parametrize(
    "servers",
    [
        ("gpu-1", "gpu-2"), ("gpu-1", "gpu-one:8189"), ("http://gpu-1", "http://gpu-one"),
        ("https://gpu-1", "https://gpu-one"), ("http://gpu-1:8000/a", "http://gpu-one:8000/b"),
        ("http://gpu-7/a", "http://gpu-7/A"), ("unknown-1", "unknown-2"), ("127.0.0.1:1", "127.0.0.1:2"),
        ("127.0.0.1", "127.0.0.2"), ("sim",), (),
    ],
)  # fmt: skip
def test_servers_that_are_apart(servers: tuple[str, ...]) -> None:
    check_apart(servers, resolve=resolve)


def test_nothing_is_asked_where_nothing_can_come_of_it() -> None:
    asked = []

    def note(host: str, port: int) -> frozenset[str]:
        asked.append((host, port))
        return frozenset()

    check_apart(["one", "two:1", "http://three", "http://four", "10.0.0.1:5", "10.0.0.2:5"], resolve=note)
    assert asked == []
    check_apart(["one", "two", "10.0.0.1"], resolve=note)
    assert sorted(asked) == [("one", 8188), ("two", 8188)]


def test_names_are_looked_up_side_by_side_and_not_for_ever() -> None:
    """Nine that meet, and one that the system never answers for."""
    meeting, never = threading.Barrier(9), threading.Event()

    def meet(host: str, port: int) -> frozenset[str]:
        if host == "slow":
            never.wait()
            return frozenset()
        meeting.wait(60)
        return frozenset({host})

    try:
        check_apart(["slow", *(f"h{number}" for number in range(9))], resolve=meet, limit=0.2)
    finally:
        never.set()
        meeting.abort()


def test_a_thousand_servers() -> None:
    check_apart([f"10.0.{number // 250}.{number % 250 + 1}" for number in range(1000)], resolve=resolve)
