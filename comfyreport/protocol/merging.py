"""Which messages may be left out when they come faster than they are read. Pure.

Only what a later message says again may go: a `progress` yields to a later one of the same node with the same maximum
and a value not smaller, a `progress_state` to a later one in which no display node has gone from finished
back to running, a preview to a newer one of its node. What a `Run` needs to see the same passes, begins and ends
is kept: the first step of each pass beside the last, and the first `progress_state`. So are previews that are PNGs,
as samplers send none: they are what a SaveImageWebsocket made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from comfyreport.protocol.decode import node_state
from comfyreport.protocol.messages import Executing, Message, PreviewFrame, ProgressMessage, ProgressState


def merge_messages(messages: Sequence[Message]) -> list[Message]:
    """*messages* without those that a later one makes needless, in their order."""
    needless = _needless_steps(messages) | _needless_states(messages) | _needless_previews(messages)
    return [message for index, message in enumerate(messages) if index not in needless]


def _needless_steps(messages: Sequence[Message]) -> set[int]:
    """Steps between the first and the last of a growing series; the beginning of a node ends a series."""
    needless: set[int] = set()
    first: dict[tuple[str, str], int] = {}
    last: dict[tuple[str, str], int] = {}
    out_of_range: dict[tuple[str, str], int] = {}
    for index, message in enumerate(messages):
        if isinstance(message, Executing):
            first.clear()
            last.clear()
            out_of_range.clear()
        if not isinstance(message, ProgressMessage):
            continue
        key = (message.prompt_id, message.node)
        if key in out_of_range:
            needless.add(out_of_range.pop(key))
        if not 0 < message.value <= message.maximum:
            # It is no step and can only show that the node runs, which any later one shows as well.
            out_of_range[key] = index
            continue
        before = last.get(key)
        if before is None or not _continues(messages[before], message):
            first[key] = index
        elif before != first[key]:
            needless.add(before)
        last[key] = index
    return needless


def _continues(before: Message, message: ProgressMessage) -> bool:
    return isinstance(before, ProgressMessage) and before.maximum == message.maximum and before.value <= message.value


class _LaterState(NamedTuple):
    """What is needed of a `progress_state` to see that an older one must be kept."""

    groups: tuple[tuple[str, ...], ...]
    running: tuple[str, ...]

    @classmethod
    def of(cls, message: ProgressState) -> _LaterState:
        groups: dict[str, list[str]] = {}
        running: list[str] = []
        for raw_id, entry in message.nodes.items():
            state = node_state(raw_id, entry)
            if state is not None:
                groups.setdefault(state.display_id, []).append(raw_id)
                if state.running:
                    running.append(raw_id)
        return cls(tuple(tuple(group) for group in groups.values() if len(group) > 1), tuple(running))

    def ran_again_after(self, older: ProgressState) -> bool:
        """Whether a display node that is finished in *older* has run again by now, in the same or another part."""
        if any(_finished(older, raw_id) for raw_id in self.running):
            return True
        for group in self.groups:
            earlier = [raw_id for raw_id in group if raw_id in older.nodes]
            if 0 < len(earlier) < len(group) and all(_finished(older, raw_id) for raw_id in earlier):
                return True
        return False


def _finished(message: ProgressState, raw_id: str) -> bool:
    state = node_state(raw_id, message.nodes.get(raw_id))
    return state is not None and state.finished


def _needless_states(messages: Sequence[Message]) -> set[int]:
    """States but the newest, the first, which shows that this server sends them, and those before a node runs again."""
    needless: set[int] = set()
    later: dict[str, _LaterState] = {}
    oldest: dict[str, int] = {}
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if isinstance(message, ProgressState):
            newer = later.get(message.prompt_id)
            if newer is None or newer.ran_again_after(message):
                later[message.prompt_id] = _LaterState.of(message)
            else:
                needless.add(index)
            oldest[message.prompt_id] = index
    return needless - set(oldest.values())


def _needless_previews(messages: Sequence[Message]) -> set[int]:
    needless: set[int] = set()
    newer: set[tuple[str | None, str | None]] = set()
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if isinstance(message, PreviewFrame) and message.media_type != "image/png":
            key = (message.prompt_id, message.node)
            if key in newer:
                needless.add(index)
            newer.add(key)
        elif isinstance(message, Executing):
            newer.clear()
    return needless
