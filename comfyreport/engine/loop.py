"""The core event loop of one run: what the socket and HTTP say, timers, the user's signals; it ends with a verdict.

Everything is decided here, on the thread that calls `execute`, and nothing here blocks but the inbox, always with a
time limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol

from comfyreport import events as ev
from comfyreport.engine.download import Downloader
from comfyreport.engine.inbox import Batch, decoded
from comfyreport.engine.liveness import Liveness
from comfyreport.engine.options import RunOptions
from comfyreport.engine.polling import Poller
from comfyreport.engine.reconnecting import Reconnector
from comfyreport.engine.sources import (
    CallDone,
    CallKind,
    CancelRequested,
    LeaveRequested,
    SocketClosed,
    SocketOpened,
    Sources,
    StopRequested,
)
from comfyreport.engine.stopping import Stopping
from comfyreport.engine.submission import Submission
from comfyreport.errors import UnreachableError
from comfyreport.estimates.expected import Expected
from comfyreport.events import Instant
from comfyreport.net.client import Client
from comfyreport.net.frames import Skipped
from comfyreport.protocol import messages
from comfyreport.protocol.decode import decode_text
from comfyreport.protocol.merging import merge_messages
from comfyreport.protocol.messages import StatusMessage
from comfyreport.recording.recorder import Recorder
from comfyreport.run import Run, verdict
from comfyreport.run.progress_state import ProgressStateDecoder
from comfyreport.saving.target import Target
from comfyreport.timers import Timers
from comfyreport.timing import Timing


class Learning(Protocol):
    """What the loop asks of what was learned from earlier runs."""

    def expect(self, graph: messages.Json) -> Mapping[str, Expected]:
        """What the nodes of *graph* are expected to take. May block; raises nothing."""

    def take_warnings(self) -> list[str]:
        """Why nothing could be learned, in one line each; once."""


class Loop:
    """Follows one run to its verdict.

    :param publish: hands events to the reporters; returns at once.
    :param watch: looks after the reporters; called now and then, returns what to warn of.
    :param clock: the time now.
    :param learner: tells what nodes are expected to take.
    :param target: where outputs are saved.

    `on_ready` is called once the socket is open, and gives the id of the prompt to follow. `stops` counts the user's
    requests to stop, heard or not.
    """

    def __init__(
        self,
        run: Run,
        client: Client,
        *,
        client_id: str,
        publish: Callable[[Sequence[ev.Event]], None],
        watch: Callable[[], Iterable[str]],
        clock: Callable[[], Instant],
        learner: Learning | None = None,
        recorder: Recorder | None = None,
        target: Target | None = None,
        options: RunOptions | None = None,
    ) -> None:
        self.run = run
        self.stops = 0
        self.on_ready: Callable[[], str] | None = None
        self._client = client
        self._timing: Timing = client.timing
        self._sources = Sources(client, client_id)
        self._publish = publish
        self._watch = watch
        self._clock = clock
        self._learner = learner
        self._recorder = recorder
        self._options = options or RunOptions()
        run.outcome.expected_outputs = self._options.expect_outputs
        run.include_temp = self._options.include_temp
        self._timers = timers = Timers(lambda: clock().elapsed)
        self._upkeep = timers.add(self._keep_up)
        self._silence = timers.add(self._on_silence)
        self._held_messages: list[messages.Message] | None = None
        self._remaining: int | None = None
        self._liveness = Liveness(run, self._timing, clock().elapsed, loopback=client.address.loopback)
        self._reconnector = Reconnector(
            run, self._sources, timers, self._liveness, self._options, publish=publish, clock=clock
        )
        self._submission = Submission(run, client)
        self._poller = Poller(
            run, client, self._sources, self._timers, self._liveness, self._submission, publish=publish, clock=clock
        )
        self._stopping = Stopping(
            run, client, timers, self._poller, self._options, publish=publish, clock=clock, recorder=recorder
        )
        self._state_decoder = ProgressStateDecoder(run)
        self._skipped_at = self._queue_looked_at = -math.inf
        self._next_upkeep = self._finished_at = math.inf
        self._lost_pictures = False
        self._downloader = None if target is None else self._make_downloader(target)

    # --- from outside

    @property
    def hurry(self) -> bool:
        """Whether the user wants to leave at once."""
        return self._stopping.hurry

    def stop(self) -> None:
        """The user wants to stop: the first time cancels, the second leaves. Safe in a signal handler."""
        self.stops += 1
        self._sources.put(StopRequested())

    def leave(self) -> None:
        """Stop following and let the prompt go on; may be called from any thread."""
        self._sources.put(LeaveRequested())

    def cancel(self, cancel: verdict.Cancel, *, waiting: bool = False) -> None:
        """Cancel the prompt for the reason that *cancel* tells, *waiting*: unless it runs; from any thread."""
        self._sources.put(CancelRequested(cancel, waiting))

    def execute(self, body: messages.Json | Callable[[], messages.Json]) -> None:
        """Connect, submit *body*, follow to the verdict. The run's end isn't told yet: outputs come first.

        What makes a body is called once the socket is open, in the background; UnreachableError from there ends the
        run as that, and what else it raises is raised here, with nothing submitted. Without a body the prompt is one
        that was submitted already.
        """
        # Until the first look has told which prompt it is, its messages would be told without its nodes' names.
        self._held_messages = [] if body is None else None
        # A tracker may be there before there is a prompt.
        self._stopping.attached = self._reconnector.submitted = body is None and self.on_ready is None
        self._upkeep.arm(0.0)
        self._stopping.begin()
        self._reconnector.begin()
        try:
            if self._options.take_over:
                self._take_over()
            if self.run.verdict is None:
                self._sources.connect()
                self._until(lambda: self._liveness.ever_open)
            if self.run.verdict is None:
                if self.on_ready is not None:
                    self.run.prompt_id = self.on_ready()
                if callable(body):
                    self._sources.call(CallKind.PREPARE, body, self._on_prepared)
                else:
                    self._submit(body)
            self._until(lambda: False)
        finally:
            self._sources.shut()
            if CallKind.PREPARE in self._sources.busy:
                # Nothing waits for it any more.
                self._client.cut()

    def save(self) -> None:
        """Save the outputs that aren't yet; a failure makes a success partial."""
        if self._downloader is not None and not self.hurry:
            self._downloader.save()
        elif self._downloader is not None:
            self._downloader.abandon()

    def _make_downloader(self, target: Target) -> Downloader:
        return Downloader(
            self.run,
            self._sources,
            target,
            publish=self._publish,
            clock=self._clock,
            on_turn=self._look_after_reporters,
            recorder=self._recorder,
            exceeded_limit=lambda: self._stopping.exceeded_limit,
        )

    def _save_early(self, events: Sequence[ev.Event]) -> None:
        """Begin to save what *events* tell of; say so where there is a picture that nobody saves."""
        if self._downloader is not None:
            self._downloader.take(events)
        elif self.run.outputs and self.run.verdict is None and not self._lost_pictures:
            self._lost_pictures = True
            message = "pictures came that the server doesn't keep: --output saves them"
            self._emit(ev.Warning, code="no_outputs", message=message, node=self.run.outputs[0].node)

    # --- the inbox

    def _until(self, reached: Callable[[], bool]) -> None:
        while self.run.verdict is None and not reached():
            # What is in the inbox, as soon as there is something or a timer is due.
            self._process(self._sources.receive(self._timers.wait()))
            self._run_timers()

    def _process(self, items: list[Any]) -> None:
        for together, group in groupby(items, lambda item: type(item) is Batch):
            if together:
                decode = self._state_decoder.decode if self._held_messages is None else decode_text
                self._feed(decoded(list(group), decode))
                continue
            for item in group:
                self._handle(item)

    def _feed(self, messages: Iterable[messages.Message]) -> None:
        if self._held_messages is not None:
            self._held_messages = merge_messages([*self._held_messages, *messages])
            return
        now = self._clock()
        run = self.run
        events: list[ev.Event] = []
        of_run = False
        ended = run.outcome.ended
        for message in messages:
            if isinstance(message, StatusMessage):
                self._on_queue_length(message.remaining)
            events += run.feed(message, now)
            of_run = of_run or getattr(message, "prompt_id", None) == run.prompt_id
        self._publish(events)
        self._save_early(events)
        self._publish(self._liveness.messages_received(now, of_run=of_run))
        if run.ending:
            if not ended or not self._poller.next_look.armed:
                self._poller.next_look.arm_sooner(0.0 if run.outcome.worker_done else self._timing.history_poll)
        elif of_run and run.started and not run.outcome.cancelling:
            # The stream is alive: no need to ask.
            self._poller.reset()
        elif run.queued and not run.started and not self._poller.next_queue_look.armed:
            self._poller.next_queue_look.arm(self._timing.queue_refresh)

    def _on_queue_length(self, remaining: int | None) -> None:
        """Of a prompt of somebody else's the socket tells this alone: where it falls, the prompt may have ended."""
        before, self._remaining = self._remaining, remaining
        if self._stopping.attached and before is not None and remaining is not None and remaining < before:
            now = self._clock().elapsed
            wait = max(0.0, self._queue_looked_at + self._timing.queue_refresh - now)
            self._queue_looked_at = now + wait
            self._poller.next_look.arm_sooner(wait)

    def _handle(self, item: object) -> None:
        if isinstance(item, SocketOpened):
            self._reconnector.opened()
        elif isinstance(item, SocketClosed):
            self._reconnector.closed(item)
            if self.run.sent and not self._submission.pending and self.run.verdict is None:
                self._poller.next_look.arm_sooner(0.0)
        elif isinstance(item, Skipped):
            self._on_skipped(item)
        elif isinstance(item, StopRequested):
            self._stopping.stop()
        elif isinstance(item, LeaveRequested):
            self._stopping.leave()
        elif isinstance(item, CancelRequested):
            self._stopping.cancel(item.cancel, waiting=item.waiting)
        elif isinstance(item, CallDone):
            # An output that can't be saved, for whatever reason, fails alone.
            if item.kind is not CallKind.SAVE and not isinstance(item.error, (UnreachableError, OSError, type(None))):
                raise item.error
            self._sources.finish(item)
            if self.run.graph is not None:
                graph, self.run.graph = self.run.graph, None
                self._learn(graph)
            if item.kind in (CallKind.LOOK, CallKind.CANCEL) and self._held_messages is not None:
                # The first look has told which prompt it is.
                held, self._held_messages = self._held_messages, None
                self._feed(held)

    def _on_skipped(self, item: Skipped) -> None:
        now = self._clock().elapsed
        if now - self._skipped_at >= self._timing.stall_warn:
            self._skipped_at = now
            message = f"a message of {item.size} bytes was not read; HTTP tells how the run goes"
            self._emit(ev.Warning, code="frame_too_large", message=message)
        self._poller.next_look.arm_sooner(0.0)

    # --- timers

    def _run_timers(self) -> None:
        if self.run.verdict is not None:
            # What was due together with it comes too late.
            return
        for timer in self._timers.take_due():
            timer.action()
            if self.run.verdict is not None:
                return

    def _keep_up(self) -> None:
        """What is looked after all the time: reporters, heartbeats, and whether the server must be given up."""
        now = self._clock().elapsed
        overslept = now - self._next_upkeep
        if overslept > self._timing.silence:
            # The process was stopped, or the machine slept. The user's own limit goes on.
            self._liveness.slept(overslept)
            self._timers.postpone(overslept, but=self._stopping.time_limit)
        self._next_upkeep = now + self._timing.tick * 2
        self._upkeep.arm(self._timing.tick * 2)
        self._look_after_reporters()
        self._liveness.note_upload(self._client.upload, now)
        if self._liveness.silent(now) and not self._silence.armed:
            self._on_silence()
        unanswered = self._liveness.unanswered_too_long(now) if self.run.sent else None
        if unanswered is not None:
            self.run.conclude(verdict.server_gone(self.run.outcome, self.run.nodes, unanswered))
        if self.run.outcome.finished:
            self._finished_at = min(self._finished_at, now)
            if now - self._finished_at > 2 * self._timing.lost_after and self._liveness.answers(now):
                # Whatever else the socket and the queue tell, it leads nowhere. A worker may be late, though.
                self.run.conclude(verdict.unreadable(self.run.outcome, self.run.nodes, self._poller.refusal))

    def _look_after_reporters(self) -> None:
        for warning in self._watch():
            self._emit(ev.Warning, code="slow_reporter", message=warning)

    def _on_silence(self) -> None:
        """A heartbeat; and a look over HTTP, which others follow at their own pace."""
        if self._liveness.silent(self._clock().elapsed):
            self._silence.arm(self._timing.silence)
            if self.run.sent and not self._poller.next_look.armed:
                self._poller.next_look.arm(0.0)
            self._publish(self._liveness.heartbeat(self._clock()))

    def _take_over(self) -> None:
        """Find out under which client id the prompt was submitted, and follow it under that one."""
        self.run.sent = True
        self._liveness.start(self._clock().elapsed)
        self._poller.next_look.arm(0.0)
        self._until(lambda: self.run.queued)
        if self.run.client_id is not None:
            self._sources.client_id = self.run.client_id

    # --- submitting

    def _on_prepared(self, item: CallDone) -> None:
        if item.error is None:
            self._submit(item.value)
        elif isinstance(item.error, UnreachableError):
            self.run.conclude(verdict.unreachable(item.error))
        else:
            raise item.error

    def _submit(self, body: messages.Json) -> None:
        self.run.sent = True
        self._liveness.start(self._clock().elapsed)
        if body is None:
            self.run.miss_messages()
            self._poller.look()
            return
        self._sources.call(CallKind.SUBMIT, self._submission.call(body), self._on_submitted)
        self._learn(body["prompt"])

    def _learn(self, graph: messages.Json) -> None:
        """Ask in the background what the nodes are expected to take, once the workflow is known: nothing waits for it.

        A start takes no longer for it, since the server has the prompt already.
        """
        learner = self._learner
        if learner is not None and CallKind.LEARN not in self._sources.busy:
            self._sources.call(CallKind.LEARN, lambda: learner.expect(graph), self._on_learned)

    def _on_learned(self, item: CallDone) -> None:
        if self._learner is not None and item.error is None:
            self.run.expect(item.value)
            for line in self._learner.take_warnings():
                self._emit(ev.Warning, code="timings_unusable", message=line)

    def _on_submitted(self, item: CallDone) -> None:
        now = self._clock()
        if item.error is None:
            self._publish(self._liveness.answered(now, in_queue=None))
            self._publish(self._submission.answered(item.value, now))
        else:
            self._publish(self._submission.failed(item.error, now))
        outcome = self.run.outcome
        if self.run.verdict is None and (not self.run.queued or outcome.cancelling or self.run.ending):
            self._poller.look()

    # --- events

    def _emit(self, cls: Callable[..., ev.Event], **fields: Any) -> None:
        self._publish(self.run.emit(cls, self._clock(), **fields))
