"""Many runs through an engine: hands them out, and makes what workers tell the one stream of the command."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, replace
from itertools import chain

from comfyreport import events as ev
from comfyreport.batch.merging import Merger
from comfyreport.errors import ComfyReportError
from comfyreport.fleet.assignment import Assignment, Message, Note, Outcome
from comfyreport.fleet.ends import GivenUpError, changed, unusable, worker_lost
from comfyreport.fleet.engine import Engine
from comfyreport.fleet.ordering import Ordering
from comfyreport.fleet.packing import assign
from comfyreport.fleet.receiving import save_sent
from comfyreport.jobs.job import Job
from comfyreport.jobs.run_context import SharedContext
from comfyreport.jobs.session import Session
from comfyreport.ledger.books import STOPPED, Books, reason_of
from comfyreport.ledger.state import Attempt
from comfyreport.run import verdict

MOST_BYTES = 256 * 1024 * 1024
"""Of files that are handed out at once, unless one run alone has more."""
STRAGGLERS = 5.0
"""Seconds for what a worker told to come, once its run's end is there."""


@dataclass
class _Flight:
    """A run that is handed out.

    `note`: the last attempt that is known; `confirmed`: its prompt, once it may be submitted; `attempts`: how often the
    run was handed out.
    """

    assignment: Assignment
    future: Future[Outcome]
    note: Note | None = None
    begun: bool = False
    confirmed: str = ""
    worker: str = ""
    attempts: int = 1
    heard: int = 0
    attempt: str = ""
    outcome: Outcome | None = None
    ended_at: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether all was heard that was told of it."""
        if self.outcome is None:
            return False
        return self.outcome.told <= (self.heard if self.attempt == self.outcome.attempt else 0)


class Fleet:
    """Makes runs through *engine*. All but `stop` is for the thread that calls `run`.

    :param jobs: the job of a run, by its index.
    :param todo: the indexes of the runs to be made, in order.
    :param begun: attempts of an earlier command whose end isn't known: their prompts are looked for first.
    :param retries: how often a run is handed out again that was lost together with its worker or its server.
    """

    def __init__(
        self,
        session: Session,
        engine: Engine,
        books: Books,
        jobs: Callable[[int], Job],
        *,
        command: str,
        todo: Iterable[int],
        begun: Iterable[Attempt] = (),
        retries: int = 2,
    ) -> None:
        self._session = session
        self._engine = engine
        self._books = books
        self._jobs = jobs
        self._command = command
        self._begun = {each.index: Note(each.server, each.prompt_id, each.client_id) for each in begun}
        self._todo = chain(self._begun, todo)
        self._retries = retries
        self._timing = session.timing
        self._merger = Merger(session)
        now = session.clock()
        self._ordering = Ordering(now.time - now.elapsed)
        self._flights: dict[int, _Flight] = {}
        self._results: dict[int, ev.RunFinished] = {}
        self._over = self._over_for_failure = False
        self._wishes = 0
        self._heeded = 0
        self._leave_at = math.inf
        # Of the runs that were handed out and never begun, the first; and whether a run has ended as stopped.
        self._dropped: int | None = None
        self._stop_told = False
        self._trouble = ""
        self._look_at = 0.0
        self._wake = threading.Event()

    # --- from outside

    def stop(self) -> None:
        """The user wants to stop: the first time cancels what is handed out, the second leaves. From any thread."""
        self._wishes += 1
        if self._wishes > 1:
            self._session.leave()
        self._wake.set()

    def run(self) -> None:
        """Make all runs; returns when the last has ended, or when no more are begun and the begun ones have ended."""
        self._make_runs()
        if self._over_for_user and not self._stop_told:
            self._end_unbegun()
        self._release(math.inf)

    def _make_runs(self) -> None:
        while True:
            self._heed()
            self._hand_out()
            self._look()
            self._hear()
            self._collect()
            self._release(time.time())
            if not self._flights and self._over:
                break
            for warning in self._session.watch():
                self._merger.emit(ev.Warning, code="slow_reporter", message=warning)
            if self._session.elapsed() >= self._leave_at:
                self._leave()
                break
            self._wake.wait(self._timing.tick)
            self._wake.clear()

    # --- handing out

    def _hand_out(self) -> None:
        until = time.monotonic() + self._timing.tick
        while self._takes_more and len(self._flights) < self._engine.window and self._room():
            if time.monotonic() > until:
                # What workers tell waits no longer.
                self._wake.set()
                return
            index = next(self._todo, None)
            if index is None:
                self._over = True
                return
            try:
                note = self._begun.get(index)
                assignment = assign(self._jobs(index), index, command=self._command, timing=self._timing, note=note)
                self._flights[index] = _Flight(assignment, self._submitted(assignment), note)
            except Exception as error:  # noqa: BLE001  whatever it is, the run has an end
                self._end(self._failed(index, error))

    @property
    def _takes_more(self) -> bool:
        return not self._over and self._wishes == self._heeded

    def _room(self) -> bool:
        return sum(flight.assignment.size for flight in self._flights.values()) < MOST_BYTES

    def _submitted(self, assignment: Assignment) -> Future[Outcome]:
        try:
            future = self._engine.submit(assignment)
        except ComfyReportError:
            raise
        except Exception as error:
            self._over = True
            raise unusable(self._engine.shown, error) from error
        future.add_done_callback(lambda _: self._wake.set())
        return future

    def _look(self) -> None:
        """Say once why nothing goes on."""
        now = self._session.elapsed()
        if self._flights and now >= self._look_at:
            self._look_at = now + self._timing.queue_refresh
            self._engine.look()
        trouble = self._engine.trouble
        if trouble and trouble != self._trouble:
            self._merger.emit(ev.Warning, code="engine_waits", message=trouble)
        self._trouble = trouble

    # --- what is heard

    def _hear(self) -> None:
        for message in self._engine.receive():
            self._take(message)

    def _take(self, message: Message) -> None:
        flight = self._flights.get(message.index)
        if flight is None:
            # Of a run that has its end: its worker was given up too early.
            return
        now = time.time()
        self._ordering.heard(message.worker, message.sent, now)
        if message.attempt != flight.attempt:
            flight.attempt, flight.heard = message.attempt, 0
        flight.heard += 1
        flight.worker = message.worker
        self._ordering.add(message.worker, message.events, now)
        if message.note is not None and not (message.waits and self._stops):
            flight.begun = self._keep(message.index, flight.note, message.note)
            if flight.begun:
                flight.note = message.note
            if flight.begun and message.waits:
                # Of an attempt whose worker died, where the engine itself has given the run to another.
                self._withdraw(flight)
                flight.confirmed = message.note.prompt_id
                self._engine.confirm(flight.confirmed)

    def _withdraw(self, flight: _Flight) -> None:
        """Keep nothing of what was confirmed: nobody may have heard of it."""
        if flight.confirmed:
            self._engine.withdraw(flight.confirmed)
            flight.confirmed = ""

    def _keep(self, index: int, before: Note | None, note: Note) -> bool:
        """Keep where the run is now; whether that was done."""
        if note == before:
            return True
        if before is not None and note == replace(before, prompt_id=note.prompt_id):
            self._books.renamed(index, note.prompt_id)
            return True
        return self._begin(index, note)

    def _begin(self, index: int, note: Note) -> bool:
        """Keep where the run will be, before anything is submitted; whether that was done."""
        try:
            self._books.begin(index, note.server, note.prompt_id, note.client_id)
        except ComfyReportError as error:
            self._end(self._failed(index, error))
            self._begin_no_more()
            return False
        return True

    def _collect(self) -> None:
        """Look for runs that have ended."""
        now = self._session.elapsed()
        for index, flight in list(self._flights.items()):
            if self._flights.get(index) is not flight:
                # The end of another one has stopped it.
                continue
            if flight.outcome is None and flight.future.done():
                # What it told comes before its end, and is there by now.
                self._hear()
                if self._flights.get(index) is flight:
                    self._on_done(flight)
                flight.ended_at = now
            if flight.outcome is not None and (flight.complete or now - flight.ended_at > STRAGGLERS):
                self._on_outcome(flight, flight.outcome)

    def _on_done(self, flight: _Flight) -> None:
        index = flight.assignment.index
        error = GivenUpError() if flight.future.cancelled() else flight.future.exception()
        if error is None:
            flight.outcome = flight.future.result()
            for message in flight.outcome.messages:
                self._take(message)
            return
        self._withdraw(flight)
        died = self._engine.died(error)
        if died and self._again(flight, f"{died} died"):
            return
        if isinstance(error, (GivenUpError, BrokenExecutor)):
            # It takes nothing more. One run tells of that for all that aren't begun.
            if self._over_for_failure and not flight.begun:
                del self._flights[index]
                return
            self._begin_no_more()
        result = self._failed(index, unusable(self._engine.shown, error), flight.worker)
        if died:
            result = changed(result, worker_lost(f"{died} died while it made the run", flight.attempts, flight.note))
        elif flight.begun:
            result = changed(result, verdict.Verdict("lost", result.error, "unknown", "unknown", retryable=True))
        self._end(result)

    def _on_outcome(self, flight: _Flight, outcome: Outcome) -> None:
        result = outcome.result
        if self._stops and not flight.begun and result.status == "cancelled":
            # It was never begun, so nothing is told of it.
            self._drop(flight.assignment.index)
            return
        if result.submitted == "no":
            flight.note = None
            self._withdraw(flight)
        if result.retryable and result.status in ("lost", "unreachable") and self._again(flight, reason_of(result)):
            return
        job = self._jobs(flight.assignment.index)
        saved, result = save_sent(self._session, job, result, outcome.files)
        self._ordering.add(outcome.worker, saved, time.time())
        self._end(result, outcome.worker)

    def _again(self, flight: _Flight, why: str) -> bool:
        """Hand the run out once more, if it may be; whether that was done."""
        if self._over_for_user or flight.attempts > self._retries:
            return False
        index = flight.assignment.index
        assignment = replace(flight.assignment, note=flight.note)
        try:
            future = self._submitted(assignment)
        except ComfyReportError:
            return False
        self._warn(index, "run_moved", f"it is handed out again: {why}")
        self._flights[index] = _Flight(assignment, future, flight.note, attempts=flight.attempts + 1)
        return True

    # --- ends

    def _failed(self, index: int, error: BaseException, worker: str = "") -> ev.RunFinished:
        """The end of a run that *error* ended on this side."""
        context = SharedContext(self._session, lambda events: None, run_index=index, server="", timing=self._timing)
        context.fail(error)
        return replace(context.results[-1], server=None, worker=worker or None)

    def _end(self, result: ev.RunFinished, worker: str = "") -> None:
        """The run has its end, which is told behind its events."""
        self._stop_told = self._stop_told or result.status in STOPPED
        self._flights.pop(result.run_index or 0, None)
        self._books.end(replace(result, worker=worker or result.worker))
        self._ordering.add(worker, [result], time.time())
        if self._books.stopped_by is not None and not self._over_for_failure:
            self._begin_no_more()

    def _release(self, now: float) -> None:
        for event in self._ordering.release(now):
            self._merger.publish([event])

    def _warn(self, index: int, code: str, message: str) -> None:
        """In its place among the events of the run."""
        now = self._session.clock()
        warning = ev.Warning(seq=0, time=now.time, elapsed=now.elapsed, run_index=index, code=code, message=message)
        self._ordering.add("", [warning], time.time())

    # --- stopping

    @property
    def _over_for_user(self) -> bool:
        return self._heeded > 0

    @property
    def _stops(self) -> bool:
        """Whether what isn't begun never is."""
        return self._over_for_user or self._over_for_failure

    def _begin_no_more(self) -> None:
        """A run failed: what isn't begun never is, and what waits on a server is cancelled; what runs goes on."""
        self._over = self._over_for_failure = True
        self._engine.stop("waiting")
        self._drop_unbegun()

    def _heed(self) -> None:
        """Do what the user wants, once for each wish."""
        wishes = self._wishes
        if wishes == self._heeded:
            return
        first, self._heeded = self._heeded == 0, wishes
        self._over = True
        if first:
            self._engine.stop("all")
            self._drop_unbegun()
            self._leave_at = self._session.elapsed() + self._timing.cancel_timeout + STRAGGLERS
        if wishes > 1:
            self._leave_at = min(self._leave_at, self._session.elapsed() + self._timing.leave_wait)

    def _end_unbegun(self) -> None:
        """That the command was stopped is the end of a run that is made no more, where it is the end of no other."""
        index = self._dropped if self._dropped is not None else next(self._todo, None)
        if index is not None:
            self._end(self._failed(index, KeyboardInterrupt()))

    def _drop_unbegun(self) -> None:
        self._hear()
        for index, flight in list(self._flights.items()):
            if not flight.begun and flight.outcome is None and flight.future.cancel():
                self._drop(index)

    def _drop(self, index: int) -> None:
        del self._flights[index]
        self._dropped = index if self._dropped is None else min(index, self._dropped)

    def _leave(self) -> None:
        """Wait for nothing more; what was begun may still run."""
        for flight in list(self._flights.values()):
            result = self._failed(flight.assignment.index, KeyboardInterrupt(), flight.worker)
            state: ev.Submitted = "unknown" if flight.begun else "no"
            end = verdict.cancelled("left before the worker told the end", "unknown" if flight.begun else "none", state)
            self._end(changed(result, end))
