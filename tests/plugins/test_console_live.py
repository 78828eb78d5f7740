"""The console on a terminal: the frame as text, and what a person sees of it."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from comfyreport_console import Console, console, frame
from hypothesis import given, settings, strategies as st

from comfyreport import events as ev
from comfyreport.errors import ReporterError
from comfyreport.events import RunView
from comfyreport.render.drawing import DRAW_EVERY
from comfyreport.text import cell_width
from tests.plugins.events import (
    DECODER,
    LOADER,
    REQUIRED_STEPS,
    SAMPLER,
    SAVER,
    EventBuilder,
    call,
    failed,
    progress,
    sampling,
    tell,
    txt2img,
)
from tests.plugins.terminal import Terminal


def fold(builder: EventBuilder) -> RunView:
    run = RunView()
    for event in builder.events:
        run.apply(event)
    return run


def lines(
    builder: EventBuilder,
    width: int = 80,
    height: int = 24,
    *,
    after: float = 0.0,
    unicode: bool = False,
    color: bool = False,
) -> list[str]:
    return frame(fold(builder), builder.now + after, width, height, unicode=unicode, color=color)


def connecting() -> EventBuilder:
    return EventBuilder()


def submitting() -> EventBuilder:
    builder = EventBuilder()
    builder.tell(ev.ConnectionChanged, "client", state="connected")
    return builder


def queued() -> EventBuilder:
    return EventBuilder().begin(position=2).at(12.1)


def starting() -> EventBuilder:
    builder = EventBuilder().begin()
    builder.tell(ev.RunStarted)
    return builder


def loading() -> EventBuilder:
    builder = starting()
    builder.at(1.0).tell(ev.NodeStarted, node=LOADER, **progress(0, 7))
    return builder.at(10.0)


def half() -> EventBuilder:
    return sampling(REQUIRED_STEPS[:3])


def whole_run() -> EventBuilder:
    builder = half()
    details = {**progress(4.5, 7), "run_eta_seconds": 15.0, "run_eta_low": 12.0, "run_eta_high": 20.0}
    builder.tell(ev.Heartbeat, "client", node=SAMPLER, state="running", **details)
    return builder


def parallel() -> EventBuilder:
    builder = half()
    for ref in (SAVER, DECODER):
        builder.tell(ev.NodeStarted, node=ref, **progress(4.5, 7))
    return builder


def lost() -> EventBuilder:
    builder = half()
    builder.tell(ev.ConnectionChanged, "client", state="lost", detail="reset")
    return builder


def talking() -> EventBuilder:
    builder = loading()
    builder.tell(ev.NodeText, node=LOADER, text="shard 3 of 5\n")
    return builder


def finishing() -> EventBuilder:
    builder = sampling()
    builder.tell(ev.NodeFinished, node=SAMPLER, seconds=16.0, **progress(7, 7))
    return builder


def hires() -> EventBuilder:
    builder = half()
    builder.step(SAMPLER, 2, 10, 5.0, pass_number=2, **progress(4.8, 7))
    return builder


GOLDEN = {
    (connecting, 80): ["Connecting [0s]"],
    (submitting, 80): ["Submitting the workflow [0s]"],
    (queued, 80): ["Waiting in the queue: 2 before this one [12s]"],
    (queued, 20): ["Waiting in the queu"],
    (starting, 80): ["[----------------------------]   0% Starting 0/7 nodes [0s]"],
    (loading, 60): ["Load Checkpoint  9s", "[----------------------------]   0% 0/7 nodes [10s]"],
    (loading, 20): ["Load Checkpoint  9s", "[--------]   0%"],
    (talking, 80): [
        "Load Checkpoint  9s  shard 3 of 5",
        "[----------------------------]   0% 0/7 nodes [10s]",
    ],
    (half, 20): ["KSampler  10/20", "[#####---]  64%"],
    (half, 40): ["KSampler  [####----]  10/20  ETA 8s", "[#####---]  64% 4/7 nodes [12s]"],
    (half, 60): [
        "KSampler  [#########---------]  10/20  1.2 it/s  ETA 8s",
        "[#################-----------]  64% 4/7 nodes [12s]",
    ],
    (half, 80): [
        "KSampler  [##############--------------]  10/20  1.2 it/s  ETA 8s",
        "[#################-----------]  64% 4/7 nodes [12s]",
    ],
    (half, 120): [
        "KSampler  [##############--------------]  10/20  1.2 it/s  ETA 8s",
        "[#################-----------]  64% 4/7 nodes [12s]",
    ],
    (hires, 80): [
        "KSampler (pass 2)  [#####-----------------------]  2/10  2.5 s/it  ETA 20s",
        "[###################---------]  68% 4/7 nodes [12s]",
    ],
    (whole_run, 30): ["KSampler  10/20  ETA 8s", " 64% (12s to 20s left)"],
    (whole_run, 60): [
        "KSampler  [#########---------]  10/20  1.2 it/s  ETA 8s",
        "[###########-------]  64% 4/7 nodes (12s to 20s left) [12s]",
    ],
    (whole_run, 80): [
        "KSampler  [##############--------------]  10/20  1.2 it/s  ETA 8s",
        "[#################-----------]  64% 4/7 nodes (12s to 20s left) [12s]",
    ],
    (parallel, 80): [
        "KSampler    [##############--------------]  10/20  1.2 it/s  ETA 8s",
        "Save Image  0s",
        "VAE Decode  0s",
        "[#################-----------]  64% 4/7 nodes [12s]",
    ],
    (lost, 80): [
        "KSampler  [##############--------------]  10/20  1.2 it/s  ETA 8s",
        "[#################-----------]  64% 4/7 nodes (connection lost) [12s]",
    ],
    (finishing, 80): ["[###########################-]  99% Finishing 7/7 nodes [20s]"],
}


@pytest.mark.parametrize(("make", "width"), GOLDEN, ids=lambda value: getattr(value, "__name__", value))
def test_frames(make: Any, width: int) -> None:
    assert lines(make(), width) == GOLDEN[make, width]


@pytest.mark.parametrize(
    ("width", "bar"), [(50, "█" * 5 + "░" * 5), (60, "█" * 10 + "░" * 10), (120, "█" * 15 + "░" * 15)]
)
def test_blocks(width: int, bar: str) -> None:
    assert lines(half(), width, unicode=True)[0].split("  ")[:2] == ["KSampler", bar]


def test_colour_adds_escapes_and_nothing_else() -> None:
    plain, colored = lines(half(), unicode=True), lines(half(), unicode=True, color=True)
    assert ["\x1b[36m█" in line for line in colored] == [True, False]
    assert "\x1b[32m█" in colored[1]
    assert [re.sub("\x1b\\[[0-9;]*m", "", line) for line in colored] == plain


def test_time_is_drawn_without_events() -> None:
    assert lines(loading(), 80, after=95.0) == [
        "Load Checkpoint  1m 44s",
        "[----------------------------]   0% 0/7 nodes [1m 45s]",
    ]


def test_a_whole_run_estimate_without_a_range() -> None:
    builder = half()
    builder.tell(ev.Heartbeat, "client", node=SAMPLER, state="running", run_eta_seconds=15.0, **progress(4.5, 7))
    assert "(15s left)" in lines(builder, 80)[-1]


def test_after_the_end_there_is_nothing() -> None:
    builder = EventBuilder()
    builder.events = txt2img()
    assert frame(fold(builder), 99.0, 80, 24, unicode=True, color=True) == []


def crowd(count: int) -> EventBuilder:
    """Many nodes side by side, two of them with the same title; the third one has a bar."""
    builder = starting()
    for number in range(count):
        ref = ev.NodeRef(id=str(number), title=f"Node {min(number, count - 2)}")
        builder.tell(ev.NodeStarted, node=ref, **progress(0, count))
        if number == 2:
            builder.step(ref, 1, 4, 1.0, **progress(0, count))
    return builder


@pytest.mark.parametrize(("height", "shown"), [(24, 8), (8, 5), (5, 2), (4, 1), (3, 0), (1, 0)])
def test_no_more_lines_than_the_terminal_has_room_for(height: int, shown: int) -> None:
    found = lines(crowd(20), 80, height)
    assert len(found) == shown + 1
    assert f"+{20 - shown} running" in found[-1]
    if shown:
        assert found[0].startswith("Node 2 "), "one with a bar stays"


def test_nodes_of_the_same_title_are_told_apart() -> None:
    found = lines(crowd(3))
    assert [line.split("  ")[0] for line in found[:-1]] == ["Node 0", "Node 1 #1", "Node 1 #2"]


TITLES = st.text(st.characters(), max_size=40) | st.sampled_from(
    ["雪の山の夕焼け" * 4, "e\u0301" * 40, "x" * 200, "👩‍🎨" * 9]
)


@settings(deadline=None)
@given(
    TITLES,
    st.integers(1, 130),
    st.integers(1, 30),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "lost", "polling"]),
)
def test_no_frame_is_larger_than_the_terminal(
    title: str, width: int, height: int, unicode: bool, eta: bool, state: str
) -> None:
    builder = starting()
    ref = ev.NodeRef(id="1", class_type="X", title=title)
    builder.tell(ev.NodeStarted, node=ref, **progress(0, 7))
    builder.tell(ev.NodeStarted, node=DECODER, **progress(0, 7))
    builder.tell(ev.NodeText, node=DECODER, text=title)
    details = {"run_eta_seconds": 5000.0, "run_eta_low": 4000.0, "run_eta_high": 9000.0} if eta else {}
    builder.step(ref, 123456.0, 1234567.0, 1.0, **details, **progress(0.5, 7))
    if state:
        builder.tell(ev.ConnectionChanged, "client", state=state)
    shown = lines(builder, width, height, unicode=unicode)
    assert 1 <= len(shown) <= max(1, height - 1)
    for line in shown:
        assert cell_width(line) <= max(1, width - 1)
        assert line.isprintable() or not title.isprintable()
        assert "\n" not in line
    if width >= 6:
        assert "7%" in shown[-1]


@settings(deadline=None)
@given(st.integers(1, 60), st.sampled_from([connecting, submitting, queued, starting, loading, talking, lost]))
def test_no_frame_of_any_state_is_wider(width: int, make: Any) -> None:
    assert all(cell_width(line) <= max(1, width - 1) for line in lines(make(), width))


@pytest.mark.parametrize(
    ("index", "pieces"), [(0, ("it/s", "[##", "ETA", "10/20")), (1, ("nodes", "[12s]", "[##", "left"))]
)
def test_what_matters_most_stays_longest(index: int, pieces: tuple[str, ...]) -> None:
    builder = whole_run()
    shown = [lines(builder, width)[index] for width in range(100, 15, -1)]
    gone = []
    for piece in pieces:
        there = [piece in each for each in shown]
        assert there == sorted(there, reverse=True), piece
        gone.append(there.count(True))
    assert gone == sorted(gone)


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
        "[OK] Generation complete in 23.4s",
        "  Saved: /tmp/sunset.png (123 kB)",
        "  Slowest: KSampler 16.0s (68%), VAE Decode 2.6s, Load Checkpoint 2.4s",
        "",
    ]


def begin(out: Terminal, builder: EventBuilder) -> tuple[Console, RunView]:
    """A console that was told all of *builder* and isn't closed."""
    reporter, run = console(out), RunView()
    for event in builder.events:
        hear(reporter, run, event)
    return reporter, run


