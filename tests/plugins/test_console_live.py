"""The console on a terminal: the frame as text, and what a person sees of it."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from comfyreport_console import DRAW_EVERY, Console, console, frame
from hypothesis import given, settings
from hypothesis import strategies as st

from comfyreport import events as ev
from comfyreport.errors import ReporterError
from comfyreport.streams import cell_width
from comfyreport.view import RunView
from tests.plugins.events import (
    DECODER,
    LOADER,
    REQUIRED_STEPS,
    SAMPLER,
    SAVER,
    Story,
    call,
    failed,
    progress,
    sampling,
    tell,
    txt2img,
)
from tests.plugins.terminal import Terminal


def fold(story: Story) -> RunView:
    run = RunView()
    for event in story.events:
        run.apply(event)
    return run


def line(story: Story, width: int = 80, *, after: float = 0.0, unicode: bool = False, color: bool = False) -> str:
    (only,) = frame(fold(story), story.now + after, width, unicode=unicode, color=color)
    return only


def connecting() -> Story:
    return Story()


def submitting() -> Story:
    story = Story()
    story.tell(ev.ConnectionChanged, "client", state="connected")
    return story


def queued() -> Story:
    return Story().begin(position=2).at(12.1)


def starting() -> Story:
    story = Story().begin()
    story.tell(ev.RunStarted)
    return story


def loading() -> Story:
    story = starting()
    story.at(1.0).tell(ev.NodeStarted, node=LOADER, **progress(0, 7))
    return story.at(10.0)


def half() -> Story:
    return sampling(REQUIRED_STEPS[:3])


def whole_run() -> Story:
    story = half()
    details = {**progress(4.5, 7), "run_eta_seconds": 15.0, "run_eta_low": 12.0, "run_eta_high": 20.0}
    story.tell(ev.Heartbeat, "client", node=SAMPLER, state="running", **details)
    return story


def parallel() -> Story:
    story = half()
    for ref in (SAVER, DECODER):
        story.tell(ev.NodeStarted, node=ref, **progress(4.5, 7))
    return story


def lost() -> Story:
    story = half()
    story.tell(ev.ConnectionChanged, "client", state="lost", detail="reset")
    return story


def talking() -> Story:
    story = loading()
    story.tell(ev.NodeText, node=LOADER, text="shard 3 of 5\n")
    return story


def finishing() -> Story:
    story = sampling()
    story.tell(ev.NodeFinished, node=SAMPLER, seconds=16.0, **progress(7, 7))
    return story


GOLDEN = {
    (connecting, 80): "Connecting [0s]",
    (submitting, 80): "Submitting the workflow [0s]",
    (queued, 80): "Waiting in the queue: 2 before this one [12s]",
    (starting, 80): "[------------------]   0% Starting [0s]",
    (loading, 60): "[--------]   0% Load Checkpoint 9s [10s]",
    (loading, 80): "[------------------]   0% Load Checkpoint 9s [10s]",
    (talking, 80): "[------------------]   0% Load Checkpoint: shard 3 of 5 9s [10s]",
    (half, 20): " 64% KSampler 10/20",
    (half, 40): "[#####---]  64% KSampler 10/20 ETA 8s",
    (half, 60): "[#####---]  64% KSampler 10/20 ETA 8s [12s]",
    (half, 80): "[###########-------]  64% KSampler 10/20 ETA 8s [12s]",
    (half, 120): "[#################-----------]  64% KSampler 10/20 ETA 8s [12s]",
    (whole_run, 40): " 64% KSampler 10/20 ETA 8s",
    (whole_run, 50): " 64% KSampler 10/20 ETA 8s (12s to 20s left)",
    (whole_run, 60): "[#####---]  64% KSampler 10/20 ETA 8s (12s to 20s left)",
    (whole_run, 65): "[#####---]  64% KSampler 10/20 ETA 8s (12s to 20s left)",
    (whole_run, 80): "[###########-------]  64% KSampler 10/20 ETA 8s (12s to 20s left) [12s]",
    (parallel, 60): "[#####---]  64% KSampler 10/20 ETA 8s +2 more [12s]",
    (parallel, 120): "[#################-----------]  64% KSampler 10/20 ETA 8s +2 more [12s]",
    (lost, 80): "[###########-------]  64% KSampler 10/20 ETA 8s (connection lost) [12s]",
    (finishing, 80): "[#################-]  99% Finishing [20s]",
}


@pytest.mark.parametrize(("make", "width"), GOLDEN, ids=lambda value: getattr(value, "__name__", value))
def test_frames(make: Any, width: int) -> None:
    assert line(make(), width) == GOLDEN[make, width]


@pytest.mark.parametrize(("width", "bar"), [(60, "██████░░░░"), (80, "█" * 12 + "░" * 8), (120, "█" * 19 + "░" * 11)])
def test_blocks(width: int, bar: str) -> None:
    assert line(half(), width, unicode=True) == f"{bar}  64% KSampler 10/20 ETA 8s [12s]"


def test_colour_adds_escapes_and_nothing_else() -> None:
    plain, colored = line(half(), unicode=True), line(half(), unicode=True, color=True)
    assert colored.startswith("\x1b[36m█")
    assert re.sub("\x1b\\[[0-9;]*m", "", colored) == plain


def test_time_is_drawn_without_events() -> None:
    assert line(loading(), 80, after=95.0) == "[------------------]   0% Load Checkpoint 1m 44s [1m 45s]"


def test_a_whole_run_estimate_without_a_range() -> None:
    story = half()
    story.tell(ev.Heartbeat, "client", node=SAMPLER, state="running", run_eta_seconds=15.0, **progress(4.5, 7))
    assert "(15s left)" in line(story, 80)


def test_a_second_pass() -> None:
    story = half()
    story.step(SAMPLER, 2, 10, 1.0, pass_number=2, **progress(4.8, 7))
    assert "KSampler (pass 2) 2/10" in line(story, 120)


def test_after_the_end_there_is_nothing() -> None:
    story = Story()
    story.events = txt2img()
    assert frame(fold(story), 99.0, 80, unicode=True, color=True) == []


TITLES = st.text(st.characters(), max_size=40) | st.sampled_from(
    ["雪の山の夕焼け" * 4, "e\u0301" * 40, "x" * 200, "👩‍🎨" * 9]
)


@settings(deadline=None)
@given(TITLES, st.integers(1, 130), st.booleans(), st.booleans(), st.sampled_from(["", "lost", "polling"]))
def test_no_frame_is_wider_than_the_terminal(title: str, width: int, unicode: bool, eta: bool, state: str) -> None:
    story = starting()
    ref = ev.NodeRef(id="1", class_type="X", title=title)
    story.tell(ev.NodeStarted, node=ref, **progress(0, 7))
    story.tell(ev.NodeStarted, node=DECODER, **progress(0, 7))
    details = {"run_eta_seconds": 5000.0, "run_eta_low": 4000.0, "run_eta_high": 9000.0} if eta else {}
    story.step(ref, 123456.0, 1234567.0, 1.0, **details, **progress(0.5, 7))
    if state:
        story.tell(ev.ConnectionChanged, "client", state=state)
    shown = line(story, width, unicode=unicode)
    assert cell_width(shown) <= max(1, width - 1)
    assert shown.isprintable() or not title.isprintable()
    assert "\n" not in shown
    if width >= 6:
        assert "7%" in shown


@settings(deadline=None)
@given(st.integers(1, 60), st.sampled_from([connecting, submitting, queued, starting, loading, talking, lost]))
def test_no_frame_of_any_state_is_wider(width: int, make: Any) -> None:
    assert cell_width(line(make(), width)) <= max(1, width - 1)


def test_what_matters_most_stays_longest() -> None:
    story = whole_run()
    shown = [line(story, width) for width in range(100, 15, -1)]
    for piece in ("[12s]", "[###", "left", "ETA", "10/20"):
        there = [piece in each for each in shown]
        assert there == sorted(there, reverse=True), piece


# --- on the screen


def test_a_whole_run() -> None:
    out = Terminal()
    tell(console(out), txt2img())
    assert out.screen == [
        "[INFO] Connected to progress stream",
        "[INFO] Generation started",
        "[INFO] Done: Load Checkpoint in 2.4s",
        "[INFO] Done: Empty Latent Image in 0.0s",
        "[INFO] Done: Positive prompt in 1.2s",
        "[INFO] Done: Negative prompt in 0.2s",
        "[INFO] Done: KSampler in 16.0s",
        "[INFO] Done: VAE Decode in 2.6s",
        "[INFO] Done: Save Image in 0.4s",
        "[INFO] Saved: /tmp/sunset.png",
        "[OK] Generation complete in 23.4s",
        "",
    ]


def begin(out: Terminal, story: Story) -> tuple[Console, RunView]:
    """A console that was told all of *story* and isn't closed."""
    reporter, run = console(out), RunView()
    for event in story.events:
        hear(reporter, run, event)
    return reporter, run


