"""The core loop of many runs on one machine: gives runs to servers, hears of their ends, and decides what follows."""

from __future__ import annotations

import contextlib
import math
import queue
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from comfyreport import events as ev
from comfyreport.access.credentials import Access
from comfyreport.batch import scheduler
from comfyreport.batch.attempt import Attempt
from comfyreport.batch.manners import Manners
from comfyreport.batch.merging import Merger
from comfyreport.batch.pool import Pool, Probed, Server, server_of
from comfyreport.batch.scheduler import Item, Next, Waiting
from comfyreport.errors import ComfyReportError
from comfyreport.jobs.job import Job, prepared
from comfyreport.jobs.run_context import SharedContext
from comfyreport.jobs.session import Session
from comfyreport.jobs.simulating import SIMULATED
from comfyreport.ledger.books import STOPPED, Books, reason_of
from comfyreport.ledger.state import Attempt as Begun
from comfyreport.run.verdict import Cancel
from comfyreport.timing import Timing
from comfyreport.worker import take

Changes = Callable[[], "list[Server] | None"]
"""The servers where they are others by now, else None; ComfyReportError where they can't be learned."""


class _Ended(NamedTuple):
    attempt: Attempt
    result: ev.RunFinished | None
    fault: BaseException | None


class _Queue(NamedTuple):
    attempt: Attempt
    event: ev.RunQueued | ev.QueueChanged


class _Stop(NamedTuple):
    pass


@dataclass
class _Course:
    """How far it is: `stops` counts the user's wishes to stop, `over` says that no run is begun any more.

    `leave_at`: in seconds of the stream, from when on nothing is waited for. `stop_told`: a run has ended as stopped.
    """

    stops: int = 0
    over: bool = False
    leave_at: float = math.inf
    stop_told: bool = False
    # Of runs that were begun, by index: the last end, what it is, how often it was submitted and how often no server
    # was reached for it, where it was tried.
    held: dict[int, ev.RunFinished] = field(default_factory=dict)
    items: dict[int, Item] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    unreached: dict[int, int] = field(default_factory=dict)
    tried: dict[int, frozenset[str]] = field(default_factory=dict)


