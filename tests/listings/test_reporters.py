"""`comfyreport reporters`: installed reporters, their options, and why one can't be loaded."""

from __future__ import annotations

import json
import sys

import pytest

from comfyreport.errors import ReporterError
from comfyreport.listings.reporters import describe, list_reporters
from tests.packages import BROKEN_MODULES, Packages, bell


def test_the_listing_tells_what_a_value_may_be(packages: Packages) -> None:
    bell(packages, default=" = stderr")
    packages.add("needy", "def needy(url: str, *, key: str, loud: bool = False, n: int | None = None): ...")
    assert list_reporters("bell", as_json=False).splitlines() == [
        "bell  (bell 1.0)  Rings at the end.",
        "    DEST: a path, - for stdout, or stderr (default stderr)",
        "    ,times=a whole number (default 1)",
        "    hooks: not told by its factory",
    ]
    assert list_reporters("needy", as_json=False).splitlines() == [
        "needy  (needy 1.0)",
        "    DEST: a URL (required)",
        "    ,key=text (required)",
        "    ,loud=true or false (default false)",
        "    ,n=a whole number",
        "    hooks: not told by its factory",
    ]
    with pytest.raises(ReporterError, match="there is no reporter 'bel'"):
        list_reporters("bel", as_json=False)


def test_the_listing_tells_hooks_and_docs(packages: Packages) -> None:
    packages.add(
        "told",
        "from comfyreport import Stream, hookimpl, stderr\n"
        "class Told:\n    @hookimpl\n    def comfyreport_close(self): ...\n"
        "def told(out: Stream = stderr, *, n: int = 1) -> Told:\n"
        '    """Tells.\n\n    More of it.\n\n    :param n: how much\n    """\n',
    )
    assert list_reporters("told", as_json=False).splitlines() == [
        "told  (told 1.0)  Tells.",
        "",
        "    More of it.",
        "    DEST: a path, - for stdout, or stderr (default stderr)",
        "    ,n=a whole number (default 1)  how much",
        "    hooks: comfyreport_close",
    ]
    assert describe("told")["hooks"] == ["comfyreport_close"]
    assert describe("told")["docs"] == "Tells.\n\nMore of it."


@pytest.mark.parametrize(("source", "cause"), BROKEN_MODULES)
def test_a_broken_package_is_listed_with_its_error(packages: Packages, source: str, cause: str) -> None:
    packages.add("broken", source)
    bell(packages, default=" = stderr")
    error = f"reporter broken of broken 1.0 can't be loaded: {cause}"
    listing = list_reporters(None, as_json=False)
    assert "bell  (bell 1.0)  Rings at the end." in listing
    assert f"broken  (broken 1.0)\n    can't be loaded: {error}" in listing
    assert describe("broken")["error"].startswith(error)


@pytest.mark.parametrize("metadata", ["[comfyreport]\nno value\n", "[comfyreport]\nbroken = \n"])
def test_metadata_that_cannot_be_read_hides_no_other_package(packages: Packages, metadata: str) -> None:
    packages.add("broken", metadata=metadata)
    assert "console" in list_reporters(None, as_json=False)


def test_nothing_of_a_package_reaches_the_terminal_as_it_is(packages: Packages) -> None:
    packages.add(
        "evil",
        'def evil(*, dot: float = float("inf"), text: str = "\\x1b[2J"):\n'
        '    """Draws \\x1b[31mred.\n\n    \\x9bmore\n\n    :param dot: \\x07 rings\n    """\n',
        # The backport of a newer Python's, which Dask loads on an old one, reads no such value.
        {"evil\x1b[1m": "evil:evil", "worse": f"evil:nothing{'' if 'importlib_metadata' in sys.modules else chr(27)}"},
    )
    for name in (None, "evil\x1b[1m", "worse"):
        for as_json in (True, False):
            text = list_reporters(name, as_json=as_json)
            assert text.replace("\n", "").isprintable(), text
    told = json.loads(list_reporters(None, as_json=True), parse_constant=pytest.fail)
    (evil,) = (each for each in told if each["name"] == "evil\x1b[1m")
    assert [option["default"] for option in evil["options"]] == ["inf", "\x1b[2J"]


def test_a_package_that_raises_when_it_is_looked_at(packages: Packages) -> None:
    packages.add(
        "prickly",
        "class Prickly:\n    def __call__(self, *, a: '1 / 0' = 1): ...\n"
        "    @property\n    def __signature__(self): raise RuntimeError('no')\nprickly = Prickly()\n",
    )
    packages.add("doubled", "", {"quiet": "doubled:quiet"})
    text = list_reporters(None, as_json=False)
    assert "prickly  (prickly 1.0)" in text
    assert "doubled 1.0" in text
    assert text.count("can't be loaded: ") >= 2
