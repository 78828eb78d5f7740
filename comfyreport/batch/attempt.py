"""One attempt at a run, on a thread of its own: submitted to one server and followed to its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from comfyreport import events as ev
from comfyreport.engine.loop import Loop
from comfyreport.jobs.job import Job, run_job
from comfyreport.jobs.run_context import RunContext, SharedContext
from comfyreport.run.verdict import Cancel
from comfyreport.timing import Timing

Wish = Callable[[Loop], None]


class Attempt:
    """Follows *job* in the background; its end is told to *on_end*, on that thread, on every path.

    :param server: its address without credentials.
    :param adopted: an earlier command has submitted it, and, where *stopped*, was about to cancel it.
    :param publish: takes the run's events, but for its end.
    :param on_queue: is told of the server's queue, and of the prompt once the server has it.
    """

    def __init__(
        self,
        session: RunContext,
        job: Job,
        index: int,
        server: str,
        *,
        timing: Timing,
        adopted: bool,
        stopped: bool,
        publish: Callable[[Sequence[ev.Event]], None],
        on_queue: Callable[[Attempt, ev.RunQueued | ev.QueueChanged], None],
        on_end: Callable[[Attempt, ev.RunFinished | None, BaseException | None], None],
    ) -> None:
        self.index = index
        self.server = server
        self.adopted = adopted
        self.stopped = stopped
        self.prompt_id = self.asked_id = job.prompt_id
        self._job = job
        self._publish = publish
        self._on_queue = on_queue
        self._on_end = on_end
        self._context = SharedContext(session, self._tell, run_index=index, server=server, timing=timing)
        # The loop comes later than what may be wished of it.
        self._lock = threading.Lock()
        self._loop: Loop | None = None
        self._wishes: list[Wish] = []

    def start(self) -> None:
        """Begin. RuntimeError where the machine gives no thread."""
        threading.Thread(target=self._work, name=f"comfyreport-run-{self.index}", daemon=True).start()

    # --- from outside

    def stop(self) -> None:
        """The user wants to stop: the first time cancels, the second leaves."""
        self._wish(lambda loop: loop.stop())

    def cancel(self, cancel: Cancel, *, waiting: bool) -> None:
        """Cancel the prompt, *waiting*: unless it runs."""
        self._wish(lambda loop: loop.cancel(cancel, waiting=waiting))

    def abandon(self) -> None:
        """What it tells from now on is lost."""
        self._publish = lambda events: None

    def _wish(self, wish: Wish) -> None:
        with self._lock:
            if self._loop is None:
                self._wishes.append(wish)
            else:
                wish(self._loop)

    # --- on its own thread

    def _work(self) -> None:
        result: ev.RunFinished | None = None
        fault: BaseException | None = None
        try:
            result = run_job(self._context, self._job, on_loop=self._take_loop)
        except BaseException as error:  # noqa: BLE001  whoever waits for its end must hear of it
            fault = error
        self._on_end(self, result, fault)

    def _take_loop(self, loop: Loop) -> None:
        with self._lock:
            self._loop = loop
            for wish in self._wishes:
                wish(loop)

    def _tell(self, events: Sequence[ev.Event]) -> None:
        for event in events:
            if isinstance(event, ev.RunQueued):
                self.prompt_id = event.prompt_id or self.prompt_id
                self._on_queue(self, event)
            elif isinstance(event, ev.QueueChanged):
                self._on_queue(self, event)
        self._publish(events)
