"""What is to be done when: named moments on a clock that is passed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator


class Timers:
    """Named moments, each of which comes once. *clock* gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._due

    def arm(self, name: str, delay: float) -> None:
        """Let *name* come in *delay* seconds, and not when it was to come."""
        self._due[name] = self._clock() + delay

    def arm_sooner(self, name: str, delay: float) -> None:
        """Let *name* come in *delay* seconds, or when it was to come if that is sooner."""
        due = self._clock() + delay
        self._due[name] = min(due, self._due.get(name, due))

    def drop(self, name: str) -> None:
        """Let *name* not come."""
        self._due.pop(name, None)

    def is_due(self, name: str) -> bool:
        """Whether the moment of *name* has come and wasn't taken."""
        return name in self._due and self._due[name] <= self._clock()

    def wait(self) -> float:
        """Seconds until the next moment; one where there is none."""
        now = self._clock()
        return max(0.0, min(self._due.values(), default=now + 1.0) - now)

    def take_due(self) -> Iterator[str]:
        """The names whose moment has come; each is dropped as it is given."""
        now = self._clock()
        for name in [name for name, due in self._due.items() if due <= now]:
            if self._due.pop(name, None) is not None:
                yield name
