"""Many runs through an engine without workers: one stream, one end each, whatever becomes of workers."""

from __future__ import annotations

import pickle
from concurrent.futures import BrokenExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from comfyreport import events as ev
from comfyreport.errors import UsageError
from comfyreport.fleet import fleet as module
from comfyreport.fleet.assignment import Assignment, Message, Note
from comfyreport.ledger.state import Attempt
from tests.fleet.fakes import (
    NOW,
    DiedError,
    FakeEngine,
    Played,
    begins,
    by_index,
    does_well,
    finished,
    run_event,
    types,
)


def test_all_runs_are_one_stream_and_each_has_one_end() -> None:
    played = Played(FakeEngine(does_well), 7)
    assert played.code == 0
    assert sorted(played.ends) == [1, 2, 3, 4, 5, 6, 7]
    for index in played.ends:
        assert types(played.events, index) == ["run_queued", "run_started", "run_finished"]
    assert {event.worker for event in played.events} == {"gpu1"}
    assert [event.seq for event in played.events] == list(range(2, 2 + len(played.events)))
    elapsed = [event.elapsed for event in played.events]
    assert elapsed == sorted(elapsed)
    assert played.books.noted[0] == ("begin", 1, "http://gpu1:8188", "prompt-1-a")
    assert [each[1:] for each in played.books.noted if each[0] == "end"] == [(i, "success") for i in range(1, 8)]


def test_no_more_runs_are_handed_out_than_the_engine_takes() -> None:
    waiting: list[Assignment] = []

    def lazy(engine: FakeEngine, assignment: Assignment) -> None:
        waiting.append(assignment)
        if len(waiting) == engine.window or assignment.index == 8:
            for each in waiting:
                does_well(engine, each)
            waiting.clear()

    engine = FakeEngine(lazy)
    assert len(Played(engine, 8).ends) == 8
    assert engine.most == engine.window


def test_no_more_bytes_are_handed_out_than_memory_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1)
    monkeypatch.setattr(Assignment, "size", 1)
    engine = FakeEngine(does_well)
    assert len(Played(engine, 3).ends) == 3
    assert engine.most == 1


def test_what_comes_after_the_end_is_told_before_it() -> None:
    late: list[Message] = []

    class Late(FakeEngine):
        """The last message needs a few looks more than the end."""

        looks = 0

        def receive(self) -> list[Message]:
            late.extend(super().receive())
            self.looks += 1
            return [late.pop(0)] if late and self.looks % 3 == 0 else []

    played = Played(Late(does_well), 1)
    assert types(played.events, 1) == ["run_queued", "run_started", "run_finished"]


def test_an_end_waits_for_what_never_comes_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STRAGGLERS", 0.05)
    played = Played(FakeEngine(lambda engine, each: engine.end(each.index, finished(each.index), told=9)), 1)
    assert played.ends[1].status == "success"


def test_what_could_not_be_told_before_comes_with_the_end() -> None:
    def silent(engine: FakeEngine, assignment: Assignment) -> None:
        note = Note("http://gpu1:8188", "p", "c", "gpu1")
        events = (run_event(ev.RunStarted, assignment.index, 1.0),)
        message = Message("c", assignment.index, "a", 1, "gpu1", NOW, events, note)
        engine.end(assignment.index, finished(assignment.index), told=1, messages=(message,))

    assert types(Played(FakeEngine(silent), 1).events, 1) == ["run_started", "run_finished"]


def test_a_worker_may_submit_what_the_books_have_kept() -> None:
    engine = FakeEngine(does_well)
    Played(engine, 2)
    assert engine.confirmed == ["prompt-1-a", "prompt-2-a"]


def test_nothing_is_submitted_that_the_books_cant_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*about: object) -> None:
        raise UsageError("the disk is full")

    monkeypatch.setattr("tests.fleet.fakes.NotedBooks.begin", refuse)
    silent = lambda engine, assignment: None  # noqa: E731
    engine = FakeEngine(by_index(run1=begins, run2=silent, run3=silent))
    played = Played(engine, 9)
    assert engine.confirmed == []
    assert {index: (end.status, end.submitted) for index, end in played.ends.items()} == {1: ("usage", "no")}


