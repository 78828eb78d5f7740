"""The bars of a node: their passes, their pace, and how long the current pass still takes. Pure."""

from __future__ import annotations

import math

MAX_ESTIMATE = 1e9
"""Seconds; no estimate is longer: thirty years, where the tiny steps of some bars would make a float overflow."""

# The part of its maximum that a bar must grow by before ComfyUI 0.33.0 sends another step (comfy/utils.py).
_THROTTLE = 0.005

# Seconds; no bar explains a longer silence.
_MAX_SILENCE = 3600.0

# Messages of a pass that make sure how long it took.
_SURE_PASS = 3

# Bars of different maxima that are kept apart in one node.
_MAX_BARS = 8


def rounded(value: float, parts: int = 1000) -> float:
    """*value*, at least 0, in whole parts of 1: for numbers that are told, in half the time of `round`."""
    return round(value * parts) / parts


class Bar:
    """The bar of one node as the server runs it, which may start over: each start is a pass of its node.

    The start of the first pass is the node's; that of a later one is the moment of the last step before it.
    Where the start wasn't seen (after an attach or a reconnect), the first observation only sets the baseline from
    which the speed is counted.

    Not every step is heard: ComfyUI leaves out most of those that come fast (comfy/utils.py of 0.33.0), and all of a
    pass of the same bar that begins anew, but for its last.
    """

    __slots__ = (
        "_baseline",
        "_baseline_at",
        "_end_only",
        "_filled_at",
        "_first_at",
        "_first_value",
        "_start_assumed",
        "_unthrottled",
        "first_of_all",
        "growth",
        "heard",
        "last_at",
        "maximum",
        "pass_number",
        "step_before",
        "value",
    )

    def __init__(self, started_at: float | None, pass_number: int, *, start_assumed: bool = False) -> None:
        self._baseline_at = started_at
        self._baseline = 0.0
        # Whether the pass's start is a guess: that of a first pass is the node's, which was seen.
        self._start_assumed = start_assumed
        # When the pass came to its end; None while it has not.
        self._filled_at: float | None = None
        # Whether nothing but the pass's end was heard.
        self._end_only = False
        # Messages of this pass, and by how much the last one grew; the first of them.
        self.heard = 0
        self.growth = 0.0
        self._first_value = 0.0
        self._first_at: float | None = None
        # The first message of its first pass: how many steps it told, and when.
        self.first_of_all: tuple[float, float] | None = None
        # Seconds a step in the pass before; None where none is known.
        self.step_before: float | None = None
        self._unthrottled = False
        self.last_at = started_at
        self.pass_number = pass_number
        self.value = 0.0
        self.maximum = 0.0

    @property
    def full(self) -> bool:
        """Whether the pass is at its end."""
        return 0 < self.maximum <= self.value

    def starts_over(self, value: float, maximum: float) -> bool:
        """Whether this observation belongs to another pass than the last one.

        A smaller value does, and another maximum behind a full bar; a maximum that grows under a bar that
        isn't full is a node that corrects its own guess.
        """
        if not self.maximum:
            return False
        return value < self.value or (maximum != self.maximum and self.value >= self.maximum)

    def start_over(self, pass_number: int, at: float | None) -> None:
        """Begin another pass, at the last step before it."""
        steps, seconds = self.timed_steps
        self.step_before = seconds / steps if steps > 0 else self.step_before
        self.pass_number = pass_number
        self._baseline = self.growth = 0.0
        self._baseline_at = at
        self._start_assumed = True
        self._filled_at = None
        self.heard = 0

    def grown(self) -> Bar:
        """The bar under another maximum, which its node has corrected; this one stays as it is."""
        other = Bar(None, self.pass_number)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        return other

    def passed_unheard(self, value: float, maximum: float, at: float) -> bool:
        """Whether *value*, the end of a bar that is full, is that of another pass.

        It came long enough behind the last one. What comes sooner is a step past the end, told as the end; and what is
        long, a pass that was heard all at once doesn't say.
        """
        if not self.full or value < maximum or maximum != self.maximum:
            return False
        if self.heard < _SURE_PASS or self._baseline_at is None or self._filled_at is None or self.last_at is None:
            return False
        return self._filled_at > self._baseline_at and at - self.last_at > (self._filled_at - self._baseline_at) / 2

    def observe(self, value: float, maximum: float, at: float) -> bool:
        """Take one observation in; False if it only set the baseline."""
        growth = value - (self.value if self.heard else self._baseline)
        if growth > 0:
            self.growth = growth
            self._unthrottled |= growth < _THROTTLE * maximum and value < maximum and self.heard > 0
        if self.heard == 0:
            self._first_value, self._first_at = value, at
            if self.first_of_all is None:
                self.first_of_all = value, at
        self.heard += 1
        self.value, self.maximum, self.last_at = value, maximum, at
        if value < maximum:
            self._filled_at = None
        elif self._filled_at is None:
            self._filled_at = at
            self._end_only = self.heard == 1 and self._start_assumed
        if self._baseline_at is None:
            self._baseline, self._baseline_at = value, at
            return False
        return True

    def speed(self, at: float) -> float | None:
        """Steps a second since the pass began; None before there is one.

        That of a full bar is what filled it; of a pass of which only the end was heard nothing is known.
        """
        if self.value >= self.maximum:
            if self._end_only:
                return None
            at = at if self._filled_at is None else self._filled_at
        if self._baseline_at is None or self.value <= self._baseline or at <= self._baseline_at:
            return None
        speed = (self.value - self._baseline) / (at - self._baseline_at)
        return speed if math.isfinite(speed) else None

    def eta(self, at: float) -> float:
        """(max - step) * (elapsed / step), in seconds."""
        if self._baseline_at is None or self.value <= self._baseline:
            return 0.0
        eta = (self.maximum - self.value) * ((at - self._baseline_at) / (self.value - self._baseline))
        return eta if eta < MAX_ESTIMATE else MAX_ESTIMATE

    @property
    def timed_steps(self) -> tuple[float, float]:
        """Steps of this pass behind its first message, and the seconds that they took: the first one loads models."""
        if self._first_at is None or self.last_at is None or self.heard < 2:
            return 0.0, 0.0
        end = self.last_at if self._filled_at is None else self._filled_at
        return max(0.0, self.value - self._first_value), max(0.0, end - self._first_at)

    @property
    def expected_silence(self) -> float:
        """Seconds that pass at the bar's own pace until the server says more of it: an average, 0 if it is unknown.

        A full bar may be in a pass that is only heard at its end.
        """
        speed = None if self.last_at is None else self.speed(self.last_at)
        if speed is None:
            return 0.0
        growth = self.growth if self._unthrottled else max(self.growth, _THROTTLE * self.maximum)
        return min(_MAX_SILENCE, (self.maximum if self.full else growth) / speed)

    @property
    def steady(self) -> bool:
        """Whether more than one step of this pass was seen: the first includes the model's loading."""
        return self._baseline_at is not None and self.value - self._baseline > 1


