"""How long this run's nodes take beside what was expected of them: other servers and other days differ. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

from comfyreport.estimates.bars import Bar
from comfyreport.estimates.expected import Duration
from comfyreport.estimates.pending import Sort, Waiting, sort_of
from comfyreport.events import NodeRef

# The part of all expected seconds that must have passed before a run's own pace counts half: of what was learned, of
# steps whose kind alone is known, and of the rest of such nodes, which tell little of each other.
_LEARNED_WEIGHT = 0.02
_STEPS_WEIGHT = 0.005
_REST_WEIGHT = 0.3
# The logarithm of a pace that counts half: nodes differ as much from run to run without telling of each other.
_CHANCE = 0.25
# How much of the pace of steps the rest follows, as a power: a large model is slow at its steps alone.
_LIKENESS = 0.75
# The standard deviation, as a part of the whole, of an expectation that is trusted in full.
_SURE_SPREAD = 0.15
# No further may nodes without steps draw the pace of others.
_MOST_BY_REST = 5.0


class TimedNode(Protocol):
    """What estimates read of a node."""

    ref: NodeRef
    started: float
    seconds: float
    start_seen: bool
    active_bar: Bar | None

    @property
    def paced(self) -> bool:
        """Whether it is faster on a faster server."""

    @property
    def duration(self) -> Duration:
        """How long it is expected to take."""


class _Ratio:
    """Seconds that something took, and those that were expected."""

    __slots__ = ("actual", "planned")

    def __init__(self, actual: float = 0.0, planned: float = 0.0) -> None:
        self.actual = actual
        self.planned = planned

    def add(self, actual: float, planned: float, weight: float = 1.0) -> None:
        self.actual += weight * actual
        self.planned += weight * planned

    def value(self, weight: float) -> float:
        """The ratio, drawn towards 1 by *weight* seconds."""
        return max(self.actual + weight, 1e-9) / (self.planned + weight) if self.planned > 0 and weight > 0 else 1.0


def _timed_steps(node: TimedNode) -> tuple[float, float]:
    """Steps that were timed of a node whose steps have an expected time, and the seconds that they took."""
    return (0.0, 0.0) if node.active_bar is None or not node.duration.step else node.active_bar.timed_steps


def _trust(duration: Duration) -> float:
    """How much a deviation from what was expected says of the server: little where it was a guess."""
    return 1.0 if duration.spread <= _SURE_SPREAD else (_SURE_SPREAD / duration.spread) ** 2


class Pace:
    """The pace of one run, by the sort of node."""

    def __init__(self) -> None:
        self.by_sort: dict[Sort, float] = {}
        self._learned = _Ratio()
        self._steps = _Ratio()
        self._rest = _Ratio()

    def finished(self, node: TimedNode, seconds: float | None) -> None:
        """A node took so many seconds; None where its beginning wasn't seen."""
        duration, (steps, took) = node.duration, _timed_steps(node)
        if duration.basis == "prior" and steps:
            self._steps.add(took, steps * duration.step)
        elif duration.basis == "prior" and seconds is not None:
            self._rest.add(seconds, duration.seconds)
        elif node.paced and seconds is None:
            self._learned.add(took, steps * duration.step, _trust(duration))
        elif node.paced and seconds is not None:
            # One run of a loop is a part of what was learned of all of them.
            runs = 1.0 if duration.steps else duration.passes
            self._learned.add(seconds, duration.seconds / runs, _trust(duration))

    def look(self, at: float, active: Iterable[TimedNode], waiting: Waiting) -> None:
        """Measure it anew, at *at* seconds, with the nodes that run."""
        learned, steps, rest = (_Ratio(each.actual, each.planned) for each in (self._learned, self._steps, self._rest))
        all_learned = learned.planned + waiting.planned("learned")
        all_guessed = steps.planned + rest.planned + waiting.planned("steps", "rest")
        for node in active:
            duration, (timed, took) = node.duration, _timed_steps(node)
            if duration.basis != "prior":
                if node.paced:
                    all_learned += duration.seconds
                    learned.add(took, timed * duration.step, _trust(duration))
                continue
            all_guessed += duration.seconds
            steps.add(took, timed * duration.step)
            ran = at - node.started
            if node.active_bar is None and ran > duration.seconds:
                # A model that takes long to load is a large one, and its steps are slow.
                rest.add(ran, duration.seconds)
        deviation = math.log(learned.value(_LEARNED_WEIGHT * all_learned))
        by_learned = math.exp(deviation**3 / (deviation**2 + _CHANCE**2))
        if steps.planned > 0:
            by_steps = steps.value(_STEPS_WEIGHT * all_guessed)
            by_rest = by_steps**_LIKENESS if by_steps > 1.0 else by_steps
        else:
            by_rest = rest.value(_REST_WEIGHT * all_guessed)
            by_rest = by_steps = min(max(by_rest, 1.0 / _MOST_BY_REST), _MOST_BY_REST)
        self.by_sort = {"learned": by_learned, "steps": by_steps, "rest": by_rest}

    def of(self, node: TimedNode) -> float:
        """The pace that a node follows."""
        return self.by_sort.get(sort_of(node.duration, paced=node.paced), 1.0)
