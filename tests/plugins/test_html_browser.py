"""What a browser makes of the report; where no Chromium is, nothing of this runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfyreport_html import html

from comfyreport import events as ev
from comfyreport.testing import play, recordings
from tests.plugins.chromium import Page, browser, find
from tests.plugins.events import EventBuilder, deliver, failed, image, progress, txt2img
from tests.plugins.test_html import EVIL, HOSTILE, picture, previewed, several

CHROMIUM = find()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]
ROWS = "document.querySelectorAll('.times tbody tr')"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    assert CHROMIUM is not None
    with browser(CHROMIUM) as page:
        yield page


@pytest.fixture
def shown(page: Page, tmp_path: Path) -> Any:
    """Writes a report of events, or of a recording, and opens it; what the page loads is nothing but itself."""
    path = tmp_path / "report.html"

    def show(run: list[ev.Event] | str, **window: Any) -> Page:
        if isinstance(run, str):
            play(html, run, destination=path)
        else:
            deliver(html(path), run)
        page.complaints.clear()
        page.requests.clear()
        page.open(path.as_uri(), **window)
        assert [url for url in page.requests if not url.startswith("data:")] == [path.as_uri()]
        assert page.complaints == []
        return page

    return show


@pytest.mark.parametrize("name", recordings())
def test_nothing_is_complained_of_and_nothing_leaves_the_page(shown: Any, name: str) -> None:
    page = shown(name)
    assert page.ask("document.querySelector('h1').innerText.length > 5")
    assert page.ask("document.fonts.status") == "loaded"


def test_pictures_are_shown(shown: Any, tmp_path: Path) -> None:
    saved = image(path=str(picture(tmp_path / "sunset.png")))
    builder = previewed(5)
    builder.add(ev.OutputSaved, output=saved)
    page = shown(builder.end(outputs=(saved,)))
    assert page.ask("[...document.images].filter(each => !each.complete || !each.naturalWidth).length") == 0
    assert page.ask("document.querySelector('figure a').href") == (tmp_path / "sunset.png").as_uri()


def test_hostile_text_stays_text(shown: Any) -> None:
    page = shown(HOSTILE())
    assert page.ask("window.hacked") is None
    assert page.ask("document.scripts.length") == 1
    assert page.ask("document.querySelectorAll('iframe, object, form, img:not([src^=data])').length") == 0
    assert page.ask("document.querySelector('.times th small').parentNode.innerText").startswith(EVIL[:20])
    assert page.ask("[...document.links].every(each => /^(https?|file):/.test(each.protocol))")


@pytest.mark.parametrize("width", [320, 375, 1100])
@pytest.mark.parametrize("name", ["txt2img", "parallel", "node-error", "rejected", "many"])
def test_it_fits_into_the_window(shown: Any, name: str, width: int) -> None:
    page = shown(name, width=width)
    assert page.ask("document.documentElement.scrollWidth") <= width


def test_hostile_text_fits_into_a_phone(shown: Any) -> None:
    assert shown(HOSTILE(), width=375).ask("document.documentElement.scrollWidth") <= 375


def test_it_is_dark_where_the_reader_wants_that(shown: Any) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    assert shown("txt2img").ask(colour) == "rgb(255, 255, 255)"
    assert shown("txt2img", dark=True).ask(colour) == "rgb(13, 17, 23)"


def test_five_hundred_nodes_stay_readable(shown: Any) -> None:
    builder = EventBuilder().begin(
        tuple(ev.NodeRef(id=str(n), class_type="Load", title=f"Load {n}") for n in range(500))
    )
    builder.at(0.2).add(ev.RunStarted)
    for number in range(500):
        builder.node(ev.NodeRef(id=str(number), title=f"Load {number}"), 0.01 + number / 1000, number + 1, 500)
    page = shown(builder.end())
    assert page.ask(f"{ROWS}.length") == 500
    heights = page.ask(f"[...{ROWS}].map(row => row.getBoundingClientRect().height)")
    assert max(heights) < 40
    assert page.ask("[...document.querySelectorAll('.lane i')].every(bar => bar.getBoundingClientRect().width >= 2)")
    page.ask("document.querySelector('thead button').click()")
    assert page.ask(f"{ROWS}[0].innerText").startswith("Load 499")
    page.ask("scrollTo(0, 9000)")
    assert page.ask("document.querySelector('.times thead th').getBoundingClientRect().top") == 0
    page.ask("document.querySelector('thead button').click()")
    assert page.ask(f"{ROWS}[0].innerText").startswith("Load 0")


def test_previews_by_mouse_and_by_keyboard(shown: Any) -> None:
    page = shown(previewed(5).end(), height=2000)
    film = "getComputedStyle(document.querySelector('.film')).display"
    assert page.ask(film) == "none"
    page.hover(".times tr:has(.film) .lane")
    assert page.ask(film) == "grid"
    page.press("Escape")
    assert page.ask(film) == "none"
    page.hover("h1")
    for _ in range(20):
        if page.ask("document.activeElement.innerText") == "5 previews":
            break
        page.press("Tab")
    page.press("Enter", "\r")
    assert page.ask(film) == "grid"
    assert page.ask("document.activeElement.ariaExpanded") == "true"
    page.press("Escape")
    assert page.ask(film) == "none"
    assert page.ask("document.activeElement.ariaExpanded") == "false"


def test_the_index_leads_to_each_run(shown: Any) -> None:
    page = shown(several([txt2img, failed, txt2img]))
    assert page.ask("[...document.querySelectorAll('details[id]')].map(each => each.open)") == [True, True, False]
    page.ask("document.querySelector('a[href=\"#run3\"]').click()")
    page.until("document.getElementById('run3').open")


def test_what_a_screen_reader_is_told(shown: Any) -> None:
    page = shown(txt2img())
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in tree if not node.get("ignored") and "role" in node]
    assert {"heading", "table", "rowheader", "columnheader", "cell", "main", "button"} <= set(roles)
    named = [node["name"]["value"] for node in tree if "name" in node]
    assert any("3.9s to 19.9s" in name for name in named)


def test_steps_are_a_curve(shown: Any) -> None:
    builder = EventBuilder().begin()
    builder.at(0.2).add(ev.RunStarted)
    node = ev.NodeRef(id="3", class_type="KSampler", title="KSampler")
    builder.add(ev.NodeStarted, node=node, **progress(0, 7))
    for step in range(1, 5001):
        builder.at(0.2 + step / 100).step(node, step, 5000, step / 100)
    builder.add(ev.NodeFinished, node=node, **progress(1, 7))
    page = shown(builder.end())
    box = page.ask("(box => [box.width, box.height])(document.querySelector('path').getBBox())")
    assert box[0] > 45
    assert 0 <= box[1] < 0.2
