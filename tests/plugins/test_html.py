"""The report for the browser: what is in it, that it stays whole and bounded, and what happens where it can't be."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from comfyreport_html import html
from PIL import Image

from comfyreport import events as ev
from comfyreport.errors import ReporterError
from comfyreport.events import RunView
from comfyreport.recording.shipped import stream_of
from comfyreport.testing import conforms, play, recordings
from tests.plugins.events import (
    ALL_STEPS,
    SAMPLER,
    SAVER,
    SERVER,
    EventBuilder,
    call_hook,
    deliver,
    failed,
    fully_cached,
    image,
    progress,
    sampling,
    times,
    txt2img,
)

EVIL = "<script>hacked=1</script><img src=x onerror=hacked=1>\"'>&lt;{{ 7 * 7 }}\u202e\x1b[2J\ud800"
VOID = {"meta", "link", "img"}
OPTIONAL_END = {"p", "li", "dt", "dd", "tr", "td", "th", "thead", "tbody"}


class Reader(HTMLParser):
    """A page's elements, texts and links; an element that isn't closed, or closed without being open, is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert [tag for tag in self.open if tag not in OPTIONAL_END] == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while tag != self.open[-1]:
            assert self.open.pop() in OPTIONAL_END, (tag, self.getpos())
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [each for name, each in self.elements if name == tag and wanted.items() <= each.items()]

    @property
    def rows(self) -> list[dict[str, str]]:
        return [each for each in self.all("tr") if "data-at" in each]


def report(path: Path, events: Iterable[ev.Event], **options: Any) -> Reader:
    deliver(html(path, **options), events)
    return read(path.read_bytes())


def read(page: bytes) -> Reader:
    reader = Reader(page.decode())
    for tag, attributes in reader.elements:
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:").startswith("data:")
        if tag == "a":
            assert re.match(r"#|https?://|file:///[A-Z]:/|(\.\./)*[\w%./-]+$", attributes["href"]), attributes
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {each["href"][1:] for each in reader.all("a") if each["href"].startswith("#")}
    assert targets <= set(ids)
    assert len(reader.all("script")) == 1
    assert len(reader.all("h1")) == 1
    return reader


def picture(path: Path, size: tuple[int, int] = (512, 384), **options: Any) -> Path:
    Image.new("RGB", size, "orange").save(path, **options)
    return path


def jpeg(shade: int, side: int = 64) -> bytes:
    data = io.BytesIO()
    Image.new("L", (side, side), shade % 256).save(data, "JPEG")
    return data.getvalue()


def previewed(count: int) -> EventBuilder:
    """A run whose sampler sends *count* previews."""
    builder = sampling(())
    for number in range(count):
        builder.at(4.0 + number / 10)
        builder.add(ev.NodePreview, node=SAMPLER, media_type="image/jpeg", image=jpeg(number), index=number)
    builder.add(ev.NodeFinished, node=SAMPLER, seconds=builder.now - 4.0, **progress(5, 7))
    return builder


def several(runs: Iterable[Callable[[], list[ev.Event]]]) -> list[ev.Event]:
    """The runs of one command, one after the other."""
    events: list[ev.Event] = [ev.StreamStarted(seq=1, time=0.0, elapsed=0.0, comfyreport="0.1.0", server=SERVER)]
    for number, run in enumerate(runs, 1):
        for event in run()[1:-1]:
            later = event.elapsed + (number - 1) * 30
            events.append(replace(event, run_index=number, elapsed=later))
    return events


def HOSTILE() -> list[ev.Event]:  # noqa: N802  a stream that the other tests use as a constant
    node = ev.NodeRef(id=EVIL, class_type=EVIL, title=EVIL, raw_id=EVIL)
    output = ev.Output(
        node=node, index=0, kind="image", filename=EVIL, subfolder=EVIL, folder="output", url="javascript:hacked=1",
        media_type=EVIL, value=EVIL,
    )  # fmt: skip
    saved = replace(output, path="/tmp/\udcff<b>\"'x.png", index=1, url=f"{SERVER}/view?{EVIL}")
    builder = EventBuilder().begin((node,))
    builder.add(ev.RunStarted)
    builder.add(ev.Warning, code=EVIL, message=EVIL, node=node)
    builder.node(node, 2.0, 1, 1)
    builder.step(node, 1, 2, 1.0)
    builder.add(ev.NodePreview, node=node, media_type=EVIL, image=EVIL.encode("utf-8", "replace"))
    builder.add(ev.OutputSaved, output=saved)
    error = ev.ErrorInfo(
        code=EVIL, message=EVIL, hint=EVIL, node=node, exception_type=EVIL, traceback=(EVIL, EVIL),
        node_errors=(ev.NodeError(node=node, type=EVIL, message=EVIL, details=EVIL),),
    )  # fmt: skip
    inputs = (ev.InputValue(node=node, name=EVIL, value=EVIL), ev.InputValue(node=node, name="a", value={EVIL: [EVIL]}))
    return builder.end("error", error, outputs=(output, saved), inputs=inputs)


