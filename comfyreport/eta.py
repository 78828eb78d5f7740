"""Estimates: pure functions of what a run knows. Here, how long the current pass of a node still takes."""

from __future__ import annotations

import math

# No estimate is longer: thirty years, where the tiny steps of some bars would make a float overflow.
_LONGEST = 1e9


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
