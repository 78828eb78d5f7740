"""The `notebook` reporter: its bar as HTML, in which nothing of a server's is more than text, and the pictures."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from comfyreport_notebook import Handle, Notebook, bar_html, notebook

from comfyreport import events as ev
from comfyreport.errors import ReporterError
from comfyreport.testing import conforms, play, recordings, stream_of
from comfyreport.testing.harness import Harness
from comfyreport.testing.samples import hostile_values, many_nodes
from tests.plugins.events import DECODER, EventBuilder, failed, image, progress, sampling, txt2img
from tests.render.frames import fold

PNG = b"\x89PNG\r\n\x1a\n" + b"rest"


class Shown:
    """A notebook's cell: what it shows, in order, and how often something was replaced."""

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.updates = 0

    def html(self, text: str) -> Handle:
        self.parts.append(text)
        return Part(self, len(self.parts) - 1)

    def picture(self, data: bytes, kind: str, name: str) -> None:
        self.parts.append((data, kind, name))


class Part:
    def __init__(self, shown: Shown, index: int) -> None:
        self.shown, self.index = shown, index

    def update(self, obj: Any) -> None:
        self.shown.parts[self.index] = obj
        self.shown.updates += 1


class Parsed(HTMLParser):
    """The tags, attributes and text of HTML, as a browser takes them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.text += "\n" if tag in ("div", "br") else ""

    def handle_data(self, data: str) -> None:
        self.text += data


def told(events: Iterable[ev.Event], pictures: int = 12) -> Shown:
    shown = Shown()
    Harness(Notebook(shown, pictures), "notebook").run(events)
    return shown


def words(html: str) -> list[str]:
    return [line for line in Parsed(html).text.split("\n") if line]


def test_the_bar_while_it_samples() -> None:
    run = fold(sampling())
    html = bar_html(run, ["[WARN] look"], 20.0, "about 8s left")
    assert words(html) == [f"KSampler 20/20 1.2 it/s{round(100 * run.fraction)}% about 8s left", "[WARN] look"]
    attributes = dict(Parsed(html).attributes)
    assert attributes["role"] == "progressbar"
    assert attributes["aria-valuenow"] == str(round(100 * run.fraction))


def test_a_node_without_a_bar_tells_its_seconds() -> None:
    builder = EventBuilder().begin()
    builder.at(0.2).add(ev.RunStarted)
    builder.at(1.0).add(ev.NodeStarted, node=DECODER, **progress(0, 7))
    assert words(bar_html(fold(builder), [], 4.0))[0].startswith("VAE Decode 3s")


def test_before_it_runs() -> None:
    assert words(bar_html(fold(EventBuilder()), [], 0.0)) == ["Connecting0%"]
    assert words(bar_html(fold(EventBuilder().begin(position=2)), [], 0.0)) == [
        "Waiting in the queue: 2 before this one0%"
    ]


def test_one_bar_is_replaced_in_place() -> None:
    shown = told(txt2img())
    bar, _ = shown.parts
    assert words(bar)[:2] == ["success100%", "[OK] Generation complete in 23.4s"]
    assert 50 < shown.updates < 120, "four times a second at most"


def test_a_failure_stands_below_the_bar() -> None:
    (bar,) = told(failed()).parts
    assert words(bar)[0].startswith("error")
    assert any("mat1 and mat2 shapes cannot be multiplied" in line for line in words(bar))
    assert any("Hint: the text encoder doesn't fit the model" in line for line in words(bar))


def test_warnings_stay() -> None:
    builder = sampling()
    for number in range(9):
        builder.add(ev.Warning, code="stalled", message=f"warning {number}")
    (bar,) = told(builder.end()).parts
    assert [line for line in words(bar) if "WARN" in line] == [f"[WARN] warning {number}" for number in range(4, 9)]


def test_saved_pictures_come_last(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff rest")
    (tmp_path / "c.png").write_bytes(b"<script>alert(1)</script>")
    outputs = [image(path=str(tmp_path / name), bytes=9) for name in ("a.png", "b.jpg", "c.png", "gone.png")]
    bar, first, second, third, fourth = told(sampling().end(outputs=tuple(outputs))).parts
    assert words(bar)[0] == "success100%"
    assert first == (PNG, "png", "ComfyUI_00001_.png")
    assert second[1] == "jpeg"
    assert words(third) == words(fourth) == ["ComfyUI_00001_.png can't be shown here"]


def test_too_large_a_picture_is_named_alone(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    with (tmp_path / "a.png").open("r+b") as file:
        file.truncate(10_000_001)
    _, part = told(sampling().end(outputs=(image(path=str(tmp_path / "a.png")),))).parts
    assert words(part) == ["ComfyUI_00001_.png can't be shown here"]


def test_pictures_on_the_server_are_linked() -> None:
    _, part = told(sampling().end(outputs=(image(),))).parts
    attributes = dict(Parsed(part).attributes)
    assert attributes["src"] == image().url
    assert attributes["alt"] == "ComfyUI_00001_.png"


def test_not_more_than_were_asked_for() -> None:
    bar, *parts = told(sampling().end(outputs=(image(),) * 5), pictures=2).parts
    assert len(parts) == 2
    assert words(bar)[-1] == "  3 more pictures are not shown here"


def test_each_run_has_a_bar() -> None:
    shown = Shown()
    harness = Harness(Notebook(shown, 12), "notebook")
    for event in (*failed()[:-1], *failed()[:-1]):
        harness.deliver(event)
    assert len(shown.parts) == 2


def test_what_a_server_sends_is_text() -> None:
    evil = '<script>alert(1)</script><img src=x onerror="alert(1)">\x1b[31m&amp;'
    node = ev.NodeRef(id="1", class_type=evil, title=evil)
    builder = EventBuilder().begin((node,))
    builder.add(ev.RunStarted)
    builder.add(ev.NodeStarted, node=node)
    builder.add(ev.Warning, code="stalled", message=evil, node=node)
    url = 'http://host/"onerror="alert(1)'
    odd = ev.Output(node=node, index=0, kind="image", filename=evil, url=url)
    js = ev.Output(node=node, index=1, kind="image", filename=evil, url="javascript:alert(1)")
    html = bar_html(fold(builder), [evil], 1.0)
    error = ev.ErrorInfo(code="node_error", message=evil, hint=evil, node=node, traceback=(evil,))
    shown = told(builder.end("error", error, outputs=(odd, js)))
    shown.parts += told(hostile_values()).parts
    for part in (html, *shown.parts):
        parsed = Parsed(part)
        assert set(parsed.tags) <= {"div", "span", "br", "img"}
        assert {name for name, _ in parsed.attributes} <= {
            "style", "role", "aria-label", "aria-valuemin", "aria-valuemax", "aria-valuenow", "src", "alt"
        }  # fmt: skip
        assert "\x1b" not in part
        assert "javascript:" not in re.sub(r"&[^;]*;", "", str(dict(parsed.attributes).get("src")))
    assert "<script>alert(1)</script>" in Parsed(html).text, "it is there, as text"


def test_a_crowd_stays_small() -> None:
    run = fold(_builder(many_nodes()))
    html = bar_html(run, [], 3.0)
    assert "+396 running" in html
    assert len(html) < 3000


def _builder(events: list[ev.Event]) -> EventBuilder:
    builder = EventBuilder()
    builder.events = [
        event for event in events if not isinstance(event, (ev.NodeFinished, ev.RunFinished, ev.StreamFinished))
    ]
    return builder


@pytest.mark.parametrize("name", recordings())
def test_recordings(name: str) -> None:
    shown = Shown()
    play(Notebook(shown, 12), name)
    (end,) = (event for event in stream_of(name) if isinstance(event, ev.RunFinished))
    assert words(shown.parts[0])[0].startswith(end.status)
    assert len(shown.parts) - 1 == sum(output.kind == "image" for output in end.outputs)


def test_elsewhere_it_is_refused() -> None:
    with pytest.raises(ReporterError, match="this is no notebook"):
        notebook()


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython.core.getipython", None)
    with pytest.raises(ReporterError, match="needs IPython") as raised:
        notebook()
    assert raised.value.hint == 'pip install "comfyreport[notebook]"'


@pytest.mark.slow
def test_it_conforms() -> None:
    def made(*, pictures: int = 12) -> Notebook:
        return Notebook(Shown(), pictures)

    conforms(made)
