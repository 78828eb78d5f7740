"""What the estimates have to reach, by group of runs: one table, printed and asserted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from tests.benchmarks.estimates.figures import Figures

SLACK = 0.0005
"""Half a unit of what is printed: ours is worse than a baseline only where that can be seen."""


class Target(NamedTuple):
    """What one group has to reach."""

    group: str
    what: str
    reached: Callable[[Figures], bool]


def _off(most: float) -> Callable[[Figures], bool]:
    return lambda figures: figures.off is not None and figures.off <= most


def _fraction(most: float) -> Callable[[Figures], bool]:
    return lambda figures: figures.fraction is not None and figures.fraction <= most


def _inside(least: float, most: float) -> Callable[[Figures], bool]:
    return lambda figures: figures.inside is not None and least <= figures.inside <= most


def _no_worse_than_baselines(figures: Figures) -> bool:
    return all(pair is None or pair.ours <= pair.theirs + SLACK for pair in figures.baselines)


def _no_worse_than_counting(figures: Figures) -> bool:
    return figures.fraction is None or figures.counted is None or figures.fraction <= figures.counted + SLACK


TARGETS = (
    Target("first", "remaining time: never worse than the best baseline", _no_worse_than_baselines),
    Target("first", "fraction: at most 15 points off", _fraction(0.15)),
    Target("first", "fraction: never worse than counting nodes", _no_worse_than_counting),
    Target("repeat", "remaining time: at most 15 % off", _off(0.15)),
    Target("warm", "remaining time: at most 8 % off", _off(0.08)),
    Target("warm", "truth inside the range: 75 to 90 % of lines", _inside(0.75, 0.90)),
    Target("warm", "fraction: at most 5 points off", _fraction(0.05)),
)


def judged(groups: Mapping[str, Figures]) -> Iterator[tuple[Target, bool]]:
    """Each target of a group that there is, and whether it is reached."""
    for target in TARGETS:
        if target.group in groups:
            yield target, target.reached(groups[target.group])
