"""The console on a terminal: what a person sees of it."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from comfyreport_console import Console, console

from comfyreport import events as ev
from comfyreport.errors import ReporterError
from comfyreport.events import RunView
from comfyreport.render.drawing import DRAW_EVERY
from comfyreport.text import cell_width
from tests.plugins.events import (
    SAMPLER,
    EventBuilder,
    call_hook,
    deliver,
    failed,
    progress,
    sampling,
    txt2img,
)
from tests.plugins.terminal import Terminal
from tests.render.frames import half, lines, loading, starting


def test_a_whole_run() -> None:
    out = Terminal()
    deliver(console(out), txt2img())
    assert out.screen == [
        "[INFO] Connected to progress stream",
        "[INFO] Generation started",
        "[INFO] Done: Load Checkpoint in 2.4s",
        "[INFO] Done: Positive prompt in 1.2s",
        "[INFO] Done: KSampler in 16.0s",
        "[INFO] Done: VAE Decode in 2.6s",
        "[INFO] 3 quick nodes done",
        "[OK] Generation complete in 23.4s",
        "  Saved: /tmp/sunset.png (123 kB)",
        "  Slowest: KSampler         16.0s  70%  1.2 it/s",
        "           VAE Decode        2.6s  11%",
        "           Load Checkpoint   2.4s  11%",
        "           Positive prompt   1.2s   5%",
        "",
    ]


def start_console(out: Terminal, builder: EventBuilder) -> tuple[Console, RunView]:
    """A console that got all events of *builder* and isn't closed."""
    reporter, run = console(out, nodes="all"), RunView()
    for event in builder.events:
        deliver_next(reporter, run, event)
    return reporter, run


def deliver_next(reporter: Console, run: RunView, event: ev.Event) -> None:
    run.apply(event)
    call_hook(reporter, str(getattr(event, "type", "")), event=event, run=run)


@pytest.mark.parametrize("columns", [20, 60, 80, 120])
def test_the_region_is_below_the_written_lines(columns: int) -> None:
    out = Terminal(columns)
    start_console(out, half())
    assert out.screen[-3] == "[INFO] Done: Negative prompt in 0.2s"
    assert out.screen[-2:] == lines(half(), columns, unicode=True)


def test_a_failure_leaves_no_bar() -> None:
    out = Terminal()
    deliver(console(out), failed())
    assert out.screen[-1] == ""
    assert out.screen[-2] == "  Hint: the text encoder doesn't fit the model"
    assert not any("█" in each for each in out.screen)


def test_a_close_without_an_end_leaves_no_bar() -> None:
    out = Terminal()
    reporter, _ = start_console(out, half())
    call_hook(reporter, "close")
    assert out.screen[-2:] == ["[INFO] Done: Negative prompt in 0.2s", ""]


def test_what_waits_for_the_next_draw_is_written_at_the_close() -> None:
    out = Terminal()
    builder = half()
    builder.at(builder.now + 0.01).add(ev.NodeFinished, node=SAMPLER, seconds=8.0, **progress(5, 7))
    reporter, _ = start_console(out, builder)
    assert "Done: KSampler" not in "".join(out.writes)
    call_hook(reporter, "close")
    assert out.screen[-2:] == ["[INFO] Done: KSampler in 8.0s", ""]


def left_on(out: Terminal) -> str:
    return out.screen[-1].partition(", ")[2].partition(" (")[0]


def estimated(seconds: float, **details: float) -> dict[str, Any]:
    return {"node": SAMPLER, "state": "running", "run_eta_seconds": seconds, **details, **progress(4.5, 7)}


def test_the_time_that_is_left_counts_down_between_events() -> None:
    out, builder = Terminal(), half()
    builder.at(13.0).add(ev.Heartbeat, "client", **estimated(19.0, run_eta_low=18.0, run_eta_high=19.5))
    reporter, run = start_console(out, builder)
    shown = [left_on(out)]
    for passed in (1.5, 3.0, 18.0, 19.2, 21.0):
        call_hook(reporter, "tick", elapsed=builder.now + passed, run=run)
        shown.append(left_on(out))
    assert shown == ["about 19s left", "about 18s left", "about 16s left", "about 1s left", "about 1s left", ""]


def test_the_time_that_is_left_stays_readable_while_each_step_estimates_it_anew() -> None:
    out, builder = Terminal(), sampling(())
    reporter, run = start_console(out, builder)
    shown = []
    for step in range(1, 101):
        left = estimated(20.0 - step / 20 + 3 * (step % 2))
        del left["node"], left["state"]
        deliver_next(reporter, run, builder.at(4.0 + step / 20).step(SAMPLER, step, 500, step / 20, **left))
        shown.append(left_on(out))
    changes = sum(before != after for before, after in pairwise(shown))
    assert shown[0] == "about 25s left"
    assert 2 <= changes <= 5, "in five seconds"


