"""What ends a run before its own end: the user's signals, the program's leaving, the limits in time.

The prompt is left as it is, or cancelled: then the poller asks the server for that, and its answers bring the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from comfyreport import events as ev
from comfyreport.engine.options import RunOptions
from comfyreport.engine.polling import Poller
from comfyreport.engine.submission import attach_command
from comfyreport.events import Instant
from comfyreport.net.client import Client
from comfyreport.recording.recorder import Recorder
from comfyreport.run import Run, verdict
from comfyreport.run.verdict import Cancel
from comfyreport.timers import Timer, Timers


class Stopping:
    """Stops one run where the user or a limit wants it.

    `attached`: the prompt was submitted already. `hurry` is set when the user wants to leave at once. `time_limit` is
    the timer of the limit for the whole run, saving included.
    """

    def __init__(
        self,
        run: Run,
        client: Client,
        timers: Timers,
        poller: Poller,
        options: RunOptions,
        *,
        publish: Callable[[Sequence[ev.Event]], None],
        clock: Callable[[], Instant],
        recorder: Recorder | None,
    ) -> None:
        self.attached = False
        self.hurry = False
        self.time_limit: Timer = timers.add(self._on_time_limit)
        self._cancel_limit = timers.add(self._on_cancel_unconfirmed)
        self._eta_look = timers.add(self._look_at_eta)
        self._run = run
        self._address = client.address
        self._timing = client.timing
        self._poller = poller
        self._options = options
        self._publish = publish
        self._clock = clock
        self._recorder = recorder
        self._stop_requests = 0
        self._began = 0.0
        self._late = False

    def begin(self) -> None:
        """The limits count from here."""
        self._began = self._clock().elapsed
        if self._options.timeout:
            self.time_limit.arm(self._options.timeout)
        if self._options.max_eta:
            self._eta_look.arm(self._timing.eta_look)

    @property
    def exceeded_limit(self) -> float | None:
        """The limit for the whole run, once it is over."""
        limit = self._options.timeout
        return limit if limit and self._clock().elapsed >= self._began + limit else None

    # --- the user and the program

    def stop(self) -> None:
        """The user wants to stop: the first time cancels, whoever had begun with that; the second leaves."""
        self._stop_requests += 1
        state, submitted = self._prompt_state()
        if self._stop_requests > 1:
            self.hurry = True
            message = "left at once; whether the prompt was cancelled is not known"
            self._run.conclude(verdict.cancelled(message, "unknown", submitted, command=self._attach_command))
        elif submitted == "no":
            message = "cancelled by the user before anything was submitted"
            self._run.conclude(verdict.cancelled(message, "none", "no"))
        elif self._options.on_interrupt == "detach":
            self.leave()
        elif not self._run.sent:
            message = "stopped by the user before the server was reached; the prompt was left as it is"
            self._run.conclude(verdict.cancelled(message, state, submitted, command=self._attach_command))
        else:
            self._cancel(verdict.BY_USER)

    def leave(self) -> None:
        """Follow no more, and let the prompt go on."""
        cancelling = self._run.outcome.cancelling
        self._run.conclude(verdict.detached(self._attach_command, *self._prompt_state(), cancelling=cancelling))

    def cancel(self, cancel: Cancel, *, waiting: bool) -> None:
        """The program wants the prompt cancelled, *waiting*: unless it runs, as far as known."""
        if self._run.verdict is not None or self._run.outcome.cancelling or (waiting and self._run.started):
            return
        if self._prompt_state()[1] == "no":
            self._run.conclude(cancel.end("", "none", "no"))
        else:
            self._cancel(cancel)

    # --- limits

    def _on_time_limit(self) -> None:
        limit = self._options.timeout
        assert limit is not None
        if self._run.outcome.cancelling:
            return
        if self._options.cancel_late and not self._run.outcome.ended:
            self.cancel(verdict.late(limit), waiting=False)
        else:
            state = self._prompt_state()
            self._run.conclude(verdict.timed_out(limit, self._attach_command, *state))

    def _look_at_eta(self) -> None:
        """Cancel a run that won't be done in time: two looks in a row must say so, for one estimate may be odd."""
        limit, run, now = self._options.max_eta, self._run, self._clock().elapsed
        if limit is None or run.outcome.cancelling or run.outcome.ended:
            return
        self._eta_look.arm(self._timing.eta_look)
        estimate = run.nodes.estimate(now) if run.started else None
        was_late, self._late = self._late, verdict.exceeds(limit, now - self._began, estimate)
        if was_late and self._late and estimate is not None:
            self._cancel(verdict.over_limit(limit, now - self._began, estimate))

    # --- the cancel

    def _cancel(self, cancel: Cancel) -> None:
        self._run.outcome.cancel = cancel
        if self._recorder is not None:
            self._recorder.note("cancel", reason=cancel.reason, hint=cancel.hint)
        self._cancel_limit.arm(self._timing.cancel_timeout)
        self._poller.look()

    def _on_cancel_unconfirmed(self) -> None:
        run, command, submitted = self._run, self._attach_command, self._prompt_state()[1]
        cancel = run.outcome.cancel
        if cancel is None:
            # It was done in time after all.
            return
        message = f"the server did not confirm within {self._timing.cancel_timeout:g} s that the prompt was cancelled"
        if self._poller.cancel_attempt:
            message += f": {self._poller.cancel_attempt}"
        self._publish(run.emit(ev.Warning, self._clock(), code="cancel_unconfirmed", message=message))
        run.conclude(verdict.cancelled(message, "unknown", submitted, command=command, cancel=cancel))

    # --- what is known of the prompt

    def _prompt_state(self) -> tuple[ev.PromptState, ev.Submitted]:
        run = self._run
        sent = run.sent or self.attached
        return verdict.prompt_state_of(run.outcome, run.started, run.queued, sent=sent, absent=self._poller.absent)

    @property
    def _attach_command(self) -> str:
        return attach_command(self._run.prompt_id, self._address.base)
