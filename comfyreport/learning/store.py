"""The store of learned durations: a small SQLite database that many processes and threads share.

It is opened for each call, and closed behind it. A file that isn't comfyreport's is never changed.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from comfyreport.databases import Kind, OtherFileError, cause_of, connect, is_empty, is_there, make_tables
from comfyreport.errors import UsageError
from comfyreport.files import current_folder, expanded
from comfyreport.learning.observed import CLASS_LIMIT, Observed, is_name, is_sound
from comfyreport.timing import Timing

# SQLite and platformdirs are imported where they are used: a start has no time for them.
if TYPE_CHECKING:
    import sqlite3

VARIABLE = "COMFYREPORT_CACHE"
CLEAR = "comfyreport timings --clear"

ROWS_OF_EXACT = 8
"""Kept of one node with all that drives its cost, cold and warm each."""
ROWS_OF_CLASS = 1000
"""Kept of one node class on one server; workflows may have hundreds of them."""
LIKE_ROWS = 64
"""Read of one node class, beside those of the very nodes that are asked for."""
ROWS = 20_000
"""Kept in all."""
SERVER_LIMIT = 300
"""Bytes of a server's address: of a longer one nothing is kept."""
FILE_LIMIT = 64 * 2**20
"""Bytes of the file: so large comfyreport makes none, and none is read."""

_Deed = Literal["read", "written", "cleared", "removed"]

_FILE = "timings.sqlite3"
_KIND = Kind(int.from_bytes(b"cfyr", "big"), schema=1)
_LATEST = 32_000_000_000  # some systems know no later day
_COLUMNS = 'class_type, exact, "like", units, cold, lead, step, steps, tail, passes'
_TABLES = {
    "observed": "CREATE TABLE observed (id INTEGER PRIMARY KEY, time REAL, server TEXT, class_type TEXT, exact TEXT, "
    '"like" TEXT, units REAL, cold INTEGER, lead REAL, step REAL, steps REAL, tail REAL, passes REAL)',
    "of_class": "CREATE INDEX of_class ON observed (server, class_type)",
    "of_exact": "CREATE INDEX of_exact ON observed (server, exact, cold)",
}

_ELSEWHERE = f"name another folder with {VARIABLE}"
_NEEDLESS = f"{_ELSEWHERE}, or learn nothing: --no-learn"

# A file that is opened and closed beside SQLite loses the locks that SQLite has on it for this process. With a time
# limit: a process that was forked meanwhile has a lock that nobody gives back.
_LOCK = threading.Lock()


