"""What messages of the socket change in a run. Pure; what concerns its nodes is in `node_events`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfyreport.protocol import messages
from comfyreport.run import verdict
from comfyreport.run.node_events import NodeEvents
from comfyreport.run.state import RunState

# Seconds between two events that tell of the queue's length alone.
_STATUS_EVERY = 2.0

# Malformed messages that are warned of, each kind once: a broken node may send one with every step.
_MALFORMED_LIMIT = 20


def handle(state: RunState, message: messages.Message) -> None:
    """Take one message of the socket in."""
    kind = type(message)
    node_handler = _NODE_HANDLERS.get(kind)
    if node_handler is not None:
        state.ensure_started()
        if state.missed_messages and kind is messages.ProgressState:
            # It has all nodes that have run so far, and what follows is received.
            state.missed_messages = False
        node_handler(state.node_events, message)
    elif kind in _HANDLERS:
        _HANDLERS[kind](state, message)


def _status(state: RunState, message: messages.StatusMessage) -> None:
    """The queue's length: emitted at once where it moves this prompt, else every few seconds."""
    if message.remaining is None:
        return
    now = state.emitter.at.elapsed
    position = 0 if state.started else state.position if message.remaining else None
    if position != state.position or now - state.queue_changed_at >= _STATUS_EVERY:
        state.change_queue(position, message.remaining)


def _start(state: RunState, message: messages.ExecutionStart) -> None:
    state.ensure_started()


def _cached(state: RunState, message: messages.ExecutionCached) -> None:
    state.ensure_started()
    for node_id in message.nodes:
        state.node_events.mark_cached(node_id)
    state.node_events.emit_held_nodes()


def _executing(state: RunState, message: messages.Executing) -> None:
    if message.node is None:
        if message.prompt_id is not None:
            state.ensure_started()
            state.outcome.worker_done = True
    elif message.prompt_id is not None or (state.started and state.nodes.is_submitted(message.node)):
        # The note that follows a reconnect names no prompt: as long as ours waits, it is about another one.
        state.ensure_started()
        state.node_events.executing(message)


def _text(state: RunState, frame: messages.TextFrame) -> None:
    state.node_events.text(frame)


def _preview(state: RunState, frame: messages.PreviewFrame) -> None:
    if not state.started:
        return
    node = state.node_events.socket_saver(frame)
    if node is not None:
        picture = state.output_collection.add_picture(node, frame.media_type)
        if picture is not None and state.keep_pictures:
            state.pictures.append((picture, frame.image))
    if state.previews:
        state.node_events.preview(frame)


def _success(state: RunState, message: messages.ExecutionSuccess) -> None:
    state.ensure_started()
    state.outcome.succeed()


def _error(state: RunState, message: messages.ExecutionError) -> None:
    state.ensure_started()
    if message.blocked:
        info = verdict.blocked_node(message, state.nodes)
        state.outcome.blocked_nodes.append(info)
        state.emitter.warn("blocked", info.message, info.node)
    else:
        state.outcome.error = message


def _interrupted(state: RunState, message: messages.ExecutionInterrupted) -> None:
    state.ensure_started()
    state.outcome.interrupted = message


def _malformed(state: RunState, message: messages.Malformed) -> None:
    if message.reason in state.malformed_reasons or len(state.malformed_reasons) >= _MALFORMED_LIMIT:
        return
    state.malformed_reasons.add(message.reason)
    state.emitter.warn("malformed_message", message.reason)


def _oversized(state: RunState, message: messages.Oversized) -> None:
    words = f"a message of {message.size} bytes was not read; HTTP tells how the run goes"
    state.emitter.warn("frame_too_large", words)


_NODE_HANDLERS: dict[type[Any], Callable[[NodeEvents, Any], None]] = {
    messages.ProgressState: NodeEvents.progress_state,
    messages.ProgressMessage: NodeEvents.progress,
    messages.Executed: NodeEvents.executed,
}
_HANDLERS: dict[type[Any], Callable[[RunState, Any], None]] = {
    messages.StatusMessage: _status,
    messages.ExecutionStart: _start,
    messages.ExecutionCached: _cached,
    messages.Executing: _executing,
    messages.TextFrame: _text,
    messages.PreviewFrame: _preview,
    messages.ExecutionSuccess: _success,
    messages.ExecutionError: _error,
    messages.ExecutionInterrupted: _interrupted,
    messages.Malformed: _malformed,
    messages.Oversized: _oversized,
}
