"""Each fault at each moment, at a twentieth of the full scale."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from comfyreport.simulator import KINDS, MOMENTS, Fault, Kind
from tests.faults.checks import Leaks, held, lies, unlike
from tests.faults.conftest import selected
from tests.faults.matrix import ROWS, Cell, cells
from tests.faults.playing import play
from tests.faults.pool import Pool, pool_of
from tests.faults.scripts import FAILING
from tests.faults.table import table
from tests.simulator.prompts import picture

LAST_SEEN = {"killed-sampling": "last seen in KSampler at ", "frozen_for_ever-decoding": "last seen "}
"""What is told of a server that is gone names where the run was seen last."""


@pytest.fixture(scope="module")
def leaks() -> Leaks:
    return Leaks()


@pytest.fixture(scope="module")
def pool(
    request: pytest.FixtureRequest, leaks: Leaks, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pool[Cell]]:
    with pool_of(selected(request, "cell"), tmp_path_factory.mktemp("matrix")) as made:
        yield made


@pytest.mark.parametrize("cell", [pytest.param(cell, id=cell.name) for cell in cells()])
def test_cell(pool: Pool[Cell], cell: Cell) -> None:
    seen = held(lambda: pool.seen(cell), pool.again(cell), partial(unlike, cell), cell.name)
    assert LAST_SEEN.get(cell.name, "") in str(seen.result.get("error"))


def test_nothing_is_left_open(pool: Pool[Cell], leaks: Leaks) -> None:
    pool.wait()
    leaks.check()


def test_every_kind_is_played_and_what_is_not_has_its_reason() -> None:
    assert {row.kind for row in ROWS} == set(KINDS)
    assert len({cell.name for cell in cells()}) == len(list(cells()))
    for row in ROWS:
        reasons = [row.impossible[moment] for moment in MOMENTS if moment in row.impossible]
        assert len(reasons) < len(MOMENTS)
        assert all(reasons)


def test_the_readme_has_this_table() -> None:
    readme = Path(__file__).resolve().parents[1] / "README.md"
    assert table({}) in re.sub(r" · \d+ s · \d+(?= \|)", "", readme.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("kind", "restored", "last"),
    [("dropped", True, "restored"), ("reconnect_refused", False, "polling"), ("deaf_socket", True, "polling")],
)
def test_what_becomes_of_the_connection_is_told(kind: Kind, restored: bool, last: str, tmp_path: Path) -> None:
    seen = play([Fault(kind, "loading", step=0)], tmp_path, workflow=picture(steps=60))
    assert not list(lies(seen))
    states = [event["state"] for event in seen.of("connection_changed")]
    assert states[:2] == ["connected", "lost"]
    assert ("restored" in states) == restored
    assert states[-1] == last
    assert ("deaf_socket" in seen.warned()) == (kind == "deaf_socket")


def test_the_nodes_that_ran_before_an_error_are_told_though_nobody_heard_them(tmp_path: Path) -> None:
    seen = play([Fault("reconnect_refused", "loading")], tmp_path, workflow=FAILING)
    assert not list(lies(seen))
    assert seen.status == "error"
    assert seen.result["error"]["node_id"] == "8"
    finished = [event["node_id"] for event in seen.of("node_finished")]
    assert sorted(finished) == ["1", "2", "3", "4", "5", "6"]