def test_it_conforms() -> None:
    conforms(html)
    conforms(html, previews=False, max_mb=0.001)


@pytest.mark.parametrize("name", recordings())
def test_recordings(name: str, tmp_path: Path) -> None:
    page = read(play(html, name).encode())
    events = list(stream_of(name))
    (result,) = (event for event in events if isinstance(event, ev.RunFinished))
    assert result.status in page.text
    ran = {event.node.id for event in events if isinstance(event, (ev.NodeStarted, ev.NodeCached))}
    assert len(page.rows) == len(ran)
    assert page.text.count(" cached ") >= len(result.cached)
    if result.error is not None and result.error.node is not None:
        assert result.error.message.split("\n")[0][:80] in page.text


def test_what_is_told_of_a_run(tmp_path: Path) -> None:
    events = txt2img(ALL_STEPS)
    end = events[-2]
    assert isinstance(end, ev.RunFinished)
    inputs = (ev.InputValue(node=SAMPLER, name="steps", value=20), ev.InputValue(node=SAMPLER, name="cfg", value=[7.5]))
    usual = times(dict(end.node_seconds), node_3=15.0)
    events[-2] = replace(end, inputs=inputs, node_times=usual, seed=42)
    page = report(tmp_path / "report.html", events)
    assert "Generation complete in 23.4s success" in page.text
    assert "Environment Server http://127.0.0.1:8188 Prompt c0ffee00-" in page.text
    assert "KSampler #3 3.9s to 19.9s 16.0s 70 % 1.2 it/s 15.0s" in page.text
    assert "7 nodes in 23.4s. Longest: KSampler." in page.text
    assert "Steps per second KSampler #3 1.2 it/s to 1.3 it/s" in page.text
    assert "Inputs that were set KSampler #3 steps 20 KSampler #3 cfg [7.5] Environment" in page.text
    assert re.search(r"Seed 42 Made by comfyreport 0\.1\.0 run, Python 3\.\d+\.\d+, \S+", page.text)
    assert [row["data-s"] for row in page.rows][:2] == ["2.4", "0.01"]


def test_a_bar_stands_where_the_node_ran(tmp_path: Path) -> None:
    page = report(tmp_path / "report.html", txt2img())
    sampler = page.all("i")[4]["style"]
    left, width = map(float, re.findall(r"[\d.]+", sampler))
    assert (left, width) == pytest.approx((100 * 3.88 / 23.38, 100 * 16 / 23.38), abs=0.02)


def test_an_error(tmp_path: Path) -> None:
    page = report(tmp_path / "report.html", failed())
    assert "Error In KSampler #3 RuntimeError mat1 and mat2 shapes cannot be multiplied (77x768 and" in page.text
    assert "Next: the text encoder doesn't fit the model" in page.text
    assert 'Traceback File "/comfy/nodes.py", line 1559, in sample return common_ksampler(model)' in page.text
    assert "not finished" in page.text
    assert page.all("i", class_="cut")
    assert "2 more didn't run." in page.text


def test_warnings_and_connection(tmp_path: Path) -> None:
    builder = sampling()
    builder.at(9.0).add(ev.Warning, code="stalled", message="nothing heard for 30 s")
    builder.at(9.5).add(ev.ConnectionChanged, state="lost", detail="reset")
    page = report(tmp_path / "report.html", builder.end())
    assert "Warnings nothing heard for 30 s at 8.9s Connection lost: reset at 9.4s" in page.text


def test_cached_nodes_are_marked(tmp_path: Path) -> None:
    page = report(tmp_path / "report.html", fully_cached())
    assert len(page.all("b")) == 7
    assert "image, cached, from Save Image" in page.text
    assert page.all("a")[0]["href"] == image().url


