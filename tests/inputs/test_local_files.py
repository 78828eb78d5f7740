"""Files that flags name: what is meant where names have a `=`, and what can't be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from comfyreport.errors import UsageError
from comfyreport.inputs.local_files import Given, Kind, is_of_kind, literal_file, look_at, parse_given
from tests.workflow import media

PNG = media.png()


@pytest.mark.parametrize(
    ("text", "node", "path"),
    [
        ("a.png", "", "a.png"),
        ("10=a.png", "10", "a.png"),
        ("Load Image=dir/a.png", "Load Image", "dir/a.png"),
        (r"C:\x.png", "", r"C:\x.png"),
        (r"10=C:\x.png", "10", r"C:\x.png"),
        ("10=", "10", ""),
        ("a=b.png", "a", "b.png"),
        ("x=y=here.png", "x=y", "here.png"),
        ("10=also=here.png", "10", "also=here.png"),
        ("also=here.png", "", "also=here.png"),
        ("x=y=nowhere.png", "x", "y=nowhere.png"),
    ],
)
def test_a_node_and_a_file(text: str, node: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("here.png", "also=here.png"):
        (tmp_path / name).write_bytes(PNG)
    assert parse_given("image", text) == Given("image", node, path, text)


def test_the_home_folder_may_stand_before_and_behind_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    home = os.path.expanduser("~")
    assert parse_given("mask", "~/a.png").path == f"{home}/a.png"
    assert parse_given("mask", "10=~/a.png").path == f"{home}/a.png"


def refusal(kind: Kind, path: str, folder: Path, node: str = "") -> str:
    text = f"{node}={path}" if node else path
    with pytest.raises(UsageError) as caught:
        look_at(Given(kind, node, path, text), str(folder))
    assert caught.value.message.startswith(f"--{kind}")
    assert caught.value.hint
    return caught.value.message


def test_a_file_that_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    found = look_at(Given("image", "", "a.png", "a.png"), str(tmp_path))
    assert (found.path, found.shown, found.size) == (str(tmp_path / "a.png"), "a.png", len(PNG))


def test_files_that_can_not_be_used(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "made.mp4").write_bytes(media.video("mp4"))
    assert "no.png doesn't exist" in refusal("image", "no.png", tmp_path)
    assert refusal("image", "b.png", tmp_path, "a").endswith("b.png doesn't exist (a=b.png)")
    assert refusal("image", "folder", tmp_path).endswith("is a folder, not a file")
    assert refusal("mask", "empty.png", tmp_path).endswith("is empty")
    assert refusal("mask", "text.png", tmp_path).endswith("is no picture")
    assert refusal("image", "made.mp4", tmp_path).endswith("is no picture")
    assert refusal("video", "text.png", tmp_path).endswith("is no video")
    assert refusal("audio", "a\0b", tmp_path)
    assert refusal("image", "", tmp_path, "10").endswith("10= names no file")
    assert "\x1b" not in refusal("image", "\x1b[31m.png", tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything; Windows has other rights")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "a.png").chmod(0)
    assert refusal("image", "a.png", tmp_path).endswith("may not be read")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes")
def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "no file with a size" in refusal("image", "pipe", tmp_path)
    assert literal_file("image", "pipe", str(tmp_path)) is None


@pytest.mark.parametrize("kind", ["image", "mask"])
@pytest.mark.parametrize("data", [PNG, media.exif("webp"), media.exif("jpeg"), b"GIF89a", b"BM..", b"P6\n", b"II*\0"])
def test_pictures(kind: Kind, data: bytes) -> None:
    assert is_of_kind(kind, data)
    assert not is_of_kind(kind, data[1:])


@pytest.mark.parametrize("data", [media.video("mp4"), media.video("webm"), media.sound("mp3"), media.sound("opus")])
def test_videos_and_sounds_are_taken_loosely(data: bytes) -> None:
    assert is_of_kind("video", data[:64])
    assert is_of_kind("audio", data[:64])
    assert not is_of_kind("image", data[:64])


def test_the_file_that_a_workflow_names(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "text.png").write_text("text")
    found = literal_file("image", "a.png", str(tmp_path))
    assert found is not None
    assert found.path == str(tmp_path / "a.png")
    assert literal_file("image", f"/{tmp_path}/a.png", "") is None
    for value in ("b.png", "text.png", "", ".", "a\0b", "x" * 5000):
        assert literal_file("image", value, str(tmp_path)) is None
