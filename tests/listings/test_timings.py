"""`comfyreport timings`: a table of what is kept, where it lies, and what clearing it tells."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from comfyreport.learning.observed import Observed
from comfyreport.learning.store import Store
from comfyreport.listings.timings import clear_timings, list_timings
from comfyreport.text import cell_width
from tests.learning.seen import SERVER, seen

WHEN = 1_700_000_000.0


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store that the environment names."""
    monkeypatch.setenv("COMFYREPORT_CACHE", str(tmp_path / "cache"))
    return Store(tmp_path / "cache" / "timings.sqlite3", clock=lambda: WHEN)


def decoder(seconds: float, *, cold: bool = False) -> Observed:
    return seen("VAEDecode", cold=cold)._replace(lead=0.0, step=0.0, steps=0.0, tail=seconds)


def test_one_that_is_empty_says_where_it_lies(store: Store) -> None:
    assert list_timings(as_json=False) == f"no timings yet in {store.path}"
    assert clear_timings(as_json=False) == f"no timings yet in {store.path}"
    assert json.loads(list_timings(as_json=True)) == {"path": str(store.path), "timings": []}
    assert not store.path.parent.exists()


def test_the_table_is_by_server_the_longest_first(store: Store) -> None:
    store.add(SERVER, [decoder(1.25), decoder(1.75), seen(cold=True, tail=110), seen()])
    store.add("http://gpu-box:9000", [decoder(0.004)])
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(WHEN))
    assert list_timings(as_json=False).splitlines() == [
        f"5 timings in {store.path}",
        "http://127.0.0.1:8188",
        "  node class  times    cold    warm          last run",
        f"  KSampler        2  2m 00s  10.75s  {when}",
        f"  VAEDecode       2           1.50s  {when}",
        "http://gpu-box:9000",
        "  node class  times  cold   warm          last run",
        f"  VAEDecode       1        0.00s  {when}",
    ]
    assert json.loads(list_timings(as_json=True))["timings"][:2] == [
        {
            "server": SERVER, "node": "KSampler", "runs": 2, "cold_seconds": 120.25, "warm_seconds": 10.75,
            "last": WHEN,
        },
        {"server": SERVER, "node": "VAEDecode", "runs": 2, "cold_seconds": None, "warm_seconds": 1.5, "last": WHEN},
    ]  # fmt: skip


def test_clearing_tells_how_much_there_was(store: Store) -> None:
    store.add(SERVER, [seen(), decoder(1.0)])
    assert clear_timings(as_json=False) == f"2 timings cleared in {store.path}"
    store.add(SERVER, [seen()])
    assert json.loads(clear_timings(as_json=True)) == {"path": str(store.path), "cleared": 1}
    assert store.summary() == []


def test_names_from_anywhere_are_safe_and_keep_the_columns(store: Store) -> None:
    store.add("http://\x1b]0;x\x07", [seen("\x1b[2Jbad\n"), seen("采样器"), seen("x" * 150)])
    text = list_timings(as_json=False)
    assert text.replace("\n", "").isprintable()
    _, _, *table = text.splitlines()
    assert len({cell_width(line) for line in table}) == 1
    assert len(table[0]) < 100
