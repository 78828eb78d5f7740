"""Nodes and their bars: counting, timing, and the done part of a run."""

from __future__ import annotations

import pytest

from comfyreport.events import NodeRef
from comfyreport.run.eta import Bar
from comfyreport.run.nodes import Node, Nodes


def nodes(*names: str) -> Nodes:
    return Nodes([NodeRef(id=name, class_type=name, title=name) for name in names])


def test_counting() -> None:
    known = nodes("1", "2", "3")
    assert (known.total, known.done, known.fraction()) == (3, 0, 0.0)
    assert known.cache("1")
    assert not known.cache("1")
    assert (known.total, list(known.cached)) == (2, ["1"])
    node = known.start("2", 1.0)
    assert (known.done, list(known.active)) == (0, ["2"])
    assert known.stop(node, 3.5) == 2.5
    assert (known.done, known.fraction(), known.active) == (1, 0.5, {})
    assert known.seconds() == {"2": 2.5}


def test_a_node_counts_once_however_often_it_runs() -> None:
    known = nodes("1", "2")
    for at in (0.0, 2.0):
        known.stop(known.start("1", at), at + 1.0)
    assert (known.done, known.fraction(), known.seconds()) == (1, 0.5, {"1": 2.0})
    known.start("1", 9.0).observe("1", 4, 4, 10.0)
    assert known.fraction() == 0.5


def test_nodes_that_nobody_submitted_dont_count() -> None:
    known = nodes("1")
    known.stop(known.start("77", 0.0), 1.0)
    known.cache("78")
    assert (known.total, known.done, known.fraction()) == (1, 0, 0.0)
    assert not known.known("77")
    assert list(known.refs()) == ["1"]


def test_a_cached_node_that_runs_counts_again() -> None:
    known = nodes("1", "2")
    known.cache("1")
    known.start("1", 0.0)
    assert (known.total, list(known.cached)) == (2, [])


def test_a_manifest_may_come_later() -> None:
    known = nodes()
    known.set_manifest([NodeRef(id="1", title="One")])
    known.set_manifest([NodeRef(id="1", title="Uno"), NodeRef(id="2")])
    assert (known.total, known.node("1").ref.title) == (2, "Uno")


def test_the_fraction_never_falls_and_stays_below_1() -> None:
    known = nodes("1", "2")
    node = known.start("1", 0.0)
    found = []
    for value, maximum in ((5, 10), (1, 10), (10, 10), (1, 1000)):
        node.observe("1", value, maximum, 1.0)
        found.append(known.fraction())
    assert found == [0.25, 0.25, 0.5, 0.5]
    for name in ("1", "2"):
        known.stop(known.start(name, 0.0), 1.0)
    assert known.fraction() == 0.999
    known.cache("1")
    assert known.fraction() == 0.999


def test_a_run_of_cached_nodes_has_no_fraction() -> None:
    known = nodes("1")
    known.cache("1")
    assert known.fraction() == 0.0
    assert nodes().fraction() == 0.0


@pytest.mark.parametrize(
    ("raw", "told", "display"),
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
def test_the_display_node(raw: str, told: str | None, display: str) -> None:
    """A submitted id may hold a dot itself: `1.5` is a node here."""
    known = nodes("1", "2", "1.5")
    assert known.display_id(raw, told) == display
    assert known.display_id(raw) == display


def test_time_that_goes_back_makes_no_negative_seconds() -> None:
    known = nodes("1")
    assert known.stop(known.start("1", 5.0), 4.0) == 0.0


@pytest.mark.parametrize("seconds", [0.0, 2.0])
def test_a_run_of_known_time_stays_known_when_the_next_was_not_seen(seconds: float) -> None:
    known = nodes("1")
    known.stop(known.start("1", 1.0), 1.0 + seconds)
    known.stop(known.start("1", 9.0, seen=False), 10.0)
    assert known.seconds() == {"1": seconds}


def test_a_bar_whose_begin_was_seen() -> None:
    bar = Bar(0.0, 1)
    assert bar.speed(0.0) is None
    assert bar.observe(5, 20, 4.0)
    assert (bar.eta(4.0), bar.speed(4.0)) == (12.0, 1.25)
    assert bar.eta(8.0) == 24.0


def test_a_bar_whose_begin_was_not_seen() -> None:
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
        node.start(at, seen=True)
        bar = node.observe("1", 1, 2, at + 4.0)
        assert bar is not None
        assert (bar.pass_number, bar.eta(at + 4.0)) == (1, 4.0)
        node.stop(at + 5.0)
