"""How far what was told was from what came true, for one run and as means of several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from tests.benchmarks.estimates.baselines import NAMES
from tests.benchmarks.estimates.playing import Line, Played


class Pair(NamedTuple):
    """How far a baseline is off, and how far ours is over the same lines: those on which both tell something."""

    theirs: float
    ours: float


class Figures(NamedTuple):
    """Parts of the run's whole time, None where there is nothing to take a mean of.

    `off`: mean of |told - true| of the remaining time. `inside`: lines whose truth was in the range. `fraction` and
    `counted`: mean distance of ours, and of the counted part of the nodes, from the true part of the time. `lines` are
    all, `told` those with a remaining time.
    """

    lines: int
    told: int
    off: float | None
    inside: float | None
    fraction: float | None
    counted: float | None
    baselines: tuple[Pair | None, ...]


def measure(played: Played) -> Figures:
    """The figures of one run."""
    total = played.seconds
    lines = [line for line in played.lines if line.elapsed <= total]
    told = [line for line in lines if line.remaining is not None]
    return Figures(
        len(lines),
        len(told),
        _mean(_off(line, line.remaining, total) for line in told),
        _mean(float(_inside(line, total)) for line in told),
        _mean(abs(line.fraction - line.elapsed / total) for line in lines),
        _mean(abs(line.guesses.counted - line.elapsed / total) for line in lines),
        tuple(_pair(told, number, total) for number in range(len(NAMES))),
    )


def mean(figures: Sequence[Figures]) -> Figures:
    """Means over runs, each of which counts alike; lines are added up."""
    pairs = [[each.baselines[number] for each in figures] for number in range(len(NAMES))]
    return Figures(
        sum(each.lines for each in figures),
        sum(each.told for each in figures),
        _mean(each.off for each in figures),
        pooled_inside(figures),
        _mean(each.fraction for each in figures),
        _mean(each.counted for each in figures),
        tuple(_mean_pair([pair for pair in column if pair is not None]) for column in pairs),
    )


def pooled_inside(figures: Sequence[Figures]) -> float | None:
    """The part of all lines whose truth was in the range: each line counts alike."""
    told = sum(each.told for each in figures)
    return sum((each.inside or 0.0) * each.told for each in figures) / told if told else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _mean_pair(pairs: list[Pair]) -> Pair | None:
    return Pair(fmean(pair.theirs for pair in pairs), fmean(pair.ours for pair in pairs)) if pairs else None


def _off(line: Line, told: float | None, total: float) -> float | None:
    return None if told is None else abs(told - (total - line.elapsed)) / total


def _inside(line: Line, total: float) -> bool:
    return line.low is not None and line.high is not None and line.low <= total - line.elapsed <= line.high


def _pair(told: list[Line], number: int, total: float) -> Pair | None:
    both = [line for line in told if line.guesses.remaining()[number] is not None]
    theirs = _mean(_off(line, line.guesses.remaining()[number], total) for line in both)
    ours = _mean(_off(line, line.remaining, total) for line in both)
    return None if theirs is None or ours is None else Pair(theirs, ours)
