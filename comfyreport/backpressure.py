"""Holding back a thread that writes faster than another one reads, but never for long behind one that doesn't read."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Backpressure:
    """The waiting of one writer for one reader, which takes much of what waits at once.

    A reader that takes nothing for *seconds* isn't waited for again until it does.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._taken = threading.Event()
        # Written by the reader alone.
        self._takes = 0
        self._given_up_at: int | None = None

    def wait_while(self, full: Callable[[], bool], patience: float = 1) -> None:
        """Hold this thread, the writer, back while it is *full*, as long as the reader goes on taking.

        *patience*: times as long as usual a reader that takes nothing is waited for.
        """
        while full() and self._given_up_at != self._takes:
            before = self._takes
            self._taken.clear()
            # It may have taken between the look and the clearing.
            if before == self._takes and not self._taken.wait(self._seconds * patience):
                self._given_up_at = before

    def taken(self) -> None:
        """The reader has taken what waited, or a part of it."""
        self._takes += 1
        self._taken.set()
