"""Nodes and their bars: counting, timing, and the done part of a run."""

from __future__ import annotations

import pytest

from comfyreport.events import NodeRef
from comfyreport.run.eta import Bar
from comfyreport.run.nodes import Node, Nodes


def make_nodes(*names: str) -> Nodes:
    return Nodes([NodeRef(id=name, class_type=name, title=name) for name in names])


def test_counts() -> None:
    nodes = make_nodes("1", "2", "3")
    assert (nodes.total, nodes.done, nodes.fraction()) == (3, 0, 0.0)
    assert nodes.mark_cached("1")
    assert not nodes.mark_cached("1")
    assert (nodes.total, list(nodes.cached)) == (2, ["1"])
    node = nodes.start("2", 1.0)
    assert (nodes.done, list(nodes.active)) == (0, ["2"])
    assert nodes.stop(node, 3.5) == 2.5
    assert (nodes.done, nodes.fraction(), nodes.active) == (1, 0.5, {})
    assert nodes.seconds() == {"2": 2.5}


def test_a_node_counts_once_however_often_it_runs() -> None:
    nodes = make_nodes("1", "2")
    for at in (0.0, 2.0):
        nodes.stop(nodes.start("1", at), at + 1.0)
    assert (nodes.done, nodes.fraction(), nodes.seconds()) == (1, 0.5, {"1": 2.0})
    nodes.start("1", 9.0).observe("1", 4, 4, 10.0)
    assert nodes.fraction() == 0.5


def test_nodes_that_were_not_submitted_dont_count() -> None:
    nodes = make_nodes("1")
    nodes.stop(nodes.start("77", 0.0), 1.0)
    nodes.mark_cached("78")
    assert (nodes.total, nodes.done, nodes.fraction()) == (1, 0, 0.0)
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
    for value, maximum in ((5, 10), (1, 10), (10, 10), (1, 1000)):
        node.observe("1", value, maximum, 1.0)
        fractions.append(nodes.fraction())
    assert fractions == [0.25, 0.25, 0.5, 0.5]
    for name in ("1", "2"):
        nodes.stop(nodes.start(name, 0.0), 1.0)
    assert nodes.fraction() == 0.999
    nodes.mark_cached("1")
    assert nodes.fraction() == 0.999


def test_a_run_of_cached_nodes_has_no_fraction() -> None:
    nodes = make_nodes("1")
    nodes.mark_cached("1")
    assert nodes.fraction() == 0.0
    assert make_nodes().fraction() == 0.0


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
