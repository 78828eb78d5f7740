"""Small pictures of others, and where the files of a run are."""

from __future__ import annotations

import base64
import io
import os
import sys
import warnings
import zlib
from pathlib import Path

import pytest
from PIL import Image

from comfyreport import Output, Thumbnails, link_to, saved_path
from tests.plugins.events import SAVER


def encoded(size: tuple[int, int], kind: str, mode: str = "RGB", **options: object) -> bytes:
    data = io.BytesIO()
    Image.new(mode, size, 1).save(data, kind, **options)
    return data.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_kinds(kind: str) -> None:
    small = opened(Thumbnails().make(encoded((640, 320), kind), 64))
    assert (small.format, small.size) == ("WEBP", (64, 32))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_modes(mode: str) -> None:
    small = opened(Thumbnails().make(encoded((64, 64), "PNG", mode), 32))
    assert small.mode == ("RGBA" if "A" in mode else "RGB")


def test_what_is_small_stays_so() -> None:
    assert opened(Thumbnails().make(encoded((8, 4), "PNG"), 64)).size == (8, 4)


def test_the_url_holds_the_picture() -> None:
    head, _, data = Thumbnails().url(encoded((8, 4), "PNG"), 64).partition(",")
    assert head == "data:image/webp;base64"
    assert opened(base64.b64decode(data)).size == (8, 4)
    assert Thumbnails().url(b"", 64) == ""


@pytest.mark.parametrize(
    "data",
    [b"", b"\x89PNG", b"GIF89a", b"<svg/>", encoded((64, 64), "PNG")[:60], encoded((64, 64), "BMP"), os.urandom(999)],
    ids=["empty", "a beginning", "another", "SVG", "cut", "BMP", "noise"],
)
def test_what_is_no_picture_is_none(data: bytes) -> None:
    assert Thumbnails().make(data, 64) == b""


def test_a_picture_that_is_too_large_is_not_decoded(recwarn: pytest.WarningsRecorder) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    sides = (10_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", sides) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert Thumbnails(50_000_000).make(bomb, 64) == b""
    assert list(recwarn) == []


def test_there_is_an_end_to_what_is_decoded() -> None:
    thumbnails = Thumbnails(2 * 64 * 64)
    data = encoded((64, 64), "PNG")
    assert [bool(thumbnails.make(data, 8)) for _ in range(3)] == [True, True, False]


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert Thumbnails().make(path, 64) == b""
    path.write_bytes(encoded((128, 64), "PNG"))
    assert opened(Thumbnails().make(path, 64)).size == (64, 32)
    assert Thumbnails().make(tmp_path, 64) == b""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert Thumbnails().make(tmp_path / "a.png", 64) == b""


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError):
        Thumbnails()


@pytest.mark.parametrize(("path", "expected"), [(None, None), ("-", None), ("made/a.png", Path("made/a.png"))])
def test_saved_path(path: str | None, expected: Path | None) -> None:
    assert saved_path(Output(node=SAVER, index=0, kind="image", path=path)) == expected


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff #.png"
    output = Output(
        node=SAVER, index=0, kind="image", path="replaced", path_bytes=base64.b64encode(name).decode()
    )  # fmt: skip
    found = saved_path(output)
    assert found is not None
    assert os.fsencode(found) == name
    assert link_to(found, tmp_path) == "%FF%20%23.png"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("pages/a.png", "a.png"),
        ("pages/x/a b.png", "x/a%20b.png"),
        ("made/a:b#c?.png", "../made/a%3Ab%23c%3F.png"),
        ("a.png", "../a.png"),
    ],
)
def test_links_are_relative(tmp_path: Path, path: str, expected: str) -> None:
    assert link_to(tmp_path / path, tmp_path / "pages") == expected


def test_links_from_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert link_to(Path("made/a.png"), tmp_path / "pages") == "../made/a.png"


def test_a_head_that_promises_too_much_takes_nothing_from_others() -> None:
    thumbnails = Thumbnails(1_000_000)
    head = encoded((64, 64), "PNG")
    sides = (900).to_bytes(4, "big") * 2
    bogus = head[:16] + sides + head[24:29] + zlib.crc32(b"IHDR" + sides + head[24:29]).to_bytes(4, "big")
    for _ in range(20):
        assert thumbnails.make(bogus, 64) == b""
    assert thumbnails.make(encoded((640, 640), "PNG"), 64)


def test_a_picture_that_is_gone_over_hundreds_of_times_counts_as_hundreds() -> None:
    data = encoded((640, 640), "JPEG", "L", progressive=True)
    scan = data[data.rfind(b"\xff\xda") : -2]
    again = data[:-2] + 400 * scan + data[-2:]
    assert Thumbnails(2_000_000).make(data, 64)
    assert Thumbnails(2_000_000).make(again, 64) == b""
