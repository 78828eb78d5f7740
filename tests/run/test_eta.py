"""The whole run's estimate: absent until bars are steady, a range that holds what is known and what is guessed."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from comfyreport import events as ev
from comfyreport.run.eta import Estimate, whole_run
from tests import recordings
from tests.playing import play_recording, progress, start, states, the_end

SECONDS = st.floats(0, 1e12)


@given(st.lists(SECONDS, min_size=1), SECONDS, st.integers(0, 1000), SECONDS)
def test_a_range_is_one(running: list[float], alike: float, unlike: int, longest: float) -> None:
    found = whole_run(running, alike, unlike, longest)
    if unlike and longest < 0.1:
        assert found is None
        return
    assert found is not None
    assert 0 <= found.low <= found.seconds <= found.high <= 1e9


def test_where_no_bar_is_steady_there_is_none() -> None:
    assert whole_run([], 5.0, 3, 2.0) is None


def test_where_nothing_is_known_of_what_follows_there_is_none() -> None:
    assert whole_run([5.0], 0.0, 1, 0.0) is None


def test_what_it_rests_on() -> None:
    assert whole_run([10.0, 4.0], 0.0, 0, 0.0) == Estimate(10.0, 9.0, 12.0), "side by side"
    assert whole_run([10.0], 20.0, 0, 0.0) == Estimate(30.0, 23.0, 42.0)
    assert whole_run([10.0], 0.0, 2, 3.0) == Estimate(13.0, 9.0, 18.0)


def etas(told: list[ev.Event]) -> list[float | None]:
    return [event.run_eta_seconds for event in told if isinstance(event, ev.ProgressEvent)]


def test_of_a_run() -> None:
    told = start("1", "2", "3", "4")
    told.tell(0.0, states(("1", "running")))
    told.tell(3.0, states(("1", "finished"), ("2", "running")))
    assert etas(told.tell(4.0, progress("2", 1, 5))) == [None], "the first step has the model's loading in it"
    # Three steps of a second, and two nodes that may each take as long as the first one did.
    (event,) = told.tell(5.0, progress("2", 2, 5))
    assert isinstance(event, ev.NodeProgress)
    assert (event.run_eta_seconds, event.run_eta_low, event.run_eta_high) == (6.0, 2.7, 9.6)
    assert event.eta_basis == "steps"
    assert etas(told.tell(8.0, states(("1", "finished"), ("2", "finished"), ("3", "running"))))[-1] is None


def test_nodes_of_a_class_that_has_run_are_known() -> None:
    fresh = start()
    fresh.run.nodes.set_manifest([ev.NodeRef(id=key, class_type="KSampler") for key in "123"])
    fresh.tell(0.0, states(("1", "running")))
    fresh.tell(10.0, states(("1", "finished"), ("2", "running")))
    (event,) = fresh.tell(14.0, progress("2", 2, 5))
    assert isinstance(event, ev.NodeProgress)
    assert event.run_eta_seconds == 6.0 + 10.0


@pytest.mark.parametrize("name", ["a2_no_previews", "q_sampler_custom_advanced"])
def test_the_truth_is_mostly_in_the_range(name: str) -> None:
    assert name in recordings.names()
    told = play_recording(name)
    end = the_end(told).elapsed
    found = [
        event.run_eta_low <= end - event.elapsed <= event.run_eta_high
        for event in told
        if isinstance(event, ev.NodeProgress) and event.run_eta_low is not None and event.run_eta_high is not None
    ]
    assert len(found) > 3
    assert sum(found) >= 0.6 * len(found), found
