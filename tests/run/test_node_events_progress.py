"""Run and the bars of nodes: the requirement's estimate, passes, and what is no progress."""

from __future__ import annotations

import pytest

from comfyreport import events as ev
from tests.playing import executing, progress, short, start, states, text


def test_the_estimate_is_the_requirements() -> None:
    feeder = start("3")
    feeder.feed(100.0, states(("3", "running")), executing("3"))
    steps = []
    for step, at in ((1, 1.0), (5, 4.0), (10, 8.0), (15, 12.0), (20, 16.0)):
        [event] = feeder.feed(100.0 + at, progress("3", step, 20))
        assert isinstance(event, ev.NodeProgress)
        assert isinstance(event.eta_seconds, float)
        steps.append((event.step, event.eta_seconds, event.steps_per_second))
    assert steps == [(1, 19, 1), (5, 12, 1.25), (10, 8, 1.25), (15, 4, 1.25), (20, 0, 1.25)]


@pytest.mark.parametrize(("value", "maximum"), [(0, 20), (-1, 20), (21, 20), (0, 0), (1, 0), (-1, -5), (0.0, 1.5)])
def test_progress_exists_only_for_a_step_within_the_bar(value: float, maximum: float) -> None:
    feeder = start("3")
    assert [short(event) for event in feeder.feed(1.0, progress("3", value, maximum))] == ["node_started 3"]
    assert feeder.feed(2.0, progress("3", value, maximum)) == []


def test_where_the_start_was_not_seen_the_first_step_only_sets_the_baseline() -> None:
    feeder = start("3")
    assert [short(event) for event in feeder.feed(10.0, progress("3", 5, 20))] == ["node_started 3"]
    [event] = feeder.feed(12.0, progress("3", 6, 20))
    assert isinstance(event, ev.NodeProgress)
    assert (event.step, event.eta_seconds, event.steps_per_second) == (6, 28.0, 0.5)
    [event] = feeder.feed(12.0, progress("3", 6, 20))
    assert isinstance(event, ev.NodeProgress)
    assert event.eta_seconds == 28.0


def test_a_node_that_runs_at_a_reconnect_has_no_known_start() -> None:
    feeder = start("3")
    feeder.feed(10.0, text("executing", node="3"))
    assert feeder.feed(11.0, progress("3", 6, 20)) == []
    assert len(feeder.feed(12.0, progress("3", 7, 20))) == 1


def test_a_state_with_steps_done_is_no_start() -> None:
    feeder = start("3")
    feeder.feed(10.0, states(("3", "running"), value=5))
    assert feeder.feed(11.0, progress("3", 6, 20)) == []
    assert len(feeder.feed(12.0, progress("3", 7, 20))) == 1


def test_a_step_at_the_moment_of_the_start_has_no_speed() -> None:
    feeder = start("3")
    feeder.feed(1.0, executing("3"))
    [event] = feeder.feed(1.0, progress("3", 1, 2))
    assert isinstance(event, ev.NodeProgress)
    assert (event.eta_seconds, event.steps_per_second) == (0.0, None)


@pytest.mark.parametrize(("value", "maximum"), [(5e-324, 2.0**53), (2.0**53, 2.0**53), (1e-300, 1.0)])
def test_estimates_stay_numbers(value: float, maximum: float) -> None:
    feeder = start("3")
    feeder.feed(1.0, executing("3"))
    feeder.feed(1.0 + 1e-12, progress("3", value, maximum))
    feeder.feed(1e6, progress("3", value, maximum))
    feeder.finish(1e6)


# --- passes


def test_passes() -> None:
    feeder = start("3")
    feeder.feed(0.0, executing("3"))
    for at, (value, maximum) in enumerate([(1, 2), (2, 2), (1, 2), (2, 2), (1, 5), (5, 5), (5, 5), (1, 1), (1, 1)], 1):
        feeder.feed(float(at), progress("3", value, maximum))
    assert feeder.short_events()[3:] == [
        "node_progress 3 1/2",
        "node_progress 3 2/2",
        "node_progress 3 1/2 #2",
        "node_progress 3 2/2 #2",
        "node_progress 3 1/5 #3",
        "node_progress 3 5/5 #3",
        "node_progress 3 5/5 #3",
        "node_progress 3 1/1 #4",
        "node_progress 3 1/1 #4",
    ]


def test_a_pass_is_timed_from_the_last_step_before_it() -> None:
    feeder = start("3")
    feeder.feed(0.0, executing("3"))
    feeder.feed(10.0, progress("3", 2, 2))
    [event] = feeder.feed(11.0, progress("3", 1, 5))
    assert isinstance(event, ev.NodeProgress)
    assert (event.pass_number, event.eta_seconds) == (2, 4.0)


def test_a_maximum_that_grows_under_a_bar_that_isnt_full_is_the_same_pass() -> None:
    feeder = start("3")
    feeder.feed(0.0, executing("3"))
    feeder.feed(1.0, progress("3", 1, 2), progress("3", 2, 4), progress("3", 3, 6))
    assert [event.pass_number for event in feeder.events if isinstance(event, ev.NodeProgress)] == [1, 1, 1]


def test_bars_of_expanded_nodes_are_passes_of_their_parent() -> None:
    feeder = start("2")
    feeder.feed(0.0, states(("2", "running")), executing("2"))
    for inner in ("2.0.0.1", "2.0.0.2"):
        feeder.feed(1.0, states(("2", "running"), (f"{inner}@2", "running")), executing(inner, "2"))
        feeder.feed(2.0, progress(inner, 1, 2), progress(inner, 2, 2))
    assert [line for line in feeder.short_events() if "progress" in line] == [
        "node_progress 2<2.0.0.1 1/2",
        "node_progress 2<2.0.0.1 2/2",
        "node_progress 2<2.0.0.2 1/2 #2",
        "node_progress 2<2.0.0.2 2/2 #2",
    ]
    assert feeder.short_events().count("node_started 2") == 1


def test_an_expanded_nodes_id_names_its_parent_where_no_message_does() -> None:
    feeder = start("2")
    feeder.feed(1.0, executing("2"), progress("2.0.0.1", 1, 2))
    assert feeder.short_events()[-1] == "node_progress 2<2.0.0.1 1/2"
