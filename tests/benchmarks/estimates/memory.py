"""What is remembered from run to run: two functions, so that the benchmark knows nothing of how it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from comfyreport.run.expected import Expected, Observation
from tests.benchmarks.estimates.playing import Graph


class Memory(NamedTuple):
    """`expect` tells what is expected of a graph's nodes, `learn` takes in what was seen of one run of it."""

    expect: Callable[[Graph], Mapping[str, Expected] | None]
    learn: Callable[[Graph, Sequence[Observation]], None]


def nothing() -> Memory:
    """Remembers nothing: each run is a first one, to which not even priors are known."""
    return Memory(lambda graph: None, lambda graph, seen: None)


def remembering() -> Memory:
    """What the core learns; nothing as long as it learns nothing."""
    return nothing()
