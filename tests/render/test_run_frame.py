"""The frame that the console draws: a pure function of the run, the time and the terminal."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from comfyreport import events as ev
from comfyreport.render.run_frame import run_frame
from comfyreport.text import cell_width
from tests.plugins.events import (
    DECODER,
    SAMPLER,
    EventBuilder,
    progress,
    txt2img,
)
from tests.render.frames import (
    connecting,
    finishing,
    fold,
    half,
    hires,
    lines,
    loading,
    lost,
    parallel,
    queued,
    starting,
    submitting,
    talking,
    whole_run,
)

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
    (whole_run, 30): ["KSampler  10/20  ETA 8s", " 64%, 10s to 20s left"],
    (whole_run, 60): [
        "KSampler  [#########---------]  10/20  1.2 it/s  ETA 8s",
        "[#####---]  64%, 10s to 20s left (4/7 nodes) [12s]",
    ],
    (whole_run, 80): [
        "KSampler  [##############--------------]  10/20  1.2 it/s  ETA 8s",
        "[#################-----------]  64%, 10s to 20s left (4/7 nodes) [12s]",
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
    builder.add(ev.Heartbeat, "client", node=SAMPLER, state="running", run_eta_seconds=15.0, **progress(4.5, 7))
    assert " 64%, about 15s left (4/7 nodes)" in lines(builder, 80)[-1]


def test_after_the_end_there_is_nothing() -> None:
    builder = EventBuilder()
    builder.events = txt2img()
    assert run_frame(fold(builder), 99.0, 80, 24, unicode=True, color=True) == []


def many_nodes(count: int) -> EventBuilder:
    """Many nodes side by side, two of them with the same title; the third one has a bar."""
    builder = starting()
    for number in range(count):
        ref = ev.NodeRef(id=str(number), title=f"Node {min(number, count - 2)}")
        builder.add(ev.NodeStarted, node=ref, **progress(0, count))
        if number == 2:
            builder.step(ref, 1, 4, 1.0, **progress(0, count))
    return builder


@pytest.mark.parametrize(("height", "shown"), [(24, 8), (8, 5), (5, 2), (4, 1), (3, 0), (1, 0)])
def test_no_more_lines_than_the_terminal_has_room_for(height: int, shown: int) -> None:
    shown_lines = lines(many_nodes(20), 80, height)
    assert len(shown_lines) == shown + 1
    assert f"+{20 - shown} running" in shown_lines[-1]
    if shown:
        assert shown_lines[0].startswith("Node 2 "), "one with a bar stays"


def test_nodes_of_the_same_title_have_their_ids() -> None:
    shown_lines = lines(many_nodes(3))
    assert [line.split("  ")[0] for line in shown_lines[:-1]] == ["Node 0", "Node 1 #1", "Node 1 #2"]


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
    builder.add(ev.NodeStarted, node=ref, **progress(0, 7))
    builder.add(ev.NodeStarted, node=DECODER, **progress(0, 7))
    builder.add(ev.NodeText, node=DECODER, text=title)
    details = {"run_eta_seconds": 5000.0, "run_eta_low": 4000.0, "run_eta_high": 9000.0} if eta else {}
    builder.step(ref, 123456.0, 1234567.0, 1.0, **details, **progress(0.5, 7))
    if state:
        builder.add(ev.ConnectionChanged, "client", state=state)
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
