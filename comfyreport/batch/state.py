"""`--state FILE`: what a command with many runs has done, kept so that the same command can go on with the rest."""

from __future__ import annotations

import contextlib
import os
import threading
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from comfyreport.databases import Kind, OtherFileError, cause_of, connect, is_empty, is_there
from comfyreport.errors import UsageError
from comfyreport.events import PromptState
from comfyreport.events.jsonlines import object_line
from comfyreport.files import resolve
from comfyreport.text import printable
from comfyreport.timing import Timing

# SQLite is imported where it is used: a start has no time for it.
if TYPE_CHECKING:
    import sqlite3

DONE = frozenset(("success", "partial", "error", "interrupted", "rejected"))
"""Statuses with which a run is done: the same again would end in the same way, or the user is to decide.

Behind the others (usage, lost, unreachable, timeout, cancelled, detached, internal) it is still to be done.
"""

_KIND = Kind(int.from_bytes(b"cfrs", "big"), schema=1)
_MEMORY = ":memory:"
_AT_ONCE = 500
_TABLES = {
    "command": "CREATE TABLE command (fingerprint TEXT NOT NULL, total INTEGER NOT NULL, entropy TEXT NOT NULL, "
    "CHECK (typeof(total) = 'integer' AND total >= 0))",
    "attempts": "CREATE TABLE attempts (run INTEGER PRIMARY KEY, number INTEGER NOT NULL, server TEXT NOT NULL, "
    "prompt_id TEXT NOT NULL, client_id TEXT NOT NULL, stopped INTEGER NOT NULL, CHECK (typeof(number) = 'integer'))",
    "ended": "CREATE TABLE ended (place INTEGER PRIMARY KEY, run INTEGER NOT NULL UNIQUE, status TEXT NOT NULL, "
    "record TEXT NOT NULL, CHECK (typeof(run) = 'integer'))",
}
_FAILED = "status NOT IN ('success', 'cancelled', 'detached')"
_NOT_DONE = f"status NOT IN ({', '.join(repr(each) for each in sorted(DONE))})"

_ANOTHER = "name another file with --state"
_RIGHTS = f"see what rights it and its folder have, or {_ANOTHER}"

# A file that is opened and closed beside SQLite loses the locks that SQLite has on it for this process.
_LOCK = threading.Lock()
_in_use: set[tuple[int, int] | None] = set()


class StateError(UsageError):
    """The state file can't be used as it is (exit code 2)."""


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


