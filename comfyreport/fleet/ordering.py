"""The events of many workers in the order of their time, on the clock of the command. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from comfyreport import events as ev

HOLD = 0.3
"""Seconds for which an event is held, so that an earlier one from another worker can still come before it."""


class Ordering:
    """Sorts events by their time; the clock of each worker is set by the fastest of its messages.

    :param start: when the stream began, in seconds since the epoch on the clock of the command.
    """

    def __init__(self, start: float, hold: float = HOLD) -> None:
        self._start = start
        self._hold = hold
        self._offsets: dict[str, float] = {}
        self._last: dict[int | None, float] = {}
        self._held: list[tuple[float, int, ev.Event]] = []
        self._count = count()

    def __bool__(self) -> bool:
        return bool(self._held)

    def heard(self, worker: str, sent: float, now: float) -> None:
        """A message of *worker* that was sent at *sent* by its clock has come *now* by ours."""
        self._offsets[worker] = min(now - sent, self._offsets.get(worker, math.inf))

    def add(self, worker: str, events: Sequence[ev.Event], now: float) -> None:
        """Take *events* of one run, in their order. No event of a run comes before those that were added earlier.

        :param worker: by whose clock they are; empty for that of the command.
        """
        offset = self._offsets.get(worker, 0.0)
        for event in events:
            # What was told has happened.
            time = max(min(event.time + offset, now), self._last.get(event.run_index, -math.inf))
            self._last[event.run_index] = time
            if isinstance(event, ev.RunFinished):
                del self._last[event.run_index]
            elapsed = max(0.0, round(time - self._start, 6))
            stamped = replace(event, worker=worker or event.worker, time=round(time, 6), elapsed=elapsed)
            heapq.heappush(self._held, (time, next(self._count), stamped))

    def release(self, now: float) -> list[ev.Event]:
        """The events that were held long enough, in order; *now*: math.inf for all of them."""
        released = []
        while self._held and self._held[0][0] <= now - self._hold:
            released.append(heapq.heappop(self._held)[2])
        return released
