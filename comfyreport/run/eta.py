"""Estimates: pure functions of what a run knows: how long the current pass of a node still takes, and the run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

# No estimate is longer: thirty years, where the tiny steps of some bars would make a float overflow.
_LONGEST = 1e9

# Seconds below which what a node took says nothing of others.
_TELLING = 0.1


class Bar:
    """The bar of one node as the server runs it, which may start over: each start is a pass of its node.

    The start of the first pass is the node's; that of a later one is the moment of the last step before it.
    Where the start wasn't seen (after an attach or a reconnect), the first observation only sets the mark from
    which the speed is counted.
    """

    __slots__ = ("_last_at", "_mark", "_mark_at", "maximum", "pass_number", "value")

    def __init__(self, started_at: float | None, pass_number: int) -> None:
        self._mark_at = started_at
        self._mark = 0.0
        self._last_at = started_at
        self.pass_number = pass_number
        self.value = 0.0
        self.maximum = 0.0

    def starts_over(self, value: float, maximum: float) -> bool:
        """Whether this observation belongs to another pass than the last one.

        A smaller value does, and another maximum behind a full bar; a maximum that grows under a bar that
        isn't full is a node that corrects its own guess.
        """
        if not self.maximum:
            return False
        return value < self.value or (maximum != self.maximum and self.value >= self.maximum)

    def start_over(self, pass_number: int) -> None:
        """Begin another pass."""
        self.pass_number = pass_number
        self._mark = 0.0
        self._mark_at = self._last_at

    def observe(self, value: float, maximum: float, at: float) -> bool:
        """Take one observation in; False if it only set the mark."""
        self.value, self.maximum, self._last_at = value, maximum, at
        if self._mark_at is None:
            self._mark, self._mark_at = value, at
            return False
        return True

    def speed(self, at: float) -> float | None:
        """Steps a second since the pass began; None before there is one."""
        if self._mark_at is None or self.value <= self._mark or at <= self._mark_at:
            return None
        speed = (self.value - self._mark) / (at - self._mark_at)
        return speed if math.isfinite(speed) else None

    def eta(self, at: float) -> float:
        """(max - step) * (elapsed / step), in seconds."""
        if self._mark_at is None or self.value <= self._mark:
            return 0.0
        return min(_LONGEST, (self.maximum - self.value) * ((at - self._mark_at) / (self.value - self._mark)))

    @property
    def steady(self) -> bool:
        """Whether more than one step of this pass was seen: the first has the model's loading in it."""
        return self._mark_at is not None and self.value - self._mark > 1


class Estimate(NamedTuple):
    """How long the whole run still takes, in seconds, and within which range; what that rests on."""

    seconds: float
    low: float
    high: float
    basis: Literal["steps"] = "steps"


def whole_run(running: Iterable[float], alike: float, unlike: int, longest: float) -> Estimate | None:
    """The run's estimate from the steps of its bars; None where none is steady, or nothing speaks for what follows.

    :param running: what the steady bars of the running nodes still take, side by side.
    :param alike: what the waiting nodes take, as far as nodes of their classes have run.
    :param unlike: how many more are waiting.
    :param longest: what the longest node without a bar has taken: the best guess for those.
    """
    now = max(running, default=None)
    if now is None or (unlike and longest < _TELLING):
        return None
    unknown = unlike * longest
    low, middle, high = 0.9 * now + 0.7 * alike, now + alike + unknown / 2, 1.2 * now + 1.5 * alike + unknown
    middle, low, high = (round(min(seconds, _LONGEST), 3) for seconds in (middle, low, high))
    return Estimate(middle, low, high)