def test_a_prompt_that_the_server_calls_otherwise_is_kept_under_that_name() -> None:
    def renames(engine: FakeEngine, assignment: Assignment) -> None:
        note = engine.begin(assignment)
        engine.tell(assignment, note=replace(note, prompt_id="its-own"))
        engine.end(1, finished(1))

    engine = FakeEngine(renames)
    played = Played(engine, 1)
    assert [each[0] for each in played.books.noted] == ["begin", "renamed", "end"]
    assert played.books.noted[1] == ("renamed", 1, "its-own")
    assert engine.confirmed == ["prompt-1-a"]


# --- lost workers and servers


def test_a_lost_run_is_handed_out_again_with_where_it_was() -> None:
    def once(engine: FakeEngine, assignment: Assignment) -> None:
        if assignment.note is None:
            engine.begin(assignment)
            engine.end(1, finished(1, "lost", retryable=True))
        else:
            engine.begin(assignment, "b")
            engine.end(1, finished(1), attempt="b")

    engine = FakeEngine(once)
    played = Played(engine, 1)
    assert played.ends[1].status == "success"
    assert played.warnings() == ["run_moved"]
    note = engine.assignments[1].note
    assert note is not None
    assert note.prompt_id == "prompt-1-a"
    assert [each[0] for each in played.books.noted] == ["begin", "begin", "end"]


def test_a_run_of_which_nothing_was_submitted_is_looked_for_nowhere() -> None:
    def unreachable(engine: FakeEngine, assignment: Assignment) -> None:
        engine.begin(assignment, str(len(engine.assignments)))
        engine.end(1, finished(1, "unreachable", retryable=True), attempt=str(len(engine.assignments)))

    engine = FakeEngine(unreachable)
    played = Played(engine, 1, retries=1)
    assert played.ends[1].status == "unreachable"
    assert [each.note for each in engine.assignments] == [None, None]


@pytest.mark.parametrize("status", ["error", "rejected", "partial", "timeout"])
def test_what_isnt_lost_is_not_made_again(status: ev.Status) -> None:
    engine = FakeEngine(lambda engine, each: engine.end(1, finished(1, status, retryable=True)))
    assert Played(engine, 1).ends[1].status == status
    assert len(engine.assignments) == 1


def test_a_run_whose_worker_dies_each_time_is_lost() -> None:
    def dies(engine: FakeEngine, assignment: Assignment) -> None:
        engine.begin(assignment, str(len(engine.assignments)))
        engine.futures[assignment.index].set_exception(DiedError())

    engine = FakeEngine(by_index(run2=dies))
    played = Played(engine, 3, retries=2)
    end = played.ends[2]
    assert (end.status, end.exit_code, end.submitted, end.prompt_state) == ("lost", 6, "unknown", "unknown")
    assert end.error is not None
    assert (end.error.code, end.error.message) == (
        "worker_lost",
        "worker gpu1 died while it made the run, in each of 3 attempts",
    )
    assert (end.worker, played.ends[3].status, played.code) == ("gpu1", "success", 6)
    # Whether it heard of that nobody knows: the engine would keep it for ever.
    assert engine.withdrawn == [each for each in engine.confirmed if each.startswith("prompt-2-")]
    assert len(engine.withdrawn) == 3


def test_what_was_confirmed_for_a_worker_that_died_is_withdrawn_where_the_engine_gave_the_run_to_another() -> None:
    def twice(engine: FakeEngine, assignment: Assignment) -> None:
        engine.begin(assignment, "a")
        engine.begin(assignment, "b")
        engine.end(1, finished(1), attempt="b")

    engine = FakeEngine(twice)
    assert Played(engine, 1).ends[1].status == "success"
    assert (engine.confirmed, engine.withdrawn) == (["prompt-1-a", "prompt-1-b"], ["prompt-1-a"])


def test_what_an_earlier_command_began_is_looked_for() -> None:
    engine = FakeEngine(does_well)
    Played(engine, 2, begun=[Attempt(2, 1, "http://gpu1:8188", "p", "c")])
    notes = [(each.index, each.note) for each in engine.assignments]
    assert notes == [(2, Note("http://gpu1:8188", "p", "c")), (1, None)]


# --- an engine that fails


