"""`comfyreport timings`: what was learned of how long nodes take, and where it lies."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from itertools import groupby

from comfyreport.learning.store import Learned, Store, store_path
from comfyreport.render.formats import format_seconds
from comfyreport.text import cell_width, fit, printable

_CLASS_WIDTH = 40


def list_timings(*, as_json: bool) -> str:
    """What is in the store, as text or JSON. Raises StoreError."""
    store = Store(store_path(os.environ))
    learned = store.summary()
    if as_json:
        timings = [
            {
                "server": each.server,
                "node": each.class_type,
                "runs": each.runs,
                "cold_seconds": each.cold,
                "warm_seconds": each.warm,
                "last": each.last,
            }
            for each in learned
        ]
        return json.dumps({"path": str(store.path), "timings": timings}, indent=2)
    return "\n".join(_lines(learned, printable(store.path)))


def clear_timings(*, as_json: bool) -> str:
    """Forget all, and tell how much that was. Raises StoreError."""
    store = Store(store_path(os.environ))
    count = store.clear()
    if as_json:
        return json.dumps({"path": str(store.path), "cleared": count}, indent=2)
    return f"{count} timings cleared in {printable(store.path)}" if count else _nothing(printable(store.path))


def _nothing(path: str) -> str:
    return f"no timings yet in {path}"


def _lines(learned: Sequence[Learned], path: str) -> Iterator[str]:
    if not learned:
        yield _nothing(path)
        return
    yield f"{sum(each.runs for each in learned)} timings in {path}"
    for server, several in groupby(learned, key=lambda each: each.server):
        yield printable(server)
        yield from _table(list(several))


def _table(learned: Sequence[Learned]) -> Iterator[str]:
    """One row for each class; those that take longest first."""
    rows = [
        (
            fit(printable(each.class_type, _CLASS_WIDTH), _CLASS_WIDTH),
            str(each.runs),
            _seconds(each.cold),
            _seconds(each.warm),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(each.last)),
        )
        for each in sorted(learned, key=lambda each: max(each.cold or 0, each.warm or 0), reverse=True)
    ]
    table = [("node class", "times", "cold", "warm", "last run"), *rows]
    widths = [max(cell_width(cell) for cell in column) for column in zip(*table, strict=True)]
    for name, *cells in table:
        others = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        yield "  ".join(("", name + " " * (widths[0] - cell_width(name)), *others))


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else format_seconds(seconds, 2)
