"""Many runs of a program: they are made in the background, and their ends are given as they come."""

from __future__ import annotations

import atexit
import queue
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, suppress
from typing import Protocol

from comfyreport import events as ev
from comfyreport.access.credentials import Access
from comfyreport.batch.batch import Batch, Manners
from comfyreport.batch.books import NoBooks
from comfyreport.batch.pool import server_of
from comfyreport.batch.scheduler import KEPT, Item
from comfyreport.errors import ComfyReportError
from comfyreport.fleet.dask import connect
from comfyreport.fleet.engine import PoolEngine
from comfyreport.fleet.fleet import Fleet
from comfyreport.jobs.job import Job
from comfyreport.jobs.session import ReporterLoading, Session, complain_to_stderr
from comfyreport.jobs.simulating import SIMULATED, start_simulator
from comfyreport.net.same_server import check_apart
from comfyreport.reporting.hookspecs import hookimpl
from comfyreport.timing import Timing
from comfyreport.worker import take, turns


class Work(Protocol):
    """What makes the runs of a session."""

    def run(self) -> None:
        """Make them; returns when all have ended."""

    def stop(self) -> None:
        """The user wants to stop: the first time cancels, the second leaves. From any thread."""


Begin = Callable[[Session, ExitStack], Work]
"""Makes the work of a session, on its thread; the stack is closed behind it. Raises ComfyReportError."""


class _Collector:
    """A reporter that keeps the ends of runs for an iterating thread; None is the last."""

    def __init__(self) -> None:
        self.ends: queue.SimpleQueue[ev.RunFinished | None] = queue.SimpleQueue()

    @hookimpl
    def comfyreport_run_finished(self, event: ev.RunFinished) -> None:
        """Keep *event*."""
        self.ends.put(event)


class Many:
    """The runs of one call. Nothing begins before `results` is iterated.

    :param server: what the stream tells as its server.
    """

    def __init__(self, loading: ReporterLoading, begin: Begin, *, server: str, runs_total: int, timing: Timing) -> None:
        self._loading = loading
        self._begin = begin
        self._server = server
        self._runs_total = runs_total
        self._timing = timing
        self._collector = _Collector()
        # Whoever takes a token passes it on: there may be nothing to stop yet.
        self._stops: deque[None] = deque()
        self._working: Work | None = None
        self._fault: BaseException | None = None
        self._over = False

    def results(self) -> Iterator[ev.RunFinished]:
        """The ends of the runs, in the order in which they come.

        Whoever stops iterating cancels what is queued and what runs, and so does a KeyboardInterrupt, which is raised
        once all ends are told; a second one leaves at once. Raises ReporterError.
        """
        self._loading.go_on()
        self._loading.plugins.add_object(self._collector, "run_many")
        threading.Thread(target=self._work, name="comfyreport-many", daemon=True).start()
        atexit.register(self._end_early)
        interrupted: KeyboardInterrupt | None = None
        try:
            while True:
                try:
                    end = self._next()
                except KeyboardInterrupt as error:
                    interrupted = error
                    self._stop()
                    continue
                if end is None:
                    break
                yield end
        finally:
            self._end_early()
        fault = interrupted or self._fault
        if fault is not None:
            raise fault

    def _next(self) -> ev.RunFinished | None:
        for seconds in turns():
            with suppress(queue.Empty):
                return take(self._collector.ends, seconds)
        return None

    def _end_early(self) -> None:
        """Stop, and wait for the end of the stream."""
        atexit.unregister(self._end_early)
        interrupted: KeyboardInterrupt | None = None
        if not self._over:
            self._stop()
        while not self._over:
            try:
                self._next()
            except KeyboardInterrupt as error:
                interrupted = error
                self._stop()
        if interrupted is not None:
            raise interrupted

    def _stop(self) -> None:
        self._stops.append(None)
        self._pass_stops_on()

    def _pass_stops_on(self) -> None:
        while self._working is not None and self._stops:
            with suppress(IndexError):
                self._stops.pop()
                self._working.stop()

    # --- on a thread of its own

    def _work(self) -> None:
        try:
            session = Session(
                self._loading.plugins,
                command="run",
                server=self._server,
                timing=self._timing,
                complain=complain_to_stderr,
                runs_total=self._runs_total,
            )
            try:
                with ExitStack() as stack:
                    self._working = self._begin(session, stack)
                    self._pass_stops_on()
                    self._working.run()
            except ComfyReportError as error:
                session.fail(error)
            finally:
                self._working = None
                session.finish()
        except BaseException as fault:  # noqa: BLE001  raised where it was called
            self._fault = fault
        self._over = True
        self._collector.ends.put(None)


def by_engine(executor: Executor | str, jobs: Sequence[Job], *, retries: int, keep_going: bool) -> Begin:
    """What makes *jobs* through *executor*, or through the engine at that address."""

    def begin(session: Session, stack: ExitStack) -> Work:
        command = uuid.uuid4().hex
        engine = connect(executor, command) if isinstance(executor, str) else PoolEngine(executor)
        stack.callback(engine.close)
        return Fleet(
            session,
            engine,
            NoBooks(keep_going=keep_going),
            lambda index: jobs[index - 1],
            command=command,
            todo=range(1, len(jobs) + 1),
            retries=retries,
        )

    return begin


def by_servers(servers: Sequence[str], jobs: Sequence[Job], *, access: Access, retries: int, keep_going: bool) -> Begin:
    """What makes *jobs* in this process, on *servers* and those that jobs name. Raises UsageError where one is none."""
    texts = list(dict.fromkeys([*servers, *(job.server_text for job in jobs if job.server or not servers)]))
    limited = any(job.options.timeout or job.options.max_eta for job in jobs)
    wait = max((job.options.wait_for_server for job in jobs), default=0.0)

    def begin(session: Session, stack: ExitStack) -> Work:
        simulated = start_simulator(stack) if SIMULATED in texts else None
        found = [server_of(text, simulated if text == SIMULATED else None) for text in texts]
        check_apart([server.address for server in found], limit=session.timing.connect_timeout)
        names = {server.text: server.load.name for server in found}
        told = [found]
        return Batch(
            session,
            lambda index: jobs[index - 1],
            NoBooks(keep_going=keep_going),
            lambda: told.pop() if told else None,
            todo=(Item(index, only=names.get(job.server, "")) for index, job in enumerate(jobs, 1)),
            begun=(),
            access=access,
            manners=Manners(kept=1 if limited else KEPT, retries=retries, wait_for_server=wait),
        )

    return begin
