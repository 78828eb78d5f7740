"""What HTTP responses change in a run: the answer to the submission, the queue, the history. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfyreport import events as ev
from comfyreport.protocol import responses
from comfyreport.protocol.ui_outputs import worth_saving
from comfyreport.run import socket_handlers, verdict
from comfyreport.run.state import RunState
from comfyreport.run.verdict import Verdict


def _accepted(state: RunState, response: responses.Accepted) -> None:
    state.accepted = True
    early, state.early_messages = state.early_messages, []
    new_id, old_id = response.prompt_id, state.prompt_id
    if new_id is not None and new_id != old_id:
        state.prompt_id = state.emitter.prompt_id = new_id
        state.emitter.warn("prompt_id_changed", f"the server gave the prompt the id {new_id} instead of {old_id}")
    state.ensure_queued()
    if response.node_errors:
        _outputs_dropped(state, response.node_errors)
    state.emitter.source = "ws"
    for message in early:
        if getattr(message, "prompt_id", None) == state.prompt_id:
            socket_handlers.handle(state, message)


def _outputs_dropped(state: RunState, node_errors: tuple[ev.NodeError, ...]) -> None:
    first = node_errors[0]
    message = f"the server left out outputs: {first.node.title}: {first.message} ({first.details})"
    hint = "correct the inputs of the nodes named in node_errors"
    state.outcome.dropped_outputs = ev.ErrorInfo(
        code="outputs_dropped", message=message, hint=hint, node_errors=node_errors
    )
    for error in node_errors:
        state.emitter.warn("node_errors", f"{error.message}: {error.details}", error.node)


def _refused(state: RunState, response: responses.Refused) -> None:
    state.verdict = Verdict("rejected", response.error, "none", "no")


def _queue(state: RunState, queue: responses.Queue) -> None:
    position = queue.position(state.prompt_id)
    if position is not None:
        entry = next(each for each in queue.all if each.prompt_id == state.prompt_id)
        state.learn_workflow(entry.graph, entry.client_id)
        state.output_nodes |= frozenset(entry.output_nodes)
        state.node_events.output_nodes = state.output_nodes
        if not state.queued:
            state.position = position
        state.ensure_queued()
        if entry in queue.running:
            state.ensure_started()
    state.change_queue(position, queue.remaining)


def _history(state: RunState, history: responses.History) -> None:
    state.learn_workflow(history.graph, history.client_id)
    state.output_nodes |= frozenset(history.output_nodes)
    if state.attached:
        # Its own clock began with the attach; the server knows when the prompt came and when it ended.
        submitted = history.started if history.created is None else history.created
        state.server_queue_seconds = history.between(history.created, history.started)
        state.server_seconds = history.between(submitted, history.ended)
    state.ensure_started()
    for node_id in history.cached:
        state.node_events.mark_cached(node_id)
    state.node_events.emit_held_nodes()
    succeeded = verdict.end_of(history, state.outcome) == "success"
    _finish_nodes(state, history, succeeded=succeeded)
    _collect_outputs(state, history)
    files = len(worth_saving(state.outputs, include_temp=state.include_temp))
    state.verdict = verdict.from_history(history, state.outcome, state.nodes, files)
    for output in state.outputs:
        # What is saved already was told then.
        if output.path is None:
            state.emitter.emit(ev.OutputReady, output=output)
    if succeeded and not state.outputs:
        state.emitter.warn("no_outputs", "the run made no outputs that the server tells of")


def _finish_nodes(state: RunState, history: responses.History, *, succeeded: bool) -> None:
    """Emit the ends of nodes that a success closes, and of those whose messages were missed."""
    if succeeded:
        state.node_events.finish_active_nodes()
    last = None if succeeded else history.error or history.interrupted
    if (state.missed_messages or not state.outcome.ended) and (succeeded or last is not None):
        state.node_events.emit_missed_nodes(responses.needed_nodes(history.graph, history.output_nodes), last)


def _collect_outputs(state: RunState, history: responses.History) -> None:
    """Collect the outputs in the order of the workflow's nodes.

    History has them in the order of execution, which begins from a set (ComfyUI's execution.py) and differs from one
    start of the server to the next. Of what one node expanded to, history's order stands: the later came later.
    """
    places = {ref.id: place for place, ref in enumerate(state.manifest)}
    entries = [(state.nodes.display_id(entry.node), entry.ui) for entry in history.outputs]
    for display, ui in sorted(entries, key=lambda entry: places.get(entry[0], len(places))):
        ref = state.nodes.node(display).ref
        state.output_collection.add(ref, ui, cached=display in state.nodes.cached)
    # Those that came over the socket stand before all others.
    state.outputs.sort(key=lambda output: places.get(output.node.id, len(places)))
    state.merge_saved_early()


HANDLERS: dict[type[Any], Callable[[RunState, Any], None]] = {
    responses.Accepted: _accepted,
    responses.Refused: _refused,
    responses.Queue: _queue,
    responses.History: _history,
}
"""By class: what each response changes."""