class Batch:
    """Makes many runs. All but `stop` is for the thread that calls `run`.

    :param jobs: the job of a run, by its index; where it names a server, it is made by that one.
    :param servers: the servers at first, and *changes* tells when they are others.
    :param todo: the runs to be made, in order.
    :param begun: attempts of an earlier command whose end isn't known: their prompts are looked for first.
    """

    def __init__(
        self,
        session: Session,
        jobs: Callable[[int], Job],
        books: Books,
        servers: Sequence[Server],
        *,
        changes: Changes = lambda: None,
        todo: Iterable[Item],
        begun: Iterable[Begun],
        access: Access,
        manners: Manners,
    ) -> None:
        self._session = session
        self._jobs = jobs
        self._books = books
        self._changes = changes
        self._manners = manners
        self._timing = session.timing
        self._merger = Merger(session)
        self._inbox: queue.SimpleQueue[_Ended | _Queue | _Stop | Probed] = queue.SimpleQueue()
        self._pool = Pool(access, self._timing, self._merger, put=self._inbox.put, now=session.elapsed)
        self._pool.use(servers)
        self._course = _Course()
        self._attempts: dict[int, Attempt] = {}
        self._begun = list(begun)
        adopted = {each.index for each in self._begun}
        self._waiting = Waiting(item for item in todo if item.index not in adopted)
        self._changes_at = 0.0

    # --- from outside

    def stop(self) -> None:
        """The user wants to stop: the first time cancels what is queued or runs, the second leaves. From any thread."""
        self._inbox.put(_Stop())

    def run(self) -> None:
        """Make all runs; returns when the last has ended, or when no more are to be begun and the begun ones have."""
        try:
            self._make_runs()
        except Exception as error:  # noqa: BLE001  whatever it is, the stream has an end
            for attempt in self._attempts.values():
                attempt.stop()
            self._session.fail(error)
        for index, attempt in list(self._attempts.items()):
            # It didn't end in time: what it still tells comes too late.
            attempt.abandon()
            self._end(self._unbegun(index, KeyboardInterrupt()))
        if self._course.stops and not self._course.stop_told:
            self._end_next(KeyboardInterrupt())

    def _make_runs(self) -> None:
        self._look_at_servers()
        for begun in self._begun:
            self._adopt(begun)
        while not self._is_done():
            self._hear()
            for warning in self._session.watch():
                self._merger.emit(ev.Warning, code="slow_reporter", message=warning)
            if not self._course.over:
                self._look_at_servers()
                self._give_up_if_hopeless()

    def _is_done(self) -> bool:
        """Begin what can be begun; whether nothing is left, or nothing is waited for any more."""
        self._assign()
        if not self._attempts and (self._course.over or self._waiting.first() is None):
            return True
        return self._session.elapsed() >= self._course.leave_at

    # --- what waits

    def _look_at_servers(self) -> None:
        now = self._session.elapsed()
        if now >= self._changes_at:
            self._changes_at = now + self._timing.queue_refresh
            try:
                servers = self._changes()
            except ComfyReportError as error:
                self._merger.emit(ev.Warning, code="servers_kept", message=f"{error.message} ({error.hint})")
                servers = None
            if servers is not None:
                self._pool.use(servers)
        self._pool.look()

    # --- beginning

    def _assign(self) -> None:
        while not self._course.over:
            chosen = scheduler.choose(self._pool.loads, self._waiting, self._manners.kept)
            if chosen is None:
                return
            load, item = chosen
            server = self._pool.named(load.name)
            assert server is not None
            self._begin(server, item)

    def _adopt(self, begun: Begun) -> None:
        """Follow, on its own server, what an earlier command has begun; if it isn't there now, it is begun anew."""
        server = self._pool.named(begun.server)
        if server is None and begun.server != SIMULATED:
            # One that is given nothing else.
            server = server_of(begun.server)
            self._pool.add_retired(server)
            self._session.announce(f"run {begun.index} was begun on {server.load.name}: it is looked for there first")
        if server is None or begun.server == SIMULATED:
            # It ended with that command.
            self._books.give_up(begun.index)
            self._waiting.put_back(Item(begun.index))
            return
        job = self._adoption(server, begun)
        with contextlib.suppress(ComfyReportError):
            # What a plugin refuses now, it had taken then.
            job = prepared(job)
        self._start(server, Item(begun.index), replace(job, prepare=None), begun=begun)

    def _begin(self, server: Server, item: Item) -> None:
        try:
            job = prepared(self._submission(server, item.index))
        except ComfyReportError as error:
            self._end(self._unbegun(item.index, error))
            return
        try:
            self._books.begin(item.index, server.load.name, job.prompt_id, job.client_id)
        except ComfyReportError as error:
            self._end(self._unbegun(item.index, error))
            self._begin_no_more(error.message)
            return
        server.load.model = item.model
        self._start(server, item, job)

    def _start(self, server: Server, item: Item, job: Job, begun: Begun | None = None) -> None:
        server.load.own += 1
        self._course.items[item.index] = item
        attempt = self._attempts[item.index] = Attempt(
            self._session,
            job,
            item.index,
            server.load.name,
            timing=self._pace(),
            adopted=begun is not None,
            stopped=begun is not None and begun.stopped,
            publish=self._merger.publish,
            on_queue=lambda attempt, event: self._inbox.put(_Queue(attempt, event)),
            on_end=lambda attempt, result, fault: self._inbox.put(_Ended(attempt, result, fault)),
        )
        try:
            attempt.start()
        except RuntimeError as error:
            # The machine gives no thread.
            del self._attempts[item.index]
            server.load.own -= 1
            self._end(self._unbegun(item.index, error))
            self._begin_no_more("the machine gives no thread")

    def _pace(self) -> Timing:
        """The waits of a run: the more there are, the rarer each of them looks after itself."""
        share = max(1.0, len(self._attempts) / 8)
        timing = self._timing
        return replace(timing, tick=timing.tick * min(share, 10), batch_pause=timing.batch_pause * min(share, 25))

    def _submission(self, server: Server, index: int) -> Job:
        return replace(self._job(server, index), prompt_id=str(uuid.uuid4()), client_id=uuid.uuid4().hex)

    def _adoption(self, server: Server, begun: Begun) -> Job:
        timing = self._timing
        wait = timing.lost_after_refused if server.address.loopback else timing.lost_after
        job = self._job(server, begun.index, wait_for_server=wait)
        return replace(job, begun=True, prompt_id=begun.prompt_id, client_id=begun.client_id)

    def _job(self, server: Server, index: int, wait_for_server: float = 0.0) -> Job:
        job = self._jobs(index)
        options = replace(job.options, wait_for_server=wait_for_server, cancel_late=True)
        simulated = server.address if server.text == SIMULATED else None
        return replace(job, server=server.text, simulated=simulated, options=options)

    # --- what is heard

    def _hear(self) -> None:
        """Take in what waits, or what comes within a moment."""
        seconds = self._timing.tick
        try:
            while True:
                self._handle(take(self._inbox, seconds))
                seconds = 0.0
        except queue.Empty:
            pass

    def _handle(self, item: _Ended | _Queue | _Stop | Probed) -> None:
        if isinstance(item, _Ended):
            self._on_end(item)
        elif isinstance(item, _Queue):
            self._on_queue(item)
        elif isinstance(item, Probed):
            self._pool.take(item)
        else:
            self._on_stop()

    def _on_queue(self, item: _Queue) -> None:
        event, attempt = item.event, item.attempt
        if isinstance(event, ev.RunQueued):
            if event.prompt_id not in (None, attempt.asked_id) and self._attempts.get(attempt.index) is attempt:
                self._books.renamed(attempt.index, attempt.prompt_id)
        elif event.remaining is not None:
            server = self._pool.named(attempt.server)
            if server is not None:
                self._pool.note_queue(server, event.remaining)

    def _on_end(self, item: _Ended) -> None:
        attempt, result = item.attempt, item.result
        if self._attempts.pop(attempt.index, None) is None:
            return
        if result is None:
            # run_job raises nothing but what somebody has thrown into its thread.
            result = self._unbegun(attempt.index, item.fault or RuntimeError("it has no end"))
        server = self._pool.named(attempt.server)
        assert server is not None
        server.load.own -= 1
        index = attempt.index
        tried = self._course.tried.get(index, frozenset()) | {attempt.server}
        others = sum(each.usable and each.name not in tried for each in self._pool.loads)
        attempts, unreached = self._course.attempts, self._course.unreached
        if result.status == "unreachable":
            unreached[index] = unreached.get(index, 0) + 1
            if attempt.adopted:
                # An earlier command has submitted it.
                result = replace(result, prompt_state="unknown", submitted="unknown")
        elif not attempt.adopted:
            attempts[index] = attempts.get(index, 0) + 1
        course = scheduler.after(
            result,
            attempts=attempts.get(index, 0),
            retries=self._manners.retries,
            others=others,
            unreached=unreached.get(index, 0),
            adopted=attempt.adopted,
            stopped=attempt.stopped,
        )
        if course.aside:
            self._pool.set_aside(server, reason_of(result))
        if course.again and not self._course.over:
            self._again(attempt, result, course, tried if course.elsewhere else frozenset())
            return
        self._pool.ended(server, result)
        self._end(result)

    def _again(self, attempt: Attempt, result: ev.RunFinished, course: Next, tried: frozenset[str]) -> None:
        """The run is begun once more, where it wasn't tried yet if it was refused."""
        index = attempt.index
        if course.unsure:
            server = self._pool.named(attempt.server)
            if server is not None:
                # It may have it still, and come back.
                server.moved.add(attempt.prompt_id)
        self._course.held[index] = result
        if tried:
            self._course.tried[index] = tried
        if not course.unsure:
            # Else it is looked for before anything else, should this command end here.
            self._books.give_up(index)
        message = f"it is to be begun again: {reason_of(result)}"
        self._merger.emit(ev.Warning, run_index=index, code="run_moved", message=message)
        self._waiting.put_back(replace(self._course.items[index], tried=tried))

    def _end(self, result: ev.RunFinished) -> None:
        """The run's end is told, and nothing more becomes of it."""
        index = result.run_index or 0
        course = self._course
        for known in (course.held, course.tried, course.items, course.attempts, course.unreached):
            known.pop(index, None)
        self._course.stop_told = self._course.stop_told or result.status in STOPPED
        self._books.end(result)
        self._merger.publish([result])
        if self._books.stopped_by is not None and not self._course.over:
            self._begin_no_more(f"run {self._books.stopped_by} failed")

    def _begin_no_more(self, why: str) -> None:
        """Cancel what waits on the servers; what runs there comes to its end."""
        self._close()
        self._books.stopping()
        cancel = Cancel("cancelled", "cancelled", f"cancelled because {why}", "--keep-going goes on behind a failure")
        for attempt in self._attempts.values():
            attempt.cancel(cancel, waiting=True)

    def _give_up_if_hopeless(self) -> None:
        """Without a server that can be used, and none that may come, the next run ends, and no other is begun."""
        error = None if self._attempts else self._pool.hopeless(self._manners.wait_for_server)
        if error is not None and not self._close():
            self._end_next(error)

    def _close(self) -> bool:
        """Begin no run any more: those that were lost end so; whether there are such."""
        self._course.over = True
        held = [result for index, result in self._course.held.items() if index not in self._attempts]
        for result in held:
            self._end(result)
        return bool(held)

    def _end_next(self, error: BaseException) -> None:
        """The next run, which is begun no more, ends by *error*: somebody must tell it."""
        first = self._waiting.first()
        if first is not None:
            self._end(self._unbegun(first.index, error))

    def _unbegun(self, index: int, error: BaseException) -> ev.RunFinished:
        """The end of a run that wasn't begun."""
        context = SharedContext(self._session, lambda events: None, run_index=index, server="", timing=self._timing)
        context.fail(error)
        return replace(context.results[-1], server=None)

    def _on_stop(self) -> None:
        course = self._course
        course.stops += 1
        self._close()
        self._books.stopping()
        for attempt in self._attempts.values():
            attempt.stop()
        if course.stops > 1:
            course.leave_at = min(course.leave_at, self._session.elapsed() + self._timing.leave_wait)
            self._session.leave()