class Bars:
    """The bars that one node of the server tells of as if they were one: they differ by their maximum.

    A node's inner loop may have a bar of its own, whose steps come between those of the outer one.
    """

    __slots__ = ("_by_maximum", "_latest")

    def __init__(self, first: Bar) -> None:
        self._latest = first
        self._by_maximum: dict[float, Bar] = {}

    @property
    def single(self) -> bool:
        """Whether they are one bar."""
        return len(self._by_maximum) <= 1

    def select(self, value: float, maximum: float, at: float, pass_number: int) -> Bar:
        """The bar that an observation belongs to, in the pass that it belongs to; *pass_number*: a new one's."""
        latest = self._latest
        if maximum == latest.maximum and value > latest.value and self._by_maximum:
            # Mostly it is simply the next step.
            return latest
        bar = latest if maximum == latest.maximum else self._by_maximum.get(maximum)
        if bar is None:
            bar = self._new_bar(value, maximum, pass_number)
        elif bar is latest:
            if bar.starts_over(value, maximum):
                self._start_over(bar, pass_number)
            elif bar.passed_unheard(value, maximum, at):
                bar.pass_number = pass_number
        elif value <= bar.value or bar.full:
            # It can't have begun before the last step of the other one.
            self._start_over(bar, pass_number)
        if bar is not latest or not self._by_maximum:
            # The one that moved last stands last.
            self._by_maximum.pop(maximum, None)
            self._by_maximum[maximum] = self._latest = bar
            if len(self._by_maximum) > _MAX_BARS:
                del self._by_maximum[next(iter(self._by_maximum))]
        return bar

    def _start_over(self, bar: Bar, pass_number: int) -> None:
        """Let *bar* begin a pass behind the last step of any; forget under which maxima it had its last one."""
        ended = bar.pass_number
        bar.start_over(pass_number, self._latest.last_at)
        self._by_maximum = {key: each for key, each in self._by_maximum.items() if each.pass_number != ended}

    def _new_bar(self, value: float, maximum: float, pass_number: int) -> Bar:
        latest = self._latest
        if not latest.maximum:
            return latest
        corrected = maximum > latest.maximum or latest.value < value < maximum
        if corrected and not latest.starts_over(value, maximum):
            return latest.grown()
        return Bar(latest.last_at, pass_number, start_assumed=True)
