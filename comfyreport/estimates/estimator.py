"""How far a run is and how long it still takes: one estimate of what its nodes are expected to take. Pure.

Each node has an expected duration, learned or by its kind. One that runs is measured by its bar, and what was expected
of the rest is scaled by how this run goes. `fraction` and the time left are two views of the same number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

from comfyreport.estimates.bars import MAX_ESTIMATE, Bar, rounded
from comfyreport.estimates.expected import Duration
from comfyreport.estimates.pace import Pace, TimedNode
from comfyreport.estimates.pending import Sums, Waiting

# Seconds; an estimate that is younger is told again, so that bars that move very often cost no more than others.
_FRESH = 0.02
# The part of what is left that must rest on a basis for the whole to be said to rest on it.
_HISTORY_SHARE = 0.9
_SIMILAR_SHARE = 0.6
# How many observations of a step what was learned of it weighs.
_LEARNED_WEIGHT = {"history": 1.0, "similar": 0.5, "prior": 0.0}
# Standard deviations on each side of the middle; 80 % of a normal distribution lie within.
_SIDE = 1.2816
# The least standard deviation, as a part of what is left: no machine is steadier.
_LEAST_SPREAD = 0.03
# That of a step beside those before it, of one that is guessed from a first step, and of when the next one comes.
_PASS_SPREAD = 0.15
_GUESS_SPREAD = 0.6
_NEXT_SPREAD = 0.2
# The part of the time that a node is overdue which it is still expected to take.
_OVERDUE = 0.25
# Passes that may follow where none is known, as a part of those that were.
_MORE_PASSES = 0.5
_MAX_FRACTION = 0.999


class Estimate(NamedTuple):
    """How long the whole run still takes, in seconds, within which range, and on which basis."""

    seconds: float
    low: float
    high: float
    basis: Literal["history", "similar", "steps"] = "steps"


class _Left(NamedTuple):
    """What is left of one node: seconds, their standard deviation, and whether its own steps tell them."""

    seconds: float
    deviation: float
    steady: bool


class Estimator:
    """The estimate of one run. `fraction`: the share of the expected work that is done; never falls, stays below 1.

    `late`: the run had begun before it was followed.
    """

    def __init__(self) -> None:
        self.fraction = 0.0
        self._began: float | None = None
        self.late = False
        self._waiting = Waiting()
        self._pace = Pace()
        self._missed = 0.0
        self._shown = False
        self._told: Estimate | None = None
        self._told_at = -math.inf

    def begin(self, at: float, *, seen: bool = True) -> None:
        """A node begins; the first one is where the run's time starts, or where it is followed from (not *seen*)."""
        if self._began is None:
            self._began, self.late = at, not seen
        self.changed()

    def ran(self, at: float) -> float:
        """Seconds since the first node began, at *at* seconds."""
        return 0.0 if self._began is None else max(0.0, at - self._began)

    def changed(self) -> None:
        """Something else than a bar changed: the next estimate is made anew."""
        self._told_at = -math.inf

    def forget_waiting(self) -> None:
        """No node waits; they are told anew."""
        self._waiting.clear()
        self.changed()

    def change_waiting(self, node: TimedNode, duration: Duration, sign: int) -> None:
        """A node waits that is expected to take *duration* (*sign* 1), or no longer (-1)."""
        self._waiting.change(node.ref.class_type, duration, sign, paced=node.paced)
        self.changed()

    def finished(self, node: TimedNode, seconds: float | None, at: float) -> None:
        """A node ended at *at* that took *seconds*; None where its beginning wasn't seen."""
        self.changed()
        duration, bar = node.duration, node.active_bar
        if bar is not None and bar.steady:
            self._shown = True
        if seconds is not None and duration.basis == "prior":
            self._waiting.ran(node.ref.class_type, seconds, duration, paced=node.paced)
        self._pace.finished(node, seconds)
        if seconds is None and self.late:
            self._missed += _before(node) or max(0.0, duration.seconds - (at - node.started))

    def estimate(self, at: float, active: Iterable[TimedNode]) -> Estimate | None:
        """How long the whole run still takes, as seen at *at* seconds; None where that has no basis yet."""
        if not 0 <= at - self._told_at < _FRESH:
            self._told_at = at
            self._told = self._look(at, list(active))
        return self._told

    def _look(self, at: float, active: list[TimedNode]) -> Estimate | None:
        if self._began is None:
            return None
        self._pace.look(at, active, self._waiting)
        left = [self._running(at, active), *self._waiting.sums(self._pace.by_sort)]
        seconds, variance, history, similar = (sum(each) for each in zip(*left, strict=True))
        done = self.ran(at) + self._missed
        if self.late:
            done += sum(_before(node) for node in active if not node.start_seen)
        if done + seconds > 0:
            self.fraction = max(self.fraction, min(rounded(done / (done + seconds), 10_000), _MAX_FRACTION))
        if seconds <= 0 and self._told is not None:
            # With nothing left it rests on what it did before.
            return Estimate(0.0, 0.0, 0.0, self._told.basis)
        if seconds > 0 and history >= _HISTORY_SHARE * seconds:
            return _ranged(seconds, variance, "history")
        if seconds > 0 and history + similar >= _SIMILAR_SHARE * seconds:
            return _ranged(seconds, variance, "similar")
        return _ranged(seconds, variance, "steps") if self._shown else None

    def _running(self, at: float, active: list[TimedNode]) -> Sums:
        """What is left of the nodes that run, side by side: that of the one that takes longest."""
        longest, basis = _Left(0.0, 0.0, False), "prior"
        for node in active:
            left = left_of(node, at, self._pace.of(node))
            self._shown = self._shown or left.steady
            if left.seconds >= longest.seconds:
                longest, basis = left, node.duration.basis
        seconds = longest.seconds
        history = seconds if basis == "history" else 0.0
        similar = seconds if basis == "similar" else 0.0
        return Sums(seconds, longest.deviation**2, history, similar)


