"""Polling over HTTP: where the prompt is, its place in the queue, and to cancel it.

Nothing here blocks: each look is a call in the background that comes back through the inbox. What it means for the run
is decided here, on the loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from comfyreport import events as ev
from comfyreport.engine.liveness import Liveness
from comfyreport.engine.schedule import PollSchedule, RequestBudget
from comfyreport.engine.sources import CallDone, CallKind, Sources
from comfyreport.engine.submission import Submission
from comfyreport.errors import UnreachableError
from comfyreport.events import Instant
from comfyreport.net.client import Client
from comfyreport.net.lookup import Lookup, Lookups
from comfyreport.protocol import responses
from comfyreport.run import Run, verdict
from comfyreport.timers import Timers

# How many requests a call makes where it is known which routes the server has.
_LOOK, _CANCEL, _QUEUE = 2, 4, 1
# What says that the server answers, and will not tell.
_FINAL_ERRORS = ("auth", "not_comfyui", "server_error")


class Poller:
    """Asks over HTTP how the run goes, politely.

    `next_look` is the timer of the next look for the prompt, `next_queue_look` that of its place in the queue.
    `refusal` is what the server answered last in the place of its history or its queue.
    """

    def __init__(
        self,
        run: Run,
        client: Client,
        sources: Sources,
        timers: Timers,
        liveness: Liveness,
        submission: Submission,
        *,
        publish: Callable[[Sequence[ev.Event]], None],
        clock: Callable[[], Instant],
    ) -> None:
        self._run = run
        self._lookups = Lookups(client)
        self._sources = sources
        self.next_look = timers.add(self.look)
        self.next_queue_look = timers.add(self._look_at_queue)
        self._liveness = liveness
        self._submission = submission
        self._publish = publish
        self._clock = clock
        self._timing = client.timing
        self._schedule = PollSchedule(client.timing)
        self._budget = RequestBudget(client.timing.request_interval)
        self._cancel_attempt = ""
        self._cancel_error = ""
        self.refusal: UnreachableError | None = None

    @property
    def cancel_attempt(self) -> str:
        """What was done to cancel the prompt, in words; why nothing could be, where that is so."""
        return self._cancel_attempt or self._cancel_error

    @property
    def absent(self) -> bool:
        """Whether the server last had the prompt in neither queue nor history."""
        return self._schedule.absent

    def reset(self) -> None:
        """The socket tells of the run: no need to ask."""
        self.next_look.disarm()
        self._schedule.reset()

    # --- asking

    def look(self) -> None:
        """Look where the prompt is; where it is to be cancelled, do that."""
        busy = self._sources.busy
        cancelling = self._run.outcome.cancelling
        # An attach learns from the queue which workflow it is, and whose.
        graphs = not self._run.manifest or self._run.client_id is None
        call: Callable[[Lookups, str], Lookup] = partial(Lookups.look_up, graphs=graphs)
        kind, count = CallKind.LOOK, _LOOK
        submission_lookup = self._submission.look(self._sources.client_id)
        if submission_lookup is not None:
            call = submission_lookup
        elif cancelling:
            kind, count = CallKind.CANCEL, _CANCEL
            runs, now = self._run.started, self._clock().elapsed
            sure = runs and not self._run.outcome.ended and not self._cancel_attempt and self._liveness.alive(now)
            call = partial(Lookups.cancel_and_look_up, runs=runs, sure=sure)
        if kind in busy:
            return
        if kind is CallKind.LOOK and busy & {CallKind.CANCEL, CallKind.QUEUE}:
            # One request at a time.
            self.next_look.arm(self._timing.history_poll)
            return
        wait = self._take_requests(count, urgent=cancelling)
        if wait:
            self.next_look.arm(wait)
        else:
            prompt_id = self._run.prompt_id
            on_done = partial(self._look_done, began=self._clock().elapsed, prompt_id=prompt_id)
            self._sources.call(kind, lambda: call(self._lookups, prompt_id), on_done)

    def _look_at_queue(self) -> None:
        """The prompt waits, and the queue moved: which place has it now?"""
        if self._run.started or self._sources.busy & {CallKind.CANCEL, CallKind.LOOK, CallKind.QUEUE}:
            return
        wait = self._take_requests(_QUEUE)
        if wait:
            self.next_queue_look.arm(wait)
        else:
            self._sources.call(CallKind.QUEUE, lambda: self._lookups.queue()[0], self._queue_done)

    def _take_requests(self, count: int, *, urgent: bool = False) -> float:
        """Seconds to wait before a call that makes so many requests; 0 where it may go now."""
        return self._budget.take(count + self._lookups.extra_requests, self._clock().elapsed, urgent=urgent)

    # --- what came of it

    def _look_done(self, item: CallDone, *, began: float, prompt_id: str) -> None:
        """A look for *prompt_id* came back that *began* then."""
        error, run = item.error, self._run
        if error is None and prompt_id != run.prompt_id:
            # The server has told meanwhile that it has the prompt under another id: this tells nothing of that one.
            self._publish(self._liveness.answered(self._clock(), in_queue=None))
        elif error is None:
            self._take(item.value, began)
        elif isinstance(error, UnreachableError) and error.code in _FINAL_ERRORS and not error.retryable:
            self._take(Lookup(None, None, readable=False, error=error), began)
        else:
            self._liveness.call_failed(error)
            self._cancel_error = f"the server could not be asked to cancel it ({error})"
        if run.verdict is not None:
            return
        cancelling = run.outcome.cancelling
        if run.ending or cancelling or not self._liveness.alive(self._clock().elapsed):
            self.next_look.arm_sooner(self._schedule.next_delay(cancelling=cancelling, ending=run.ending))

    def _queue_done(self, item: CallDone) -> None:
        """The queue was read."""
        if item.error is not None:
            self._liveness.call_failed(item.error)
        if not isinstance(item.value, responses.Queue):
            return
        in_queue = item.value.position(self._run.prompt_id) is not None
        self._publish(self._liveness.answered(self._clock(), in_queue=in_queue))
        if not self._run.started:
            if in_queue:
                self._present(item.value)
            else:
                self._publish(self._run.feed(item.value, self._clock()))
                self.next_look.arm_sooner(0.0)

    def _take(self, result: Lookup, began: float) -> None:
        run = self._run
        self.refusal = result.error
        self._liveness.spectator = run.client_id not in (None, self._sources.client_id)
        if result.queue_before is not None and result.queue_before.position(run.prompt_id) is not None:
            # Wherever it is now: the server had it, and perhaps had begun with it, which the socket may not have told.
            self._publish(self._liveness.answered(self._clock(), in_queue=True))
            self._present(result.queue_before)
        self._cancel_attempt = result.cancel_attempt or self._cancel_attempt
        location = result.location(run.prompt_id)
        in_queue = None if result.queue is None else location == "queue"
        self._publish(self._liveness.answered(self._clock(), in_queue=in_queue))
        if result.history is not None:
            self._publish(run.feed(result.history, self._clock()))
        elif result.queue is not None and location == "queue":
            # An end without a word on how it ended was none of this prompt's.
            run.outcome.worker_done = False
            self._present(result.queue)
        elif result.assigned_id is not None:
            self._publish(run.feed(responses.Accepted(result.assigned_id), self._clock()))
            self.next_look.arm(0.0)
        elif result.deleted:
            self._cancelled()
        elif location == "nowhere":
            self._absent(began)
        else:
            self._unreadable(result.error)

    def _unreadable(self, error: UnreachableError | None) -> None:
        """The server answers, but not so that it could be known where the prompt is."""
        run, refused = self._run, self._submission.if_absent
        # Where the submission was answered in such a way too, it is soon clear that nothing else will come.
        doubtful = refused is not None and not run.queued
        limit = self._timing.handover if doubtful else self._timing.lost_after
        if not self._schedule.unreadable(self._clock().elapsed, limit):
            return
        if refused is not None and doubtful:
            run.conclude(refused._replace(prompt_state="unknown", submitted="unknown"))
        else:
            run.conclude(verdict.unreadable(run.outcome, run.nodes, error))

    def _present(self, queue: responses.Queue) -> None:
        """The prompt is in *queue*."""
        self._schedule.present()
        self._publish(self._run.feed(queue, self._clock()))

    def _absent(self, began: float) -> None:
        """A look that *began* then found that the server answers, and has the prompt in neither queue nor history."""
        run, liveness = self._run, self._liveness
        if self._submission.pending or not self._schedule.gone(began, self._clock().elapsed):
            # The server may take its time to check a workflow before it takes it.
            return
        was_down, dropped = liveness.was_down, liveness.dropped
        never_taken = self._submission.if_absent
        if never_taken is not None and not run.queued and not run.outcome.cancelling:
            run.conclude(never_taken)
        elif run.queued and not run.started and not was_down and not dropped:
            if run.outcome.cancelling:
                self._cancelled()
            else:
                run.conclude(verdict.deleted())
        else:
            seen = run.queued or not run.attached
            run.conclude(verdict.vanished(run.outcome, run.nodes, seen=seen, was_down=was_down, dropped=dropped))

    def _cancelled(self) -> None:
        cancel = self._run.outcome.cancel or verdict.BY_USER
        self._run.conclude(cancel.confirmed(" while it waited in the queue"))
