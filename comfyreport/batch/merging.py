"""The events of many runs, from many threads, as one stream."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from comfyreport import events as ev
from comfyreport.jobs.run_context import RunContext


class Merger:
    """Puts the events of all runs into one stream: `seq` rises by one, and the time never falls.

    A run's own thread has read the clock before it comes here, where another one's may have been faster.

    :param session: takes the events in the end.
    """

    def __init__(self, session: RunContext) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._elapsed = 0.0
        self._time = 0.0

    def publish(self, events: Sequence[ev.Event]) -> None:
        """Tell *events*, which are of one run or of none, to the reporters. From any thread."""
        with self._lock:
            self._session.publish([self._stamped(event) for event in events])

    def emit(self, cls: Any, *, run_index: int | None = None, **fields: Any) -> None:
        """Make an event now and tell it: about the run *run_index*, or about all of them."""
        now = self._session.clock()
        self.publish([cls(seq=0, time=now.time, elapsed=now.elapsed, run_index=run_index, **fields)])

    def _stamped(self, event: ev.Event) -> ev.Event:
        self._elapsed = max(self._elapsed, event.elapsed)
        self._time = max(self._time, event.time)
        return replace(event, seq=next(self._session.sequence), elapsed=self._elapsed, time=self._time)
