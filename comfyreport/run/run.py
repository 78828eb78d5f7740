"""Run: the one state model. Messages and facts go in with their time, events come out. No I/O, no clock.

`feed` never raises for what a server sent. Who says a thing is in the event's `source`: `ws` for messages of the
socket, `http` for answers, `client` for what comfyreport knows by itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Set as AbstractSet
from typing import Any, TypeVar

from comfyreport import events as ev
from comfyreport.events import Instant
from comfyreport.protocol import messages, responses
from comfyreport.protocol.ui_outputs import OutputCollection, worth_saving
from comfyreport.run import verdict
from comfyreport.run.emitter import Emitter
from comfyreport.run.node_events import NodeEvents
from comfyreport.run.nodes import Nodes
from comfyreport.run.verdict import Outcome, Verdict

E = TypeVar("E", bound=ev.Event)
RunInput = messages.Message | responses.Accepted | responses.Refused | responses.Queue | responses.History

# Messages under another prompt's id that are kept until the server has told which id it gave: a few seconds' worth.
_EARLY_LIMIT = 1000

# Seconds between two events that tell of the queue's length alone.
_STATUS_EVERY = 2.0

# Malformed messages that are warned of, each kind once: a broken node may send one with every step.
_MALFORMED_LIMIT = 20


class Run:
    """One prompt from its submission to its end.

    `attached`: nobody told of the workflow, so that the prompt was submitted by somebody else. `sent` is to be set when
    the POST leaves: before that, events bear no prompt id. `missed` is to be set when the
    socket was lost, or is opened only after the submission: what nobody heard is then filled in.

    :param prompt_id: the id that the client chose; the server's answer may change it.
    :param manifest: the nodes of the submitted workflow.
    :param base_url: the server's address without credentials, for the URLs of outputs.
    :param sequence: where the events' `seq` comes from; shared by all runs of a command.
    :param previews: whether `node_preview` events are wanted.
    """

    def __init__(
        self,
        prompt_id: str,
        manifest: Iterable[ev.NodeRef] = (),
        *,
        base_url: str = "",
        client_id: str | None = None,
        seed: int | None = None,
        sequence: Iterator[int] | None = None,
        previews: bool = False,
        run_index: int | None = None,
    ) -> None:
        self.prompt_id = prompt_id
        self.manifest = tuple(manifest)
        self.nodes = Nodes(self.manifest)
        self.outcome = Outcome(submitted="unknown")
        self.verdict: Verdict | None = None
        self.sent = False
        self.missed = False
        self.finished = False
        self.position: int | None = None
        self._outputs = OutputCollection(base_url)
        self.client_id = client_id
        self._seed = seed
        self._previews = previews
        self._queued_at: float | None = None
        self._started_at: float | None = None
        self._remaining: int | None = None
        self._accepted = False
        self._early: list[messages.Message] = []
        self.attached = not self.manifest
        self._queue_seconds: float | None = None
        self._seconds: float | None = None
        self._queue_told = -math.inf
        self._malformed_told: set[str] = set()
        self._emitter = Emitter(self.nodes, itertools.count(1) if sequence is None else sequence, run_index)
        self._node_events = NodeEvents(self.nodes, self._emitter, base_url)

    # --- what others may ask

    @property
    def outputs(self) -> list[ev.Output]:
        """What it made, as far as history has told."""
        return self._outputs.outputs

    @property
    def queued(self) -> bool:
        """Whether the server is known to have taken the prompt."""
        return self._queued_at is not None

    @property
    def started(self) -> bool:
        """Whether the server is known to have begun with it."""
        return self._started_at is not None

    @property
    def settled(self) -> AbstractSet[str]:
        """The server's ids of the nodes that are known to have ended."""
        return self._node_events.settled

    @property
    def reopened(self) -> int:
        """How often a node that had ended has begun to run again."""
        return self._node_events.reopened

    @property
    def ending(self) -> bool:
        """Whether it is over by the socket's word, so that history should be asked."""
        return self.outcome.ended and self.verdict is None

    # --- feeding

    def feed(self, fact: RunInput, at: Instant) -> list[ev.Event]:
        """Take one message or fact in; the events that it makes, in order."""
        if self.finished or self.verdict is not None:
            return []
        prompt_id = getattr(fact, "prompt_id", None)
        if prompt_id is not None and prompt_id != self.prompt_id and not isinstance(fact, responses.Accepted):
            self._keep_early(fact)
            return []
        kind = type(fact)
        self._stamp(at, "http" if kind in _HTTP_ANSWERS else "ws")
        self._handle(kind, fact)
        return self._emitter.take()

    def _handle(self, kind: type[Any], fact: Any) -> None:
        handler = _NODE_MESSAGES.get(kind)
        if handler is not None:
            self._ensure_started()
            if self.missed and kind is messages.ProgressState:
                # It tells of all nodes that have run so far, and what follows is heard.
                self.missed = False
            handler(self._node_events, fact)
        elif kind in _HANDLERS:
            _HANDLERS[kind](self, fact)

    def _stamp(self, at: Instant, source: ev.Source) -> None:
        """What holds for the events that follow."""
        emitter = self._emitter
        emitter.at = at
        emitter.source = source
        emitter.prompt_id = self.prompt_id if self.sent or self._queued_at is not None else None

    def _keep_early(self, fact: RunInput) -> None:
        """Messages may come before the answer that tells which id the server gave."""
        if not self._accepted and len(self._early) < _EARLY_LIMIT and type(fact) not in _HTTP_ANSWERS:
            self._early.append(fact)  # type: ignore[arg-type]

    def _ensure_queued(self) -> None:
        if self._queued_at is None:
            self._queued_at = self._emitter.at.elapsed
            self._emitter.prompt_id = self.prompt_id
            self.outcome.submitted = "yes"
            self._emitter.emit(
                ev.RunQueued,
                client_id=self.client_id,
                nodes=self.manifest,
                position=self.position,
                seed=self._seed,
            )

    def _ensure_started(self) -> None:
        self._ensure_queued()
        if self._started_at is None:
            self._started_at = self._emitter.at.elapsed
            self.position = 0
            self._emitter.emit(ev.RunStarted)

    # --- what HTTP says

    def _accepted_answer(self, fact: responses.Accepted) -> None:
        self._accepted = True
        early, self._early = self._early, []
        given = fact.prompt_id
        if given is not None and given != self.prompt_id:
            asked, self.prompt_id = self.prompt_id, given
            self._emitter.prompt_id = given
            self._emitter.warn("prompt_id_changed", f"the server gave the prompt the id {given} instead of {asked}")
        self._ensure_queued()
        if fact.node_errors:
            self._dropped(fact.node_errors)
        self._emitter.source = "ws"
        for message in early:
            if getattr(message, "prompt_id", None) == self.prompt_id:
                self._handle(type(message), message)

    def _dropped(self, node_errors: tuple[ev.NodeError, ...]) -> None:
        first = node_errors[0]
        message = f"the server left out outputs: {first.node.title}: {first.message} ({first.details})"
        hint = "correct the inputs of the nodes named in node_errors"
        self.outcome.dropped = ev.ErrorInfo(code="outputs_dropped", message=message, hint=hint, node_errors=node_errors)
        for error in node_errors:
            self._emitter.warn("node_errors", f"{error.message}: {error.details}", error.node)

    def _refused(self, fact: responses.Refused) -> None:
        self.verdict = Verdict("rejected", fact.error, "none", "no")

    def _queue(self, fact: responses.Queue) -> None:
        position = fact.position(self.prompt_id)
        if position is not None:
            entry = next(each for each in fact.all if each.prompt_id == self.prompt_id)
            self._learn(entry.graph, entry.client_id)
            if not self.queued:
                self.position = position
            self._ensure_queued()
            if entry in fact.running:
                self._ensure_started()
        self._queue_changed(position, fact.remaining)

    def _queue_changed(self, position: int | None, remaining: int | None) -> None:
        if (position, remaining) == (self.position, self._remaining):
            return
        self.position, self._remaining = position, remaining
        if self._queued_at is not None and not self.outcome.ended:
            self._queue_told = self._emitter.at.elapsed
            self._emitter.emit(ev.QueueChanged, position=position, remaining=remaining)

    def _learn(self, graph: messages.Json, client_id: str | None) -> None:
        """The workflow of a prompt that somebody else submitted."""
        if not self.manifest and self._queued_at is None:
            self.client_id = self.client_id or client_id
            self.manifest = responses.manifest_of(graph)
            self.nodes.set_manifest(self.manifest)

    def _history(self, fact: responses.History) -> None:
        self._learn(fact.graph, fact.client_id)
        if self.attached:
            # Its own clock began with the attach; the server knows when the prompt came and when it ended.
            self._queue_seconds = fact.between(fact.created, fact.started)
            self._seconds = fact.between(fact.started if fact.created is None else fact.created, fact.ended)
        self._ensure_started()
        for node_id in fact.cached:
            self._node_events.cache(node_id)
        self._node_events.emit_held_nodes()
        end = verdict.end_of(fact, self.outcome)
        missed = self.missed or not self.outcome.ended
        if end == "success":
            self._node_events.finish_active_nodes()
        if missed:
            last = fact.error or fact.interrupted
            if end == "success" or last is not None:
                self._node_events.emit_missed_nodes(
                    responses.needed_nodes(fact.graph, fact.targets), None if end == "success" else last
                )
        for entry in fact.outputs:
            display = self.nodes.display_id(entry.node)
            ref = self.nodes.node(display).ref
            cached = display in self.nodes.cached
            self._outputs.add(ref, entry.ui, cached=cached)
        self.verdict = verdict.from_history(fact, self.outcome, self.nodes, len(worth_saving(self.outputs)))
        self._tell_outputs()
        if end == "success" and not self.outputs:
            self._emitter.warn("no_outputs", "the run made no outputs that the server tells of")

    def _tell_outputs(self) -> None:
        for output in self.outputs:
            self._emitter.emit(ev.OutputReady, output=output)

    # --- what the socket says

    def _status(self, message: messages.StatusMessage) -> None:
        """The queue's length: told at once where it is news of this prompt, else every few seconds."""
        if message.remaining is None:
            return
        now = self._emitter.at.elapsed
        position = 0 if self.started else self.position if message.remaining else None
        if position != self.position or now - self._queue_told >= _STATUS_EVERY:
            self._queue_changed(position, message.remaining)

    def _start(self, message: messages.ExecutionStart) -> None:
        self._ensure_started()

    def _cached(self, message: messages.ExecutionCached) -> None:
        self._ensure_started()
        for node_id in message.nodes:
            self._node_events.cache(node_id)
        self._node_events.emit_held_nodes()

    def _executing(self, message: messages.Executing) -> None:
        if message.node is None:
            if message.prompt_id is not None:
                self._ensure_started()
                self.outcome.over = True
        elif message.prompt_id is not None or (self.started and self.nodes.known(message.node)):
            # The note that follows a reconnect names no prompt: as long as ours waits, it is about another one.
            self._ensure_started()
            self._node_events.executing(message)

    def _text(self, frame: messages.TextFrame) -> None:
        self._node_events.text(frame)

    def _preview(self, frame: messages.PreviewFrame) -> None:
        if self._previews and self.started:
            self._node_events.preview(frame)

    def _success(self, message: messages.ExecutionSuccess) -> None:
        self._ensure_started()
        self.outcome.success = True

    def _error(self, message: messages.ExecutionError) -> None:
        self._ensure_started()
        if message.blocked:
            info = verdict.blocked(message, self.nodes)
            self.outcome.blocked.append(info)
            self._emitter.warn("blocked", info.message, info.node)
        else:
            self.outcome.error = message

    def _interrupted(self, message: messages.ExecutionInterrupted) -> None:
        self._ensure_started()
        self.outcome.interrupted = message

    def _malformed(self, message: messages.Malformed) -> None:
        if message.reason in self._malformed_told or len(self._malformed_told) >= _MALFORMED_LIMIT:
            return
        self._malformed_told.add(message.reason)
        self._emitter.warn("malformed_message", message.reason)

    def _oversized(self, message: messages.Oversized) -> None:
        words = f"a message of {message.size} bytes was not read; HTTP tells how the run goes"
        self._emitter.warn("frame_too_large", words)

    # --- what comfyreport says itself

    def emit(self, cls: Callable[..., E], at: Instant, **fields: Any) -> list[ev.Event]:
        """An event that no message makes (`warning`, `connection_changed`, `heartbeat`), in the run's order."""
        if self.finished:
            return []
        self._stamp(at, "client")
        self._emitter.emit(cls, **fields)
        return self._emitter.take()

    def heartbeat(self, at: Instant, silent: float) -> list[ev.Event]:
        """Nothing was heard from the server for *silent* seconds, and comfyreport is still there."""
        active = next(iter(reversed(self.nodes.active.values())), None)
        return self.emit(
            ev.Heartbeat,
            at,
            node=None if active is None else active.ref,
            silent_seconds=round(silent, 1),
            node_seconds=None if active is None else round(at.elapsed - active.started, 1),
            state="running" if self.started else "queued" if self.queued else "unknown",
        )

    def saved(self, index: int, output: ev.Output, at: Instant) -> list[ev.Event]:
        """The output at *index* of `outputs` is on disk."""
        self.outputs[index] = output
        return self.emit(ev.OutputSaved, at, output=output)

    def conclude(self, decided: Verdict) -> None:
        """Set the verdict where it doesn't come from history; an earlier one stands."""
        if self.verdict is None:
            self.verdict = decided

    def finish(self, at: Instant) -> list[ev.Event]:
        """Tell the end. A run without a verdict is a fault of comfyreport and says so."""
        if self.finished:
            return []
        self._stamp(at, "client")
        decided = self.verdict or Verdict(
            "internal", ev.ErrorInfo(code="internal", message="the run ended without a verdict"), "unknown", "unknown"
        )
        for node in list(self.nodes.active.values()):
            self.nodes.stop(node, at.elapsed)
        queue_seconds, seconds = self._times(at.elapsed)
        self._emitter.emit(
            ev.RunFinished,
            status=decided.status,
            exit_code=decided.exit_code,
            error=decided.error,
            outputs=tuple(self.outputs),
            executed=tuple(self.nodes.executed),
            cached=tuple(self.nodes.cached),
            queue_seconds=queue_seconds,
            seconds=seconds,
            node_seconds=self.nodes.seconds(),
            prompt_state=decided.prompt_state,
            submitted=decided.submitted,
            retryable=decided.retryable,
        )
        self.finished = True
        return self._emitter.take()

    def _times(self, now: float) -> tuple[float | None, float]:
        """Seconds in the queue, and from the submission to the end: the server's where it told them."""
        if self._seconds is not None:
            return self._queue_seconds, self._seconds
        started, queued = self._started_at, self._queued_at
        waited = None if started is None or queued is None else round(started - queued, 3)
        return waited, round(now - (queued or 0.0), 3)


_HTTP_ANSWERS = frozenset({responses.Accepted, responses.Refused, responses.Queue, responses.History})
_NODE_MESSAGES: dict[type[Any], Callable[[NodeEvents, Any], None]] = {
    messages.ProgressState: NodeEvents.progress_state,
    messages.ProgressMessage: NodeEvents.progress,
    messages.Executed: NodeEvents.executed,
}
_HANDLERS: dict[type[Any], Callable[[Run, Any], None]] = {
    responses.Accepted: Run._accepted_answer,
    responses.Refused: Run._refused,
    responses.Queue: Run._queue,
    responses.History: Run._history,
    messages.StatusMessage: Run._status,
    messages.ExecutionStart: Run._start,
    messages.ExecutionCached: Run._cached,
    messages.Executing: Run._executing,
    messages.TextFrame: Run._text,
    messages.PreviewFrame: Run._preview,
    messages.ExecutionSuccess: Run._success,
    messages.ExecutionError: Run._error,
    messages.ExecutionInterrupted: Run._interrupted,
    messages.Malformed: Run._malformed,
    messages.Oversized: Run._oversized,
}
