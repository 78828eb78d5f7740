"""Runs of invented nodes and times, to be asked how long they still take."""

from __future__ import annotations

from comfyreport.estimates.estimator import Estimate
from comfyreport.estimates.expected import Basis, Duration, Expected
from comfyreport.events import NodeRef
from comfyreport.run.nodes import Node, Nodes


def duration(
    seconds: float = 0.0,
    *,
    lead: float = 0.0,
    step: float = 0.0,
    steps: float = 0.0,
    spread: float = 0.1,
    basis: Basis = "history",
    passes: float = 1.0,
) -> Duration:
    """A duration; *seconds* is what it takes behind its last step."""
    return Duration(lead, step, steps, seconds, spread, basis, passes)


def expected(warm: Duration, cold: Duration | None = None, *loaders: str, paced: bool = True) -> Expected:
    """What is expected of a node, the same cold as warm unless it is said."""
    return Expected(warm if cold is None else cold, warm, frozenset(loaders), paced)


class TimedRun:
    """A run of nodes, called by their ids, that begin, move and end at times that the test chooses."""

    def __init__(self, **nodes: Expected) -> None:
        self.nodes = Nodes([NodeRef(id=name, class_type=name) for name in nodes])
        self.nodes.expect(nodes)
        self._running: dict[str, Node] = {}

    def start(self, name: str, at: float, *, seen: bool = True) -> None:
        """A node begins, or is first heard of."""
        self._running[name] = self.nodes.start(name, at, start_seen=seen)

    def stop(self, name: str, at: float) -> None:
        """A node ends."""
        self.nodes.stop(self._running.pop(name), at)

    def step(self, name: str, value: float, maximum: float, at: float) -> None:
        """The node's bar moves."""
        self._running[name].observe(name, value, maximum, at)

    def left(self, at: float) -> float:
        """Seconds that are told to be left."""
        return self.estimate(at).seconds

    def estimate(self, at: float) -> Estimate:
        """What is told."""
        found = self.nodes.estimate(at)
        assert found is not None
        return found

    def fraction(self, at: float) -> float:
        """The part that is told to be done."""
        self.nodes.estimate(at)
        return self.nodes.fraction
