"""What becomes of each run of a command: kept in the state file, told in the manifest, and what failed is counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comfyreport import events as ev
from comfyreport.errors import UsageError
from comfyreport.ledger.books import STOPPED
from comfyreport.ledger.manifest import Manifest, record_of
from comfyreport.ledger.state import Attempt, State
from comfyreport.planning.plan import PlannedRun
from comfyreport.text import printable

MOST_FAILURES = 20
"""Failures that are named in the summary."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that was no success."""

    index: int
    inputs: str
    status: str
    message: str


class Ledger:
    """The books of one command.

    :param keep_going: a failure doesn't stop the others.
    :param on_trouble: is told what can't be written, in one line; the runs go on.

    `failures` are the first that failed, `failed` is how many did, and `stopped_by` is the run whose failure stops the
    others.
    """

    def __init__(
        self,
        plan: Sequence[PlannedRun],
        state: State,
        manifest: Manifest | None,
        *,
        keep_going: bool,
        on_trouble: Callable[[str], None],
    ) -> None:
        self.plan = plan
        self.failures: list[Failure] = []
        self.failed = 0
        self.ended_count = 0
        self.stopped_by: int | None = None
        self._state = state
        self._manifest = manifest
        self._keep_going = keep_going
        self._on_trouble = on_trouble
        self._broken = False
        self._attempts: dict[int, int] = {}

    def begin(self, index: int, server: str, prompt_id: str, client_id: str) -> None:
        """An attempt begins; it is kept before anything is submitted. Raises UsageError where that can't be."""
        number = self._attempts[index] = self._attempts.get(index, 0) + 1
        self._state.begin(Attempt(index, number, server, prompt_id, client_id))

    def renamed(self, index: int, prompt_id: str) -> None:
        """The server gave the prompt another id."""
        self._keep(index, lambda: self._state.renamed(index, prompt_id))

    def give_up(self, index: int) -> None:
        """An attempt came to nothing, and the run is to be begun again."""
        self._keep(index, lambda: self._state.give_up(index))

    def stopping(self) -> None:
        """What is begun is about to be cancelled: if somebody interrupts it, that is this command."""
        self._keep(0, self._state.stopping)

    def _keep(self, index: int, write: Callable[[], None]) -> None:
        """Write what the state is to know; no other run begins without a state that can be written."""
        try:
            write()
        except UsageError as error:
            whose = f"run {index}" if index else "the runs"
            self._on_trouble(f"what became of {whose} can't be kept: {error.message}")

    def end(self, result: ev.RunFinished) -> None:
        """A run ended."""
        index = result.run_index or 0
        run = self.plan[index - 1]
        record = record_of(result, run, max(1, self._attempts.pop(index, 1)))
        self._keep(index, lambda: self._state.end(index, result.status, record, prompt_state=result.prompt_state))
        self._write(record)
        if result.status in STOPPED:
            return
        self.ended_count += 1
        if result.exit_code:
            self.failed += 1
            if len(self.failures) < MOST_FAILURES:
                message = "" if result.error is None else result.error.message
                self.failures.append(Failure(index, describe_inputs(run.inputs), result.status, message))
            if not self._keep_going and self.stopped_by is None:
                self.stopped_by = index

    def _write(self, record: Mapping[str, Any]) -> None:
        try:
            if self._manifest is not None:
                self._manifest.write(record)
        except OSError as error:
            # Said once: what finds no room is written with the next line.
            if not self._broken:
                self._on_trouble(f"the manifest can't be written: {error.strerror or error}")
            self._broken = True


def describe_inputs(inputs: tuple[tuple[str, str], ...]) -> str:
    """What tells a run from the others, on one line."""
    return ", ".join(f"{printable(name, 60)}={printable(value, 60)}" for name, value in inputs)
