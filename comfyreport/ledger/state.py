"""`--state FILE`: what a command with many runs has done, kept so that the same command can go on with the rest."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple

import orjson

from comfyreport.events import PromptState
from comfyreport.events.jsonlines import object_line
from comfyreport.ledger.state_file import ANOTHER, Command, StateFile
from comfyreport.timing import Timing

DONE = frozenset(("success", "partial", "error", "interrupted", "rejected"))
"""Statuses with which a run is done: the same again would end in the same way, or the user is to decide.

Behind the others (usage, lost, unreachable, timeout, cancelled, detached, internal) it is still to be done.
"""

_AT_ONCE = 500
_FAILED = "status NOT IN ('success', 'cancelled', 'detached')"
_NOT_DONE = f"status NOT IN ({', '.join(repr(each) for each in sorted(DONE))})"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run that is given to a server: `index` of the run and `number` of the attempt, both from 1.

    `server` is its address without anything secret: it is kept in the file. `stopped`: it was about to be cancelled.
    """

    index: int
    number: int
    server: str
    prompt_id: str
    client_id: str
    stopped: bool = False


class Counts(NamedTuple):
    """Runs that are `done`, and runs that `failed`, which nobody has stopped: one may be both."""

    done: int
    failed: int


def stays_open(status: str, prompt_state: PromptState) -> bool:
    """Whether the prompt of a run that ended so may still be there, or what it made: it is looked for before another.

    So it is where the prompt was left running, its fate isn't known, or its outputs weren't saved in time.
    """
    return status not in DONE and prompt_state not in ("none", "cancelled")