def hear(reporter: Console, run: RunView, event: ev.Event) -> None:
    run.apply(event)
    call(reporter, str(getattr(event, "type", "")), event=event, run=run)


@pytest.mark.parametrize("columns", [20, 60, 80, 120])
def test_the_line_stands_below_what_was_told(columns: int) -> None:
    out = Terminal(columns)
    begin(out, half())
    assert out.screen[-2] == "[INFO] Done: Negative prompt in 0.2s"
    assert out.screen[-1] == line(half(), columns, unicode=True)


def test_a_failure_leaves_no_bar() -> None:
    out = Terminal()
    tell(console(out), failed())
    assert out.screen[-1] == ""
    assert out.screen[-2] == "  Hint: the text encoder doesn't fit the model"
    assert not any("█" in each for each in out.screen)


def test_a_close_without_an_end_leaves_no_bar() -> None:
    out = Terminal()
    reporter, _ = begin(out, half())
    call(reporter, "close")
    assert out.screen[-2:] == ["[INFO] Done: Negative prompt in 0.2s", ""]


def test_what_waits_for_the_next_draw_is_written_at_the_close() -> None:
    out = Terminal()
    story = half()
    story.at(story.now + 0.01).tell(ev.NodeFinished, node=SAMPLER, seconds=8.0, **progress(5, 7))
    reporter, _ = begin(out, story)
    assert "Done: KSampler" not in "".join(out.writes)
    call(reporter, "close")
    assert out.screen[-2:] == ["[INFO] Done: KSampler in 8.0s", ""]


