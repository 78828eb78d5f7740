"""Nodes and their bars: counting, timing, and the done part of a run."""

from __future__ import annotations

import pytest

from comfyreport.estimates.bars import Bar
from comfyreport.events import NodeRef
from comfyreport.run.nodes import Node, Nodes


def make_nodes(*names: str) -> Nodes:
    return Nodes([NodeRef(id=name, class_type=name, title=name) for name in names])


def test_counts() -> None:
    nodes = make_nodes("1", "2", "3")
    assert (nodes.total, nodes.done, nodes.fraction) == (3, 0, 0.0)
    assert nodes.mark_cached("1")
    assert not nodes.mark_cached("1")
    assert (nodes.total, list(nodes.cached)) == (2, ["1"])
    node = nodes.start("2", 1.0)
    assert (nodes.done, list(nodes.active)) == (0, ["2"])
    assert nodes.stop(node, 3.5) == 2.5
    assert (nodes.done, nodes.active) == (1, {})
    assert nodes.seconds() == {"2": 2.5}


def test_a_node_counts_once_however_often_it_runs() -> None:
    nodes = make_nodes("1", "2")
    for at in (0.0, 2.0):
        nodes.stop(nodes.start("1", at), at + 1.0)
    assert (nodes.done, nodes.seconds()) == (1, {"1": 2.0})
    assert [(seen.node, seen.tail) for seen in nodes.observations()] == [("1", 2.0)]


def test_nodes_that_were_not_submitted_dont_count() -> None:
    nodes = make_nodes("1")
    nodes.stop(nodes.start("77", 0.0), 1.0)
    nodes.mark_cached("78")
    assert (nodes.total, nodes.done, nodes.fraction) == (1, 0, 0.0)
    assert not nodes.is_submitted("77")
    assert list(nodes.refs()) == ["1"]


def test_a_cached_node_that_runs_counts_again() -> None:
    nodes = make_nodes("1", "2")
    nodes.mark_cached("1")
    nodes.start("1", 0.0)
    assert (nodes.total, list(nodes.cached)) == (2, [])


def test_a_manifest_may_come_later() -> None:
    nodes = make_nodes()
    nodes.set_manifest([NodeRef(id="1", title="One")])
    nodes.set_manifest([NodeRef(id="1", title="Uno"), NodeRef(id="2")])
    assert (nodes.total, nodes.node("1").ref.title) == (2, "Uno")


def test_the_fraction_never_falls_and_stays_below_1() -> None:
    nodes = make_nodes("1", "2")
    node = nodes.start("1", 0.0)
    fractions = []
    for at, (value, maximum) in enumerate(((5, 10), (1, 10), (10, 10), (1, 1000)), 1):
        node.observe("1", value, maximum, float(at))
        nodes.estimate(float(at))
        fractions.append(nodes.fraction)
    assert fractions == sorted(fractions)
    assert 0 < fractions[0] <= fractions[-1] < 1
    for name in ("1", "2"):
        nodes.stop(nodes.start(name, 0.0), 9.0)
    nodes.estimate(9.0)
    assert nodes.fraction == 0.999
    nodes.mark_cached("1")
    assert nodes.fraction == 0.999


def test_a_run_of_cached_nodes_has_no_fraction() -> None:
    nodes = make_nodes("1")
    nodes.mark_cached("1")
    assert nodes.fraction == 0.0
    assert make_nodes().fraction == 0.0


@pytest.mark.parametrize(
    ("raw", "reported", "display"),
    [
        ("1", None, "1"),
        ("1.0.0.3", None, "1"),
        ("9.0.0.3", None, "9.0.0.3"),
        ("1.5", None, "1.5"),
        ("1.0.0.3", "2", "2"),
        ("9.0.0.3", "2", "2"),
        ("1", "2", "2"),
        ("", None, ""),
    ],
)
def test_the_display_node(raw: str, reported: str | None, display: str) -> None:
    """A submitted id may hold a dot itself: `1.5` is a node here."""
    nodes = make_nodes("1", "2", "1.5")
    assert nodes.display_id(raw, reported) == display
    assert nodes.display_id(raw) == display


def test_time_that_goes_back_makes_no_negative_seconds() -> None:
    nodes = make_nodes("1")
    assert nodes.stop(nodes.start("1", 5.0), 4.0) == 0.0


@pytest.mark.parametrize("seconds", [0.0, 2.0])
def test_a_run_of_known_time_stays_known_when_the_next_was_not_seen(seconds: float) -> None:
    nodes = make_nodes("1")
    nodes.stop(nodes.start("1", 1.0), 1.0 + seconds)
    nodes.stop(nodes.start("1", 9.0, start_seen=False), 10.0)
    assert nodes.seconds() == {"1": seconds}


def test_a_bar_whose_start_was_seen() -> None:
    bar = Bar(0.0, 1)
    assert bar.speed(0.0) is None
    assert bar.observe(5, 20, 4.0)
    assert (bar.eta(4.0), bar.speed(4.0)) == (12.0, 1.25)
    assert bar.eta(8.0) == 24.0


def test_a_bar_whose_start_was_not_seen() -> None:
    bar = Bar(None, 1)
    assert not bar.observe(5, 20, 100.0)
    assert (bar.eta(100.0), bar.speed(100.0)) == (0.0, None)
    assert bar.observe(10, 20, 110.0)
    assert (bar.eta(110.0), bar.speed(110.0)) == (20.0, 0.5)


