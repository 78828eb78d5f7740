"""A call of the Python API: a run that ends as it should, whenever a KeyboardInterrupt comes."""

from __future__ import annotations

import _thread
import contextlib
import queue
import time
from collections import deque
from collections.abc import Iterator

from comfyreport.engine.loop import Loop
from comfyreport.errors import UsageError
from comfyreport.events import RunFinished
from comfyreport.jobs.interrupts import BLOCKED_SECONDS, Wishes
from comfyreport.jobs.job import Job, run_job
from comfyreport.jobs.session import ReporterLoading, Session, complain_to_stderr
from comfyreport.timing import Timing
from comfyreport.worker import take, turns


class _LeftBehind(SystemExit):
    """Ends a thread that was blocked and comes too late; threads end by SystemExit without a word."""


class Call:
    """One run: its reporters are loaded on the thread that calls, all else is done on one of its own.

    A KeyboardInterrupt is raised in the midst of whatever the main thread does, with a lock in its hands for one, which
    would never be given back. So that thread waits only: the first cancels, the second leaves at once, and the last is
    raised once the reporters are closed.

    :param error: what makes the run end before it begins.
    """

    def __init__(
        self, command: str, job: Job, loading: ReporterLoading, timing: Timing, error: UsageError | None
    ) -> None:
        self._command = command
        self._job = job
        self._loading = loading
        self._timing = timing
        self._early_error: BaseException | None = error
        self._session: Session | None = None
        self._loop: Loop | None = None
        self._wishes = Wishes()
        self._stopped_at = 0.0
        # What may be done once is a token in a list: whoever takes it does it.
        self._to_begin: list[None] = [None]
        self._stops: deque[None] = deque()
        self._blockable: list[None] = []
        self._ends: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._ended = False
        self._fault: BaseException | None = None

    def run(self) -> RunFinished:
        """Do it; the run's end. Raises the last KeyboardInterrupt that came, or what `ReporterLoading` raises."""
        interrupted: KeyboardInterrupt | None = None
        heard = True
        while True:
            try:
                while not self._ended:
                    if not heard:
                        heard = True
                        self._stop()
                    self._loading.go_on()
                    if self._to_begin:
                        self._early_error = interrupted or self._early_error
                        # Not a Thread: the lock with which one waits for its start would be in the main thread's hands.
                        _thread.start_new_thread(self._work, ())
                    self._wait()
                break
            except KeyboardInterrupt as error:
                interrupted, heard = error, False
        if interrupted is not None:
            raise interrupted
        if self._fault is not None:
            raise self._fault
        assert self._session is not None
        return self._session.results[-1]

    # --- on the thread that calls

    def _wait(self) -> None:
        for seconds in turns():
            if self._ended:
                return
            with contextlib.suppress(queue.Empty):
                take(self._ends, seconds)
            if self._wishes.count and time.monotonic() - self._stopped_at > BLOCKED_SECONDS:
                self._leave_blocked()

    def _stop(self) -> None:
        if self._wishes.note():
            self._stopped_at = time.monotonic()
            self._stops.append(None)
        self._pass_stops_on()
        if self._wishes.count > 1 and self._session is not None:
            self._session.leave()

    def _leave_blocked(self) -> None:
        """Go on without what was blocked before there was anything to stop, and still is."""
        if _taken(self._blockable):
            _thread.start_new_thread(self._finish_early, (KeyboardInterrupt(),))

    # --- on a thread of its own

    def _work(self) -> None:
        if not _taken(self._to_begin):
            return
        try:
            self._session = session = Session(
                self._loading.plugins,
                command=self._command,
                server=self._job.shown_server,
                timing=self._timing,
                complain=complain_to_stderr,
            )
            if self._early_error is None:
                run_job(session, self._job, preparing=self._preparing(), on_loop=self._take_loop)
        except _LeftBehind:
            return
        except BaseException as error:  # noqa: BLE001  raised where it was called
            self._fault = error
        self._finish_early(self._early_error)

    def _finish_early(self, error: BaseException | None) -> None:
        """Tell the end that *error* makes, if there is one, and close the reporters."""
        session = self._session
        try:
            if session is not None:
                if error is not None:
                    session.fail(error)
                session.finish()
        except BaseException as fault:  # noqa: BLE001  raised where it was called
            self._fault = fault
        self._ended = True
        self._ends.put(None)

    @contextlib.contextmanager
    def _preparing(self) -> Iterator[None]:
        """What may block before there is a loop."""
        self._blockable.append(None)
        try:
            yield
        finally:
            if not _taken(self._blockable):
                raise _LeftBehind

    def _take_loop(self, loop: Loop) -> None:
        self._loop = loop
        self._pass_stops_on()

    def _pass_stops_on(self) -> None:
        """Tell the loop, as soon as there is one, of each wish to stop, once."""
        loop = self._loop
        while loop is not None and self._stops:
            with contextlib.suppress(IndexError):
                self._stops.pop()
                loop.stop()


def _taken(tokens: list[None]) -> bool:
    """Take the token, if it is still there."""
    try:
        tokens.pop()
    except IndexError:
        return False
    return True
