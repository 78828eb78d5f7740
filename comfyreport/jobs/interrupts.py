"""What several signals of a user mean together."""

from __future__ import annotations

import math
import time

ONE_WISH_SECONDS = 0.5
"""Signals that come within so many seconds are one: wrappers (npm run, foreman) pass on the Ctrl-C that a terminal
sends to all of them, and a service manager may send two kinds."""

BLOCKED_SECONDS = 0.4
"""From a wish to stop until a thread that is blocked before there is anything to stop is left behind."""


class Wishes:
    """Counts how often the user wanted to stop; `count` is that number."""

    def __init__(self) -> None:
        self.count = 0
        self._last = -math.inf

    def note(self) -> bool:
        """A signal came now: whether it is a new wish, and not the last one told once more."""
        now = time.monotonic()
        if now - self._last < ONE_WISH_SECONDS:
            return False
        self._last = now
        self.count += 1
        return True