def test_a_bar_that_starts_over() -> None:
    bar = Bar(0.0, 1)
    assert not bar.starts_over(1, 5)
    bar.observe(3, 5, 1.0)
    assert not bar.starts_over(3, 5)
    assert not bar.starts_over(4, 10)
    assert bar.starts_over(2, 5)
    bar.observe(5, 5, 2.0)
    assert bar.starts_over(6, 10)
    assert not bar.starts_over(5, 5)


def test_a_bar_begun_anew_by_a_node_that_runs_again_has_a_new_start() -> None:
    node = Node(NodeRef(id="1"))
    for at in (0.0, 100.0):
        node.start(at, start_seen=True)
        bar = node.observe("1", 1, 2, at + 4.0)
        assert bar is not None
        assert (bar.pass_number, bar.eta(at + 4.0)) == (1, 4.0)
        node.stop(at + 5.0)


def observe(*observations: tuple[float, float, float], started: float = 0.0) -> list[tuple[int, float | None]]:
    """Passes and speeds of (value, maximum, second)."""
    node = Node(NodeRef(id="1"))
    node.start(started, start_seen=True)
    found = []
    for value, maximum, at in observations:
        bar = node.observe("1", value, maximum, at)
        assert bar is not None
        found.append((bar.pass_number, bar.speed(at)))
    return found


def test_a_step_past_the_end_is_no_pass() -> None:
    """A sampler that chooses its own steps tells those past the total as the total."""
    steps = [(step, 6.0, float(step)) for step in range(1, 7)] + [(6, 6.0, float(at)) for at in range(7, 29)]
    assert observe(*steps) == [(1, 1.0)] * 28


def test_passes_that_were_not_heard() -> None:
    heard = [(step, 4.0, float(step)) for step in range(1, 5)]
    assert observe(*heard, (4, 4, 8.5), (4, 4, 12.0))[4:] == [(2, 1.0), (3, 1.0)]
    assert observe(*heard, (4, 4, 8.0), (1, 4, 10.0), (2, 4, 11.0))[4:] == [(2, 1.0), (3, 0.5), (3, 2 / 3)]


def test_a_bar_of_two_messages_tells_nothing_of_unheard_passes() -> None:
    assert observe((1, 2, 1.0), (2, 2, 2.0), (2, 2, 9.0)) == [(1, 1.0)] * 3


def test_an_inner_bar_doesnt_disturb_the_outer_one() -> None:
    outer = [(1, 10.0, 10.0), (1, 3, 12.0), (2, 3, 14.0), (3, 3, 16.0), (2, 10.0, 20.0), (1, 3, 22.0), (3, 10.0, 30.0)]
    assert observe(*outer) == [(1, 0.1), (2, 0.5), (2, 0.5), (2, 0.5), (1, 0.1), (3, 0.5), (1, 0.1)]


def test_a_corrected_maximum_and_the_pass_behind_it() -> None:
    """A pass that begins again with the maximum that the last one began with is no second bar."""
    first = [(1, 4, 1.0), (2, 5, 2.0), (3, 6, 3.0), (6, 6, 6.0)]
    again = [(1, 4, 8.0), (2, 5, 10.0)]
    assert observe(*first, *again) == [(1, 1.0)] * 4 + [(2, 0.5)] * 2
    assert observe((5, 10, 5.0), (6, 9, 6.0), (7, 8, 7.0)) == [(1, 1.0)] * 3, "it may shrink"


def test_many_maxima_are_not_kept() -> None:
    steps = [(step, float(maximum), float(maximum)) for step, maximum in enumerate(range(100, 1100), 1)]
    assert len(observe(*steps)) == 1000
    assert observe(*steps)[-1][1] == pytest.approx(1000 / 1099)


@pytest.mark.parametrize(
    ("observations", "seconds"),
    [
        ([], 0.0),
        ([(1, 20, 5.0)], 5.0),
        ([(1, 20, 5.0), (3, 20, 15.0)], 10.0),
        # Half a percent of 2,000 steps of 4 s: the next one heard is the eleventh.
        ([(1, 2000, 4.0)], 40.0),
        ([(1, 2000, 4.0), (11, 2000, 44.0)], 40.0),
        # This server tells each step.
        ([(1, 2000, 4.0), (2, 2000, 8.0)], 4.0),
        # Full: another pass would be heard at its end.
        ([(1, 2, 4.0), (2, 2, 8.0)], 8.0),
        ([(1e-300, 1.0, 8.0)], 3600.0),
    ],
)
def test_the_silence_that_a_bars_pace_explains(observations: list[tuple[float, float, float]], seconds: float) -> None:
    node = Node(NodeRef(id="1"))
    node.start(0.0, start_seen=True)
    for value, maximum, at in observations:
        node.observe("1", value, maximum, at)
    assert node.expected_silence == pytest.approx(seconds)


def test_a_bar_whose_pace_is_unknown_explains_no_silence() -> None:
    node = Node(NodeRef(id="1"))
    node.start(0.0, start_seen=False)
    assert node.observe("1", 5, 2000, 4.0) is None
    assert node.expected_silence == 0.0
