"""Which steps a newer server passes on."""

from __future__ import annotations

import pytest

from comfyreport.sim_nodes.throttle import Throttle


@pytest.mark.parametrize(
    ("total", "seconds", "told"),
    [
        (8, 0.25, list(range(1, 9))),
        (8, 0.06, [1, 3, 5, 7, 8]),
        (1000, 1.0, [*range(1, 1000, 5), 1000]),
        (3, 0.0, [1, 3]),
        (1, 0.0, [1]),
    ],
)
def test_time_and_growth_decide(total: int, seconds: float, told: list[int]) -> None:
    throttle = Throttle()
    passed = []
    for step in range(1, total + 1):
        throttle.now += seconds
        if throttle.passes(step, total, preview=False):
            passed.append(step)
    assert passed == told


def test_a_preview_passes_and_a_bar_of_nothing_does() -> None:
    throttle = Throttle()
    assert all(throttle.passes(step, 100, preview=True) for step in range(1, 100))
    assert not throttle.passes(99, 100, preview=False)
    assert throttle.passes(0, 0, preview=False)
