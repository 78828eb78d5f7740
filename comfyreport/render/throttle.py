"""Fewer progress events without losing the one that matters: for reporters that write a line an event."""

from __future__ import annotations

import math

from comfyreport import events as ev

# Differences of floats: a span of 0.1 s may be 0.09999999.
_SLACK = 1e-6

# Run and node, and the bar: nodes made by expansion share the id of their parent and have bars of their own.
_Key = tuple["int | None", str, "str | None", str]


class Thinner:
    """Lets through at most *rate* rounds of `node_progress` and `node_preview` a second, and all other events.

    A round holds, for each node of each run, the newest of those held back since the last one. The first progress of
    a pass and the one that fills its bar pass at once. What is held back is let through before any other event
    that follows it: so `seq` always rises, and the newest progress of a pass is never lost, whatever its step.
    So many other events can make it more than *rate* rounds a second. *rate* 0 holds nothing back. Time is
    `event.elapsed`, in seconds.
    """

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate - _SLACK if rate > 0 else -math.inf
        self._held: dict[_Key, ev.Event] = {}
        self._passes: dict[_Key, tuple[int, float]] = {}
        self._last_round = -math.inf

    def feed(self, event: ev.Event) -> list[ev.Event]:
        """Take *event*; return the events to write now, in the order of their `seq`."""
        if isinstance(event, ev.NodeProgress):
            key = _key(event)
            this_pass = (event.pass_number, event.max_steps)
            begins = self._passes.get(key) != this_pass
            if begins:
                self._passes[key] = this_pass
            return self._pass_or_hold(key, event, replaces=not begins, urgent=begins or event.step >= event.max_steps)
        if isinstance(event, ev.NodePreview):
            return self._pass_or_hold(_key(event), event, replaces=True, urgent=False)
        if isinstance(event, (ev.NodeStarted, ev.NodeFinished)):
            node = (event.run_index, event.node.id)
            self._passes = {key: value for key, value in self._passes.items() if key[:2] != node}
        elif isinstance(event, (ev.RunQueued, ev.RunFinished)):
            self._passes = {key: value for key, value in self._passes.items() if key[0] != event.run_index}
        return [*self.flush(), event]

    def tick(self, elapsed: float) -> list[ev.Event]:
        """Time passed, to *elapsed*; return what was held back long enough."""
        if not self._held or elapsed - self._last_round < self._interval:
            return []
        self._last_round = elapsed
        return self.flush()

    def flush(self) -> list[ev.Event]:
        """Return all that is held back, in the order of `seq`."""
        held = sorted(self._held.values(), key=lambda event: event.seq)
        self._held.clear()
        return held

    def _pass_or_hold(self, key: _Key, event: ev.Event, *, replaces: bool, urgent: bool) -> list[ev.Event]:
        if replaces:
            self._held.pop(key, None)
        if urgent or event.elapsed - self._last_round >= self._interval:
            self._last_round = event.elapsed
            return [*self.flush(), event]
        self._held[key] = event
        return []


def _key(event: ev.NodeProgress | ev.NodePreview) -> _Key:
    node = event.node
    raw_id = None if node is None else node.raw_id
    return event.run_index, "" if node is None else node.id, raw_id, event.type
