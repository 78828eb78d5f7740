"""What was seen of nodes, made up; and a store that has a clock of its own."""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from comfyreport.learning.observed import Observed
from comfyreport.learning.store import Store

SERVER = "http://127.0.0.1:8188"


def digest(text: str) -> str:
    """A hexadecimal digest."""
    return hashlib.sha256(text.encode()).hexdigest()


def seen(class_type: str = "KSampler", number: int = 1, *, cold: bool = False, tail: float = 0.5) -> Observed:
    """A node of one class; *number* tells apart what drives the cost."""
    return Observed(
        class_type, digest(f"{class_type} {number}"), digest("model"), 262144.0, cold, 0.25, 0.5, 20.0, tail
    )


def store_in(folder: Path, *, patience: float = 0.05) -> Store:
    """A store in *folder*, whose clock goes on by a second each time that it is asked."""
    ticks: Callable[[], int] = itertools.count(1_700_000_000).__next__
    return Store(folder / "timings.sqlite3", patience=patience, clock=lambda: float(ticks()))


def execute(path: Path, *statements: str) -> None:
    """Do something to a database behind the store's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