def hear(reporter: Console, run: RunView, event: ev.Event) -> None:
    run.apply(event)
    call(reporter, str(getattr(event, "type", "")), event=event, run=run)


@pytest.mark.parametrize("columns", [20, 60, 80, 120])
def test_the_region_stands_below_what_was_told(columns: int) -> None:
    out = Terminal(columns)
    begin(out, half())
    assert out.screen[-3] == "[INFO] Done: Negative prompt in 0.2s"
    assert out.screen[-2:] == lines(half(), columns, unicode=True)


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
    builder = half()
    builder.at(builder.now + 0.01).tell(ev.NodeFinished, node=SAMPLER, seconds=8.0, **progress(5, 7))
    reporter, _ = begin(out, builder)
    assert "Done: KSampler" not in "".join(out.writes)
    call(reporter, "close")
    assert out.screen[-2:] == ["[INFO] Done: KSampler in 8.0s", ""]


def test_at_most_ten_draws_a_second() -> None:
    out = Terminal()
    builder = sampling(())
    reporter, run = begin(out, builder)
    before = len(out.writes)
    for step in range(1, 1001):
        hear(reporter, run, builder.at(4.0 + step / 500).step(SAMPLER, step, 1000, step / 500, **progress(4, 7)))
        call(reporter, "tick", elapsed=builder.now, run=run)
    assert 18 <= len(out.writes) - before <= 2 / DRAW_EVERY + 1


