"""What was seen of one node of one run, in the form that is kept. Plain data."""

from __future__ import annotations

import re
from typing import NamedTuple

CLASS_LIMIT = 200
"""Bytes of a node class's name: of a longer one nothing is kept."""

_DIGEST = re.compile(r"[0-9a-f]{1,64}")
_MOST = 1e12
_MOST_SECONDS = 1e7


class Observed(NamedTuple):
    """One node that ran to its end, as `estimates.expected.Duration` has its parts, in seconds.

    `exact` is a hexadecimal digest of all that drives the node's cost, `like` one of its model and sampler alone;
    `units` are pixels times frames times batch, 0 where there are none. `cold`: what it needs was loaded in that run.
    """

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

    @property
    def seconds(self) -> float:
        """The whole."""
        return self.lead + self.step * self.steps + self.tail


def is_sound(observed: Observed) -> bool:
    """Whether all is of its type and within bounds, be it of a run or from a file that says anything."""
    class_type, exact, like, units, cold, *others = observed
    if not (is_name(class_type, CLASS_LIMIT) and cold in (False, True)):
        return False
    for digest in (exact, like):
        if not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
            return False
    # NaN is in no range.
    if not all(isinstance(number, (int, float)) and 0 <= number <= _MOST for number in (units, *others)):
        return False
    return observed.seconds <= _MOST_SECONDS


def is_name(text: object, limit: int) -> bool:
    """Whether *text* is one, can be encoded, and has at most *limit* bytes."""
    try:
        return isinstance(text, str) and 0 < len(text.encode()) <= limit
    except UnicodeEncodeError:
        return False
