"""Estimates: how long the current pass of a node still takes, and the whole run. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

# Seconds; no estimate is longer: thirty years, where the tiny steps of some bars would make a float overflow.
_MAX_ESTIMATE = 1e9

# Seconds; the time of a node that took less is no basis for an estimate of others.
_MIN_BASIS = 0.1


class Bar:
    """The bar of one node as the server runs it, which may start over: each start is a pass of its node.

    The start of the first pass is the node's; that of a later one is the moment of the last step before it.
    Where the start wasn't seen (after an attach or a reconnect), the first observation only sets the baseline from
    which the speed is counted.
    """

    __slots__ = ("_baseline", "_baseline_at", "last_at", "maximum", "pass_number", "value")

    def __init__(self, started_at: float | None, pass_number: int) -> None:
        self._baseline_at = started_at
        self._baseline = 0.0
        self.last_at = started_at
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
        self._baseline = 0.0
        self._baseline_at = self.last_at

    def observe(self, value: float, maximum: float, at: float) -> bool:
        """Take one observation in; False if it only set the baseline."""
        self.value, self.maximum, self.last_at = value, maximum, at
        if self._baseline_at is None:
            self._baseline, self._baseline_at = value, at
            return False
        return True

    def speed(self, at: float) -> float | None:
        """Steps a second since the pass began; None before there is one."""
        if self._baseline_at is None or self.value <= self._baseline or at <= self._baseline_at:
            return None
        speed = (self.value - self._baseline) / (at - self._baseline_at)
        return speed if math.isfinite(speed) else None

    def eta(self, at: float) -> float:
        """(max - step) * (elapsed / step), in seconds."""
        if self._baseline_at is None or self.value <= self._baseline:
            return 0.0
        return min(
            _MAX_ESTIMATE, (self.maximum - self.value) * ((at - self._baseline_at) / (self.value - self._baseline))
        )

    @property
    def steady(self) -> bool:
        """Whether more than one step of this pass was seen: the first includes the model's loading."""
        return self._baseline_at is not None and self.value - self._baseline > 1


class Estimate(NamedTuple):
    """How long the whole run still takes, in seconds, within which range, and on which basis."""

    seconds: float
    low: float
    high: float
    basis: Literal["steps"] = "steps"


def estimate_run(running: Iterable[float], known_seconds: float, unknown_nodes: int, longest: float) -> Estimate | None:
    """The run's estimate from the steps of its bars; None where none is steady, or the rest has no basis.

    :param running: seconds that the steady bars of the running nodes still take, side by side.
    :param known_seconds: seconds that the waiting nodes take whose classes have run.
    :param unknown_nodes: how many waiting nodes are of classes that haven't run.
    :param longest: seconds that the longest node without a bar took: the best guess for those.
    """
    now = max(running, default=None)
    if now is None or (unknown_nodes and longest < _MIN_BASIS):
        return None
    unknown_seconds = unknown_nodes * longest
    low = 0.9 * now + 0.7 * known_seconds
    middle = now + known_seconds + unknown_seconds / 2
    high = 1.2 * now + 1.5 * known_seconds + unknown_seconds
    middle, low, high = (round(min(seconds, _MAX_ESTIMATE), 3) for seconds in (middle, low, high))
    return Estimate(middle, low, high)
