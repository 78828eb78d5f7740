"""What is remembered of one node that ran."""

from __future__ import annotations

from typing import NamedTuple


class Observed(NamedTuple):
    """One node's time, in seconds, as `Observation` has it, under what drives it, as `Features` has it."""

    class_type: str
    exact: str
    like: str
    units: float
    cold: bool
    lead: float
    step: float
    steps: float
    tail: float
    passes: float = 1.0