def companions(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The files that SQLite may make beside *path*: nothing else may use them."""
    return tuple(f"{os.fspath(path)}{ending}" for ending in ("-journal", "-wal", "-shm"))


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
        self._shown = _MEMORY if path is None else printable(os.fspath(path), 4096) or '""'
        self._path = None if path is None else self._resolve(path, folder)
        self._patience = patience
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._total = 0
        self._fingerprint = ""
        self.entropy = entropy
        self.goes_on = self._path is not None and self._open(self._path)

    def check(self, fingerprint: str, total: int) -> None:
        """See that the state is that of the command with this *fingerprint* and *total* of runs; made if it is new."""
        if not self.goes_on:
            self._fingerprint, self._total = fingerprint, total
            self._make()
        elif (self._fingerprint, self._total) != (fingerprint, total):
            change = f": {self._total} runs, not {total}" if self._total != total else ""
            raise self._unusable(
                f"it is the state of another command{change}",
                f"give the same workflows, inputs, --grid, --prompts, --repeat and --output as then, or {_ANOTHER}",
            )

    def close(self) -> None:
        """Close the file, which others may use then."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        with _LOCK:
            _in_use.discard(self._identity)
        self._identity = None

    # --- what is to be done

    def todo(self, *, only_failed: bool = False) -> array[int]:
        """The indexes of the runs that are to be done, in order, without those of `open_attempts`.

        :param only_failed: of those alone that failed.
        """
        with self._told():
            connection = self._database
            if only_failed:
                query = f"SELECT run FROM ended WHERE {_FAILED} AND run NOT IN (SELECT run FROM attempts)"
                return array("q", (run for (run,) in connection.execute(f"{query} ORDER BY run")))
            left = bytearray(b"\1") * (self._total + 1)
            left[0] = 0
            for (run,) in connection.execute(f"SELECT run FROM ended WHERE NOT {_NOT_DONE}"):
                left[run] = 0
            for (run,) in connection.execute("SELECT run FROM attempts"):
                left[run] = 0
        return array("q", (run for run, is_left in enumerate(left) if is_left))

    def open_attempts(self) -> list[Attempt]:
        """What was begun and has no known end: it must be looked for before its run is given to a server again."""
        with self._told():
            rows = self._database.execute("SELECT * FROM attempts ORDER BY run")
            return [
                Attempt(run, number, server, prompt_id, client_id, bool(stopped))
                for run, number, server, prompt_id, client_id, stopped in rows
            ]

    def begin(self, attempt: Attempt) -> None:
        """Keep that *attempt* is made, the only one of its run. The prompt is submitted behind it."""
        self._write(("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?)", astuple(attempt)))

    def renamed(self, index: int, prompt_id: str) -> None:
        """The server gave the prompt of the attempt of run *index* another id."""
        self._write(("UPDATE attempts SET prompt_id = ? WHERE run = ?", (prompt_id, index)))

    def stopping(self) -> None:
        """All open attempts are about to be cancelled."""
        self._write(("UPDATE attempts SET stopped = 1", ()))

    def give_up(self, index: int) -> None:
        """The attempt of run *index* ended without a result, and nothing is left of it: the run is still to be done."""
        self._write(("DELETE FROM attempts WHERE run = ?", (index,)))

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
        self._write(*((ended,) if stays_open(status, prompt_state) else (ended, closed)))

    def has_ended(self, index: int) -> bool:
        """Whether the run has an end, be it done or not."""
        with self._told():
            return self._database.execute("SELECT 1 FROM ended WHERE run = ?", (index,)).fetchone() is not None

    def ended(self) -> Iterator[dict[str, Any]]:
        """The records of all ends, in the order in which the runs ended."""
        for line in self.all_lines():
            try:
                yield orjson.loads(line)
            except ValueError:
                raise self._damaged("a record is no JSON") from None

    def kept_lines(self, *, only_failed: bool = False) -> Iterator[str]:
        """The records, as lines of JSON, of the ends that stay: those of runs that this command doesn't do again.

        :param only_failed: it does the failed ones again, else those that aren't done.
        """
        return self._lines(f"NOT {_FAILED if only_failed else _NOT_DONE}")

    def counts(self) -> Counts:
        """How many runs are done, and how many ended with no success."""
        with self._told():
            query = f"SELECT coalesce(sum(NOT {_NOT_DONE}), 0), coalesce(sum({_FAILED}), 0) FROM ended"
            return Counts(*self._database.execute(query).fetchone())

    def all_lines(self) -> Iterator[str]:
        """The records, as lines of JSON, of all ends."""
        return self._lines("1")

    def failed_status(self) -> str | None:
        """How the first ended of the runs that are done, and failed; None where none did."""
        with self._told():
            query = f"SELECT status FROM ended WHERE {_FAILED} AND NOT {_NOT_DONE} ORDER BY place LIMIT 1"
            found = self._database.execute(query).fetchone()
        return None if found is None else str(found[0])

    def _lines(self, condition: str) -> Iterator[str]:
        last = 0
        query = f"SELECT place, record FROM ended WHERE place > ? AND {condition} ORDER BY place LIMIT {_AT_ONCE}"
        while True:
            with self._told():
                # Not one long query: whoever reads may write in between.
                rows = self._database.execute(query, (last,)).fetchall()
            for last, line in rows:  # noqa: B007  where the next ones begin
                yield line
            if len(rows) < _AT_ONCE:
                return

    # --- the file

    def _resolve(self, path: str | os.PathLike[str], folder: str) -> Path:
        with self._told():
            place = resolve(path, folder)
        if place.descriptor is not None:
            raise self._unusable("it is no file", _ANOTHER)
        return Path(place.path)

    def _open(self, path: Path) -> bool:
        """Open what is there; False where nothing is."""
        try:
            with self._told(), _LOCK:
                if _identity(path) in _in_use:
                    raise self._unusable("this process uses it already", _ANOTHER)
                if not is_there(path, _KIND):
                    return False
                if not os.access(path, os.W_OK):
                    # SQLite's word for it would be an error of the disk.
                    raise self._unusable("it is read-only", _RIGHTS)
                self._take(connect(path, make=False, patience=self._patience, check_same_thread=False))
                found = self._load()
                if found:
                    self._hold(path)
        except BaseException:
            self.close()
            raise
        if not found:
            self.close()
        return found

    def _make(self) -> None:
        """Make the file, whole or not at all."""
        import sqlite3

        path = self._path
        try:
            with self._told(), _LOCK:
                if path is None:
                    self._take(sqlite3.connect(_MEMORY, isolation_level=None, check_same_thread=False))
                else:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self._take(connect(path, make=True, patience=self._patience, check_same_thread=False))
                self._fill()
                if path is not None:
                    self._hold(path)
        except BaseException:
            self.close()
            raise

    def _take(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        # Before anything else is done. With it a log needs no memory that processes share, which some disks don't have.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")

    def _hold(self, path: Path) -> None:
        """Write behind a log from now on, which costs one wait for the disk; keep others in this process off."""
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"):
            self._database.execute(statement)
        self._identity = _identity(path)
        _in_use.add(self._identity)

    def _fill(self) -> None:
        with self._database as connection:
            connection.execute("BEGIN EXCLUSIVE")
            if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise self._unusable("another process has just made it", "run the command again to go on with it")
            # In one transaction: what `kill -9` leaves is empty, or ours.
            connection.execute(f"PRAGMA application_id = {_KIND.application_id}")
            connection.execute(f"PRAGMA user_version = {_KIND.schema}")
            for statement in _TABLES.values():
                connection.execute(statement)
            row = (self._fingerprint, self._total, str(self.entropy))
            connection.execute("INSERT INTO command VALUES (?, ?, ?)", row)

    def _load(self) -> bool:
        """Read whose state it is; False where it was taken back."""
        connection = self._database
        if is_empty(connection):
            return False
        # The lock, and whether it can be written.
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
        tables = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL LIMIT 9").fetchall()
        if dict(tables) != _TABLES:
            raise self._damaged("its tables are not those that comfyreport makes")
        ((found,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
        if found != "ok":
            raise self._damaged(found)
        rows = connection.execute("SELECT fingerprint, total, entropy FROM command LIMIT 2").fetchall()
        of_others = "SELECT 1 FROM {} WHERE run < 1 OR run > (SELECT total FROM command)"
        wrong = any(connection.execute(of_others.format(table)).fetchone() for table in ("attempts", "ended"))
        if len(rows) != 1 or wrong or not rows[0][2].isdecimal():
            raise self._damaged("what it says can't be")
        self._fingerprint, self._total, self.entropy = rows[0][0], rows[0][1], int(rows[0][2])
        return True

    @property
    def _database(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ValueError("the state is closed, or was not checked yet")
        return self._connection

    def _write(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        """All of *statements*, or none."""
        with self._told(), self._database as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                connection.execute(*statement)

    # --- errors

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong with the file, as StateError."""
        import sqlite3

        try:
            yield
        except OtherFileError as error:
            if error.what == "damaged":
                raise self._damaged("") from None
            step = f"upgrade comfyreport, or {_ANOTHER}" if error.what == "newer" else _ANOTHER
            raise self._unusable(str(error), step) from None
        except sqlite3.Error as error:
            cause = cause_of(error)
            if cause == "damaged":
                raise self._damaged(str(error)) from error
            if cause == "locked":
                raise self._unusable("another process uses it", f"wait until that ends, or {_ANOTHER}") from error
            if cause == "full":
                raise self._unusable("the disk is full", "make room, and run the command again") from error
            raise self._unusable(str(error), _RIGHTS) from error
        except (OSError, ValueError) as error:
            raise self._unusable(getattr(error, "strerror", None) or str(error), _RIGHTS) from error

    def _damaged(self, reason: str) -> StateError:
        words = f"it is damaged ({printable(reason, 200)})" if reason else "it is damaged"
        return self._unusable(words, f"move it away to begin anew, or {_ANOTHER}")

    def _unusable(self, reason: str, hint: str) -> StateError:
        return StateError(f"--state {self._shown} can't be used: {reason}", hint=hint)


def _identity(path: Path) -> tuple[int, int] | None:
    """What is the same for all names of a file; None where there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
