"""The log for GitHub Actions, read as its runner reads it, and the step summary, rendered as Markdown."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import comfyreport_github
import pytest
from comfyreport_github import SUMMARY_VARIABLE, command, github, harmless

from comfyreport import events as ev
from comfyreport.errors import ReporterError
from comfyreport.testing import FakeStream, conforms, play, recordings
from comfyreport.testing.conformance import DiskFullStream
from comfyreport.testing.samples import hostile_values, sample_streams
from tests.plugins.events import (
    SAMPLER,
    TXT2IMG,
    EventBuilder,
    deliver,
    failed,
    fully_cached,
    image,
    progress,
    sampling,
    txt2img,
)

markdown_it = pytest.importorskip("markdown_it")

HOSTILE = (
    "::error::forged\n##[add-path]/evil\r\n::set-output name=a::b%0A "
    "|`*_[x](http://evil.example)<img src=x> @octocat #1"
)


class Command(NamedTuple):
    name: str
    properties: dict[str, str]
    data: str


def commands(log: str) -> list[Command]:
    """What the runner takes for commands, of both forms (actions/runner, ActionCommand.cs)."""
    return [found for line in log.splitlines() if (found := command_of(line))]


def command_of(line: str) -> Command | None:
    text = line.strip()
    if text.startswith("::"):
        head, closed, data = text[2:].partition("::")
        if closed:
            name, _, rest = head.partition(" ")
            pairs = [pair.partition("=") for pair in rest.split(",") if "=" in pair]
            return Command(name, {key.strip(): unescaped(value) for key, _, value in pairs}, unescaped(data))
    if "##[" in text:
        name, closed, data = text.partition("##[")[2].partition("]")
        return Command(name, {}, data) if closed else None
    return None


def unescaped(text: str) -> str:
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, character)
    return text


class Rendered(HTMLParser):
    """Markdown as GitHub renders it: the tags, and the text that isn't code."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.code: list[str] = []
        self.prose = ""
        self._open: list[str] = []
        html = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
        self.feed(html)
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert attrs == []
        self.tags.append(tag)
        self._open.append(tag)
        if tag in ("code", "pre"):
            self.code.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"code", "pre"} & {*self._open}:
            self.code[-1] += data
        else:
            self.prose += data


ALLOWED = {"h2", "pre", "table", "tr", "th", "td", "code", "details", "summary", "ul", "li", "p", "tbody", "thead"}


