"""An engine without workers: a script says what they tell of each assignment, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from comfyreport import events as ev
from comfyreport.fleet.assignment import Assignment, Message, Note, Outcome
from comfyreport.fleet.channel import Stop
from comfyreport.fleet.fleet import Fleet
from comfyreport.jobs.job import Job
from comfyreport.ledger.state import Attempt
from tests.jobs.test_session import Running

GRAPH = {"1": {"class_type": "KSampler", "inputs": {"seed": 1}}, "2": {"class_type": "SaveImage", "inputs": {}}}
NOW = 1_800_000_000.0


def run_event(cls: Callable[..., ev.Event], index: int, time: float, **fields: Any) -> ev.Event:
    """An event of a run at *time* seconds behind `NOW`."""
    return cls(seq=1, time=NOW + time, elapsed=time, run_index=index, **fields)


def finished(index: int, status: ev.Status = "success", time: float = 0.0, **fields: Any) -> ev.RunFinished:
    """The end of a run."""
    submitted: Any = {"submitted": "no" if status == "unreachable" else "yes", **fields}
    return ev.RunFinished(
        seq=1,
        time=NOW + time,
        elapsed=time,
        run_index=index,
        status=status,
        exit_code=ev.EXIT_CODES[status],
        **submitted,
    )


class DiedError(Exception):
    """What the future of a run raises whose workers died."""


class FakeEngine:
    """Does with each assignment what `script` does, which may tell messages and end the run."""

    shown = "fake://"
    window = 3
    trouble = ""

    def __init__(self, script: Callable[[FakeEngine, Assignment], None]) -> None:
        self._script = script
        self._messages: list[Message] = []
        self._told: dict[str, int] = {}
        self.assignments: list[Assignment] = []
        self.futures: dict[int, Future[Outcome]] = {}
        self.stops: list[Stop] = []
        self.confirmed: list[str] = []
        self.withdrawn: list[str] = []
        self.on_stop: Callable[[Stop], None] = lambda stop: None
        self.most = 0

    def submit(self, assignment: Assignment) -> Future[Outcome]:
        future = self.futures[assignment.index] = Future[Outcome]()
        self.assignments.append(assignment)
        self.most = max(self.most, sum(not each.done() for each in self.futures.values()))
        self._script(self, assignment)
        return future

    def tell(
        self,
        assignment: Assignment,
        *events: ev.Event,
        note: Note | None = None,
        attempt: str = "a",
        waits: bool = False,
    ) -> None:
        """A message of the worker."""
        key = f"{assignment.index}{attempt}"
        self._told[key] = number = self._told.get(key, 0) + 1
        self._messages.append(
            Message(assignment.command, assignment.index, attempt, number, "gpu1", NOW, events, note, waits)
        )

    def begin(self, assignment: Assignment, attempt: str = "a", *, waits: bool = True) -> Note:
        """The worker begins."""
        note = Note("http://gpu1:8188", f"prompt-{assignment.index}-{attempt}", f"client-{attempt}", "gpu1", "host1")
        self.tell(assignment, note=note, attempt=attempt, waits=waits)
        return note

    def end(self, index: int, result: ev.RunFinished, told: int | None = None, attempt: str = "a", **more: Any) -> None:
        """The worker is done."""
        known = self._told.get(f"{index}{attempt}", 0)
        self.futures[index].set_result(Outcome(attempt, "gpu1", known if told is None else told, result, **more))

    def receive(self) -> list[Message]:
        messages, self._messages = self._messages, []
        return messages

    def confirm(self, prompt_id: str) -> None:
        self.confirmed.append(prompt_id)

    def withdraw(self, prompt_id: str) -> None:
        self.withdrawn.append(prompt_id)

    def stop(self, stop: Stop) -> None:
        self.stops.append(stop)
        self.on_stop(stop)

    def died(self, error: BaseException) -> str:
        return "worker gpu1" if isinstance(error, DiedError) else ""

    def look(self) -> None:
        pass

    def close(self) -> None:
        pass


class NotedBooks:
    """Books that note what they are told."""

    def __init__(self, *, keep_going: bool = True) -> None:
        self.stopped_by: int | None = None
        self.noted: list[tuple[Any, ...]] = []
        self._keep_going = keep_going

    def begin(self, index: int, server: str, prompt_id: str, client_id: str) -> None:
        self.noted.append(("begin", index, server, prompt_id))

    def end(self, result: ev.RunFinished) -> None:
        self.noted.append(("end", result.run_index, result.status))
        if result.exit_code and not self._keep_going:
            self.stopped_by = result.run_index

    def renamed(self, index: int, prompt_id: str) -> None:
        self.noted.append(("renamed", index, prompt_id))

    def stopping(self) -> None:
        self.noted.append(("stopping",))

    def give_up(self, index: int) -> None:
        self.noted.append(("given up", index))


class Played:
    """A fleet of *runs* runs, played to its end: the events of the runs, and the books."""

    def __init__(
        self,
        engine: FakeEngine,
        runs: int,
        *,
        keep_going: bool = True,
        retries: int = 2,
        begun: Sequence[Attempt] = (),
        before: Callable[[Fleet], None] = lambda fleet: None,
        **job: Any,
    ) -> None:
        running = Running()
        self.books = NotedBooks(keep_going=keep_going)
        base = Job(workflow=GRAPH, server="http://127.0.0.1:1", **job)
        todo = [index for index in range(1, runs + 1) if index not in {each.index for each in begun}]
        fleet = Fleet(
            running.session, engine, self.books, lambda index: replace(base), command="c", todo=todo,
            retries=retries, begun=begun,
        )  # fmt: skip
        self.fleet = fleet
        before(fleet)
        fleet.run()
        self.code = running.session.finish()
        self.events = running.events[1:-1]

    @property
    def ends(self) -> dict[int, ev.RunFinished]:
        """The ends by the index of their run; each has one."""
        ends = [event for event in self.events if isinstance(event, ev.RunFinished)]
        found = {end.run_index or 0: end for end in ends}
        assert len(found) == len(ends)
        return found

    def warnings(self) -> list[str]:
        """The codes of the warnings."""
        return [event.code for event in self.events if isinstance(event, ev.Warning)]


def types(events: Iterable[Any], index: int) -> Sequence[str]:
    """The types of one run's events."""
    return [event.type for event in events if event.run_index == index]


# --- workers

Script = Callable[[FakeEngine, Assignment], None]


def does_well(engine: FakeEngine, assignment: Assignment) -> None:
    """A worker that makes a run."""
    index = assignment.index
    engine.begin(assignment)
    engine.tell(assignment, run_event(ev.RunQueued, index, 1.0), run_event(ev.RunStarted, index, 2.0))
    engine.end(index, finished(index, time=3.0))


def begins(engine: FakeEngine, assignment: Assignment) -> None:
    """A worker that begins, and hears of nothing more."""
    engine.begin(assignment)


def by_index(**scripts: Script) -> Script:
    """Another script for some runs: `run2=…`."""
    return lambda engine, assignment: scripts.get(f"run{assignment.index}", does_well)(engine, assignment)