def test_at_most_ten_draws_a_second() -> None:
    out = Terminal()
    story = sampling(())
    reporter, run = begin(out, story)
    before = len(out.writes)
    for step in range(1, 1001):
        hear(reporter, run, story.at(4.0 + step / 500).step(SAMPLER, step, 1000, step / 500, **progress(4, 7)))
        call(reporter, "tick", elapsed=story.now, run=run)
    assert 18 <= len(out.writes) - before <= 2 / DRAW_EVERY + 1


def test_a_thousand_short_nodes_are_all_told_in_few_writes() -> None:
    out = Terminal()
    story = starting()
    reporter, run = begin(out, story)
    before = len(out.writes)
    for number in range(1000):
        story.at(1.0 + number / 1000).node(ev.NodeRef(id=str(number), title=f"Node {number}"), 0.0005, 1, 1000)
        for event in story.events[-2:]:
            hear(reporter, run, event)
    assert len(out.writes) - before <= 11
    call(reporter, "close")
    done = [each for each in out.screen if each.startswith("[INFO] Done: Node ")]
    assert len(done) == 1000


def test_warnings_are_written_at_once() -> None:
    out = Terminal()
    story = half()
    reporter, run = begin(out, story)
    hear(reporter, run, story.tell(ev.Warning, code="stalled", message="nothing heard"))
    assert out.screen[-2] == "[WARN] nothing heard"
    assert out.screen[-1].startswith("█")


def test_ticks_keep_the_time_going() -> None:
    out = Terminal()
    reporter, run = begin(out, loading())
    for tenth in range(101, 151):
        call(reporter, "tick", elapsed=tenth / 10, run=run)
    assert out.screen[-1].endswith("Load Checkpoint 14s [15s]")
    assert all(before != after for before, after in pairwise(out.writes)), "nothing new is nothing written"


def test_a_tick_before_anything_else() -> None:
    out = Terminal()
    call(console(out), "tick", elapsed=3.0, run=RunView())
    assert out.screen == ["Connecting [3s]"]


def test_a_resize_is_followed_at_the_next_draw() -> None:
    out = Terminal(120)
    story = half()
    reporter, run = begin(out, story)
    out.columns = 40
    call(reporter, "tick", elapsed=story.now + 1, run=run)
    assert out.screen[-1] == line(story, 40, unicode=True, after=1.0)
    out.columns = 100
    call(reporter, "tick", elapsed=story.now + 2, run=run)
    assert cell_width(out.screen[-1]) > 40


def test_only_known_escapes_and_the_cursor_is_never_hidden() -> None:
    out = Terminal(color="always")
    tell(console(out), failed())
    assert set(re.findall(r"\x1b\[[0-9;?]*[A-Za-z]", "".join(out.writes))) <= {
        "\x1b[J", "\x1b[0m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[34m", "\x1b[36m",
    }  # fmt: skip


def test_ascii_where_the_encoding_has_no_blocks() -> None:
    out = Terminal(encoding="ascii")
    reporter, _ = begin(out, half())
    assert out.screen[-1] == line(half())
    call(reporter, "close")


def test_two_consoles_on_one_terminal_are_refused() -> None:
    first, second = Terminal(), Terminal()
    second._terminals, second._file, second.owner = first._terminals, first._file, "console=stderr"
    console(first)
    with pytest.raises(ReporterError, match="both want to draw"):
        console(second)