def _before(node: TimedNode) -> float:
    """Seconds that a node had run before it was followed, by its first step that was heard; 0 where none was."""
    bar, duration = node.active_bar, node.duration
    if bar is None or bar.first_of_all is None:
        return 0.0
    steps, seconds = bar.timed_steps
    step = seconds / steps if steps > 0 else duration.step
    return duration.lead + step * bar.first_of_all[0]


def left_of(node: TimedNode, at: float, pace: float) -> _Left:
    """What is left of a node that runs, at *at* seconds; *pace*: of what was expected of it."""
    duration, bar = node.duration, node.active_bar
    ran = max(0.0, node.seconds + at - node.started)
    whole = _overdue(duration.seconds * pace, ran, duration.spread)
    if bar is None or bar.maximum <= 0 or bar.last_at is None:
        return whole
    step, spread, steady = _step_seconds(bar, duration, pace, at)
    since = max(0.0, at - bar.last_at)
    steps = _steps_left(bar, duration)
    tail = duration.tail * pace
    if steps <= 0 and not duration.steps and duration.basis != "prior":
        return whole
    # As long as nobody knows how many passes there are, half as many as there were may follow.
    unknown = (bar.pass_number - 1) if duration.basis == "prior" else 0
    more = _MORE_PASSES * unknown * bar.maximum * step
    if steps <= 0:
        end = _overdue(tail, since, duration.spread)
        return _Left(end.seconds + more, math.hypot(end.deviation, 2.0 * more), steady)
    growth = min(steps, bar.growth or steps)
    current = _overdue(growth * step, since, _NEXT_SPREAD)
    work = (steps - growth) * step + current.seconds + more
    deviation = math.hypot(work * spread, tail * duration.spread, 2.0 * more)
    if duration.steps or duration.basis == "prior":
        return _Left(work + tail, deviation, steady)
    return whole if whole.seconds > work else _Left(work, deviation, steady)


def _steps_left(bar: Bar, duration: Duration) -> float:
    """Steps of *bar* that are left, in all passes that are expected."""
    passes = max(duration.passes, bar.pass_number)
    done = (bar.pass_number - 1) * bar.maximum + bar.value
    steps = passes * bar.maximum
    if duration.basis == "history" and done <= duration.steps < steps:
        # It ended before its bar did, each time.
        steps = duration.steps
    return max(0.0, steps - done)


def _step_seconds(bar: Bar, duration: Duration, pace: float, at: float) -> tuple[float, float, bool]:
    """Seconds of one step of *bar*, their relative standard deviation, and whether this run's own steps tell them."""
    steps, seconds = bar.timed_steps
    count = bar.heard - 1.0 if steps > 0 else 0.0
    learned = _LEARNED_WEIGHT[duration.basis] if duration.step else 0.0
    if count + learned > 0:
        own = seconds / steps if steps > 0 else 0.0
        step = (count * own + learned * duration.step * pace) / (count + learned)
        spread = math.hypot(
            _LEAST_SPREAD, max(duration.spread if learned else 0.0, _PASS_SPREAD) / math.sqrt(count + 1.0)
        )
        return min(step, MAX_ESTIMATE), spread, steps > 0 and bar.steady
    if bar.step_before is not None:
        return min(bar.step_before, MAX_ESTIMATE), _PASS_SPREAD, True
    speed = bar.speed(at)
    # The first step alone may have loaded a model.
    step = 1.0 / max(speed, 1.0 / MAX_ESTIMATE) if speed else duration.step * pace
    return step, _GUESS_SPREAD, bar.steady


def _overdue(expected: float, passed: float, spread: float) -> _Left:
    """What is left of something that was *expected* to take so many seconds, when *passed* are over.

    It goes to 0 slowly, and grows again with the time that it is overdue.
    """
    width = max(expected * spread, 1e-3)
    ahead = (expected - passed) / width
    seconds = width * (math.log1p(math.exp(-abs(ahead))) + max(0.0, ahead))
    seconds += _OVERDUE * max(0.0, passed - expected)
    return _Left(seconds, min(width, seconds) if ahead > 0 else seconds, False)


def _ranged(seconds: float, variance: float, basis: Literal["history", "similar", "steps"]) -> Estimate:
    """*seconds* with the range in which 80 % of the truths lie."""
    seconds = min(seconds, MAX_ESTIMATE)
    spread = math.hypot(_LEAST_SPREAD, math.sqrt(min(variance, MAX_ESTIMATE**2)) / seconds) if seconds > 0 else 0.0
    side = math.exp(_SIDE * math.sqrt(math.log1p(min(spread, 10.0) ** 2)))
    return Estimate(rounded(seconds), rounded(seconds / side), rounded(min(seconds * side, MAX_ESTIMATE)), basis)
