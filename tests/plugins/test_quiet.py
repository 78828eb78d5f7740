"""The quiet reporter: silence on success, the console's error lines otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfyreport_console import console
from comfyreport_quiet import quiet

from comfyreport import events as ev
from comfyreport.reporting.streams import Stream
from tests.plugins.events import EventBuilder, failed, fully_cached, tell, txt2img
from tests.plugins.terminal import Plain, Terminal


@pytest.mark.parametrize("events", [txt2img(), fully_cached()], ids=["success", "cached"])
def test_nothing_on_success(events: list[ev.Event]) -> None:
    out = Terminal()
    tell(quiet(out), events)
    assert out.writes == []


def test_no_warnings() -> None:
    builder = EventBuilder().begin()
    builder.tell(ev.Warning, code="stalled", message="nothing heard")
    out = Plain()
    tell(quiet(out), builder.end())
    assert out.text == ""


def test_errors_as_the_console_tells_them() -> None:
    out, full = Plain(), Plain()
    tell(quiet(out), failed())
    tell(console(full), failed())
    assert out.text.startswith("[ERROR] Generation failed after 8.9s in KSampler (node 3): RuntimeError: ")
    assert out.text.endswith("  Hint: the text encoder doesn't fit the model\n")
    assert full.text.endswith(out.text)


@pytest.mark.parametrize("status", [status for status in ev.EXIT_CODES if status != "success"])
def test_every_other_end_is_told(status: ev.Status) -> None:
    out = Plain()
    tell(quiet(out), EventBuilder().begin().end(status))
    assert out.text


def test_colour_is_the_streams_decision() -> None:
    out = Plain(color="always")
    tell(quiet(out), failed())
    assert out.text.startswith("\x1b[31m[ERROR]\x1b[0m Generation failed")


def test_it_draws_on_no_terminal() -> None:
    out = Terminal()
    other = Terminal()
    other._terminals, other.owner, other._file = out._terminals, "console", out._file
    quiet(out)
    assert other.take_terminal()


def test_to_a_file(tmp_path: Path) -> None:
    tell(quiet(Stream.to_path(tmp_path / "errors.txt")), failed())
    assert (tmp_path / "errors.txt").read_text(encoding="utf-8").startswith("[ERROR] ")
