"""The core event loop of one run: both witnesses, the timers, the user's signals; it ends with a verdict.

Everything is decided here, on the thread that calls `execute`, and nothing here blocks but the inbox, always with a
time limit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from comfyreport import answers, wire
from comfyreport import events as ev
from comfyreport.client import Answer, Client, refusal
from comfyreport.errors import UnreachableError
from comfyreport.events import ErrorInfo, Instant
from comfyreport.merging import merge_messages
from comfyreport.outputs import Target
from comfyreport.recording import Recorder
from comfyreport.run import Run
from comfyreport.saving import Saver
from comfyreport.timing import Timing
from comfyreport.verdict import Verdict, without_history
from comfyreport.wires import Closed, Done, Left, Opened, Signalled, Wires

MERGE_ABOVE_FRAMES = 1000
MERGE_ABOVE_BYTES = 16 * 1024 * 1024
FRAME_LIMIT = 32 * 1024 * 1024


class Look(NamedTuple):
    """What one look over HTTP found; `queue` None: it was not asked or did not answer usefully."""

    history: answers.History | None
    queue: answers.Queue | None
    did: str = ""


class Loop:
    """Follows one run to its verdict.

    :param publish: hands events to the reporters; returns at once.
    :param watch: looks after the reporters; called now and then, returns what to warn of.
    :param clock: the time now.
    :param timeout: the user's limit for the whole run in seconds, None for none.

    `on_ready` is called once the socket is open, and gives the id of the prompt to follow. `hurry` is set when the
    user wants to leave at once.
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
        timing: Timing,
        recorder: Recorder | None = None,
        timeout: float | None = None,
    ) -> None:
        self.run = run
        self.hurry = False
        self.on_ready: Callable[[], str] | None = None
        self._client = client
        self._publish = publish
        self._watch = watch
        self._clock = clock
        self._timing = timing
        self._recorder = recorder
        self._wires = Wires(client, client_id, timing=timing, tap=None if recorder is None else recorder.tap)
        self._due: dict[str, float] = {}
        self._open = False
        self._ever_open = False
        self._submitting = False
        self._signals = 0
        self._deleted = False
        self._heard = self._answered = clock().elapsed
        self._heard_run = True
        self._refused = False
        self._absent_since: float | None = None
        self._poll_delay = timing.poll_first
        self._reconnect_delay = timing.reconnect_first
        self._timeout = timeout

    # --- from outside

    def stop(self) -> None:
        """The user wants to stop: the first time cancels, the second leaves. Safe in a signal handler."""
        self._wires.put(Signalled())

    def leave(self) -> None:
        """Stop following and let the prompt go on; may be called from any thread."""
        self._wires.put(Left())

    def execute(self, body: wire.Json) -> None:
        """Connect, submit *body*, follow to the verdict. The run's end isn't told yet: outputs come first.

        Without a body the prompt is one that was submitted already.
        """
        self._arm("watch", self._timing.tick * 2)
        if self._timeout is not None:
            self._arm("timeout", self._timeout)
        try:
            self._wires.connect()
            self._until(lambda: self._ever_open)
            if self.run.verdict is None:
                if self.on_ready is not None:
                    self.run.prompt_id = self.on_ready()
                self._submit(body)
            self.resume()
        except KeyboardInterrupt:
            raise
        except BaseException:
            self._wires.shut()
            raise

    def resume(self) -> None:
        """Go on to the verdict after a KeyboardInterrupt; nothing where there is one."""
        self._until(lambda: False)
        self._wires.shut()

    def save(self, target: Target) -> None:
        """Save the outputs; a failure makes a success partial."""
        saver = Saver(
            self.run,
            self._wires,
            publish=self._publish,
            clock=self._clock,
            pulse=self._look_after_reporters,
            recorder=self._recorder,
        )
        saver.save(target)

    # --- the inbox

    def _until(self, reached: Callable[[], bool]) -> None:
        while self.run.verdict is None and not reached():
            messages: list[wire.Message] = []
            size = 0
            for item in self._receive():
                if type(item) is tuple:
                    size += len(item[1])
                    messages.append(self._decode(*item))
                    continue
                self._feed(messages, size)
                messages, size = [], 0
                self._handle(item)
            self._feed(messages, size)
            self._run_timers()

    def _receive(self) -> list[Any]:
        """What is in the inbox, as soon as there is something or a timer is due."""
        now = self._clock().elapsed
        return self._wires.receive(min(self._due.values(), default=now + 1.0) - now)

    def _decode(self, text: bool, data: bytes) -> wire.Message:
        if not text:
            return wire.decode_binary(data)
        if len(data) > FRAME_LIMIT:
            message = f"a message of {len(data)} bytes was not read; HTTP tells how the run goes"
            self._tell(ev.Warning, code="frame_too_large", message=message)
            self._arm("look", 0.0)
            return wire.Unknown("too large")
        return wire.decode_text(data)

    def _feed(self, messages: list[wire.Message], size: int) -> None:
        if not messages:
            return
        if len(messages) > MERGE_ABOVE_FRAMES or size > MERGE_ABOVE_BYTES:
            messages = merge_messages(messages)
        now = self._clock()
        self._heard = now.elapsed
        events: list[ev.Event] = []
        for message in messages:
            events += self.run.feed(message, now)
            if getattr(message, "prompt_id", None) == self.run.prompt_id:
                self._heard_run = True
        self._publish(events)
        if self._heard_run and self._open and not self.run.ending and not self.run.told.cancelling:
            # The stream is alive: no need to ask.
            self._due.pop("look", None)
            self._absent_since = None
        if self.run.ending:
            self._arm_sooner("look", 0.0 if self.run.told.over else self._timing.ended_poll)

    def _handle(self, item: object) -> None:
        if isinstance(item, Opened):
            self._on_opened()
        elif isinstance(item, Closed):
            self._on_closed(item)
        elif isinstance(item, Signalled):
            self._on_signal()
        elif isinstance(item, Left):
            self._conclude_detached()
        elif isinstance(item, Done):
            self._wires.busy.discard(item.name)
            getattr(self, f"_{item.name}_done")(item)

    # --- timers

    def _arm(self, name: str, delay: float) -> None:
        self._due[name] = self._clock().elapsed + delay

    def _arm_sooner(self, name: str, delay: float) -> None:
        due = self._clock().elapsed + delay
        self._due[name] = min(due, self._due.get(name, due))

    def _run_timers(self) -> None:
        now = self._clock().elapsed
        for name in [name for name, due in self._due.items() if due <= now]:
            if self.run.verdict is None and name in self._due:
                del self._due[name]
                getattr(self, f"_{name}_due")(now)

    def _watch_due(self, now: float) -> None:
        """The slow pulse: reporters, heartbeats, and whether the server must be given up."""
        self._arm("watch", self._timing.tick * 2)
        self._look_after_reporters()
        if not self.run.sent:
            return
        silent = now - self._heard
        if silent >= self._timing.silence and "silence" not in self._due:
            self._silence_due(now)
        unanswered = now - max(self._heard, self._answered)
        refused = self._refused and self._client.address.loopback
        limit = self._timing.lost_after_refused if refused else self._timing.lost_after
        if unanswered > limit:
            self._conclude_lost(unanswered)

    def _look_after_reporters(self) -> None:
        for warning in self._watch():
            self._tell(ev.Warning, code="slow_reporter", message=warning)

    def _silence_due(self, now: float) -> None:
        """A heartbeat, and a look over HTTP, after each stretch of silence."""
        if now - self._heard < self._timing.silence:
            return
        self._arm("silence", self._timing.silence)
        self._arm_sooner("look", 0.0)
        active = next(iter(reversed(self.run.nodes.active.values())), None)
        state = "running" if self.run.started else "queued" if self.run.queued else "unknown"
        self._tell(
            ev.Heartbeat,
            node=None if active is None else active.ref,
            silent_seconds=round(now - self._heard, 1),
            node_seconds=None if active is None else round(now - active.started, 1),
            state=state,
        )

    def _timeout_due(self, now: float) -> None:
        message = f"the time limit of {self._timeout:g} s is over"
        hint = "the prompt goes on: follow it in ComfyUI, or give it more time with --timeout"
        state: ev.PromptState = "running" if self.run.started else "pending" if self.run.queued else "unknown"
        submitted: ev.Submitted = "yes" if self.run.queued else "unknown" if self.run.sent else "no"
        error = ErrorInfo(code="time_limit", message=message, hint=hint)
        self.run.conclude(Verdict("timeout", error, state if self.run.sent else "none", submitted, True))

    # --- the socket

    def _on_opened(self) -> None:
        self._open = True
        self._refused = False
        self._heard_run = False
        self._heard = self._clock().elapsed
        self._reconnect_delay = self._timing.reconnect_first
        self._tell(ev.ConnectionChanged, state="restored" if self._ever_open else "connected")
        self._ever_open = True

    def _on_closed(self, item: Closed) -> None:
        if not self._ever_open:
            error = item.error or UnreachableError("the connection was closed at once", retryable=True)
            self._unreachable(error)
            return
        self._refused = item.error is not None and item.error.code == "refused"
        if self._open:
            self._open = False
            detail = item.error.message if item.error is not None else "the server closed the connection"
            self._tell(ev.ConnectionChanged, state="lost", detail=detail)
        self._arm("reconnect", self._reconnect_delay * random.uniform(0.5, 1.0))
        self._reconnect_delay = min(2 * self._reconnect_delay, self._timing.reconnect_most)
        if self.run.sent and not self._submitting:
            self._arm_sooner("look", 0.0)

    def _reconnect_due(self, now: float) -> None:
        self._wires.connect()

    def _unreachable(self, error: UnreachableError) -> None:
        info = ErrorInfo(code=error.code, message=error.message, hint=error.hint)
        self.run.conclude(Verdict("unreachable", info, "none", "no", error.retryable))

    # --- submitting

    def _submit(self, body: wire.Json) -> None:
        self.run.sent = True
        self._heard = self._answered = self._clock().elapsed
        if body is None:
            self._look_due(0.0)
            return
        self._submitting = True
        self._wires.errand("submit", lambda: self._client.post("/prompt", body, timeout=self._timing.submit_answer))

    def _submit_done(self, item: Done) -> None:
        self._submitting = False
        self._answered = self._clock().elapsed
        if item.error is not None:
            self._submit_failed(item.error)
            return
        answer: Answer = item.value
        refs = self.run.nodes.refs()
        accepted = answers.read_accepted(answer.body, refs) if answer.status == 200 else None
        if accepted is not None:
            self._publish(self.run.feed(accepted, self._clock()))
            if self.run.told.cancelling:
                self._look_due(0.0)
            return
        refused = answers.read_refused(answer.body, refs) if answer.status in (400, 422) else None
        if refused is not None:
            self.run.feed(refused, self._clock())
        elif answer.status == 500:
            error = ErrorInfo(
                code="server_error",
                message=f"the server failed on the workflow: {' '.join(answer.text.split())[:200]}",
                hint="look into the server's log",
            )
            self.run.conclude(Verdict("rejected", error, "none", "no"))
        else:
            self._unreachable(refusal(answer.status, answer.location, self._client.address.base))

    def _submit_failed(self, error: BaseException) -> None:
        """The POST broke: whether the server has the prompt is looked for under the id that it was given."""
        known = error if isinstance(error, UnreachableError) else UnreachableError(str(error))
        if known.code in ("refused", "tls", "name_unknown") and "nothing listens" in known.message:
            self._unreachable(known)
            return
        self._tell(ev.Warning, code="stalled", message=f"the answer to the submission was lost: {known.message}")
        self._arm("look", 0.0)

    # --- the second witness

    def _look_due(self, now: float) -> None:
        name = "cancel" if self.run.told.cancelling else "look"
        if name not in self._wires.busy:
            self._wires.errand(name, self._cancel_and_look if name == "cancel" else self._look)

    def _look(self) -> Look:
        """History first, for it is the last word; the queue, which carries every queued graph, only if need be."""
        prompt_id = self.run.prompt_id
        history = answers.read_history(self._client.get(f"/history/{prompt_id}").body, prompt_id)
        return Look(history, None if history is not None else answers.read_queue(self._client.get("/queue").body))

    def _look_done(self, item: Done) -> None:
        now = self._clock().elapsed
        if item.error is not None:
            self._refused = isinstance(item.error, UnreachableError) and item.error.code == "refused"
            self._look_again()
            return
        self._answered = now
        self._refused = False
        look: Look = item.value
        if look.history is not None:
            self._publish(self.run.feed(look.history, self._clock()))
            return
        if look.queue is not None and look.queue.position(self.run.prompt_id) is not None:
            self._absent_since = None
            self._publish(self.run.feed(look.queue, self._clock()))
        elif look.queue is not None and self._absent(now):
            return
        self._look_again()

    def _absent(self, now: float) -> bool:
        """The server answers and has the prompt in neither place; twice over the hand-over gap, it is lost."""
        if self._deleted:
            error = ErrorInfo(code="cancelled", message="cancelled by the user while it waited in the queue")
            self.run.conclude(Verdict("cancelled", error, "cancelled", "yes"))
            return True
        if self._absent_since is None:
            self._absent_since = now
            return False
        if now - self._absent_since < self._timing.handover:
            return False
        if not self.run.queued:
            self._unreachable(UnreachableError("the server never got the prompt", retryable=True))
        elif not self.run.started:
            error = ErrorInfo(
                code="deleted",
                message="the prompt was deleted from the queue before it ran",
                hint="somebody cleared it in the browser or through the API; run it again",
            )
            self.run.conclude(Verdict("lost", error, "none", "yes", True))
        else:
            hint = "the server was probably restarted; run it again"
            message = "the server answers, but has the prompt in neither its queue nor its history"
            self.run.conclude(without_history(self.run.told, self.run.nodes, "prompt_vanished", message, hint))
        return True

    def _look_again(self) -> None:
        if self.run.told.cancelling:
            delay = self._timing.poll_first / 4
        elif self._absent_since is not None:
            delay = self._timing.handover
        elif self.run.ending:
            delay = max(self._timing.ended_poll, min(self._poll_delay / 4, self._timing.poll_first))
            self._poll_delay *= 1.5
        elif self._open and self._heard_run and self._clock().elapsed - self._heard < self._timing.silence:
            self._poll_delay = self._timing.poll_first
            return
        else:
            delay = self._poll_delay * random.uniform(0.8, 1.0)
            self._poll_delay = min(1.5 * self._poll_delay, self._timing.poll_most)
        self._arm("look", delay)

    def _conclude_lost(self, unanswered: float) -> None:
        active = next(iter(reversed(self.run.nodes.active.values())), None)
        where = ""
        if active is not None:
            bar = active.active_bar
            where = f", last seen in {active.ref.title}" + (f" at {bar.value:g}/{bar.maximum:g}" if bar else "")
        message = f"the server has not answered for {unanswered:.0f} s{where}"
        hint = "see whether the server died (out of memory is the likely cause), then run it again"
        self.run.conclude(without_history(self.run.told, self.run.nodes, "server_gone", message, hint))

    # --- the user's signals

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals > 1:
            self.hurry = True
            self._conclude_cancelled("left at once; whether the prompt was cancelled is not known")
        elif not self.run.sent:
            error = ErrorInfo(code="cancelled", message="cancelled by the user before anything was submitted")
            self.run.conclude(Verdict("cancelled", error, "none", "no"))
        else:
            self.run.told.cancelling = True
            if self._recorder is not None:
                self._recorder.note("cancel")
            self._arm("cancelled", self._timing.cancel)
            if not self._submitting:
                self._look_due(0.0)

    def _conclude_detached(self) -> None:
        state: ev.PromptState = "running" if self.run.started else "pending" if self.run.queued else "unknown"
        error = ErrorInfo(code="detached", message="no longer followed; the prompt goes on")
        self.run.conclude(Verdict("detached", error, state, "yes" if self.run.queued else "unknown"))

    def _cancelled_due(self, now: float) -> None:
        message = f"the server did not confirm within {self._timing.cancel:g} s that the prompt was cancelled"
        self._tell(ev.Warning, code="cancel_unconfirmed", message=message)
        self._conclude_cancelled(message)

    def _conclude_cancelled(self, message: str) -> None:
        error = ErrorInfo(code="cancelled", message=message, hint="look at the server's queue")
        self.run.conclude(Verdict("cancelled", error, "unknown", "yes" if self.run.queued else "unknown"))

    def _cancel_and_look(self) -> Look:
        """Cancel this prompt alone, by where it is now: pending ones are deleted, a running one is interrupted."""
        prompt_id = self.run.prompt_id
        waiting = answers.read_queue(self._client.get("/queue").body)
        position = None if waiting is None else waiting.position(prompt_id)
        did = ""
        if position is not None and waiting is not None:
            if any(entry.prompt_id == prompt_id for entry in waiting.running):
                self._client.post("/interrupt", {"prompt_id": prompt_id})
                did = "interrupted"
            else:
                self._client.post("/queue", {"delete": [prompt_id]})
                did = "deleted"
        return self._look()._replace(did=did)

    def _cancel_done(self, item: Done) -> None:
        if item.error is None and item.value.did == "deleted":
            self._deleted = True
        elif item.error is None and item.value.did == "interrupted":
            self._deleted = False
        self._look_done(item)

    # --- telling

    def _tell(self, cls: Callable[..., ev.Event], **fields: Any) -> None:
        self._publish(self.run.tell(cls, self._clock(), **fields))
