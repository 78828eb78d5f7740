"""Many runs of a program: they are made in the background, and their ends are given as they come."""

from __future__ import annotations

import atexit
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Protocol

from comfyreport import events as ev
from comfyreport.errors import ComfyReportError
from comfyreport.jobs.session import ReporterLoading, Session, complain_to_stderr
from comfyreport.reporting.hookspecs import hookimpl
from comfyreport.timing import Timing
from comfyreport.worker import take, turns


class Work(Protocol):
    """What makes the runs of a session."""

    def run(self) -> None:
        """Make them; returns when all have ended."""

    def stop(self) -> None:
        """The user wants to stop: the first time cancels, the second leaves. From any thread."""


class Ready(Protocol):
    """Runs that can be made: `total` is how many."""

    total: int

    def work(self, session: Session, stack: ExitStack) -> Work:
        """What makes them; the stack is closed behind it. Blocks. Raises ComfyReportError."""


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

    :param prepare: makes them ready, in the background; the stack is closed behind all. Raises ComfyReportError.
    :param server: what the stream tells as its server.
    """

    def __init__(
        self, loading: ReporterLoading, prepare: Callable[[ExitStack], Ready], *, server: str, timing: Timing
    ) -> None:
        self._loading = loading
        self._prepare = prepare
        self._server = server
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
            with ExitStack() as stack:
                ready: Ready | None = None
                error: ComfyReportError | None = None
                try:
                    ready = self._prepare(stack)
                except ComfyReportError as raised:
                    error = raised
                self._tell(ready, error, stack)
        except BaseException as fault:  # noqa: BLE001  raised where it was called
            self._fault = fault
        self._over = True
        self._collector.ends.put(None)

    def _tell(self, ready: Ready | None, error: ComfyReportError | None, stack: ExitStack) -> None:
        """The stream, from its first event to its last."""
        session = Session(
            self._loading.plugins,
            command="run",
            server=self._server,
            timing=self._timing,
            complain=complain_to_stderr,
            runs_total=1 if ready is None else ready.total,
        )
        try:
            if ready is None:
                session.fail(error or KeyboardInterrupt())
                return
            self._working = ready.work(session, stack)
            self._pass_stops_on()
            self._working.run()
        except Exception as raised:  # noqa: BLE001  whatever it is, it is told as an end
            session.fail(raised)
        finally:
            self._working = None
            session.finish()
