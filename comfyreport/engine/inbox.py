"""What waits for the loop: the reader's messages, what calls in the background came back with, the user's requests."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from comfyreport.backpressure import Backpressure
from comfyreport.net import frames
from comfyreport.protocol.decode import decode_binary, decode_text
from comfyreport.protocol.merging import merge_messages
from comfyreport.protocol.messages import Message
from comfyreport.worker import take

MERGE_ABOVE_MESSAGES = 1000
MERGE_ABOVE_BYTES = 16 * 1024 * 1024

# Beyond this the reader waits: far below what calls for merging, so that memory stays small.
_FULL_MESSAGES = 750
_FULL_BYTES = 2 * 1024 * 1024


class Batch(NamedTuple):
    """Messages of the socket that came together, *size* bytes in all."""

    messages: list[frames.Message]
    size: int


def decoded(batches: Sequence[Batch], decode: Callable[[bytes], Message]) -> Iterable[Message]:
    """The messages in *batches*: merged if too many wait, else each decoded only as it is asked for.

    A large workflow's messages are large once they are decoded: they should not all be held. *decode* reads texts
    and may rest on what became of the messages before, as long as none is merged.
    """
    waiting, size = sum(len(batch.messages) for batch in batches), sum(batch.size for batch in batches)
    merging = waiting > MERGE_ABOVE_MESSAGES or size > MERGE_ABOVE_BYTES
    read = decode_text if merging else decode
    messages = (read(data) if text else decode_binary(data) for batch in batches for text, data in batch.messages)
    return merge_messages(list(messages)) if merging else messages


class Inbox:
    """A queue with any number of writers and one reader of its own, the loop.

    The thread that reads the socket is mostly faster than the loop: it waits for it where enough lies here, so that
    nothing need be merged as long as the loop keeps up. A loop that takes nothing for *backpressure* seconds isn't
    waited for again until it does: the socket must be drained all the same. Behind messages the loop rests for
    *batch_pause* seconds.
    """

    def __init__(self, backpressure: float, batch_pause: float) -> None:
        self._backpressure = Backpressure(backpressure)
        self._batch_pause = batch_pause
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # Each is written by one thread alone.
        self._messages_in = self._messages_out = 0
        self._bytes_in = self._bytes_out = 0
        self._rushed = False

    def put(self, item: object) -> None:
        """Add anything but messages. Safe in a signal handler and from any thread."""
        self._queue.put(item)

    def put_messages(self, messages: list[frames.Message]) -> None:
        """Add messages; from the socket's thread alone."""
        size = sum(len(data) for _, data in messages)
        self._messages_in += len(messages)
        self._bytes_in += size
        self._queue.put(Batch(messages, size))
        # Whoever waits here must not hold them.
        del messages
        self._backpressure.wait_while(self._full)

    def _full(self) -> bool:
        return self._messages_in - self._messages_out > _FULL_MESSAGES or self._bytes_in - self._bytes_out > _FULL_BYTES

    def receive(self, timeout: float) -> list[Any]:
        """All that waits, as soon as there is something; nothing after *timeout* seconds. From the loop alone."""
        items: list[Any] = []
        if self._rushed:
            # Waking this thread for each message would cost more than the message.
            time.sleep(min(self._batch_pause, max(0.0, timeout)))
        self._rushed = False
        try:
            items.append(take(self._queue, timeout))
            while True:
                items.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        for item in items:
            if type(item) is Batch:
                self._messages_out += len(item.messages)
                self._bytes_out += item.size
                self._rushed = True
        if self._rushed:
            self._backpressure.taken()
        return items
