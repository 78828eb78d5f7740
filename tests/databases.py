"""Files of SQLite's as processes leave them that are killed."""

from __future__ import annotations

from pathlib import Path

_SECTOR = 512


def leave_journal_of_making(path: Path) -> None:
    """Lay beside the database at *path* the journal of a transaction that found the file empty and didn't end.

    https://www.sqlite.org/fileformat.html#the_rollback_journal: the magic number, how many pages follow, a nonce, how
    many pages the file had, bytes of a sector and of a page.
    """
    numbers = (0, 0x5EED, 0, _SECTOR, 4096)
    header = bytes.fromhex("d9d505f920a163d7") + b"".join(number.to_bytes(4, "big") for number in numbers)
    path.with_name(f"{path.name}-journal").write_bytes(header.ljust(_SECTOR, b"\0"))
