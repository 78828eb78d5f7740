"""How long a run still takes, in words that can be read while they change."""

from __future__ import annotations

import math

from comfyreport.events import RunView, TimeLeft
from comfyreport.render.formats import format_seconds

# Below so many seconds, time that is left is told in steps of so many: a number that changes with each estimate can't
# be read, and finer than it is known it means nothing.
_GRAIN = ((20.0, 1), (120.0, 5), (600.0, 15), (3600.0, 60), (math.inf, 300))
# An estimate is told as a range where its upper end is so many times the lower one, and so many seconds above it.
_WIDE, _WIDE_SECONDS = 1.5, 3.0
# Seconds of the events' clock.
_HOLD = 1.0
# Ticks come on a timer of their own; one that comes a moment early counts too.
_SLACK = 1e-3


class Countdown:
    """The time that a run still takes, for what is drawn: its words stay as they are for a second.

    Each step of a bar may estimate it anew, and a number that changes with each of them can't be read.
    """

    def __init__(self) -> None:
        self._words = ""
        self._since = 0.0

    def words(self, run: RunView, elapsed: float) -> str:
        """As `describe_time_left` has it, at *elapsed* seconds of the events' clock."""
        left = run.eta_at(elapsed)
        if left is None:
            self._words = ""
        elif not self._words or not 0 <= elapsed - self._since < _HOLD - _SLACK:
            self._words, self._since = describe_time_left(left), elapsed
        return self._words


def describe_time_left(left: TimeLeft | None) -> str:
    """How long a run still takes: `about 8s left`, or the range where it is wide, `6s to 11s left`.

    Nothing without an estimate, and once the time is over that was told.
    """
    if left is None or not all(map(math.isfinite, left)) or left.high <= 0:
        return ""
    grain = next(grain for limit, grain in _GRAIN if left.high < limit)
    high = _format_grained(math.ceil(left.high / grain) * grain)
    if left.high > _WIDE * left.low and left.high - left.low > _WIDE_SECONDS:
        low = math.floor(max(0.0, left.low) / grain) * grain
        return f"{_format_grained(low)} to {high} left" if low else f"up to {high} left"
    return f"about {_format_grained(max(1, round(left.seconds / grain)) * grain)} left"


def _format_grained(seconds: int) -> str:
    return format_seconds(seconds, 0).removesuffix(" 00s").removesuffix(" 00m")
