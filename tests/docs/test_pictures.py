"""The pictures are those that `docs/picture.py` draws from the shipped recordings, and whole."""

from __future__ import annotations

import re
import runpy
import xml.etree.ElementTree as ElementTree

import pytest

from tests.docs.pages import BY_NAME, PAGES, ROOT

FOLDER = ROOT / "docs"


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    """What the program draws now, by the names of the files."""
    pictures: dict[str, str] = runpy.run_path(str(FOLDER / "picture.py"))["pictures"]()
    return pictures


def test_the_pictures_are_those_that_are_drawn_now(drawn: dict[str, str]) -> None:
    kept = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.svg")}
    assert sorted(kept) == sorted(drawn)
    assert [name for name in drawn if kept[name] != drawn[name]] == [], "python docs/picture.py draws them anew"


@pytest.mark.parametrize("columns", [60, 120])
@pytest.mark.parametrize(
    ("name", "piece"),
    [
        ("queue", "Waiting in the queue: 1 before this one"),
        ("loading", "0/7 nodes"),
        ("sampling", "ETA"),
        ("parallel", "0.42/1.5"),
        ("failed", "Generation failed"),
        ("finished", "Slowest: KSampler"),
    ],
)
def test_pictures_are_whole(drawn: dict[str, str], name: str, piece: str, columns: int) -> None:
    lines = list(ElementTree.fromstring(drawn[f"{name}-{columns}.svg"]).itertext())
    assert piece in " ".join(lines)
    # Nothing has scrolled away, and the command is there to its end.
    assert re.search(r"\$ comfyreport --workflow .*?(sunset\.png|parallel\.json)", " ".join(lines).replace("\n", ""))
    assert not re.search(r"/(root|home|tmp)/", " ".join(lines))


def test_each_picture_is_shown() -> None:
    shown = {target.rpartition("/")[2] for page in PAGES for target in page.links if target.endswith(".svg")}
    assert shown == {path.name for path in FOLDER.glob("*.svg")}
    assert len({target for target in BY_NAME["docs/reporters.md"].links if target.endswith(".svg")}) == len(shown)
