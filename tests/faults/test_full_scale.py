"""One cell of each fault at full scale, where that is over soon, and one through the command as a process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.faults.checks import held, unlike
from tests.faults.conftest import selected
from tests.faults.matrix import Cell, brief_cells, first_cells
from tests.faults.playing import SCALE, Seen
from tests.faults.pool import Pool, pool_of

pytestmark = pytest.mark.e2e

FULL = 1.0
PROCESSES_AT_ONCE = 4


@dataclass(frozen=True)
class Commanded:
    """A cell that is played by a process."""

    cell: Cell

    @property
    def name(self) -> str:
        return self.cell.name

    def play(self, folder: Path, *, scale: float = SCALE) -> Seen:
        """Let it happen."""
        return self.cell.play(folder, scale=scale, command=True)


@pytest.fixture(scope="module")
def commands(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool[Commanded]]:
    chosen, folder = selected(request, "commanded"), tmp_path_factory.mktemp("commands")
    with pool_of(chosen, folder, at_once=PROCESSES_AT_ONCE) as made:
        yield made


@pytest.fixture(scope="module")
def full_pool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool[Cell]]:
    chosen, folder = selected(request, "cell"), tmp_path_factory.mktemp("full")
    with pool_of(chosen, folder, scale=FULL, at_once=max(1, len(chosen))) as made:
        yield made


@pytest.mark.parametrize("commanded", [pytest.param(Commanded(cell), id=cell.name) for cell in first_cells()])
def test_command(commands: Pool[Commanded], commanded: Commanded) -> None:
    cell = commanded.cell
    seen = held(lambda: commands.seen(commanded), commands.again(commanded), partial(unlike, cell), cell.name)
    assert seen.exit_code == seen.result["exit_code"]


@pytest.mark.parametrize("cell", [pytest.param(cell, id=cell.name) for cell in brief_cells()])
def test_full_scale(full_pool: Pool[Cell], cell: Cell) -> None:
    held(lambda: full_pool.seen(cell), full_pool.again(cell), partial(unlike, cell), cell.name)
