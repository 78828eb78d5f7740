"""The `preview` reporter: files, animations, and what a server that means ill sends as pictures."""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comfyreport_preview import Animation, preview
from PIL import Image

from comfyreport import events as ev
from comfyreport.errors import ReporterError
from comfyreport.testing import FakeStream, conforms, play, recordings, stream_of
from comfyreport.testing.harness import Harness
from tests.plugins.events import DECODER, SAMPLER, EventBuilder, sampling

RED, BLUE = (220, 20, 20), (20, 20, 220)


def picture(color: tuple[int, int, int] = RED, size: tuple[int, int] = (64, 48), kind: str = "JPEG") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, color).save(data, kind)
    return data.getvalue()


def shade(number: int) -> bytes:
    return picture((number % 256, 3 * number % 256, 90))


def with_previews(images: Iterable[bytes | tuple[ev.NodeRef | None, bytes]]) -> list[ev.Event]:
    builder = sampling()
    for index, each in enumerate(images):
        node, image = (SAMPLER, each) if isinstance(each, bytes) else each
        builder.at(builder.now + 0.3)
        builder.add(ev.NodePreview, node=node, media_type="image/jpeg", image=image, index=index)
    return builder.end(executed=("3",))


def told(events: Iterable[ev.Event], path: Path, **options: bool) -> str:
    out = FakeStream()
    Harness(preview(path, out=out, **options), "preview").run(events)
    return out.text


