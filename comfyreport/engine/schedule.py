"""When to poll again: a schedule that slows down, and a budget of requests. Pure; times are passed in as seconds."""

from __future__ import annotations

import random

from comfyreport.timing import Timing


class RequestBudget:
    """How many requests may be made: a few at once, then one every *pause* seconds.

    To cancel, some may be made in advance. In any minute, and at the usual pause, there are fewer than 60.
    """

    _AT_ONCE = 16.0
    _IN_ADVANCE = 8.0

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._left = self._AT_ONCE
        self._at = 0.0

    def take(self, count: int, now: float, *, urgent: bool = False) -> float:
        """Take *count* requests at *now* seconds: 0, or the seconds until that may be tried again."""
        self._left = min(self._AT_ONCE, self._left + max(0.0, now - self._at) / self._pause)
        self._at = now
        missing = count - self._left - (self._IN_ADVANCE if urgent else 0.0)
        if missing > 0:
            # Never so little that a clock wouldn't tell it.
            return max(missing, 0.05) * self._pause
        self._left -= count
        return 0.0


class PollSchedule:
    """When to look again, and whether a prompt that is nowhere is gone. Polite: 1 s growing to 10 s, with jitter."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._delay = timing.poll_first
        self._ended_delay = timing.history_poll
        self._cancel_delay = timing.poll_first / 4
        self._absent_since: float | None = None
        self._unknown_since: float | None = None

    def reset(self) -> None:
        """The socket tells of the run: no need to look."""
        self._delay = self._timing.poll_first
        self.present()

    def present(self) -> None:
        """The queue has the prompt."""
        self._absent_since = self._unknown_since = None

    @property
    def absent(self) -> bool:
        """Whether the last look that could tell found the prompt in neither queue nor history."""
        return self._absent_since is not None

    def gone(self, began: float, now: float) -> bool:
        """A look that *began* then found the prompt in neither place: true the second time, over the hand-over gap.

        Once tells nothing: history is asked before the queue, and between the two the prompt may have moved from the
        queue into history; a server may also have it in neither while it hands it over. So the second look must have
        begun, not only ended, when the gap was over: an answer that was slow tells of an earlier moment.
        """
        self._unknown_since = None
        if self._absent_since is None:
            self._absent_since = now
            return False
        return began >= self._absent_since + self._timing.handover

    def unreadable(self, now: float, limit: float) -> bool:
        """The server answers, but not so that it could be known where the prompt is: true after *limit* seconds."""
        self._absent_since = None
        if self._unknown_since is None:
            self._unknown_since = now
        return now - self._unknown_since >= limit

    def next_delay(self, *, cancelling: bool, ending: bool) -> float:
        """Seconds until the next look."""
        if cancelling:
            delay = self._cancel_delay
            self._cancel_delay = min(2 * delay, 2 * self._timing.poll_first)
            return delay
        if self._absent_since is not None:
            return self._timing.handover
        if ending and self._ended_delay < self._timing.poll_first:
            delay = self._ended_delay
            self._ended_delay = 2 * delay
            return delay
        delay = self._delay
        self._delay = min(1.5 * delay, self._timing.poll_max)
        if self._unknown_since is not None:
            # A proxy may answer in the server's place for a while.
            delay = min(delay, self._timing.lost_after / 20)
        return delay * random.uniform(0.8, 1.0)
