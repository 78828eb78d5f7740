"""Which messages may be left out when they come faster than they are read. Pure.

Only what a later message says again may go: a `progress` yields to a later one of the same node with the same maximum
and a value not smaller, a `progress_state` to a later one in which no display node has gone from finished
back to running, a preview to a newer one of its node.
"""

from __future__ import annotations

from collections.abc import Sequence

from comfyreport.wire import (
    Executing,
    Message,
    PreviewFrame,
    ProgressMessage,
    ProgressState,
    node_state,
)


def merge_messages(messages: Sequence[Message]) -> list[Message]:
    """*messages* without those that a later one makes needless, in their order."""
    kept: list[Message] = []
    progress: dict[tuple[str, str], ProgressMessage] = {}
    states: dict[str, ProgressState] = {}
    previews: set[tuple[str | None, str | None]] = set()
    for message in reversed(messages):
        if isinstance(message, ProgressMessage):
            key = (message.prompt_id, message.node)
            later = progress.get(key)
            if later is not None and later.maximum == message.maximum and later.value >= message.value:
                continue
            progress[key] = message
        elif isinstance(message, ProgressState):
            newer = states.get(message.prompt_id)
            if newer is not None and not _restarts(message, newer):
                continue
            states[message.prompt_id] = message
        elif isinstance(message, PreviewFrame):
            if (message.prompt_id, message.node) in previews:
                continue
            previews.add((message.prompt_id, message.node))
        elif isinstance(message, Executing):
            # A node that begins, or another one that does: what came before belongs to another pass.
            progress.clear()
            previews.clear()
        kept.append(message)
    kept.reverse()
    return kept


def _restarts(older: ProgressState, newer: ProgressState) -> bool:
    """Whether a display node that is finished in *older* runs again in *newer*."""
    running = _displays(newer, running=True)
    return bool(running) and not running.isdisjoint(_displays(older, running=False) - _displays(older, running=True))


def _displays(message: ProgressState, *, running: bool) -> set[str]:
    found = set()
    for raw_id, entry in message.nodes.items():
        state = node_state(raw_id, entry)
        if state is not None and (state.running if running else state.finished):
            found.add(state.display_id)
    return found
