"""Events on their way to the delivery; where too many wait, those that a later one makes needless are left out."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from comfyreport import events as ev
from comfyreport.backpressure import Backpressure

MERGE_ABOVE = 1000

PORTION = 100
"""Events that are put or taken at once: whoever waits for the other sees that it goes on."""

# Of very many events at once nothing can be merged: so much longer the delivery is waited for, and so many seconds an
# event in all. A reporter that takes longer has what is left to it at the end.
_PATIENCE = 8
_PACE = 0.001


def merge(waiting: Iterable[Any]) -> deque[Any]:
    """*waiting* events without the `node_progress` that a later one of the same run, node and pass makes needless.

    The order of what stays is kept, and the last progress of each pass stays.
    """
    kept: deque[Any] = deque()
    # By run and node, the bars and passes of which a later progress stays.
    newest: dict[tuple[int | None, str], set[tuple[str | None, int]]] = {}
    for event in reversed(list(waiting)):
        if type(event) is ev.NodeProgress:
            bars = newest.setdefault((event.run_index, event.node.id), set())
            bar = (event.node.raw_id, event.pass_number)
            if bar in bars:
                continue
            bars.add(bar)
        elif type(event) in (ev.NodeStarted, ev.NodeFinished):
            newest.pop((event.run_index, event.node.id), None)
        kept.appendleft(event)
    return kept


class EventQueue:
    """What the main thread has published and the delivery hasn't taken yet.

    Where many events wait, `put` waits for the delivery, which must take some every *backpressure* seconds; where it
    doesn't, they are merged."""

    def __init__(self, backpressure: float) -> None:
        self._items: deque[Any] = deque()
        self._changed = threading.Condition()
        self._backpressure = Backpressure(backpressure)
        self._merge_above = MERGE_ABOVE

    def put(self, items: Sequence[Any]) -> None:
        """Add *items*; wait, then merge, when too many wait: a run may have 100,000 outputs to tell of at its end."""
        if len(items) <= PORTION:
            self._put(items, 1)
            return
        until = time.monotonic() + _PACE * len(items)
        for begin in range(0, len(items), PORTION):
            self._put(items[begin : begin + PORTION], _PATIENCE if time.monotonic() < until else 0)

    def _put(self, items: Sequence[Any], patience: float) -> None:
        with self._changed:
            self._items.extend(items)
            self._changed.notify()
            if not self._full():
                return
        if patience:
            self._backpressure.wait_while(self._full, patience)
        with self._changed:
            if self._full():
                self._items = merge(self._items)
                # What can't be merged must not be tried again at every event.
                self._merge_above = max(MERGE_ABOVE, 2 * len(self._items))

    def _full(self) -> bool:
        return len(self._items) > self._merge_above

    @property
    def more(self) -> bool:
        """Whether anything waits."""
        return bool(self._items)

    def take(self, timeout: float | None) -> deque[Any]:
        """What waits, of very many the first, as soon as there is something; nothing after *timeout* seconds."""
        with self._changed:
            if not self._items:
                self._changed.wait(timeout)
            if len(self._items) <= MERGE_ABOVE:
                items, self._items = self._items, deque()
                self._merge_above = MERGE_ABOVE
            else:
                items = deque(self._items.popleft() for _ in range(PORTION))
        self._backpressure.taken()
        return items
