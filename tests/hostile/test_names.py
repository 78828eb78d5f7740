"""File names that a server says: nothing is written outside the output folder, and nothing in it is overwritten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.hostile.running import follow
from tests.hostile.server import Hostile, history, picture

NAMES = [
    "../outside.png",
    "../../../../outside.png",
    "..\\..\\outside.png",
    "/outside.png",
    "C:\\outside.png",
    "\\\\server\\share\\outside.png",
    "..",
    ".",
    "../",
    "/",
    " ",
    "...",
    "kept.png",
    "KEPT.png",
    "./kept.png",
    "sub/kept.png",
    ".hidden.png",
    "~/outside.png",
    "$HOME.png",
    "-rf.png",
    "a" * 4000 + ".png",
    "ä" * 2000 + ".png",
    "a." + "b" * 4000,
    "new\nline.png",
    "re\rturn.png",
    "nul\0byte.png",
    "\x1b[2J\x1b]0;title\x07.png",
    "\u202egnp.exe",
    "\u200b",
    "\ud800.png",
    "CON",
    "con.png",
    "NUL.txt",
    "COM1",
    "COM\u00b9.png",
    "LPT9.png",
    "CONIN$",
    "a:b.png",
    'a"b<c>d|e?f*.png',
    "name.png.",
    "name.png ",
    "%2e%2e%2foutside.png",
    "..%2foutside.png",
]
RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    "conin$",
    "conout$",
    *(f"{port}{n}" for port in ("com", "lpt") for n in "123456789¹²³"),
}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def serve(*pictures: Any) -> Hostile:
    """A server whose run leaves these pictures."""
    return Hostile(history=lambda prompt_id: history(prompt_id, {"3": {"images": list(pictures)}}))


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A folder with an output folder in it, in which one file stands already."""
    folder = tmp_path / "a" / "b" / "c" / "d"
    (folder / "made").mkdir(parents=True)
    (folder / "made" / "kept.png").write_bytes(b"kept")
    (folder / "logs").mkdir()
    return folder


def test_into_a_folder(house: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    with serve(*map(picture, NAMES)) as server:
        told = follow(server, house / "logs", output=f"{house / 'made'}/")
    made = house / "made"
    assert told.result.status == "success", told.result.error
    after = {name: data for name, data in tree(tmp_path).items() if "/logs/" not in name}
    assert before.items() <= after.items()
    assert all(Path(name).parent == made.relative_to(tmp_path) for name in after)
    assert len(after) == len(before) + len(NAMES)
    saved = [line["output"]["path"] for line in told.of("output_saved")]
    assert len(set(saved)) == len(NAMES)
    for path in made.iterdir():
        assert path.name.isprintable()
        assert len(path.name.encode()) <= 255
        assert path.name.partition(".")[0].rstrip().lower() not in RESERVED
        assert not path.name.endswith((".", " "))
        assert not set(path.name) & set('<>:"/\\|?*')


@pytest.mark.parametrize("name", NAMES)
def test_into_a_file(house: Path, tmp_path: Path, name: str) -> None:
    before = tree(tmp_path)
    with serve(picture(name), picture(name)) as server:
        told = follow(server, house / "logs", output=str(house / "made" / "wanted.jpg"))
    assert told.result.status == "success", told.result.error
    after = {key: data for key, data in tree(tmp_path).items() if "/logs/" not in key}
    assert before.items() <= after.items()
    new = {Path(key) for key in after.keys() - before.keys()}
    assert {path.parent for path in new} == {(house / "made").relative_to(tmp_path)}
    assert len(new) == 2
    assert all(path.name.startswith("wanted") for path in new)


def test_a_link_in_the_folder_is_not_followed(house: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (house / "made" / "link.png").symlink_to(outside)
    with serve(picture("link.png")) as server:
        told = follow(server, house / "logs", output=f"{house / 'made'}/")
    assert told.result.status == "success"
    assert not outside.exists()


def test_the_same_name_many_times_takes_little_time(house: Path) -> None:
    with serve(*[picture("kept.png", subfolder=str(number)) for number in range(300)]) as server:
        told = follow(server, house / "logs", output=f"{house / 'made'}/")
    assert told.result.status == "success"
    assert len(list((house / "made").iterdir())) == 301


@pytest.mark.parametrize("wrong", [None, 7, 1.5, True, [], {}, ["a.png"], {"a": 1}])
def test_names_that_are_no_names(house: Path, wrong: Any) -> None:
    entries = [picture(wrong), picture(subfolder=wrong), picture(folder=wrong), wrong]
    with serve(*entries) as server:
        told = follow(server, house / "logs", output=f"{house / 'made'}/")
    assert told.result.status == "success", told.result.error
    assert {path.name for path in (house / "made").iterdir()} <= {"kept.png", "made.png", "made-2.png", "made-3.png"}
