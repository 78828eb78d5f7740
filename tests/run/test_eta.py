"""The whole run's estimate: absent until bars are steady, and a range around what is known and what is guessed."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from comfyreport import events as ev
from comfyreport.run.emitter import Emitter
from comfyreport.run.eta import Estimate, estimate_run, rounded
from comfyreport.run.nodes import Nodes
from tests import recordings
from tests.playing import play_recording, progress, start, states, the_end

SECONDS = st.floats(0, 1e12)


@given(SECONDS, SECONDS, st.integers(0, 1000), SECONDS)
def test_the_range_is_in_order(now: float, known_seconds: float, unknown_nodes: int, longest: float) -> None:
    estimate = estimate_run(now, known_seconds, unknown_nodes, longest)
    if unknown_nodes and longest < 0.1:
        assert estimate is None
        return
    assert estimate is not None
    assert 0 <= estimate.low <= estimate.seconds <= estimate.high <= 1e9


def test_there_is_no_estimate_where_nothing_is_known_of_the_waiting_nodes() -> None:
    assert estimate_run(5.0, 0.0, 1, 0.0) is None


def test_the_basis_of_an_estimate() -> None:
    assert estimate_run(10.0, 0.0, 0, 0.0) == Estimate(10.0, 9.0, 12.0)
    assert estimate_run(10.0, 20.0, 0, 0.0) == Estimate(30.0, 23.0, 42.0)
    assert estimate_run(10.0, 0.0, 2, 3.0) == Estimate(13.0, 9.0, 18.0)


@given(st.floats(0, 1e9), st.sampled_from((1000, 10_000)))
def test_a_told_number_is_rounded(value: float, parts: int) -> None:
    assert abs(rounded(value, parts) - value) <= 0.5001 / parts
    assert rounded(rounded(value, parts), parts) == rounded(value, parts)


def test_a_step_is_told_as_any_event_is() -> None:
    ref = ev.NodeRef(id="1", class_type="KSampler", title="KSampler")
    quick, usual = (Emitter(Nodes([ref]), iter(range(9)), 3) for _ in range(2))
    quick.emit_progress(ref, 5.0, 20.0, 3.5, 2, 1.5)
    fields = {"step": 5.0, "max_steps": 20.0, "eta_seconds": 3.5, "pass_number": 2, "steps_per_second": 1.5}
    usual.emit(ev.NodeProgress, node=ref, **fields)
    assert quick.take() == usual.take()


def etas(events: list[ev.Event]) -> list[float | None]:
    return [event.run_eta_seconds for event in events if isinstance(event, ev.ProgressEvent)]


def test_the_estimate_of_a_run() -> None:
    feeder = start("1", "2", "3", "4")
    feeder.feed(0.0, states(("1", "running")))
    feeder.feed(3.0, states(("1", "finished"), ("2", "running")))
    assert etas(feeder.feed(4.0, progress("2", 1, 5))) == [None], "the first step has the model's loading in it"
    # Three steps of a second, and two nodes that may each take as long as the first one did.
    (event,) = feeder.feed(5.0, progress("2", 2, 5))
    assert isinstance(event, ev.NodeProgress)
    assert (event.run_eta_seconds, event.run_eta_low, event.run_eta_high) == (6.0, 2.7, 9.6)
    assert event.eta_basis == "steps"
    assert etas(feeder.feed(8.0, states(("1", "finished"), ("2", "finished"), ("3", "running"))))[-1] is None


def test_a_waiting_node_is_estimated_from_its_class() -> None:
    feeder = start()
    feeder.run.nodes.set_manifest([ev.NodeRef(id=key, class_type="KSampler") for key in "123"])
    feeder.feed(0.0, states(("1", "running")))
    feeder.feed(10.0, states(("1", "finished"), ("2", "running")))
    (event,) = feeder.feed(14.0, progress("2", 2, 5))
    assert isinstance(event, ev.NodeProgress)
    assert event.run_eta_seconds == 6.0 + 10.0


@pytest.mark.parametrize("name", ["a2_no_previews", "q_sampler_custom_advanced"])
def test_the_actual_time_is_mostly_in_the_range(name: str) -> None:
    assert name in recordings.names()
    events = play_recording(name)
    end = the_end(events).elapsed
    hits = [
        event.run_eta_low <= end - event.elapsed <= event.run_eta_high
        for event in events
        if isinstance(event, ev.NodeProgress) and event.run_eta_low is not None and event.run_eta_high is not None
    ]
    assert len(hits) > 3
    assert sum(hits) >= 0.6 * len(hits), hits
