"""What is expected of a workflow's nodes, from what was seen of them and their like. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median, median_low

from comfyreport.estimates.expected import Basis, Duration, Expected
from comfyreport.estimates.priors import LOADER, kind_of, prior
from comfyreport.learning.features import Features
from comfyreport.learning.observed import Observed

# Of the same node with the same inputs the newest few tell most: servers change.
_NEWEST = 5
# Standard deviations as a part of the whole, before there are several observations to tell.
_EXACT_SPREAD = 0.1
_SIMILAR_SPREAD = 0.25
_CLASS_SPREAD = 0.5
# Nodes that are alike are asked for what the newest few of them took.
_MOST_ALIKE = 16
# How many observations the first of them weighs.
_SPREAD_WEIGHT = 5.0
# What a node takes once its models are loaded, as a part of what it took while they were: where only that was seen.
_WARM_TAIL = 0.9
_WARM_SPREAD = 0.3


def expectations(features: Mapping[str, Features], observed: Sequence[Observed]) -> dict[str, Expected]:
    """What is expected of each node; *observed*: of this server, the newest first."""
    known = _Known(observed)
    return {
        node_id: Expected(
            known.duration(each, cold=True),
            known.duration(each, cold=False),
            each.loaders,
            paced=kind_of(each.class_type) is not LOADER,
            above=each.above,
        )
        for node_id, each in features.items()
    }


class _Known:
    """What was seen, by what it is asked for. Nodes that differ in nothing that counts are looked at once."""

    def __init__(self, observed: Sequence[Observed]) -> None:
        self._by_exact, self._by_like, self._by_class = (defaultdict[str, list[Observed]](list) for _ in range(3))
        for each in observed:
            self._by_exact[each.exact].append(each)
            for alike in (self._by_like[each.like], self._by_class[each.class_type]):
                # More of them would say little more, and in a workflow of thousands each node looks at them.
                if len(alike) < _MOST_ALIKE:
                    alike.append(each)
        self._scale = _server_scale(observed)
        self._guesses: dict[tuple[object, ...], Duration] = {}

    def duration(self, features: Features, *, cold: bool) -> Duration:
        """What is expected of a node."""
        exact = self._by_exact.get(features.exact)
        if exact:
            alike = self._by_like[features.like]
            return _from_temperature(features, exact, "history", _EXACT_SPREAD, cold=cold, alike=alike)
        key = (features.class_type, features.like, features.units, features.steps, cold)
        if key not in self._guesses:
            self._guesses[key] = self._guess(features, cold=cold)
        return self._guesses[key]

    def _guess(self, features: Features, *, cold: bool) -> Duration:
        like = self._by_like.get(features.like)
        if like:
            return _from_temperature(features, like, "similar", _SIMILAR_SPREAD, cold=cold)
        others = self._by_class.get(features.class_type)
        if others:
            # With another model or sampler it is a guess that is better than the kind, and no more.
            return _from_temperature(features, others, "prior", _CLASS_SPREAD, cold=cold)
        return prior(features.class_type, steps=features.steps, units=features.units, scale=self._scale)


def _server_scale(observed: Iterable[Observed]) -> float:
    """How slow this server is beside the one of the priors: by the steps that were seen, else 1."""
    scales = []
    for each in observed:
        known = prior(each.class_type, units=each.units)
        if each.step > 0 and known.step > 0:
            scales.append(each.step / known.step)
    return median(scales) if scales else 1.0


def _from_temperature(
    features: Features,
    candidates: Sequence[Observed],
    basis: Basis,
    spread: float,
    *,
    cold: bool,
    alike: Sequence[Observed] = (),
) -> Duration:
    """What is expected where models are loaded first (*cold*) or not; where only the other was seen, a guess by it.

    :param alike: of those of its size one behind the first didn't load the model that they share.
    """
    same = [each for each in candidates if each.cold is cold]
    duration = _duration(features, same or candidates, basis, spread)
    if same:
        return duration
    if cold:
        return duration._replace(spread=max(spread, _CLASS_SPREAD))
    of_size = [each for each in alike if each.units == features.units]
    quickest = min(of_size or candidates, key=lambda each: each.tail)
    tail = _duration(features, [quickest], basis, spread).tail
    return duration._replace(
        lead=min(duration.lead, duration.step), tail=tail * _WARM_TAIL, spread=max(spread, _WARM_SPREAD)
    )


def _duration(features: Features, rows: Sequence[Observed], basis: Basis, spread: float) -> Duration:
    if basis == "history":
        rows = rows[:_NEWEST]
        lead, step, steps, tail, passes = (
            # Of two the smaller: an odd run is one that took longer.
            median_low(values)
            for values in zip(*(_numbers(row) for row in rows), strict=True)
        )
        return Duration(lead, step, steps, tail, _spread_of(rows, spread), basis, passes)
    passes = median(row.passes for row in rows)
    steps = median(row.steps / row.passes for row in rows)
    if steps and features.steps:
        steps = features.steps
    units = features.units if kind_of(features.class_type) is not LOADER else 0.0
    step = _fit([(row.units, row.step) for row in rows], units)
    tail = _fit([(row.units, row.tail) for row in rows], units)
    nearest = min((abs(math.log2(units / row.units)) for row in rows if units >= 1 and row.units >= 1), default=0.0)
    return Duration(
        median(row.lead for row in rows), step, steps * passes, tail, spread * (1.0 + nearest / 2), basis, passes
    )


def _numbers(row: Observed) -> tuple[float, ...]:
    return row.lead, row.step, row.steps, row.tail, row.passes


def _spread_of(rows: Sequence[Observed], spread: float) -> float:
    """The standard deviation of these rows' times as a part of the whole, *spread* where there is one alone."""
    times = [row.seconds for row in rows]
    middle = median(times)
    if middle <= 0:
        return spread
    # One odd run among several is left out of it as it is of the median: absolute deviations, the middle one.
    deviation = 1.4826 * median(abs(time - middle) for time in times) / middle
    count = len(rows) - 1
    return math.sqrt((_SPREAD_WEIGHT * spread**2 + count * deviation**2) / (_SPREAD_WEIGHT + count))


def _fit(pairs: Iterable[tuple[float, float]], units: float) -> float:
    """The value at *units* by pairs of units and value: a fixed part and one that grows with the units.

    What was seen at one size alone is taken to grow with it in proportion.
    """
    pairs = list(pairs)
    by_units: dict[float, list[float]] = {}
    for size, value in pairs:
        if size >= 1:
            by_units.setdefault(size, []).append(value)
    if units < 1 or not by_units:
        return median(value for _, value in pairs)
    sizes = sorted(by_units)
    values = [median(by_units[size]) for size in sizes]
    in_proportion = median(value / size for size, value in zip(sizes, values, strict=True)) * units
    if len(sizes) == 1:
        return in_proportion
    mean_size, mean_value = sum(sizes) / len(sizes), sum(values) / len(values)
    spread = sum((size - mean_size) ** 2 for size in sizes)
    slope = sum((size - mean_size) * (value - mean_value) for size, value in zip(sizes, values, strict=True)) / spread
    fixed = mean_value - slope * mean_size
    if slope < 0:
        return mean_value
    return in_proportion if fixed < 0 else fixed + slope * units
