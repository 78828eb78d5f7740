"""Run: the one state model. Messages and facts go in with their time, events come out. No I/O, no clock.

`feed` never raises for what a server sent. Who says a thing is in the event's `source`: `ws` for messages of the
socket, `http` for answers, `client` for what comfyreport knows by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from comfyreport import answers, verdict, wire
from comfyreport import events as ev
from comfyreport.events import Instant
from comfyreport.made import outputs_of
from comfyreport.nodes import Node, Nodes
from comfyreport.verdict import Testimony, Verdict

E = TypeVar("E", bound=ev.Event)
Fact = wire.Message | answers.Accepted | answers.Refused | answers.Queue | answers.History

# Messages under another prompt's id that are kept until the server has told which id it gave: a few seconds' worth.
_EARLY_LIMIT = 1000


class Run:
    """One prompt from its submission to its end.

    `sent` is to be set when the POST leaves: before that, events bear no prompt id. `missed` is to be set when the
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
        self.told = Testimony()
        self.verdict: Verdict | None = None
        self.sent = False
        self.missed = False
        self.finished = False
        self.position: int | None = None
        self.outputs: list[ev.Output] = []
        self._base_url = base_url
        self.client_id = client_id
        self._seed = seed
        self._sequence = itertools.count(1) if sequence is None else sequence
        self._previews = previews
        self._run_index = run_index
        self._queued_at: float | None = None
        self._started_at: float | None = None
        self._remaining: int | None = None
        self._accepted = False
        self._early: list[tuple[wire.Message, Instant]] = []
        self._settled: set[str] = set()
        self._stateful = False
        self._preview_index = 0
        self._new: list[ev.Event] = []
        self._at = Instant(0.0, 0.0)
        self._source: ev.Source = "ws"

    # --- what others may ask

    @property
    def queued(self) -> bool:
        """Whether the server is known to have taken the prompt."""
        return self._queued_at is not None

    @property
    def started(self) -> bool:
        """Whether the server is known to have begun with it."""
        return self._started_at is not None

    @property
    def ending(self) -> bool:
        """Whether it is over by the socket's word, so that history should be asked."""
        return self.told.ended and self.verdict is None

    # --- feeding

    def feed(self, fact: Fact, at: Instant) -> list[ev.Event]:
        """Take one message or fact in; the events that it makes, in order."""
        if self.finished or self.verdict is not None:
            return []
        prompt_id = getattr(fact, "prompt_id", None)
        if prompt_id is not None and prompt_id != self.prompt_id and not isinstance(fact, answers.Accepted):
            self._keep_early(fact, at)
            return []
        self._at = at
        self._source = "http" if type(fact).__module__ == answers.__name__ else "ws"
        handler = _HANDLERS.get(type(fact))
        if handler is not None:
            handler(self, fact)
        return self._take()

    def _take(self) -> list[ev.Event]:
        new, self._new = self._new, []
        return new

    def _keep_early(self, fact: Fact, at: Instant) -> None:
        """Messages may come before the answer that tells which id the server gave."""
        if not self._accepted and len(self._early) < _EARLY_LIMIT and type(fact).__module__ == wire.__name__:
            self._early.append((fact, at))  # type: ignore[arg-type]

    def _emit(self, cls: Callable[..., E], **fields: Any) -> None:
        if issubclass(cls, ev.ProgressEvent):  # type: ignore[arg-type]
            nodes = self.nodes
            fields.update(fraction=nodes.fraction(), nodes_done=nodes.done, nodes_total=nodes.total)
        self._new.append(
            cls(
                seq=next(self._sequence),
                time=self._at.time,
                elapsed=self._at.elapsed,
                prompt_id=self.prompt_id if self.sent or self._queued_at is not None else None,
                source=self._source,
                run_index=self._run_index,
                **fields,
            )
        )

    def _ensure_queued(self) -> None:
        if self._queued_at is None:
            self._queued_at = self._at.elapsed
            self._emit(
                ev.RunQueued,
                client_id=self.client_id,
                nodes=self.manifest,
                position=self.position,
                seed=self._seed,
            )

    def _ensure_started(self) -> None:
        self._ensure_queued()
        if self._started_at is None:
            self._started_at = self._at.elapsed
            self.position = 0
            self._emit(ev.RunStarted)

    # --- what HTTP says

    def _accepted_answer(self, fact: answers.Accepted) -> None:
        self._accepted = True
        early, self._early = self._early, []
        given = fact.prompt_id
        if given is not None and given != self.prompt_id:
            asked, self.prompt_id = self.prompt_id, given
            self._warn("prompt_id_changed", f"the server gave the prompt the id {given} instead of {asked}")
        self._ensure_queued()
        if fact.node_errors:
            self._dropped(fact.node_errors)
        for message, at in early:
            if getattr(message, "prompt_id", None) == self.prompt_id:
                handler = _HANDLERS[type(message)]
                self._source = "ws"
                self._at = Instant(at.time, max(at.elapsed, self._queued_at or 0.0))
                handler(self, message)

    def _dropped(self, node_errors: tuple[ev.NodeError, ...]) -> None:
        first = node_errors[0]
        message = f"the server left out outputs: {first.node.title}: {first.message} ({first.details})"
        hint = "correct the inputs of the nodes named in node_errors"
        self.told.dropped = ev.ErrorInfo(code="outputs_dropped", message=message, hint=hint, node_errors=node_errors)
        for error in node_errors:
            self._warn("node_errors", f"{error.message}: {error.details}", error.node)

    def _refused(self, fact: answers.Refused) -> None:
        self.verdict = Verdict("rejected", fact.error, "none", "no")

    def _queue(self, fact: answers.Queue) -> None:
        position = fact.position(self.prompt_id)
        if position is not None:
            entry = next(each for each in (*fact.running, *fact.pending) if each.prompt_id == self.prompt_id)
            self._learn(entry.graph, entry.client_id)
            self.position = position
            self._ensure_queued()
        self._queue_changed(position, fact.remaining)

    def _queue_changed(self, position: int | None, remaining: int | None) -> None:
        if (position, remaining) == (self.position, self._remaining):
            return
        self.position, self._remaining = position, remaining
        if self._queued_at is not None and not self.told.ended:
            self._emit(ev.QueueChanged, position=position, remaining=remaining)

    def _learn(self, graph: wire.Json, client_id: str | None) -> None:
        """The workflow of a prompt that somebody else submitted."""
        if not self.manifest and self._queued_at is None:
            self.client_id = self.client_id or client_id
            self.manifest = answers.manifest_of(graph)
            self.nodes.set_manifest(self.manifest)

    def _history(self, fact: answers.History) -> None:
        self._learn(fact.graph, fact.client_id)
        self._ensure_started()
        for node_id in fact.cached:
            self._cache(node_id)
        if fact.end == "success":
            self._close_nodes()
            if self.missed:
                self._fill_in(fact)
        for entry in fact.outputs:
            display = self.nodes.display_id(entry.node)
            ref = self.nodes.node(display).ref
            cached = display in self.nodes.cached
            self._add_outputs(outputs_of(ref, entry.ui, self._base_url, cached=cached))
        files = sum(1 for output in self.outputs if output.filename is not None)
        self.verdict = verdict.from_history(fact, self.told, self.nodes, files)
        self._tell_outputs()
        if fact.end == "success" and not self.outputs:
            self._warn("no_outputs", "the run made no outputs that the server tells of")

    def _fill_in(self, fact: answers.History) -> None:
        """Tell of the nodes that must have run while nobody listened: all that the outputs rest on."""
        for node_id in answers.needed_nodes(fact.graph, fact.targets):
            if node_id not in self.nodes.executed and node_id not in self.nodes.cached:
                self._finish_node(self._start_node(node_id, seen=False))

    def _add_outputs(self, outputs: Iterable[ev.Output]) -> None:
        known = {(output.node.id, output.filename, output.subfolder, output.folder) for output in self.outputs}
        for output in outputs:
            if (
                output.filename is None
                or (output.node.id, output.filename, output.subfolder, output.folder) not in known
            ):
                self.outputs.append(output)

    def _tell_outputs(self) -> None:
        for output in self.outputs:
            self._emit(ev.OutputReady, output=output)

    # --- what the socket says

    def _status(self, message: wire.StatusMessage) -> None:
        if message.remaining is not None:
            position = self.position if message.remaining else None
            self._queue_changed(0 if self.started else position, message.remaining)

    def _start(self, message: wire.ExecutionStart) -> None:
        self._ensure_started()

    def _cached(self, message: wire.ExecutionCached) -> None:
        self._ensure_started()
        for node_id in message.nodes:
            self._cache(node_id)

    def _cache(self, node_id: str) -> None:
        display = self.nodes.display_id(node_id)
        if display not in self.nodes.executed and self.nodes.cache(display):
            self._emit(ev.NodeCached, node=self.nodes.node(display).ref)

    def _progress_state(self, message: wire.ProgressState) -> None:
        """The whole state of all nodes that began; only what isn't settled yet can be news."""
        self._ensure_started()
        self._stateful = True
        ended: dict[str, bool] = {}
        for raw_id in [raw_id for raw_id in message.nodes if raw_id not in self._settled]:
            state = wire.node_state(raw_id, message.nodes[raw_id])
            if state is None:
                continue
            display = self.nodes.display_id(raw_id, state.display_id)
            if state.finished:
                self._settled.add(raw_id)
            ended[display] = ended.get(display, True) and state.finished
            if display in self.nodes.active:
                continue
            if state.running:
                self._start_node(display, seen=state.value == 0)
            elif state.finished and display not in self.nodes.executed and display not in self.nodes.cached:
                # It ran while nobody listened: after a reconnect, or before an attach.
                self._start_node(display, seen=False)
        for display, over in ended.items():
            node = self.nodes.active.get(display)
            if over and node is not None:
                self._finish_node(node)

    def _executing(self, message: wire.Executing) -> None:
        if message.node is None:
            if message.prompt_id is not None:
                self._ensure_started()
                self.told.over = True
            return
        if message.prompt_id is None and not self.nodes.known(message.node):
            return
        self._ensure_started()
        display = self.nodes.display_id(message.node, message.display_node)
        if display in self.nodes.active:
            return
        if not self._stateful:
            # Servers before progress_state tell an end only by the next beginning.
            self._close_nodes()
        self._start_node(display, seen=message.prompt_id is not None)

    def _progress(self, message: wire.ProgressMessage) -> None:
        self._ensure_started()
        value, maximum = message.value, message.maximum
        display = self.nodes.display_id(message.node)
        node = self.nodes.active.get(display)
        if node is None:
            node = self._start_node(display, seen=False)
        if not 0 < value <= maximum:
            return
        elapsed = self._at.elapsed
        bar = node.observe(message.node, value, maximum, elapsed)
        if bar is None:
            return
        speed = bar.speed(elapsed)
        self._emit(
            ev.NodeProgress,
            step=value,
            max_steps=maximum,
            eta_seconds=round(bar.eta(elapsed), 3),
            node=self._ref(node, message.node),
            pass_number=bar.pass_number,
            steps_per_second=None if speed is None else round(speed, 4),
        )

    def _executed(self, message: wire.Executed) -> None:
        self._ensure_started()
        display = self.nodes.display_id(message.node, message.display_node)
        node = self.nodes.node(display)
        cached = display in self.nodes.cached
        made = outputs_of(node.ref, message.output, self._base_url, cached=cached)
        node.outputs = (*node.outputs, *made)

    def _text(self, frame: wire.TextFrame) -> None:
        """Texts are broadcast and name no prompt: only those of a node that runs here can be meant."""
        display = self.nodes.display_id(frame.node)
        if display in self.nodes.active:
            self._emit(ev.NodeText, node=self._ref(self.nodes.active[display], frame.node), text=frame.text)

    def _preview(self, frame: wire.PreviewFrame) -> None:
        if not self._previews or not self.started:
            return
        ref: ev.NodeRef | None = None
        if frame.node is not None:
            ref = self._ref(self.nodes.node(self.nodes.display_id(frame.node, frame.display_node)), frame.node)
        elif len(self.nodes.active) == 1:
            ref = next(iter(self.nodes.active.values())).ref
        self._emit(ev.NodePreview, node=ref, media_type=frame.media_type, image=frame.image, index=self._preview_index)
        self._preview_index += 1

    def _success(self, message: wire.ExecutionSuccess) -> None:
        self._ensure_started()
        self.told.success = True

    def _error(self, message: wire.ExecutionError) -> None:
        self._ensure_started()
        if message.blocked:
            info = verdict.blocked(message, self.nodes)
            self.told.blocked.append(info)
            self._warn("blocked", info.message, info.node)
        else:
            self.told.error = message

    def _interrupted(self, message: wire.ExecutionInterrupted) -> None:
        self._ensure_started()
        self.told.interrupted = message

    def _malformed(self, message: wire.Malformed) -> None:
        self._warn("malformed_message", message.reason)

    # --- nodes

    def _ref(self, node: Node, raw_id: str) -> ev.NodeRef:
        ref = node.ref
        if raw_id == ref.id:
            return ref
        return ev.NodeRef(id=ref.id, class_type=ref.class_type, title=ref.title, raw_id=raw_id)

    def _start_node(self, display: str, *, seen: bool) -> Node:
        node = self.nodes.start(display, self._at.elapsed, seen=seen)
        self._emit(ev.NodeStarted, node=node.ref)
        return node

    def _finish_node(self, node: Node) -> None:
        seconds = self.nodes.stop(node, self._at.elapsed)
        self._emit(ev.NodeFinished, node=node.ref, seconds=round(seconds, 3), outputs=node.outputs)

    def _close_nodes(self) -> None:
        for node in list(self.nodes.active.values()):
            self._finish_node(node)

    # --- what comfyreport says itself

    def _warn(self, code: str, message: str, node: ev.NodeRef | None = None) -> None:
        self._emit(ev.Warning, code=code, message=message, node=node)

    def tell(self, cls: Callable[..., E], at: Instant, **fields: Any) -> list[ev.Event]:
        """An event that no message makes (`warning`, `connection_changed`, `heartbeat`), in the run's order."""
        if self.finished:
            return []
        self._at, self._source = at, "client"
        self._emit(cls, **fields)
        return self._take()

    def saved(self, index: int, output: ev.Output, at: Instant) -> list[ev.Event]:
        """The output at *index* of `outputs` is on disk."""
        self.outputs[index] = output
        return self.tell(ev.OutputSaved, at, output=output)

    def conclude(self, decided: Verdict) -> None:
        """Set the verdict where it doesn't come from history; an earlier one stands."""
        if self.verdict is None:
            self.verdict = decided

    def finish(self, at: Instant) -> list[ev.Event]:
        """Tell the end. A run without a verdict is a fault of comfyreport and says so."""
        if self.finished:
            return []
        self._at, self._source = at, "client"
        decided = self.verdict or Verdict(
            "internal", ev.ErrorInfo(code="internal", message="the run ended without a verdict"), "unknown", "unknown"
        )
        for node in list(self.nodes.active.values()):
            self.nodes.stop(node, at.elapsed)
        started, queued = self._started_at, self._queued_at
        self._emit(
            ev.RunFinished,
            status=decided.status,
            exit_code=decided.exit_code,
            error=decided.error,
            outputs=tuple(self.outputs),
            executed=tuple(self.nodes.executed),
            cached=tuple(self.nodes.cached),
            queue_seconds=None if started is None or queued is None else round(started - queued, 3),
            seconds=round(at.elapsed - (queued or 0.0), 3),
            node_seconds=self.nodes.seconds(),
            prompt_state=decided.prompt_state,
            submitted=decided.submitted,
            retryable=decided.retryable,
        )
        self.finished = True
        return self._take()


_HANDLERS: dict[type[Any], Callable[[Run, Any], None]] = {
    answers.Accepted: Run._accepted_answer,
    answers.Refused: Run._refused,
    answers.Queue: Run._queue,
    answers.History: Run._history,
    wire.StatusMessage: Run._status,
    wire.ExecutionStart: Run._start,
    wire.ExecutionCached: Run._cached,
    wire.ProgressState: Run._progress_state,
    wire.Executing: Run._executing,
    wire.ProgressMessage: Run._progress,
    wire.Executed: Run._executed,
    wire.TextFrame: Run._text,
    wire.PreviewFrame: Run._preview,
    wire.ExecutionSuccess: Run._success,
    wire.ExecutionError: Run._error,
    wire.ExecutionInterrupted: Run._interrupted,
    wire.Malformed: Run._malformed,
}