def bomb() -> bytes:
    """A PNG of 60,000 by 60,000 pixels in a few kilobytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = (60_000).to_bytes(4, "big") * 2 + b"\x08\x00\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(4_000_000), 9))


HOSTILE = {
    "a bomb": bomb(),
    "no picture": b"<script>alert(1)</script>",
    "nothing": b"",
    "broken": picture()[:200],
    "broken, a PNG": picture(kind="PNG")[:60],
    "only its beginning": b"\xff\xd8\xff",
    "another format": picture(kind="BMP"),
    "huge": b"\xff\xd8\xff" + bytes(17 * 1024 * 1024),
}


# --- files


def test_a_file_for_each(tmp_path: Path) -> None:
    images = [picture(), picture(kind="PNG"), picture(BLUE)]
    assert told(with_previews(images), tmp_path / "made" / "previews") == ""
    folder = tmp_path / "made" / "previews"
    names = ["c0ffee00-0001-3.jpg", "c0ffee00-0002-3.png", "c0ffee00-0003-3.jpg"]
    assert sorted(each.name for each in folder.iterdir()) == names
    assert [(folder / name).read_bytes() for name in names] == images


def test_a_folder_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("kept")
    told(with_previews([picture()]), tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["c0ffee00-0001-3.jpg", "kept.txt"]


def test_ids_are_no_paths(tmp_path: Path) -> None:
    node = ev.NodeRef(id="../../x\0\x1b[2J", class_type="X", title="..")
    builder = EventBuilder().begin()
    builder.prompt_id = "/../.."
    builder.add(ev.NodePreview, node=node, media_type="../evil", image=picture())
    builder.add(ev.NodePreview, node=None, media_type="", image=picture())
    told(builder.end(), tmp_path / "made")
    assert sorted(each.name for each in (tmp_path / "made").iterdir()) == ["0001-x_2J.jpg", "0002.jpg"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["made"]


def test_what_is_no_picture_is_not_kept(tmp_path: Path) -> None:
    told(
        with_previews([HOSTILE["no picture"], HOSTILE["nothing"], HOSTILE["huge"], HOSTILE["another format"]]), tmp_path
    )
    assert list(tmp_path.iterdir()) == []


def test_files_have_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comfyreport_preview._MOST_FILES", 5)
    told(with_previews([picture()] * 8), tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


# --- animations


def frames(path: Path | io.BytesIO) -> list[tuple[int, ...]]:
    with Image.open(path) as image:
        colors = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            color = image.convert("RGB").getpixel((image.width // 2, image.height // 2))
            assert isinstance(color, tuple)
            colors.append(color)
        return colors


def near(color: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(abs(ours - theirs) < 40 for ours, theirs in zip(color, other, strict=True))


@pytest.mark.parametrize(("name", "kind"), [("run.webp", "WEBP"), ("run.gif", "GIF"), ("RUN.GIF", "GIF")])
def test_an_animation(tmp_path: Path, name: str, kind: str) -> None:
    assert told(with_previews([picture(RED), picture(BLUE), picture(RED)]), tmp_path / name) == ""
    with Image.open(tmp_path / name) as image:
        assert image.format == kind
        assert image.size == (64, 48)
        assert image.info["loop"] == 0
    first, second, third = frames(tmp_path / name)
    assert near(first, RED)
    assert near(second, BLUE)
    assert near(third, RED)


def test_nodes_that_run_side_by_side_come_one_after_the_other(tmp_path: Path) -> None:
    images = [(SAMPLER, picture(RED)), (DECODER, picture(BLUE, (32, 32))), (SAMPLER, picture((200, 20, 60)))]
    told(with_previews(images), tmp_path / "run.webp")
    colors = frames(tmp_path / "run.webp")
    assert [near(color, BLUE) for color in colors] == [False, False, True]


def test_memory_is_bounded_and_the_newest_is_there() -> None:
    animation = Animation()
    for number in range(1000):
        animation.add("3", shade(number))
    data = animation.encoded("WEBP")
    assert data is not None
    with Image.open(io.BytesIO(data)) as image:
        assert 24 <= getattr(image, "n_frames", 1) <= 49
        image.seek(image.n_frames - 1)  # type: ignore[attr-defined]
        color = image.convert("RGB").getpixel((5, 5))
    assert isinstance(color, tuple)
    assert near(color, (999 % 256, 2997 % 256, 90))


def test_all_nodes_have_their_share() -> None:
    animation = Animation()
    for number in range(300):
        animation.add(str(number % 2), picture(BLUE if number % 2 else RED, (8, 8 + number % 5)))
    data = animation.encoded("WEBP")
    assert data is not None
    colors = frames(io.BytesIO(data))
    assert 8 <= sum(near(color, RED) for color in colors) <= 48
    assert 8 <= sum(near(color, BLUE) for color in colors) <= 48


def test_any_number_of_nodes_is_bounded() -> None:
    animation = Animation()
    for number in range(500):
        animation.add(str(number), shade(number))
    data = animation.encoded("WEBP")
    assert data is not None
    assert 1 < len(frames(io.BytesIO(data))) <= 49


def test_large_ones_become_small(tmp_path: Path) -> None:
    told(with_previews([picture(size=(2000, 1000)), picture(BLUE, (2000, 1000))]), tmp_path / "run.webp")
    with Image.open(tmp_path / "run.webp") as image:
        assert image.size == (384, 192)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pictures_are_left_out(tmp_path: Path, name: str) -> None:
    images = [picture(), HOSTILE[name], picture(BLUE), HOSTILE[name]]
    assert told(with_previews(images), tmp_path / "run.webp", show=True) == ""
    assert len(frames(tmp_path / "run.webp")) == 2


def test_none_that_can_be_used_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReporterError, match="none of 2 previews"):
        told(with_previews([HOSTILE["broken"], HOSTILE["a bomb"]]), tmp_path / "run.gif")
    assert list(tmp_path.iterdir()) == []


def test_each_run_has_its_own(tmp_path: Path) -> None:
    one = with_previews([picture(), picture(BLUE)])[:-1]
    reporter = preview(tmp_path / "run.webp", out=FakeStream())
    harness = Harness(reporter, "preview")
    for event in (*one, *one):
        harness.deliver(event)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["run-2.webp", "run.webp"]


def test_no_previews_are_told_of(tmp_path: Path) -> None:
    assert "No previews for run.webp" in told(with_previews([]), tmp_path / "run.webp")
    events: list[Any] = with_previews([])
    scaling = [replace(each, node=DECODER) if hasattr(each, "node") else each for each in events]
    assert told(scaling, tmp_path / "run.webp") == "", "no sampler ran"
    cached = EventBuilder().begin().end()
    assert told(cached, tmp_path / "run.webp") == "", "nothing ran"


# --- bad input


@pytest.mark.parametrize("name", ["run.png", "run.mp4", "run.JPG"])
def test_what_is_neither(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReporterError, match="neither a folder nor an animation"):
        preview(tmp_path / name)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "previews").write_text("text")
    with pytest.raises(ReporterError, match="neither a folder nor an animation"):
        preview(tmp_path / "previews")


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = with_previews([picture()])
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    monkeypatch.setitem(sys.modules, "PIL", None)
    for path, show in ((tmp_path / "run.webp", False), (tmp_path / "previews", True)):
        with pytest.raises(ReporterError, match="needs Pillow") as raised:
            preview(path, show=show)
        assert raised.value.hint == 'pip install "comfyreport[preview]"'
    told(events, tmp_path / "previews")
    assert len(list((tmp_path / "previews").iterdir())) == 1, "files need none"


def test_a_disk_that_is_full_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr("comfyreport_preview.write_whole", full)
    for name in ("previews", "run.webp"):
        with pytest.raises(OSError, match="No space"):
            told(with_previews([picture()]), tmp_path / name)


# --- recordings


@pytest.mark.parametrize("name", recordings())
def test_recordings(tmp_path: Path, name: str) -> None:
    came = sum(isinstance(event, ev.NodePreview) for event in stream_of(name, previews=True))
    play(preview, name, destination=tmp_path / "previews")
    play(preview, name, destination=tmp_path / "run.webp", show=True, tty=True, color=True)
    assert len(list((tmp_path / "previews").glob("*.jpg"))) == came
    assert (tmp_path / "run.webp").exists() == bool(came)


@pytest.mark.slow
@pytest.mark.parametrize("show", [False, True])
def test_it_conforms(show: bool) -> None:
    conforms(preview, show=show)