class State:
    """The state of one command: which runs are done, and which were begun and may be anywhere.

    Opened first, for the plan rests on `entropy`; then `check` sees that it is of this command, or makes the file.
    What is written is on the disk before the call returns, and outlives `kill -9` and an outage. As long as it is open
    no other process can use it; `kill -9` gives it free. Indexes of runs go from 1 to the total. Used by one thread at
    a time. Everything raises StateError where the file can't be used or written.

    :param path: the file; None: all is kept in memory.
    :param entropy: what random seeds are derived from, if the file has none yet.
    :param folder: where a relative path starts; none: the current one.
    :param patience: seconds to wait for another process.

    `entropy` is that of the command's first start; `goes_on`: the file was there, and this command goes on with it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        entropy: int,
        folder: str = "",
        patience: float = Timing.store_wait,
    ) -> None:
        self._file = StateFile(path, folder=folder, patience=patience)
        found = self._file.open()
        self.goes_on = found is not None
        self._command = found or Command("", 0, entropy)
        self.entropy = self._command.entropy

    def check(self, fingerprint: str, total: int) -> None:
        """See that the state is that of the command with this *fingerprint* and *total* of runs; made if it is new."""
        there = self._command.total
        if not self.goes_on:
            self._command = Command(fingerprint, total, self.entropy)
            self._file.make(self._command)
        elif (self._command.fingerprint, there) != (fingerprint, total):
            change = f": {there} runs, not {total}" if there != total else ""
            raise self._file.unusable(
                f"it is the state of another command{change}",
                f"give the same workflows, inputs, --grid, --prompts, --repeat and --output as then, or {ANOTHER}",
            )

    def close(self) -> None:
        """Close the file, which others may use then."""
        self._file.close()

    # --- what is to be done

    def todo(self, *, only_failed: bool = False) -> array[int]:
        """The indexes of the runs that are to be done, in order, without those of `open_attempts`.

        :param only_failed: of those alone that failed.
        """
        with self._file.reading() as connection:
            if only_failed:
                query = f"SELECT run FROM ended WHERE {_FAILED} AND run NOT IN (SELECT run FROM attempts)"
                return array("q", (run for (run,) in connection.execute(f"{query} ORDER BY run")))
            left = bytearray(b"\1") * (self._command.total + 1)
            left[0] = 0
            for (run,) in connection.execute(f"SELECT run FROM ended WHERE NOT {_NOT_DONE}"):
                left[run] = 0
            for (run,) in connection.execute("SELECT run FROM attempts"):
                left[run] = 0
        return array("q", (run for run, is_left in enumerate(left) if is_left))

    def open_attempts(self) -> list[Attempt]:
        """What was begun and has no known end: it must be looked for before its run is given to a server again."""
        with self._file.reading() as connection:
            rows = connection.execute("SELECT * FROM attempts ORDER BY run")
            return [
                Attempt(run, number, server, prompt_id, client_id, bool(stopped))
                for run, number, server, prompt_id, client_id, stopped in rows
            ]

    def begin(self, attempt: Attempt) -> None:
        """Keep that *attempt* is made, the only one of its run. The prompt is submitted behind it."""
        self._file.write(("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?)", astuple(attempt)))

    def renamed(self, index: int, prompt_id: str) -> None:
        """The server gave the prompt of the attempt of run *index* another id."""
        self._file.write(("UPDATE attempts SET prompt_id = ? WHERE run = ?", (prompt_id, index)))

    def stopping(self) -> None:
        """All open attempts are about to be cancelled."""
        self._file.write(("UPDATE attempts SET stopped = 1", ()))

    def give_up(self, index: int) -> None:
        """The attempt of run *index* ended without a result, and nothing is left of it: the run is still to be done."""
        self._file.write(("DELETE FROM attempts WHERE run = ?", (index,)))

    # --- what has ended

    def end(self, index: int, status: str, record: Mapping[str, Any], *, prompt_state: PromptState = "none") -> None:
        """Keep the end of run *index*, in place of an earlier one, with its line of the manifest.

        :param prompt_state: where the prompt is: the attempt may stay one of the `open_attempts` (see `stays_open`).
        """
        line = object_line(record).decode().rstrip("\n")
        # What failed, and was stopped when it was made again, has failed still.
        unless = f" WHERE NOT EXISTS (SELECT 1 FROM ended WHERE run = ? AND {_FAILED} AND NOT {_NOT_DONE})"
        unless, again = (unless, (index,)) if status in ("cancelled", "detached") else ("", ())
        ended = (
            f"INSERT OR REPLACE INTO ended (run, status, record) SELECT ?, ?, ?{unless}",
            (index, status, line, *again),
        )
        closed = ("DELETE FROM attempts WHERE run = ?", (index,))
        self._file.write(*((ended,) if stays_open(status, prompt_state) else (ended, closed)))

    def has_ended(self, index: int) -> bool:
        """Whether the run has an end, be it done or not."""
        with self._file.reading() as connection:
            return connection.execute("SELECT 1 FROM ended WHERE run = ?", (index,)).fetchone() is not None

    def ended(self) -> Iterator[dict[str, Any]]:
        """The records of all ends, in the order in which the runs ended."""
        for line in self.all_lines():
            try:
                yield orjson.loads(line)
            except ValueError:
                raise self._file.damaged("a record is no JSON") from None

    def kept_lines(self, *, only_failed: bool = False) -> Iterator[str]:
        """The records, as lines of JSON, of the ends that stay: those of runs that this command doesn't do again.

        :param only_failed: it does the failed ones again, else those that aren't done.
        """
        return self._lines(f"NOT {_FAILED if only_failed else _NOT_DONE}")

    def counts(self) -> Counts:
        """How many runs are done, and how many ended with no success."""
        with self._file.reading() as connection:
            query = f"SELECT coalesce(sum(NOT {_NOT_DONE}), 0), coalesce(sum({_FAILED}), 0) FROM ended"
            return Counts(*connection.execute(query).fetchone())

    def all_lines(self) -> Iterator[str]:
        """The records, as lines of JSON, of all ends."""
        return self._lines("1")

    def failed_status(self) -> str | None:
        """How the first ended of the runs that are done, and failed; None where none did."""
        with self._file.reading() as connection:
            query = f"SELECT status FROM ended WHERE {_FAILED} AND NOT {_NOT_DONE} ORDER BY place LIMIT 1"
            found = connection.execute(query).fetchone()
        return None if found is None else str(found[0])

    def _lines(self, condition: str) -> Iterator[str]:
        last = 0
        query = f"SELECT place, record FROM ended WHERE place > ? AND {condition} ORDER BY place LIMIT {_AT_ONCE}"
        while True:
            with self._file.reading() as connection:
                # Not one long query: whoever reads may write in between.
                rows = connection.execute(query, (last,)).fetchall()
            for last, line in rows:  # noqa: B007  where the next ones begin
                yield line
            if len(rows) < _AT_ONCE:
                return