def test_a_thousand_short_nodes_are_all_told_in_few_writes() -> None:
    out = Terminal()
    builder = starting()
    reporter, run = begin(out, builder)
    before = len(out.writes)
    for number in range(1000):
        builder.at(1.0 + number / 1000).node(ev.NodeRef(id=str(number), title=f"Node {number}"), 0.0005, 1, 1000)
        for event in builder.events[-2:]:
            hear(reporter, run, event)
    assert len(out.writes) - before <= 11
    call(reporter, "close")
    done = [each for each in out.screen if each.startswith("[INFO] Done: Node ")]
    assert len(done) == 1000


def test_warnings_are_written_at_once() -> None:
    out = Terminal()
    builder = half()
    reporter, run = begin(out, builder)
    hear(reporter, run, builder.tell(ev.Warning, code="stalled", message="nothing heard"))
    assert out.screen[-3] == "[WARN] nothing heard"
    assert out.screen[-1].startswith("█")


def test_ticks_keep_the_time_going() -> None:
    out = Terminal()
    reporter, run = begin(out, loading())
    for tenth in range(101, 151):
        call(reporter, "tick", elapsed=tenth / 10, run=run)
    assert out.screen[-2] == "Load Checkpoint  14s"
    assert out.screen[-1].endswith("[15s]")
    assert all(before != after for before, after in pairwise(out.writes)), "nothing new is nothing written"


