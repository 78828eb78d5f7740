"""The second witness as the loop asks it: where the prompt is, its place in the queue, and to cancel it.

Nothing here blocks: each look is an errand whose outcome comes back through the inbox. What it means for the run is
decided here, on the loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from comfyreport import events as ev
from comfyreport.engine.liveness import Liveness
from comfyreport.engine.lookup import Lookup, PollSchedule, RequestBudget, cancel_and_look_up, look_up
from comfyreport.engine.sources import CallDone, Sources
from comfyreport.engine.submission import Submission
from comfyreport.engine.timers import Timers
from comfyreport.errors import UnreachableError
from comfyreport.events import Instant
from comfyreport.net.client import Client
from comfyreport.protocol import responses
from comfyreport.run import Run, verdict

# How many requests an errand makes.
_LOOK, _CANCEL, _QUEUE = 2, 4, 1
# What says that the server answers, and will not tell.
_REFUSALS = ("auth", "not_comfyui", "server_error")


class Poller:
    """Asks over HTTP how the run goes, politely. Its timers are `look` and `queue`."""

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
        self._client = client
        self._sources = sources
        self._timers = timers
        self._liveness = liveness
        self._submission = submission
        self._publish = publish
        self._clock = clock
        self._timing = client.timing
        self._schedule = PollSchedule(client.timing)
        self._budget = RequestBudget(client.timing.request_interval)
        self._tried = ""
        self._unasked = ""

    @property
    def tried(self) -> str:
        """What was done to cancel the prompt, in words; why nothing could be, where that is so."""
        return self._tried or self._unasked

    def reset(self) -> None:
        """The socket tells of the run: no need to ask."""
        self._timers.drop("look")
        self._schedule.reset()

    # --- asking

    def look_due(self) -> None:
        """Look where the prompt is; where it is to be cancelled, do that."""
        busy = self._sources.busy
        cancelling = self._run.outcome.cancelling
        call: Callable[[Client, str], Lookup] = look_up
        name, count = "look", _LOOK
        unknown = self._submission.look(self._sources.client_id)
        if unknown is not None:
            call = unknown
        elif cancelling:
            name, count, call = "cancel", _CANCEL, partial(cancel_and_look_up, runs=self._run.started)
        if name in busy:
            return
        if name == "look" and busy & {"cancel", "queue"}:
            # One request at a time.
            self._timers.arm("look", self._timing.history_poll)
            return
        wait = self._budget.take(count, self._clock().elapsed, urgent=cancelling)
        if wait:
            self._timers.arm("look", wait)
        else:
            self._sources.errand(name, lambda: call(self._client, self._run.prompt_id))

    def queue_due(self) -> None:
        """The prompt waits, and the queue moved: which place has it now?"""
        if self._run.started or self._sources.busy & {"cancel", "look", "queue"}:
            return
        wait = self._budget.take(_QUEUE, self._clock().elapsed)
        if wait:
            self._timers.arm("queue", wait)
        else:
            self._sources.errand("queue", lambda: responses.read_queue(self._client.get("/queue").body))

    # --- what came of it

    def look_done(self, item: CallDone) -> None:
        """A look came back."""
        error = item.error
        if error is None:
            self._found(item.value)
        elif isinstance(error, UnreachableError) and error.code in _REFUSALS and not error.retryable:
            self._found(Lookup(None, None, readable=False, refusal=error))
        else:
            self._liveness.unanswered(error)
            self._unasked = f"the server could not be asked to cancel it ({error})"
        run = self._run
        if run.verdict is not None:
            return
        cancelling = run.outcome.cancelling
        if run.ending or cancelling or not self._liveness.alive(self._clock().elapsed):
            self._timers.arm_sooner("look", self._schedule.next_delay(cancelling=cancelling, ending=run.ending))

    def queue_done(self, item: CallDone) -> None:
        """The queue was read."""
        if item.error is not None:
            self._liveness.unanswered(item.error)
        if not isinstance(item.value, responses.Queue):
            return
        there = item.value.position(self._run.prompt_id) is not None
        self._publish(self._liveness.answered(self._clock(), in_queue=there))
        if not self._run.started:
            self._publish(self._run.feed(item.value, self._clock()))
            if not there:
                self._timers.arm_sooner("look", 0.0)

    def _found(self, found: Lookup) -> None:
        run = self._run
        self._tried = found.tried or self._tried
        where = found.where(run.prompt_id)
        in_queue = None if found.queue is None else where == "queue"
        self._publish(self._liveness.answered(self._clock(), in_queue=in_queue))
        if found.history is not None:
            self._publish(run.feed(found.history, self._clock()))
        elif found.queue is not None and where == "queue":
            self._schedule.present()
            # An end without a word on how it ended was none of this prompt's.
            run.outcome.over = False
            self._publish(run.feed(found.queue, self._clock()))
        elif found.given is not None:
            self._publish(run.feed(responses.Accepted(found.given), self._clock()))
            self._timers.arm("look", 0.0)
        elif where == "nowhere":
            self._absent()
        elif self._schedule.unreadable(self._clock().elapsed):
            run.conclude(verdict.unreadable(run.outcome, run.nodes, found.refusal))

    def _absent(self) -> None:
        """The server answers, and has the prompt in neither queue nor history."""
        run, liveness = self._run, self._liveness
        waited = run.queued and not run.started
        if waited and run.outcome.cancelling:
            message = "cancelled by the user while it waited in the queue"
            run.conclude(verdict.cancelled(message, "cancelled", "yes"))
            return
        if self._submission.pending or not self._schedule.gone(self._clock().elapsed):
            # The server may take its time to check a workflow before it takes it.
            return
        was_down, dropped = liveness.was_down, liveness.dropped
        refusal = self._submission.refusal
        if refusal is not None and not run.queued and not run.outcome.cancelling:
            run.conclude(verdict.unreachable(refusal))
        elif waited and not was_down and not dropped:
            run.conclude(verdict.deleted())
        else:
            seen = run.queued or not run.attached
            run.conclude(verdict.vanished(run.outcome, run.nodes, seen=seen, was_down=was_down, dropped=dropped))
