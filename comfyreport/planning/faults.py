"""What is wrong with many rows, told at once: the first few, and how many more there are."""

from __future__ import annotations

from comfyreport.errors import UsageError

MEND = "nothing was submitted; mend the file, and try again"
"""What can be done about most faults."""
_TOLD = 5


class Faults:
    """Faults of a file's rows as they are found.

    :param place: what stands before each: the file.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._told: list[str] = []
        self._hints: set[str] = set()
        self._count = 0

    def add(self, where: str, message: str, hint: str = "") -> None:
        """A fault at *where*, such as a line. A hint is told if it is that of all."""
        self._count += 1
        self._hints.add(hint)
        if self._count <= _TOLD:
            self._told.append(f"{self._place}, {where}: {message}")

    def raise_any(self) -> None:
        """UsageError where a fault was found."""
        if not self._count:
            return
        more = [f"and {self._count - _TOLD} more"] if self._count > _TOLD else []
        hint = next(iter(self._hints)) if len(self._hints) == 1 else ""
        raise UsageError("\n  ".join([*self._told, *more]), hint=hint or MEND)