def test_a_tick_before_anything_else() -> None:
    out = Terminal()
    call(console(out), "tick", elapsed=3.0, run=RunView())
    assert out.screen == ["Connecting [3s]"]


def test_a_resize_is_followed_at_the_next_draw() -> None:
    out = Terminal(120)
    builder = half()
    reporter, run = begin(out, builder)
    out.columns = 40
    call(reporter, "tick", elapsed=builder.now + 1, run=run)
    assert out.screen[-2:] == lines(builder, 40, unicode=True, after=1.0)
    out.columns = 100
    call(reporter, "tick", elapsed=builder.now + 2, run=run)
    assert cell_width(out.screen[-2]) > 40


def test_only_known_escapes_and_the_cursor_is_never_hidden() -> None:
    out = Terminal(color="always")
    tell(console(out), failed())
    assert set(re.findall(r"\x1b\[[0-9;?]*[A-Za-z]", "".join(out.writes))) <= {
        "\x1b[J", "\x1b[1A", "\x1b[?7l", "\x1b[?7h",
        "\x1b[0m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[34m", "\x1b[36m",
    }  # fmt: skip


def test_ascii_where_the_encoding_has_no_blocks() -> None:
    out = Terminal(encoding="ascii")
    reporter, _ = begin(out, half())
    assert out.screen[-2:] == lines(half())
    call(reporter, "close")


def test_two_consoles_on_one_terminal_are_refused() -> None:
    first, second = Terminal(), Terminal()
    second._terminals, second._file, second.owner = first._terminals, first._file, "console=stderr"
    console(first)
    with pytest.raises(ReporterError, match="both want to draw"):
        console(second)


def test_lines_wrap_again_behind_each_draw() -> None:
    out = Terminal()
    tell(console(out), txt2img())
    text = "".join(out.writes)
    assert text.count("\x1b[?7l") == text.count("\x1b[?7h") > 5
    assert text.rindex("\x1b[?7h") > text.rindex("\x1b[?7l")
