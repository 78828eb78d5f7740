"""The file of SQLite's behind a state: found, made whole or not at all, and held by one process at a time."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from comfyreport.databases import Kind, OtherFileError, cause_of, connect, is_empty, is_there, make_tables
from comfyreport.errors import UsageError
from comfyreport.files import resolve
from comfyreport.text import printable

# SQLite is imported where it is used: a start has no time for it.
if TYPE_CHECKING:
    import sqlite3

_KIND = Kind(int.from_bytes(b"cfrs", "big"), schema=1)
_MEMORY = ":memory:"
_TABLES = {
    "command": "CREATE TABLE command (fingerprint TEXT NOT NULL, total INTEGER NOT NULL, entropy TEXT NOT NULL, "
    "CHECK (typeof(total) = 'integer' AND total >= 0))",
    "attempts": "CREATE TABLE attempts (run INTEGER PRIMARY KEY, number INTEGER NOT NULL, server TEXT NOT NULL, "
    "prompt_id TEXT NOT NULL, client_id TEXT NOT NULL, stopped INTEGER NOT NULL, CHECK (typeof(number) = 'integer'))",
    "ended": "CREATE TABLE ended (place INTEGER PRIMARY KEY, run INTEGER NOT NULL UNIQUE, status TEXT NOT NULL, "
    "record TEXT NOT NULL, CHECK (typeof(run) = 'integer'))",
}

ANOTHER = "name another file with --state"
_RIGHTS = f"see what rights it and its folder have, or {ANOTHER}"

# A file that is opened and closed beside SQLite loses the locks that SQLite has on it for this process.
_LOCK = threading.Lock()
_in_use: set[tuple[int, int] | None] = set()


class StateError(UsageError):
    """The state file can't be used as it is (exit code 2)."""


def companions(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The files that SQLite may make beside *path*: nothing else may use them."""
    return tuple(f"{os.fspath(path)}{ending}" for ending in ("-journal", "-wal", "-shm"))


class Command(NamedTuple):
    """Whose state a file is: a command with this fingerprint and so many runs, whose random seeds `entropy` decides."""

    fingerprint: str
    total: int
    entropy: int


class StateFile:
    """The file at *path*, or with None a database in memory. Everything raises StateError where it can't be used.

    :param folder: where a relative path starts; none: the current one.
    :param patience: seconds to wait for another process.
    """

    def __init__(self, path: str | os.PathLike[str] | None, *, folder: str, patience: float) -> None:
        self._shown = _MEMORY if path is None else printable(os.fspath(path), 4096) or '""'
        self._path = None if path is None else self._resolve(path, folder)
        self._patience = patience
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    def open(self) -> Command | None:
        """Open what is there, and see that it is sound; None where nothing is."""
        path = self._path
        if path is None:
            return None
        try:
            with self._told(), _LOCK:
                if _identity(path) in _in_use:
                    raise self.unusable("this process uses it already", ANOTHER)
                if not is_there(path, _KIND):
                    return None
                if not os.access(path, os.W_OK):
                    # SQLite's word for it would be an error of the disk.
                    raise self.unusable("it is read-only", _RIGHTS)
                self._take(connect(path, make=False, patience=self._patience, check_same_thread=False))
                command = self._load()
                if command is not None:
                    self._hold(path)
        except BaseException:
            self.close()
            raise
        if command is None:
            self.close()
        return command

    def make(self, command: Command) -> None:
        """Make the file for that *command*, whole or not at all."""
        import sqlite3

        path = self._path
        try:
            with self._told(), _LOCK:
                if path is None:
                    self._take(sqlite3.connect(_MEMORY, isolation_level=None, check_same_thread=False))
                else:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self._take(connect(path, make=True, patience=self._patience, check_same_thread=False))
                self._fill(command)
                if path is not None:
                    self._hold(path)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file, which others may use then."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        with _LOCK:
            _in_use.discard(self._identity)
        self._identity = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """What may be asked."""
        with self._told():
            yield self._database

    def write(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        """Carry out all of *statements*, or none; on the disk when this returns."""
        with self._told(), self._database as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                connection.execute(*statement)

    def damaged(self, reason: str) -> StateError:
        """The error for a file whose content can't be."""
        words = f"it is damaged ({printable(reason, 200)})" if reason else "it is damaged"
        return self.unusable(words, f"move it away to begin anew, or {ANOTHER}")

    def unusable(self, reason: str, hint: str) -> StateError:
        """The error for a file that is not to be used."""
        return StateError(f"--state {self._shown} can't be used: {reason}", hint=hint)

    def _resolve(self, path: str | os.PathLike[str], folder: str) -> Path:
        with self._told():
            place = resolve(path, folder)
        if place.descriptor is not None:
            raise self.unusable("it is no file", ANOTHER)
        return Path(place.path)

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

    def _fill(self, command: Command) -> None:
        with self._database as connection:
            connection.execute("BEGIN EXCLUSIVE")
            if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise self.unusable("another process has just made it", "run the command again to go on with it")
            make_tables(connection, _KIND, _TABLES.values())
            row = (command.fingerprint, command.total, str(command.entropy))
            connection.execute("INSERT INTO command VALUES (?, ?, ?)", row)

    def _load(self) -> Command | None:
        """Read whose state it is; None where it was taken back."""
        connection = self._database
        if is_empty(connection):
            return None
        # The lock, and whether it can be written.
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
        tables = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL LIMIT 9").fetchall()
        if dict(tables) != _TABLES:
            raise self.damaged("its tables are not those that comfyreport makes")
        ((found,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
        if found != "ok":
            raise self.damaged(found)
        rows = connection.execute("SELECT fingerprint, total, entropy FROM command LIMIT 2").fetchall()
        of_others = "SELECT 1 FROM {} WHERE run < 1 OR run > (SELECT total FROM command)"
        wrong = any(connection.execute(of_others.format(table)).fetchone() for table in ("attempts", "ended"))
        if len(rows) != 1 or wrong or not rows[0][2].isdecimal():
            raise self.damaged("what it says can't be")
        fingerprint, total, entropy = rows[0]
        return Command(fingerprint, total, int(entropy))

    @property
    def _database(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ValueError("the state is closed, or was not checked yet")
        return self._connection

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong with the file, as StateError."""
        import sqlite3

        try:
            yield
        except OtherFileError as error:
            if error.what == "damaged":
                raise self.damaged("") from None
            step = f"upgrade comfyreport, or {ANOTHER}" if error.what == "newer" else ANOTHER
            raise self.unusable(str(error), step) from None
        except sqlite3.Error as error:
            cause = cause_of(error)
            if cause == "damaged":
                raise self.damaged(str(error)) from error
            if cause == "locked":
                raise self.unusable("another process uses it", f"wait until that ends, or {ANOTHER}") from error
            if cause == "full":
                raise self.unusable("the disk is full", "make room, and run the command again") from error
            raise self.unusable(str(error), _RIGHTS) from error
        except (OSError, ValueError) as error:
            raise self.unusable(getattr(error, "strerror", None) or str(error), _RIGHTS) from error


def _identity(path: Path) -> tuple[int, int] | None:
    """What is the same for all names of a file; None where there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