def test_a_saved_picture_is_shown_and_linked(tmp_path: Path) -> None:
    folder = tmp_path / "made here"
    folder.mkdir()
    saved = image(path=str(picture(folder / "sunset #1.png")), bytes=123456)
    builder = sampling()
    builder.add(ev.OutputSaved, output=saved)
    page = report(tmp_path / "reports.html", builder.end(outputs=(saved,)))
    assert "made%20here/sunset%20%231.png" in {each["href"] for each in page.all("a")}
    assert "sunset #1.png image, 123 kB, from Save Image" in page.text
    (shown,) = page.all("img")
    assert shown["src"].startswith("data:image/webp;base64,")
    assert shown["alt"] == "ComfyUI_00001_.png"


def test_what_is_no_picture_is_linked_alone(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    outputs = [replace(image(path=str(tmp_path / name)), index=n) for n, name in enumerate(("a.png", "gone.png"))]
    builder = sampling()
    for output in outputs:
        builder.add(ev.OutputSaved, output=output)
    page = report(tmp_path / "report.html", builder.end(outputs=tuple(outputs)))
    assert page.all("img") == []
    links = {each["href"] for each in page.all("a")}
    assert "a.png" in links
    assert outputs[1].url in links, "what isn't there is linked on the server"


def test_values_are_shown(tmp_path: Path) -> None:
    outputs = tuple(
        ev.Output(node=SAVER, index=n, kind="text", value=value)
        for n, value in enumerate(("one\ntwo", {"a": [1, None]}))
    )
    page = report(tmp_path / "report.html", sampling().end(outputs=outputs))
    assert 'Outputs one two text, from Save Image {"a": [1, null]} text' in page.text


def test_previews(tmp_path: Path) -> None:
    page = report(tmp_path / "report.html", previewed(5).end())
    assert "5 previews" in page.text
    assert [each["alt"] for each in page.all("img")] == ["KSampler", *(f"KSampler, preview {n}" for n in range(1, 6))]
    assert not hasattr(html(tmp_path / "x.html", previews=False), "comfyreport_node_preview")


def test_thousands_of_previews_stay_small(tmp_path: Path) -> None:
    page = report(tmp_path / "report.html", previewed(3000).end())
    assert 6 <= len(page.all("img")) <= 14
    assert (tmp_path / "report.html").stat().st_size < 100_000


def test_thousands_of_steps_and_nodes_stay_bounded(tmp_path: Path) -> None:
    nodes = tuple(ev.NodeRef(id=str(number), class_type="Load") for number in range(1500))
    builder = EventBuilder().begin(nodes)
    builder.add(ev.RunStarted)
    for done, node in enumerate(nodes, 1):
        builder.node(node, 0.001 * done, done, 1500)
    builder.add(ev.NodeStarted, node=SAMPLER, **progress(1499, 1500))
    start = builder.now
    for step in range(1, 20_001):
        builder.at(start + step / 50).step(SAMPLER, step, 20_000, step / 50, fraction=0.9)
    page = report(tmp_path / "report.html", builder.end())
    assert len(page.rows) == 1000
    assert "The quickest 500 aren't shown." in page.text
    assert len(page.all("path")[0]["d"]) < 10_000
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_a_loop_is_one_row_with_bounded_bars(tmp_path: Path) -> None:
    builder = EventBuilder().begin((SAMPLER,))
    for _ in range(1000):
        builder.node(SAMPLER, 0.1, 1, 1)
    page = report(tmp_path / "report.html", builder.end())
    assert len(page.rows) == 1
    assert 30 < len(page.all("i")) < 70


def test_several_runs(tmp_path: Path) -> None:
    page = report(tmp_path / "report.html", several([txt2img, failed, fully_cached]))
    assert "2 of 3 runs succeeded Runs" in page.text
    assert [each["id"] for each in page.all("details") if "id" in each] == ["run1", "run2", "run3"]
    assert "Run 2 error Generation failed after 8.9s in KSampler" in page.text


def test_a_run_that_has_no_room_stands_in_the_index_alone(tmp_path: Path) -> None:
    page = report(tmp_path / "report.html", several([txt2img] * 50), max_mb=0.05)
    assert "50 of 50 runs succeeded" in page.text
    assert page.text.count("The file has no room for more of this run.") > 30
    assert (tmp_path / "report.html").stat().st_size < 150_000


def test_it_is_written_at_the_end_of_a_run_and_not_too_often(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    reporter, run, written = html(path), RunView(), []
    for event in several([txt2img, txt2img, txt2img]):
        run.apply(event)
        call_hook(reporter, str(getattr(event, "type", "")), event=event, run=run)
        if isinstance(event, ev.RunFinished):
            written.append(path.read_text(encoding="utf-8").count("<details id="))
    call_hook(reporter, "close")
    assert written == [0, 2, 3]
    assert path.read_text(encoding="utf-8").count("<details id=") == 3


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    page = report(tmp_path / "report.html", HOSTILE())
    raw = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>hacked" not in raw
    assert "\u202e" not in raw
    assert "\x1b" not in raw
    assert "{{ 7 * 7 }}\\u202e\\x1b[2J\\ud800" in page.text
    assert "javascript:" not in {each["href"].partition("hacked")[0] for each in page.all("a")}
    assert page.all("img") == []


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    node = ev.NodeRef(id="1", title="x" * 100_000)
    report(tmp_path / "report.html", EventBuilder().begin((node,)).node(node, 1.0, 1, 1).end())
    assert (tmp_path / "report.html").stat().st_size < 60_000


def test_no_run_at_all(tmp_path: Path) -> None:
    assert "No run" in report(tmp_path / "report.html", txt2img()[:1]).text


@pytest.mark.parametrize("package", ["jinja2", "PIL"])
def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ReporterError, match=f"{package}") as raised:
        html(tmp_path / "report.html")
    assert raised.value.hint == 'pip install "comfyreport[html]"'


@pytest.mark.parametrize("size", [0, -1, float("nan")])
def test_an_unusable_size(tmp_path: Path, size: float) -> None:
    with pytest.raises(ReporterError, match="max_mb="):
        html(tmp_path / "report.html", max_mb=size)


def test_a_file_that_cant_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="report"):
        deliver(html(tmp_path / "missing" / "report.html"), txt2img())


