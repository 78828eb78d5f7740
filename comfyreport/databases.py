"""Files of SQLite's: whose one is, looked up without SQLite; how it is opened; and why one can't be used, in words."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

# SQLite is imported where it is used: a start has no time for it.
if TYPE_CHECKING:
    import sqlite3

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100


class Kind(NamedTuple):
    """Which databases are meant: by SQLite's `application_id`, and the newest `schema` (its `user_version`) known."""

    application_id: int
    schema: int


class OtherFileError(Exception):
    """A file isn't one of the databases that are meant: the message says what it is.

    `other`: it is something else; `newer`: one that a newer comfyreport made; `damaged`: it is one, and broken.
    """

    def __init__(self, what: Literal["other", "newer", "damaged"], message: str) -> None:
        super().__init__(message)
        self.what = what


def is_there(path: str | os.PathLike[str], kind: Kind) -> bool:
    """Whether a database of that *kind* is there; False where nothing is, or what a process left that ended too soon.

    SQLite doesn't look first: it would bring up to date what another program has left open. Raises OtherFileError where
    something else is, and OSError.
    """
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            raise OtherFileError("other", f"it is {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}")
        with open(path, "rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return False
    if not header:
        return False
    # https://www.sqlite.org/fileformat.html#the_database_header
    if not header.startswith(_MAGIC) or int.from_bytes(header[68:72], "big") != kind.application_id:
        foreign = header.startswith(_MAGIC)
        raise OtherFileError(
            "other", f"it is {'the database of another program' if foreign else 'no database of comfyreport'}"
        )
    schema = int.from_bytes(header[60:64], "big")
    if schema > kind.schema:
        raise OtherFileError("newer", f"a newer comfyreport made it (schema {schema}; this one knows {kind.schema})")
    if schema < kind.schema or len(header) < _HEADER_BYTES:
        raise OtherFileError("damaged", "it is damaged")
    return True


def connect(path: Path, *, make: bool, patience: float, check_same_thread: bool = True) -> sqlite3.Connection:
    """Open the database at *path*; each statement is a transaction of its own. Raises sqlite3.Error.

    :param make: whether it is made where it is missing.
    :param patience: seconds to wait for other processes.
    """
    import sqlite3
    from urllib.parse import quote

    name = path.as_posix()
    # A path that begins with two slashes names a server, on Windows.
    uri = f"file:{'//' if name.startswith('/') else '///'}{quote(os.fsencode(name), safe='/:')}"
    mode = "rwc" if make else "rw"
    return sqlite3.connect(
        f"{uri}?mode={mode}", uri=True, timeout=patience, isolation_level=None, check_same_thread=check_same_thread
    )


def make_tables(connection: sqlite3.Connection, kind: Kind, tables: Iterable[str]) -> None:
    """Make an empty database one of that *kind*, by the statements for its *tables*.

    Within the transaction that is open: what `kill -9` leaves is empty, or whole.
    """
    connection.execute(f"PRAGMA application_id = {kind.application_id}")
    connection.execute(f"PRAGMA user_version = {kind.schema}")
    for statement in tables:
        connection.execute(statement)


def is_empty(connection: sqlite3.Connection) -> bool:
    """Whether nothing is in a database that `is_there`, once it is open and SQLite has put it in order.

    It is where a process was killed while it made it: SQLite takes all of that back. Asked outside a transaction: one
    that may write makes a page.
    """
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    return not pages


def cause_of(error: sqlite3.Error) -> Literal["damaged", "locked", "full", "other"]:
    """What SQLite says, by its words: its numbers are told from Python 3.11 on alone."""
    import sqlite3

    words = str(error)
    if not isinstance(error, sqlite3.OperationalError) or "decode" in words:
        return "damaged"
    if "locked" in words:
        return "locked"
    return "full" if "full" in words else "other"
