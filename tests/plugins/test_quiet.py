"""The quiet reporter: silence on success, the console's error lines otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfyreport_console import console
from comfyreport_quiet import quiet

from comfyreport import events as ev
from comfyreport.reporting.streams import Stream
from tests.plugins.events import EventBuilder, deliver, failed, fully_cached, txt2img
from tests.plugins.terminal import Plain, Terminal


@pytest.mark.parametrize("events", [txt2img(), fully_cached()], ids=["success", "cached"])
def test_nothing_on_success(events: list[ev.Event]) -> None:
    out = Terminal()
    deliver(quiet(out), events)
    assert out.writes == []


def test_no_warnings() -> None:
    builder = EventBuilder().begin()
    builder.add(ev.Warning, code="stalled", message="nothing heard")
    out = Plain()
    deliver(quiet(out), builder.end())
    assert out.text == ""


def test_errors_as_the_console_writes_them() -> None:
    out, full = Plain(), Plain()
    deliver(quiet(out), failed())
    deliver(console(full), failed())
    assert out.text.startswith("[ERROR] Generation failed after 8.9s in KSampler (node 3): RuntimeError: ")
    assert out.text.endswith("  Hint: the text encoder doesn't fit the model\n")
    assert full.text.endswith(out.text)


@pytest.mark.parametrize("status", [status for status in ev.EXIT_CODES if status != "success"])
def test_every_other_end_is_written(status: ev.Status) -> None:
    out = Plain()
    deliver(quiet(out), EventBuilder().begin().end(status))
    assert out.text


def test_colour_only_where_the_stream_has_it() -> None:
    out = Plain(color="always")
    deliver(quiet(out), failed())
    assert out.text.startswith("\x1b[31m[ERROR]\x1b[0m Generation failed")


def test_it_never_redraws() -> None:
    out = Terminal()
    other = Terminal()
    other._terminals, other.owner, other._file = out._terminals, "console", out._file
    quiet(out)
    assert other.take_terminal()


def test_to_a_file(tmp_path: Path) -> None:
    deliver(quiet(Stream.to_path(tmp_path / "errors.txt")), failed())
    assert (tmp_path / "errors.txt").read_text(encoding="utf-8").startswith("[ERROR] ")