def test_a_full_disk_is_raised() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OSError, match="No space left"):
        deliver(html(full), txt2img())


def test_colours_have_contrast(tmp_path: Path) -> None:
    report(tmp_path / "report.html", txt2img())
    style = (tmp_path / "report.html").read_text(encoding="utf-8").partition("</style>")[0]
    schemes = re.findall(r":root\{([^}]*)\}", style)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+):(#\w+)", scheme))
        for name in ("fg", "dim", "run", "ok", "warn", "bad"):
            for ground in ("bg", "card"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


def contrast(one: str, other: str) -> float:
    """The ratio that WCAG 2 defines for two colours."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(each * 2 for each in colour[1:])
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_a_run_whose_pictures_have_no_room_is_told_without_them(tmp_path: Path) -> None:
    outputs = tuple(replace(image(path=str(noisy(tmp_path / f"{number}.png"))), index=number) for number in range(12))
    builder = sampling()
    for output in outputs:
        builder.add(ev.OutputSaved, output=output)
    run, small = list(builder.end(outputs=outputs)), txt2img()
    page = report(tmp_path / "report.html", several([lambda: run, lambda: small]), max_mb=0.06)
    assert page.all("img") == []
    assert "The file has no room" not in page.text, "neither for it nor for the one behind it"
    assert len([link for link in page.all("a") if link["href"].endswith(".png")]) >= 12


def noisy(path: Path) -> Path:
    Image.effect_noise((320, 320), 99).convert("RGB").save(path)
    return path


def ended(**told: Any) -> list[ev.Event]:
    """A run, at whose end this is told too."""
    return [replace(event, **told) if isinstance(event, ev.RunFinished) else event for event in txt2img()]


def test_megabytes_are_bytes(tmp_path: Path) -> None:
    inputs = tuple(ev.InputValue(node=SAMPLER, name=f"n{number}", value="描" * 900) for number in range(40))
    report(tmp_path / "report.html", ended(inputs=inputs), max_mb=0.08)
    assert (tmp_path / "report.html").stat().st_size < 80_000 + 20_000


@pytest.mark.skipif(sys.platform == "win32", reason="paths are shorter there")
def test_a_long_path_is_linked_whole(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["描" * 70 for _ in range(7)])
    folder.mkdir(parents=True)
    output = image(path=str(picture(folder / "a.png")))
    page = report(tmp_path / "report.html", sampling().end(outputs=(output,)))
    links = [link["href"] for link in page.all("a") if link["href"].endswith("/a.png")]
    assert links
    assert len(links[0]) > 4_000


def test_the_page_that_is_there_stays_where_a_new_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    report(path, txt2img())
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        deliver(html(path), failed())
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["report.html"]


def test_the_workflow_names_the_page(tmp_path: Path) -> None:
    page = report(tmp_path / "report.html", ended(workflow="some/folder/flux <dev>.json"))
    assert page.text.startswith("flux <dev>.json: Generation complete in 23.4s")
    assert "success flux <dev>.json, 2026-" in page.text
