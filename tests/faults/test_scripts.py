"""Random fault scripts, at a twentieth of the full scale."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.checks import Leaks, held
from tests.faults.conftest import selected
from tests.faults.pool import Pool, pool_of
from tests.faults.scripts import Plan, plan

SCRIPTS = 100


@pytest.fixture(scope="module")
def leaks() -> Leaks:
    return Leaks()


@pytest.fixture(scope="module")
def pool(
    request: pytest.FixtureRequest, leaks: Leaks, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pool[Plan]]:
    with pool_of(selected(request, "script"), tmp_path_factory.mktemp("scripts")) as made:
        yield made


@pytest.mark.parametrize("script", [pytest.param(plan(seed), id=f"seed_{seed}") for seed in range(SCRIPTS)])
def test_script(pool: Pool[Plan], script: Plan) -> None:
    held(lambda: pool.seen(script), pool.again(script), script.wrong, script.name)


def test_nothing_is_left_open(pool: Pool[Plan], leaks: Leaks) -> None:
    pool.wait()
    leaks.check()