@pytest.fixture
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the step summary."""
    path = tmp_path / "summary.md"
    monkeypatch.setenv(SUMMARY_VARIABLE, str(path))
    return path


def logged(events: list[ev.Event]) -> str:
    out = FakeStream()
    deliver(github(out), events)
    return out.text


def test_conforms(summary: Path) -> None:
    conforms(github)


@pytest.mark.parametrize("name", recordings())
def test_recordings(name: str, summary: Path) -> None:
    log = play(github, name)
    names = [each.name for each in commands(log)]
    assert set(names) <= {"group", "endgroup", "error", "warning"}
    assert names.count("group") == names.count("endgroup")
    rendered = Rendered(summary.read_text(encoding="utf-8"))
    assert set(rendered.tags) <= ALLOWED
    assert rendered.tags.count("h2") == 1
    succeeded = "[OK]" in log
    assert ("error" in names) is not succeeded
    assert ("pre" in rendered.tags) is not succeeded


@pytest.mark.parametrize(("title", "events"), list(sample_streams()), ids=lambda it: it if isinstance(it, str) else "")
def test_samples(title: str, events: list[ev.Event], summary: Path) -> None:
    assert {each.name for each in commands(logged(events))} <= {"group", "endgroup", "error", "warning"}
    assert set(Rendered(summary.read_text(encoding="utf-8")).tags) <= ALLOWED


def test_a_run_is_a_group_and_its_end_stands_behind() -> None:
    lines = logged(txt2img()).splitlines()
    assert lines[1] == "::group::comfyreport run: 7 nodes"
    end = lines.index("::endgroup::")
    assert "[INFO] Done: KSampler in 16.0s" in lines[:end]
    assert lines[end + 1].startswith("[INFO] Slowest: KSampler")
    assert lines[-1] == "[OK] Generation complete in 23.4s"


def test_progress_is_told_now_and_then() -> None:
    builder = sampling(())
    for step in range(1, 1001):
        builder.at(4.0 + step / 10).step(SAMPLER, step, 1000, step / 10)
    builder.add(ev.NodeFinished, node=SAMPLER, **progress(5, 7))
    lines = [line for line in logged(builder.end()).splitlines() if "Sampling" in line]
    assert 10 <= len(lines) <= 12
    assert "1000/1000" in lines[-1]


def test_a_long_silence_is_told() -> None:
    builder = EventBuilder().begin()
    builder.at(1.0).add(ev.RunStarted)
    for beat in range(1, 13):
        builder.at(1.0 + 5 * beat).add(ev.Heartbeat, silent_seconds=5.0 * beat, state="running")
    lines = [line for line in logged(builder.end()).splitlines() if "Still running" in line]
    assert len(lines) == 2


def test_cached_nodes_are_counted() -> None:
    assert "[INFO] 7 nodes cached" in logged(fully_cached()).splitlines()


def test_an_error_is_an_annotation() -> None:
    (error,) = (each for each in commands(logged(failed())) if each.name == "error")
    assert error.properties == {"title": "ComfyUI workflow: KSampler"}
    assert error.data.startswith("Generation failed after 8.9s in KSampler (node 3): RuntimeError: mat1 and mat2")
    assert error.data.splitlines()[-1] == "  Hint: the text encoder doesn't fit the model"


def test_who_cancelled_gets_no_error() -> None:
    log = logged(EventBuilder().begin().end("cancelled"))
    assert [each.name for each in commands(log)][-1] == "warning"


def test_warnings_are_annotations_as_long_as_there_are_few(summary: Path) -> None:
    builder = EventBuilder().begin()
    for number in range(12):
        builder.add(ev.Warning, code="stalled", message=f"nothing heard: {number}")
    log = logged(builder.end())
    found = [each for each in commands(log) if each.name == "warning"]
    assert [each.data for each in found] == [f"nothing heard: {number}" for number in range(10)]
    assert "[WARN] nothing heard: 11" in log
    assert "<summary>12 warnings</summary>" in summary.read_text(encoding="utf-8")


def test_the_summary_has_pictures_with_names_and_times(summary: Path) -> None:
    logged(txt2img())
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("## ✅ ComfyUI run: success in 23.4s\n")
    saver, sampler = "<code>Save Image</code> <code>#9</code>", "<code>KSampler</code> <code>#3</code>"
    assert f"<tr><td><code>/tmp/sunset.png</code></td><td>{saver}</td><td>123 kB</td><td>0.4s</td></tr>" in text
    assert f"<td>{sampler}</td><td><code>KSampler</code></td><td>16.0s</td><td>70%</td>" in text
    assert "seed <code>" not in text


def test_several_runs_are_several_parts(summary: Path) -> None:
    events = [replace(event, run_index=1) for event in txt2img()[:-1]]
    log = logged(events + [replace(event, run_index=2) for event in failed()])
    text = summary.read_text(encoding="utf-8")
    assert re.findall("^## .*", text, re.MULTILINE) == [
        "## ✅ ComfyUI run 1: success in 23.4s",
        "## ❌ ComfyUI run 2: error in 8.9s",
    ]
    assert [each.data for each in commands(log) if each.name == "group"] == [
        "comfyreport run 1: 7 nodes",
        "comfyreport run 2: 7 nodes",
    ]


def test_the_summary_is_appended_to(summary: Path) -> None:
    summary.write_text("# Before\n\n", encoding="utf-8")
    logged(txt2img())
    assert summary.read_text(encoding="utf-8").startswith("# Before\n\n## ✅")


def test_the_summary_stays_below_what_github_takes(summary: Path) -> None:
    nodes = [ev.NodeRef(id=str(number), class_type="C" * 300, title="<" * 300) for number in range(1000)]
    outputs = tuple(replace(image(), node=node, filename="&" * 300) for node in nodes)
    times = tuple(ev.NodeTime(node=node, seconds=1.0) for node in nodes)
    events: list[ev.Event] = []
    for _ in range(5):
        events += EventBuilder().begin().end(outputs=outputs, node_times=times)[:-1]
    logged(events)
    assert 100_000 < summary.stat().st_size < 1024 * 1024
    assert "and 800 more" in summary.read_text(encoding="utf-8")


def test_there_may_be_no_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SUMMARY_VARIABLE, raising=False)
    assert logged(txt2img()).endswith("[OK] Generation complete in 23.4s\n")


def test_text_of_a_server_is_no_command_and_no_markup(summary: Path) -> None:
    node = ev.NodeRef(id="1", class_type=HOSTILE, title=HOSTILE)
    error = ev.ErrorInfo(
        code="node_error", message=HOSTILE, hint=HOSTILE, node=node, exception_type=HOSTILE,
        traceback=(f"  {HOSTILE}", "\u3000::error::behind a space of another kind"),
    )  # fmt: skip
    builder = EventBuilder().begin((*TXT2IMG, node))
    builder.add(ev.ConnectionChanged, state="lost", detail=HOSTILE)
    builder.add(ev.NodeStarted, node=node, **progress(0, 7))
    builder.add(ev.Warning, code="stalled", message=HOSTILE, node=node)
    builder.add(ev.NodeFinished, node=node, **progress(1, 7))
    output = replace(image(path=HOSTILE), node=node, filename=HOSTILE)
    builder.add(ev.OutputSaved, output=output)
    times = (ev.NodeTime(node=node, seconds=1.0),)
    log = logged(builder.end("error", error, outputs=(output,), node_times=times))
    assert [each.name for each in commands(log)] == ["group", "warning", "endgroup", "error"]
    assert "\\##" not in log
    assert "##\\[add-path]" in log
    rendered = Rendered(summary.read_text(encoding="utf-8"))
    assert set(rendered.tags) <= ALLOWED
    assert not re.search("evil|forged|octocat|img", rendered.prose)
    assert any("<img src=x> @octocat #1" in code for code in rendered.code)


@pytest.mark.parametrize("text", ["::error::x", "  ::error::x", "\u3000::error::x", "a ##[error]x", "##[##[error]x"])
def test_lines_are_harmless(text: str) -> None:
    assert command_of(text) is not None
    assert command_of(harmless(text)) is None


def test_commands_cant_be_left() -> None:
    line = command("error", HOSTILE, title="a,b:c::d%\n" + HOSTILE)
    assert line.count("\n") == 1
    (found,) = commands(line)
    assert found == Command("error", {"title": "a,b:c::d%\n" + HOSTILE}, HOSTILE)


def test_hostile_values_on_a_terminal_with_colour(summary: Path) -> None:
    out = FakeStream(tty=True, color=True)
    deliver(github(out), hostile_values())
    assert "\x1b[31mevil" not in out.text


def test_a_summary_that_cant_be_written_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SUMMARY_VARIABLE, str(tmp_path))
    with pytest.raises(ReporterError, match=re.escape(tmp_path.name)) as caught:
        github(FakeStream())
    assert SUMMARY_VARIABLE in caught.value.hint


def test_a_full_disk_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="No space left"):
        deliver(github(DiskFullStream()), txt2img())
    if Path("/dev/full").exists():
        monkeypatch.setenv(SUMMARY_VARIABLE, "/dev/full")
        with pytest.raises(OSError, match="No space left"):
            deliver(github(FakeStream()), txt2img())


def test_what_has_no_room_in_the_summary_is_told_once(summary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfyreport_github, "_SUMMARY_LIMIT", 5_000)
    events = [replace(event, run_index=number) for number in range(1, 9) for event in txt2img()[:-1]]
    logged(events)
    text = summary.read_text(encoding="utf-8")
    assert "run 1: success" in text
    assert "run 8" not in text
    assert text.count("## More runs") == 1


def test_a_node_that_was_cut_short_is_not_told_as_done(summary: Path) -> None:
    play(github, "lost")
    (row,) = re.findall(r"<tr><td><code>KSampler</code>.*?</tr>", summary.read_text(encoding="utf-8"))
    assert "(not finished)" in row
