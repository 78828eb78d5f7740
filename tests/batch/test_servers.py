"""The servers of a command: how they are named, and that none is named twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from comfyreport.batch.servers import FILE_LIMIT, read_servers
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