class StoreError(UsageError):
    """The store can't be used as it is (exit code 2). `broken`: it is comfyreport's own, and may be removed."""

    def __init__(self, message: str, *, hint: str, broken: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.broken = broken


class Learned(NamedTuple):
    """What was learned of one node class on one server: how many runs of it, their median seconds, and the last."""

    server: str
    class_type: str
    runs: int
    cold: float | None
    warm: float | None
    last: float


def store_path(environ: Mapping[str, str], folder: str = "") -> Path:
    """Where the store lies in the `cache_folder`. Raises StoreError where there is no such folder."""
    path = cache_folder(environ, folder)
    if path is None:
        # Without a home, or in a folder that was removed.
        raise StoreError("no folder for timings is known", hint=f"{_NEEDLESS}; from its root on")
    return path / _FILE


def cache_folder(environ: Mapping[str, str], folder: str = "") -> Path | None:
    """The folder that the environment names, seen from *folder*, else the user's for caches; None: none is known."""
    if environ.get(VARIABLE):
        path = Path(folder or current_folder(), expanded(environ[VARIABLE]))
    else:
        from platformdirs import user_cache_path

        path = user_cache_path("comfyreport", appauthor=False)
    return path if path.is_absolute() else None


class Store:
    """Observed durations by server. Raises StoreError; what isn't there yet is empty, and made by writing alone.

    :param patience: seconds to wait for other processes, and for other threads.
    :param clock: the time of day.
    """

    def __init__(
        self, path: Path, *, patience: float = Timing.store_wait, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self._patience = patience
        self._clock = clock

    def observed(self, server: str, class_types: Iterable[str], exact: Iterable[str] = ()) -> list[Observed]:
        """What was seen on *server* of these very nodes, and lately of nodes of these classes, newest first."""
        wanted = {name for name in class_types if is_name(name, CLASS_LIMIT)}
        if not is_name(server, SERVER_LIMIT) or not wanted:
            return []
        asked = [("class_type", each, LIKE_ROWS) for each in wanted]
        asked += [("exact", each, 2 * ROWS_OF_EXACT) for each in set(exact)]
        rows: dict[int, tuple[Any, ...]] = {}
        with self._opened("read") as connection:
            if connection is None:
                return []
            for column, value, limit in asked:
                query = f"SELECT id, {_COLUMNS} FROM observed WHERE server = ? AND {column} = ?"
                # All at once: a cursor that a failure left open would keep its lock as long as its error is kept.
                for row in connection.execute(f"{query} ORDER BY id DESC LIMIT ?", (server, value, limit)).fetchall():
                    rows[row[0]] = row[1:]
        return list(_sound(rows[key] for key in sorted(rows, reverse=True)))

    def add(self, server: str, observed: Iterable[Observed]) -> None:
        """Keep what was seen on *server* of the nodes of one run, the oldest first; older ones go for it."""
        kept = [each for each in observed if is_sound(each)][-ROWS:]
        if not is_name(server, SERVER_LIMIT) or not kept:
            return
        now = self._clock()
        with self._opened("written") as connection:
            assert connection is not None
            marks = ", ".join("?" * (2 + len(Observed._fields)))
            connection.executemany(
                f"INSERT INTO observed (time, server, {_COLUMNS}) VALUES ({marks})",
                [(now, server, *each) for each in kept],
            )
            for names, values, limit in (
                (("server", "exact", "cold"), {(server, each.exact, each.cold) for each in kept}, ROWS_OF_EXACT),
                (("server", "class_type"), {(server, each.class_type) for each in kept}, ROWS_OF_CLASS),
            ):
                those = f"SELECT id FROM observed WHERE {' AND '.join(f'{name} = ?' for name in names)}"
                older = f"{those} ORDER BY id DESC LIMIT -1 OFFSET {limit}"
                connection.executemany(f"DELETE FROM observed WHERE id IN ({older})", list(values))
            # Counting takes no time; to find the last one that stays would.
            (count,) = connection.execute("SELECT count(*) FROM observed").fetchone()
            oldest = "SELECT id FROM observed ORDER BY id LIMIT ?"
            connection.execute(f"DELETE FROM observed WHERE id IN ({oldest})", (max(0, count - ROWS),))

    def summary(self) -> list[Learned]:
        """What is kept, by server and class."""
        found = defaultdict[tuple[str, str], list[tuple[float, Observed]]](list)
        with self._opened("read") as connection:
            query = f"SELECT time, server, {_COLUMNS} FROM observed ORDER BY id DESC LIMIT ?"
            rows = connection.execute(query, (ROWS,)) if connection else ()
            for when, server, *row in rows:
                if is_name(server, SERVER_LIMIT) and isinstance(when, float) and 0 <= when <= _LATEST:
                    for each in _sound([row]):
                        found[server, each.class_type].append((when, each))
        return [_learned(*names, several) for names, several in sorted(found.items())]

    def clear(self) -> int:
        """Forget all; how many rows there were. A file of ours that is broken is removed, and counts as none."""
        try:
            with self._opened("cleared") as connection:
                return connection.execute("DELETE FROM observed").rowcount if connection else 0
        except StoreError as error:
            if not error.broken:
                raise
            return self._remove()

    def _remove(self) -> int:
        try:
            for name in (self.path, f"{self.path}-journal"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)
        except OSError as error:
            raise self._unusable("removed", error.strerror or str(error), _ELSEWHERE) from error
        return 0

    # --- opening

    @contextlib.contextmanager
    def _opened(self, deed: _Deed) -> Iterator[sqlite3.Connection | None]:
        """The store within one transaction; None where there is none yet, unless it is written."""
        if not _LOCK.acquire(timeout=self._patience):
            raise self._unusable(deed, "another thread is at it", "try again")
        try:
            if self._is_new(deed) and deed != "written":
                yield None
                return
            with self._connected(deed) as connection:
                if deed != "written" and is_empty(connection):
                    yield None
                    return
                # Whoever begins to write later than to read may have to give way, however long one waits.
                connection.execute("BEGIN" if deed == "read" else "BEGIN IMMEDIATE")
                self._check(connection, deed)
                yield connection
                connection.execute("COMMIT")
                if deed == "cleared":
                    _shrink(connection)
        finally:
            _LOCK.release()

    def _is_new(self, deed: _Deed) -> bool:
        """Whether there is nothing yet, or what a process left that ended before it wrote; StoreError if not ours."""
        try:
            if not is_there(self.path, _KIND):
                return True
            size = os.stat(self.path).st_size
        except OtherFileError as error:
            if error.what == "damaged":
                raise self._broken(deed, str(error)) from None
            step = "upgrade comfyreport" if error.what == "newer" else "move it away"
            raise self._unusable(deed, str(error), f"{step}, or {_ELSEWHERE}") from None
        except OSError as error:
            raise self._unusable(deed, error.strerror or str(error), _NEEDLESS) from error
        if size > FILE_LIMIT:
            raise self._broken(deed, "it is larger than it may be")
        return False

    @contextlib.contextmanager
    def _connected(self, deed: _Deed) -> Iterator[sqlite3.Connection]:
        import sqlite3

        try:
            if deed == "written":
                # Made where it is missing, as the file is.
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            make = deed == "written"
            with contextlib.closing(connect(self.path, make=make, patience=self._patience)) as connection:
                if deed != "read":
                    # What an outage loses is learned again.
                    connection.execute("PRAGMA synchronous = OFF")
                yield connection
        except sqlite3.Error as error:
            raise self._error(deed, error) from error
        except OSError as error:
            raise self._unusable(deed, error.strerror or str(error), _NEEDLESS) from error

    def _check(self, connection: sqlite3.Connection, deed: _Deed) -> None:
        """Make the tables where there are none; StoreError where there are others: those could do anything."""
        tables = dict(connection.execute("SELECT name, sql FROM sqlite_master LIMIT ?", (len(_TABLES) + 1,)))
        if deed == "written" and not tables:
            # Only its user's. What SQLite makes beside it has the same mode.
            with contextlib.suppress(OSError):
                os.chmod(self.path, 0o600)
            make_tables(connection, _KIND, _TABLES.values())
        elif tables != _TABLES:
            raise self._broken(deed, "its tables are not those that comfyreport makes")

    # --- errors

    def _error(self, deed: _Deed, error: sqlite3.Error) -> StoreError:
        cause, words = cause_of(error), str(error)
        if cause == "damaged":
            return self._broken(deed, f"it is damaged ({words})")
        if cause == "locked":
            return self._unusable(deed, "another process is at it", "try again")
        if cause == "full":
            return self._unusable(deed, "the disk is full", f"make room, {_NEEDLESS}")
        return self._unusable(deed, words, f"see what rights it and its folder have, {_NEEDLESS}")

    def _broken(self, deed: _Deed, reason: str) -> StoreError:
        return self._unusable(deed, reason, f"remove it with: {CLEAR}", broken=True)

    def _unusable(self, deed: _Deed, reason: str, hint: str, *, broken: bool = False) -> StoreError:
        return StoreError(f"the timings in {self.path} can't be {deed}: {reason}", hint=hint, broken=broken)


def _shrink(connection: sqlite3.Connection) -> None:
    """Make the file as small as what is in it, unless somebody else is at it, or the disk is full."""
    import sqlite3

    with contextlib.suppress(sqlite3.Error):
        connection.execute("VACUUM")


def _sound(rows: Iterable[Sequence[Any]]) -> Iterator[Observed]:
    """What rows hold that can be used: the file may say anything."""
    for row in rows:
        observed = Observed(*row)
        if is_sound(observed):
            yield observed._replace(cold=bool(observed.cold))


def _learned(server: str, class_type: str, found: Sequence[tuple[float, Observed]]) -> Learned:
    from statistics import median

    cold, warm = ([each.seconds for _, each in found if each.cold is which] for which in (True, False))
    return Learned(
        server,
        class_type,
        len(found),
        median(cold) if cold else None,
        median(warm) if warm else None,
        max(when for when, _ in found),
    )