def test_at_most_ten_draws_a_second() -> None:
    out = Terminal()
    builder = sampling(())
    reporter, run = start_console(out, builder)
    before = len(out.writes)
    for step in range(1, 1001):
        deliver_next(
            reporter, run, builder.at(4.0 + step / 500).step(SAMPLER, step, 1000, step / 500, **progress(4, 7))
        )
        call_hook(reporter, "tick", elapsed=builder.now, run=run)
    assert 18 <= len(out.writes) - before <= 2 / DRAW_EVERY + 1


def test_a_thousand_short_nodes_have_a_line_each_in_few_writes() -> None:
    out = Terminal()
    builder = starting()
    reporter, run = start_console(out, builder)
    before = len(out.writes)
    for number in range(1000):
        builder.at(1.0 + number / 1000).node(ev.NodeRef(id=str(number), title=f"Node {number}"), 0.0005, 1, 1000)
        for event in builder.events[-2:]:
            deliver_next(reporter, run, event)
    assert len(out.writes) - before <= 11
    call_hook(reporter, "close")
    done = [each for each in out.screen if each.startswith("[INFO] Done: Node ")]
    assert len(done) == 1000


def test_a_thousand_quick_nodes_are_one_line() -> None:
    out = Terminal()
    builder = starting()
    for number in range(1000):
        builder.at(1.0 + number / 100).node(ev.NodeRef(id=str(number), title=f"Node {number}"), 0.0005, 1, 1000)
    builder.at(12.0).end()
    deliver(console(out), builder.events)
    assert out.screen[:3] == [
        "[INFO] Connected to progress stream",
        "[INFO] Generation started",
        "[INFO] 1000 quick nodes done",
    ]


def test_warnings_are_written_at_once() -> None:
    out = Terminal()
    builder = half()
    reporter, run = start_console(out, builder)
    deliver_next(reporter, run, builder.add(ev.Warning, code="stalled", message="nothing heard"))
    assert out.screen[-3] == "[WARN] nothing heard"
    assert out.screen[-1].startswith("█")


def test_ticks_keep_the_time_going() -> None:
    out = Terminal()
    reporter, run = start_console(out, loading())
    for tenth in range(101, 151):
        call_hook(reporter, "tick", elapsed=tenth / 10, run=run)
    assert out.screen[-2] == "Load Checkpoint  14s"
    assert out.screen[-1].endswith("[15s]")
    assert all(before != after for before, after in pairwise(out.writes)), "nothing new is nothing written"


def test_a_tick_before_anything_else() -> None:
    out = Terminal()
    call_hook(console(out), "tick", elapsed=3.0, run=RunView())
    assert out.screen == ["Connecting [3s]"]


def test_a_resize_is_followed_at_the_next_draw() -> None:
    out = Terminal(120)
    builder = half()
    reporter, run = start_console(out, builder)
    out.columns = 40
    call_hook(reporter, "tick", elapsed=builder.now + 1, run=run)
    assert out.screen[-2:] == lines(builder, 40, unicode=True, after=1.0)
    out.columns = 100
    call_hook(reporter, "tick", elapsed=builder.now + 2, run=run)
    assert cell_width(out.screen[-2]) > 40


def test_only_known_escapes_and_the_cursor_is_never_hidden() -> None:
    out = Terminal(color="always")
    deliver(console(out), failed())
    assert set(re.findall(r"\x1b\[[0-9;?]*[A-Za-z]", "".join(out.writes))) <= {
        "\x1b[J", "\x1b[1A", "\x1b[?7l", "\x1b[?7h",
        "\x1b[0m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[34m", "\x1b[36m",
    }  # fmt: skip


def test_ascii_where_the_encoding_has_no_blocks() -> None:
    out = Terminal(encoding="ascii")
    reporter, _ = start_console(out, half())
    assert out.screen[-2:] == lines(half())
    call_hook(reporter, "close")


def test_two_consoles_on_one_terminal_are_refused() -> None:
    first, second = Terminal(), Terminal()
    second._terminals, second._file, second.owner = first._terminals, first._file, "console=stderr"
    console(first)
    with pytest.raises(ReporterError, match="both want to draw"):
        console(second)


def test_lines_wrap_again_behind_each_draw() -> None:
    out = Terminal()
    deliver(console(out), txt2img())
    text = "".join(out.writes)
    assert text.count("\x1b[?7l") == text.count("\x1b[?7h") > 5
    assert text.rindex("\x1b[?7h") > text.rindex("\x1b[?7l")
