"""What is remembered from run to run: two functions, so that the benchmark knows nothing of how it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from comfyreport.estimates.expected import Expected, Observation
from comfyreport.learning.expecting import expectations
from comfyreport.learning.features import features_of, observed
from comfyreport.learning.observed import Observed
from tests.benchmarks.estimates.playing import Graph


class Memory(NamedTuple):
    """`expect` tells what is expected of a graph's nodes, `learn` takes in what was seen of one run of it."""

    expect: Callable[[Graph], Mapping[str, Expected] | None]
    learn: Callable[[Graph, Sequence[Observation]], None]


def nothing() -> Memory:
    """Remembers nothing: each run is a first one, to which not even sizes are known."""
    return Memory(lambda graph: None, lambda graph, seen: None)


def remembering() -> Memory:
    """What the core learns, kept in a list in place of its store."""
    known: list[Observed] = []

    def learn(graph: Graph, seen: Sequence[Observation]) -> None:
        known[:0] = reversed(list(observed(features_of(graph), seen)))

    return Memory(lambda graph: expectations(features_of(graph), known), learn)
