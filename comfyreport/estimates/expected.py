"""What is expected of a run's nodes before they run, and what was seen of them behind it. Plain data."""

from __future__ import annotations

from typing import Literal, NamedTuple

Basis = Literal["history", "similar", "prior"]


class Duration(NamedTuple):
    """How long a node is expected to run, in seconds: `lead` before its first step, `step` for each, `tail` behind.

    `steps` are those of all its passes, of which there are `passes`; a node without a bar has only a `tail`. `spread`:
    the standard deviation as a part of the whole. `basis`: this very node with these very inputs has run on this
    server, or its like has, or nothing was learned.
    """

    lead: float
    step: float
    steps: float
    tail: float
    spread: float
    basis: Basis
    passes: float = 1.0

    @property
    def seconds(self) -> float:
        """The whole."""
        return self.lead + self.step * self.steps + self.tail


class Expected(NamedTuple):
    """What is expected of one node: `cold` where one of the `loaders` above it runs too, else `warm`.

    `above`: the nodes that feed it. `paced`: it is faster on a server that is faster at other nodes; reading a model
    from a disk isn't.
    """

    cold: Duration
    warm: Duration
    loaders: frozenset[str] = frozenset()
    paced: bool = True
    above: tuple[str, ...] = ()


class Observation(NamedTuple):
    """What was seen of one node that ran to its end; as `Duration` has it, and whether it was cold."""

    node: str
    cold: bool
    lead: float
    step: float
    steps: float
    tail: float
    passes: float = 1.0
