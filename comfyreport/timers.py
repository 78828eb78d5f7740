"""Timers on a clock that is passed in: each calls its own function when its moment has come."""

from __future__ import annotations

from collections.abc import Callable, Iterator


class Timer:
    """A moment at which *action* is to be called, in seconds of *clock*; it comes once each time it is armed."""

    def __init__(self, clock: Callable[[], float], action: Callable[[], None]) -> None:
        self.action = action
        self.due: float | None = None
        self._clock = clock

    @property
    def armed(self) -> bool:
        """Whether it is still to come."""
        return self.due is not None

    @property
    def is_due(self) -> bool:
        """Whether its moment has come, and it wasn't taken."""
        return self.due is not None and self.due <= self._clock()

    def arm(self, delay: float) -> None:
        """Let it come in *delay* seconds, and not when it was to come."""
        self.due = self._clock() + delay

    def arm_sooner(self, delay: float) -> None:
        """Let it come in *delay* seconds, or when it was to come if that is sooner."""
        due = self._clock() + delay
        self.due = due if self.due is None else min(due, self.due)

    def disarm(self) -> None:
        """Let it not come."""
        self.due = None


class Timers:
    """All timers of one loop. *clock* gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._timers: list[Timer] = []

    def add(self, action: Callable[[], None]) -> Timer:
        """A new timer, not armed yet."""
        timer = Timer(self._clock, action)
        self._timers.append(timer)
        return timer

    def postpone(self, seconds: float, *, but: Timer) -> None:
        """Let all of them come so much later, *but* this one."""
        for timer in self._timers:
            if timer.due is not None and timer is not but:
                timer.due += seconds

    def wait(self) -> float:
        """Seconds until the next moment; one where there is none."""
        now = self._clock()
        return max(0.0, min((timer.due for timer in self._timers if timer.due is not None), default=now + 1.0) - now)

    def take_due(self) -> Iterator[Timer]:
        """The timers whose moment has come, the earliest first; each is disarmed as it is given."""
        for timer in sorted((timer for timer in self._timers if timer.is_due), key=lambda timer: timer.due or 0.0):
            # Those before it may have disarmed it.
            if timer.is_due:
                timer.disarm()
                yield timer
