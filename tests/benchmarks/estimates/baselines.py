"""What others tell at the same moment: the requirement's formula, elapsed by the counted part, and tqdm's smoothing."""

from __future__ import annotations

from typing import NamedTuple

from comfyreport import events as ev

SMOOTHING = 0.3
"""tqdm's default."""
MIN_INTERVAL = 0.1
"""Seconds between two looks of tqdm's, by default."""

NAMES = ("the node's formula", "elapsed (1-f)/f", "tqdm")


class Guesses(NamedTuple):
    """The remaining seconds by each baseline, in the order of `NAMES`, and the part of the nodes that is done.

    None where a formula has no value: nothing is done yet.
    """

    formula: float | None
    elapsed: float | None
    smoothed: float | None
    counted: float

    def remaining(self) -> tuple[float | None, ...]:
        """Those of time, in the order of `NAMES`."""
        return self[:3]


class Smoothed:
    """tqdm's rate: exponential moving averages of progress and of time, without the bias of their begin."""

    def __init__(self) -> None:
        self._done = self._seconds = 0.0
        self._weight = 0.0
        self._last: tuple[float, float] | None = None

    def observe(self, at: float, done: float) -> None:
        """Take in how much is done."""
        if self._last is None:
            self._last = at, done
            return
        seconds, more = at - self._last[0], done - self._last[1]
        if seconds < MIN_INTERVAL or more <= 0:
            return
        self._last = at, done
        self._done = SMOOTHING * more + (1 - SMOOTHING) * self._done
        self._seconds = SMOOTHING * seconds + (1 - SMOOTHING) * self._seconds

    def remaining(self, done: float) -> float | None:
        """(total - n) / rate, of a total of 1. Both averages lack the same part at their begin: their ratio none."""
        return (1 - done) * self._seconds / self._done if self._done else None


class Baselines:
    """Follows a run's events and knows what each baseline tells."""

    def __init__(self) -> None:
        self._begun = 0.0
        self._smoothed = Smoothed()
        self._bars: dict[str, float] = {}
        self._started: dict[str, float] = {}
        self._current: tuple[str, float, float] | None = None
        self._counted = 0.0

    def observe(self, event: ev.Event) -> None:
        """Take one event in."""
        if isinstance(event, ev.RunStarted):
            self._begun = event.elapsed
            self._smoothed.observe(event.elapsed, 0.0)
        elif isinstance(event, ev.NodeStarted):
            self._started[event.node.id] = event.elapsed
            self._bars[event.node.id] = 0.0
            self._current = None
        elif isinstance(event, ev.NodeProgress):
            self._bars[event.node.id] = event.step / event.max_steps
            self._current = event.node.id, event.step, event.max_steps
        elif isinstance(event, ev.NodeFinished):
            self._bars.pop(event.node.id, None)
            self._current = None
        if isinstance(event, ev.ProgressEvent) and event.nodes_total:
            counted = (event.nodes_done + sum(self._bars.values())) / event.nodes_total
            self._counted = max(self._counted, min(counted, 1.0))
            self._smoothed.observe(event.elapsed, self._counted)

    def guesses(self, at: float) -> Guesses:
        """What they tell at *at* seconds."""
        formula = 0.0
        if self._current is not None:
            node, step, most = self._current
            formula = (most - step) * ((at - self._started[node]) / step)
        done, elapsed = self._counted, at - self._begun
        by_part = elapsed * (1 - done) / done if done else None
        return Guesses(formula, by_part, self._smoothed.remaining(done), done)