def test_an_engine_that_fails_ends_what_it_was_given() -> None:
    def breaks(engine: FakeEngine, assignment: Assignment) -> None:
        if assignment.index == 1:
            engine.begin(assignment)
        engine.futures[assignment.index].set_exception(RuntimeError("pool is broken"))

    ends = Played(FakeEngine(breaks), 2).ends
    assert [(end.status, end.submitted) for end in ends.values()] == [("lost", "unknown"), ("unreachable", "no")]
    for end in ends.values():
        assert end.error is not None
        assert (end.error.code, end.error.message) == ("engine", "fake:// failed: RuntimeError: pool is broken")


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("how", ["broken", "gone"])
def test_a_broken_engine_is_told_of_once_and_by_what_was_begun(how: str, begun: bool) -> None:
    def breaks(engine: FakeEngine, assignment: Assignment) -> None:
        if assignment.index == 2 and begun:
            engine.begin(assignment)
        if assignment.index == engine.window:
            for future in engine.futures.values():
                if how == "gone":
                    future.cancel()
                else:
                    future.set_exception(BrokenExecutor("a process died"))

    ends = Played(FakeEngine(breaks), 9).ends
    expected: dict[int, Any] = {1: ("unreachable", "no")}
    if begun:
        expected[2] = ("lost", "unknown")
    assert {index: (end.status, end.submitted) for index, end in ends.items()} == expected
    error = ends[1].error
    assert error is not None
    said = "BrokenExecutor: a process died" if how == "broken" else "it gave its runs up; was it stopped?"
    assert (error.code, error.message) == ("engine", f"fake:// failed: {said}")


def test_an_engine_that_takes_nothing_more_is_given_nothing_more() -> None:
    def shut(engine: FakeEngine, assignment: Assignment) -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")

    engine = FakeEngine(shut)
    ends = Played(engine, 5).ends
    assert [end.status for end in ends.values()] == ["unreachable"]
    assert len(engine.assignments) == 1


def test_a_job_that_cant_travel_ends_as_usage_and_the_others_go_on() -> None:
    engine = FakeEngine(does_well)
    ends = Played(engine, 2, record="run.recording").ends
    assert [end.status for end in ends.values()] == ["usage", "usage"]
    assert engine.assignments == []


def test_an_engine_without_workers_is_told_of_once() -> None:
    class Waits(FakeEngine):
        trouble = "fake:// has no workers yet; the runs wait for one"

        def receive(self) -> list[Message]:
            if 1 in self.futures and not self.futures[1].done():
                does_well(self, self.assignments[0])
            return super().receive()

    played = Played(Waits(lambda engine, assignment: None), 1)
    assert played.warnings() == ["engine_waits"]
    assert "no workers yet" in played.events[0].message  # type: ignore[union-attr]


# --- outputs that are sent back


def test_outputs_that_are_sent_back_go_where_they_should(tmp_path: Path) -> None:
    outputs = tuple(ev.Output(node=ev.NodeRef(id="2"), index=i, kind="image", filename="a.png") for i in range(2))

    def sends(engine: FakeEngine, assignment: Assignment) -> None:
        engine.begin(assignment)
        engine.end(1, finished(1, outputs=outputs, seed=7), files=((0, b"one"), (1, b"two")))

    played = Played(FakeEngine(sends), 1, output=f"{tmp_path}/{{seed}}.{{ext}}")
    assert types(played.events, 1) == ["output_saved", "output_saved", "run_finished"]
    assert [(path.name, path.read_bytes()) for path in sorted(tmp_path.iterdir())] == [
        ("7-2.png", b"two"),
        ("7.png", b"one"),
    ]
    saved: Any = played.ends[1].outputs
    assert [(Path(output.path).name, output.bytes) for output in saved] == [("7.png", 3), ("7-2.png", 3)]


def test_what_cant_be_saved_here_makes_a_run_partial(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    output = ev.Output(node=ev.NodeRef(id="2"), index=0, kind="image", filename="a.png")

    def sends(engine: FakeEngine, assignment: Assignment) -> None:
        engine.begin(assignment)
        engine.end(1, finished(1, outputs=(output,)), files=((0, b"one"),))

    played = Played(FakeEngine(sends), 1, output=f"{tmp_path}/file/")
    assert (played.ends[1].status, played.code, played.warnings()) == ("partial", 8, ["download_failed"])


def test_what_travels_back_can_be_pickled() -> None:
    end = finished(1, node_seconds={"1": 2.0}, inputs=(ev.InputValue(node=ev.NodeRef(id="1"), name="x", value=[1]),))
    assert pickle.loads(pickle.dumps(end)) == end
