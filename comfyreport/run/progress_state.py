"""Decoding `progress_state` messages without parsing again the nodes that have finished.

Each of them repeats all nodes that began, in order, so that a large workflow's are mostly finished nodes whose text is
that of the message before: all that may be skipped. A `Run` makes the same events of what is left, which a test shows.
"""

from __future__ import annotations

import contextlib
from itertools import islice, takewhile

from comfyreport.protocol.decode import decode_text, loads, node_state
from comfyreport.protocol.messages import Message, ProgressState
from comfyreport.run.run import Run

WORTHWHILE_BYTES = 4096
"""A shorter message is parsed as fast as compared."""
WORTHWHILE_NODES = 16
"""What is skipped grows by no fewer nodes: each time it is parsed once more."""

_OPENING = b'"nodes": {'


class ProgressStateDecoder:
    """Decodes the text messages of *run*'s socket. Each must be fed to it before the next is decoded."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._restarts = 0
        self._forget()

    def _forget(self) -> None:
        self._skipped = self._head = b""

    def decode(self, data: bytes) -> Message:
        """As `decode_text`, but a `ProgressState` may lack nodes at its beginning that the run knows as finished."""
        if len(data) < WORTHWHILE_BYTES:
            return decode_text(data)
        if self._restarts != self._run.node_events.restarts:
            # A finished node runs again.
            self._restarts = self._run.node_events.restarts
            self._forget()
        skip = len(self._skipped) if self._skipped and data.startswith(self._skipped) else 0
        message = decode_text(self._head + data[skip:] if skip else data)
        if skip and not isinstance(message, ProgressState):
            # An error message has to describe the whole.
            return decode_text(data)
        if isinstance(message, ProgressState) and message.prompt_id == self._run.prompt_id:
            self._extend_skipped(data, skip, message)
        return message

    def _extend_skipped(self, data: bytes, skip: int, message: ProgressState) -> None:
        """Find how far the beginning of *data* holds only nodes that the run knows as finished: it is skipped next."""
        finished_ids = self._run.node_events.finished_ids
        ended = list(takewhile(lambda raw_id: raw_id in finished_ids and _finished(message, raw_id), message.nodes))
        following = next(islice(message.nodes, len(ended), None), None)
        if len(ended) < WORTHWHILE_NODES or following is None:
            return
        head = self._head if skip else data[: data.find(_OPENING) + len(_OPENING)]
        end = data.find(f'"{following}": {{'.encode("utf-8", "replace"), skip or len(head))
        skippable = data[skip or len(head) : end]
        # Skip it only if it is exactly those nodes, whatever the search above has hit.
        try:
            parsed = loads(head + skippable.rstrip(b", ") + b"}}}")
        except ValueError:
            return
        nodes = {raw_id: message.nodes[raw_id] for raw_id in ended}
        content = {"prompt_id": message.prompt_id, "nodes": nodes}
        with contextlib.suppress(RecursionError):
            # Comparing raises at a lower depth than parsing.
            if end > 0 and skippable.endswith(b", ") and parsed == {"type": "progress_state", "data": content}:
                self._head, self._skipped = head, data[:end]


def _finished(message: ProgressState, raw_id: str) -> bool:
    state = node_state(raw_id, message.nodes[raw_id])
    return state is not None and state.finished
