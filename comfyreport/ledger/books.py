"""What is kept of runs while they are made, as whoever makes them needs it."""

from __future__ import annotations

from typing import Protocol

from comfyreport import events as ev

STOPPED = ("cancelled", "detached")
"""How runs end that came to no end of their own."""


def reason_of(result: ev.RunFinished) -> str:
    """Why a run ended, in words."""
    return result.status if result.error is None else result.error.message


class Books(Protocol):
    """What keeps the books of the runs. `stopped_by` is the run whose failure stops the others."""

    stopped_by: int | None

    def begin(self, index: int, server: str, prompt_id: str, client_id: str) -> None:
        """An attempt begins, in place of an earlier one of the run. Raises UsageError where that can't be kept."""

    def renamed(self, index: int, prompt_id: str) -> None:
        """The server gave the prompt another id."""

    def give_up(self, index: int) -> None:
        """An attempt came to nothing, and the run is to be begun again."""

    def stopping(self) -> None:
        """What is begun is about to be cancelled."""

    def end(self, result: ev.RunFinished) -> None:
        """A run ended."""
