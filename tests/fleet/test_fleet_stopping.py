"""Many runs through an engine, stopped by a failure or by the user: what was begun ends, and the rest is not told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from comfyreport import events as ev
from comfyreport.fleet.assignment import Assignment
from comfyreport.fleet.channel import Stop
from comfyreport.fleet.fleet import Fleet
from tests.fleet.fakes import FakeEngine, Played, begins, by_index, finished


def ends_at(stop: Stop, indexes: Sequence[int], status: ev.Status = "cancelled") -> Callable[[FakeEngine], None]:
    """What runs ends so when it is told to."""

    def prepare(engine: FakeEngine) -> None:
        def on_stop(given: Stop) -> None:
            for index in indexes if given == stop else ():
                engine.end(index, finished(index, status))

        engine.on_stop = on_stop

    return prepare


def test_the_first_failure_stops_what_isnt_begun() -> None:
    def fails(engine: FakeEngine, assignment: Assignment) -> None:
        engine.begin(assignment)
        engine.end(1, finished(1, "error"))

    engine = FakeEngine(by_index(run1=fails, run2=begins, run3=lambda engine, assignment: None))
    ends_at("waiting", [2], "success")(engine)
    played = Played(engine, 9, keep_going=False)
    # What ran comes to its end; of the others nothing is told.
    assert {index: end.status for index, end in played.ends.items()} == {1: "error", 2: "success"}
    assert engine.stops == ["waiting"]
    assert engine.futures[3].cancelled()
    assert played.code == 1


def test_a_failure_stops_nothing_where_it_may_not() -> None:
    engine = FakeEngine(by_index(run1=lambda engine, each: engine.end(1, finished(1, "error"))))
    assert len(Played(engine, 4).ends) == 4
    assert engine.stops == []


def stopping(engine: FakeEngine, at: int, times: int = 1) -> Callable[[Fleet], None]:
    """Stops the fleet when the run *at* is handed out."""

    def before(fleet: Fleet) -> None:
        script = engine._script

        def stop(engine: FakeEngine, assignment: Assignment) -> None:
            script(engine, assignment)
            for _ in range(times if assignment.index == at else 0):
                fleet.stop()

        engine._script = stop

    return before


def test_a_stop_cancels_what_was_begun_and_tells_nothing_of_the_rest() -> None:
    engine = FakeEngine(by_index(run1=begins, run2=lambda engine, assignment: None))
    ends_at("all", [1])(engine)
    played = Played(engine, 9, before=stopping(engine, 2))
    assert {index: end.status for index, end in played.ends.items()} == {1: "cancelled"}
    assert (engine.stops, played.code) == (["all"], 130)


def test_a_stop_before_anything_was_begun_is_told_once() -> None:
    engine = FakeEngine(lambda engine, assignment: None)
    played = Played(engine, 9, before=stopping(engine, 3))
    assert [(end.status, end.submitted) for end in played.ends.values()] == [("cancelled", "no")]
    assert played.code == 130


def test_the_second_stop_waits_for_nothing() -> None:
    engine = FakeEngine(begins)
    played = Played(engine, 2, before=stopping(engine, 2, times=2))
    assert [(end.status, end.submitted) for end in played.ends.values()] == [("cancelled", "unknown")] * 2
