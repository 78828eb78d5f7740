"""Every reporter with runs side by side on several servers: each is told as its own, and none is kept at its end."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from comfyreport_console import console
from comfyreport_filelog import filelog
from comfyreport_github import SUMMARY_VARIABLE, github
from comfyreport_html import html
from comfyreport_jsonl import jsonl
from comfyreport_junit import junit
from comfyreport_notebook import Notebook
from comfyreport_preview import preview
from comfyreport_quiet import quiet
from comfyreport_trace import trace
from comfyreport_webhook import webhook

from comfyreport import events as ev
from comfyreport.testing import FakeStream
from comfyreport.testing.harness import Harness
from comfyreport.testing.samples import several_runs
from tests.plugins.many import ONE, TWO, many_short, moved, placed, side_by_side, whole
from tests.plugins.terminal import Terminal
from tests.plugins.test_notebook import Shown
from tests.plugins.test_otel import Told, attributes
from tests.plugins.trace_format import TraceFile
from tests.receiver import received as received


@pytest.fixture(scope="module")
def three() -> list[ev.Event]:
    """Three recorded runs of four that were announced, two of them on one server; the second fails."""
    return side_by_side([("txt2img", ONE, 0.0), ("node-error", TWO, 0.5), ("cached", ONE, 17.0)], total=4)


def tell(reporter: object, events: Iterable[ev.Event]) -> None:
    Harness(reporter, "reporter").run(events)


def text_of(factory: Callable[..., object], events: Iterable[ev.Event], **options: Any) -> str:
    out = FakeStream()
    tell(factory(out, **options), events)
    return out.text


# --- console


def test_console_plain(three: list[ev.Event]) -> None:
    lines = text_of(console, three).splitlines()
    assert lines[:2] == [
        "[INFO] Run 1 of 4 started on 10.0.0.1:8188",
        "[INFO] Run 2 of 4 started on 10.0.0.2:8188",
    ]
    (failure,) = [line for line in lines if line.startswith("[ERROR] Run 2 of 4 (10.0.0.2:8188): Generation failed")]
    assert lines[lines.index(failure) + 1].startswith("      File ")
    assert re.fullmatch(r"\[OK\] Run 1 of 4 complete in 16\.\ds \(10\.0\.0\.1:8188\)", lines[-5])
    assert lines[-4:-2] == [
        "[INFO] Run 3 of 4 started on 10.0.0.1:8188",
        "[OK] Run 3 of 4 complete in 0.4s (0 executed, 7 cached: same inputs as before, 10.0.0.1:8188)",
    ]
    assert re.fullmatch(r"\[ERROR\] 2 of 4 runs complete, 1 failed, 1 not made in \d+\.\ds", lines[-2])
    assert lines[-1].startswith("  Run 2: Generation failed")
    progress = [line for line in lines if line.startswith("[PROGRESS]")]
    assert len(progress) == 1
    assert re.fullmatch(r"\[PROGRESS\] 1/4 runs, 1 failed, about \d+s left: run 1 \d+%", progress[0])


def test_console_has_few_lines_a_run() -> None:
    lines = text_of(console, many_short(200, servers=4)).splitlines()
    assert len(lines) < 2 * 200 + 60
    assert sum(line.startswith("[OK] Run ") for line in lines) == 200
    assert lines[-1].startswith("[OK] 200 runs complete in ")


def test_console_on_a_terminal(three: list[ev.Event]) -> None:
    out = Terminal(80)
    tell(console(out), three)
    writes = list(out.writes)
    out.writes = writes[: len(writes) // 2]
    assert re.fullmatch(r"10\.0\.0\.1:8188  run 1  █+░+ +\d+%  KSampler \d+/20( +ETA \d+s)?", out.screen[-2])
    assert re.fullmatch(r"1/4 runs, 1 failed, (about|up to) .* left \[\d+s\]", out.screen[-1])
    out.writes = writes
    tags = [line.partition(" ")[0] for line in out.screen if line.startswith("[")]
    assert tags == ["[ERROR]", "[OK]", "[OK]", "[ERROR]"], "a line for each run, and one for all"
    assert not any("started" in line for line in out.screen)


def test_console_tells_of_a_move_and_of_what_concerns_all() -> None:
    lines = text_of(console, several_runs()).splitlines()
    assert lines[0] == "[WARN] 127.0.0.1:8190 can't be reached"
    assert "[WARN] Run 2 of 4: lost on http://127.0.0.1:8189, given to http://127.0.0.1:8188" in lines
    assert lines[-2].startswith("[ERROR] 2 of 4 runs complete, 1 failed, 1 not made in ")
    assert lines[-1].startswith("  Run 3 (seed=3): ")


def test_console_when_a_command_goes_on_with_what_is_left() -> None:
    events = whole([placed(event, 30, ONE, 0.0) for event in many_short(1)[1:-1]], 1)
    lines = text_of(console, events).splitlines()
    assert lines[:2] == ["[INFO] Run 30 started on 10.0.0.1:8188", "[OK] Run 30 complete in 0.8s (10.0.0.1:8188)"]
    assert lines[2].startswith("[OK] 1 run complete")


def test_console_where_no_run_began() -> None:
    start, end = many_short(24)[0], many_short(24)[-1]
    error = ev.ErrorInfo(code="usage", message="the grid has no such input", hint="--grid seed=1,2")
    refused = ev.RunFinished(seq=2, time=0.0, elapsed=0.0, status="usage", exit_code=2, error=error)
    assert text_of(console, [start, refused, end]).splitlines() == [
        "[ERROR] the grid has no such input",
        "  Hint: --grid seed=1,2",
    ]


# --- text


def test_quiet(three: list[ev.Event]) -> None:
    assert text_of(quiet, three).startswith("[ERROR] Run 2 of 4 (10.0.0.2:8188): Generation failed")
    assert text_of(quiet, many_short(20)) == ""


def test_filelog(three: list[ev.Event], tmp_path: Path) -> None:
    tell(filelog(tmp_path / "run.log"), three)
    lines = (tmp_path / "run.log").read_text(encoding="utf-8").splitlines()
    runs = [match[1] if (match := re.search(r"(?:INFO|ERROR|WARNING) +(Run \d)[: ]", line)) else "" for line in lines]
    assert (runs[0], runs[-1]) == ("", "")
    assert set(runs[1:-1]) == {"Run 1", "Run 2", "Run 3"}
    assert sum("Run 1: Time: " in line for line in lines) == 7
    assert any(line.endswith("Run 1: Sampling: 20/20 steps (100%) - ETA: 0s") for line in lines)


def test_jsonl(three: list[ev.Event]) -> None:
    lines = [json.loads(line) for line in text_of(jsonl, three, rate=1).splitlines()]
    assert all(later["seq"] > earlier["seq"] for earlier, later in pairwise(lines))
    ends = [(line["run_index"], line["status"], line["server"]) for line in lines if line["type"] == "run_finished"]
    assert ends == [(2, "error", TWO), (1, "success", ONE), (3, "success", ONE)]


# --- CI


def test_github(three: list[ev.Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SUMMARY_VARIABLE, str(tmp_path / "summary.md"))
    log = text_of(github, three).splitlines()
    groups = [line for line in log if line.startswith("::group::")]
    assert groups == [f"::group::comfyreport run {index}: {count} nodes" for index, count in ((2, 9), (1, 7), (3, 7))]
    inside = log[log.index(groups[1]) + 1 : log.index("::endgroup::", log.index(groups[1]))]
    assert sum(line.startswith("[INFO] Node: ") for line in inside) == 7
    assert log[-2].startswith("[ERROR] 2 of 4 runs complete, 1 failed, 1 not made")
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert re.findall(r"<tr><td>(\d)</td><td>(\S+) (\w+)</td>", summary) == [
        ("2", "❌", "error"), ("1", "✅", "success"), ("3", "✅", "success")
    ]  # fmt: skip


def test_github_s_summary_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SUMMARY_VARIABLE, str(tmp_path / "summary.md"))
    log = text_of(github, many_short(1000, failing=range(500, 520)))
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert len(summary.encode()) < 1_000_000
    assert summary.count("\n## ") <= 40
    assert "<tr><td>and 800 more</td></tr>" in summary
    assert "980 of 1000 runs complete, 20 failed" in summary
    assert log.count("::error ") == 10
    assert log.count("::warning ") == 10


def test_junit(three: list[ev.Event]) -> None:
    root = ET.fromstring(text_of(junit, several_runs()))
    assert [case.get("name") for case in root.iter("testcase") if case.get("classname") == "comfyreport"] == [
        "run 1", "run 3 (seed=3)", "run 2"
    ]  # fmt: skip
    assert (root.get("failures"), root.get("tests")) == ("2", "4")
    root = ET.fromstring(text_of(junit, three))
    servers = [each.get("value") for each in root.iter("property") if each.get("name") == "server"]
    assert servers == [TWO, ONE, ONE]


# --- pages and pictures


def test_html(three: list[ev.Event], tmp_path: Path) -> None:
    tell(html(tmp_path / "runs.html"), three)
    page = (tmp_path / "runs.html").read_text(encoding="utf-8")
    assert "2 of 3 runs succeeded" in page
    assert re.findall(r'<details id="(run\d)"', page) == ["run1", "run2", "run3"], "in the order of their numbers"
    assert [page.count(f'<tr id="row{index}-') for index in (1, 2, 3)] == [7, 7, 7]


def test_html_tells_of_what_concerns_all_runs(tmp_path: Path) -> None:
    tell(html(tmp_path / "runs.html"), several_runs())
    page = (tmp_path / "runs.html").read_text(encoding="utf-8")
    before, _, _ = page.partition('<details id="run1"')
    assert before.count("127.0.0.1:8190 can&#39;t be reached") == 1


def test_html_tells_of_two_hundred_runs_in_full(tmp_path: Path) -> None:
    tell(html(tmp_path / "runs.html"), many_short(300, failing=[7]))
    page = (tmp_path / "runs.html").read_text(encoding="utf-8")
    assert "299 of 300 runs succeeded" in page
    assert len(re.findall(r'<details id="run\d+"', page)) == 200
    assert len(re.findall(r'<th scope="row" class="n">\s*(?:<a [^>]*>)?Run \d+', page)) == 300
    assert "seed=300 10.0.0.4:8188" in page


def test_notebook(three: list[ev.Event]) -> None:
    shown, texts = Shown(), list[str]()
    harness = Harness(Notebook(shown, 12), "notebook")
    for event in three:
        harness.deliver(event)
        texts.append(str(shown.parts[0]))
    busy = next(text for text in texts if "10.0.0.2:8188 · run 2".casefold() in text.casefold())
    assert busy.count('role="progressbar"') == 3, "one for each server, and one for all"
    assert texts[-1].count('role="progressbar"') == 1
    assert "2 of 4 runs complete, 1 failed, 1 not made" in texts[-1]
    assert len([part for part in shown.parts if 'role="progressbar"' in str(part)]) == 1


def test_preview_keeps_the_runs_apart(tmp_path: Path) -> None:
    def shown(run: int, at: float) -> ev.Event:
        data = {"media_type": "image/png", "image": b"\x89PNG\r\n\x1a\n" + bytes([run])}
        return ev.NodePreview(seq=1, time=0.0, elapsed=at, run_index=run, prompt_id=f"{run}{run}{run}", **data)  # type: ignore[arg-type]

    begun = [event for event in many_short(2, servers=2) if isinstance(event, ev.RunQueued)]
    ends = [event for event in many_short(2, servers=2) if isinstance(event, ev.RunFinished)]
    told = [*begun, shown(1, 0.3), shown(2, 0.3), shown(1, 0.4), shown(2, 0.5), shown(2, 0.6), *ends]
    reporter = preview(tmp_path / "pictures")
    tell(reporter, whole(told, 2))
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["111-0001.png", "111-0002.png", "222-0001.png", "222-0002.png", "222-0003.png"]
    assert reporter._runs == {}


def test_trace(three: list[ev.Event]) -> None:
    file = TraceFile(text_of(trace, three))
    assert sorted(file.processes.values()) == ["run 1", "run 2", "run 3"]
    labels = [each["args"]["labels"] for each in file.events if each["name"] == "process_labels"]
    assert sorted(labels) == [ONE, ONE, TWO]
    file = TraceFile(text_of(trace, several_runs()))
    assert sorted(file.processes.values()) == ["command", "run 1", "run 2", "run 3"]
    assert [each["name"] for each in file.instants["command: run"]] == ["warning: server_set_aside"]
    file = TraceFile(text_of(trace, moved()))
    assert file.names("run 1: run", "run") == ["success"]
    assert [each["args"].get("told_end") for each in file.of("node") if each["pid"] == 1] == [False, None]


# --- the net


def test_otel(three: list[ev.Event]) -> None:
    told = Told(three)
    (command,) = told.roots
    runs = {attributes(span)["comfyui.run.index"]: span for span in told.spans if span.name == "comfyui run"}
    assert command.context is not None
    assert {span.parent.span_id for span in runs.values() if span.parent} == {command.context.span_id}
    assert {index: attributes(span)["server.address"] for index, span in runs.items()} == {
        1: "10.0.0.1", 2: "10.0.0.2", 3: "10.0.0.1"
    }  # fmt: skip


def test_otel_keeps_one_span_for_a_run_that_is_moved() -> None:
    told = Told(moved())
    (run,) = [span for span in told.spans if attributes(span).get("comfyui.run.index") == 1]
    assert [event.name for event in run.events] == ["queued", "warning", "queued"]
    assert attributes(run)["server.address"] == "10.0.0.1"
    assert sum(span.name == "KSampler" for span in told.spans) == 3


def test_otel_tells_of_what_concerns_all_runs_at_the_command() -> None:
    told = Told(several_runs())
    (command,) = told.roots
    assert [(event.attributes or {})["comfyui.warning.code"] for event in command.events] == ["server_set_aside"]
    assert sum(span.name == "comfyui run" for span in told.spans) == 3


def test_webhook(received: tuple[str, list[bytes]]) -> None:
    url, bodies = received
    tell(webhook(url, events="run_finished,stream_started"), many_short(30, failing=[4]))
    told = [json.loads(body) for body in bodies]
    assert [body.get("run_index") for body in told] == [None, *range(1, 31)]
    assert told[4]["status"] == "error"
