"""The nodes of a run that haven't begun, as sums: what is asked of them costs the same however many they are. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, get_args

from comfyreport.estimates.expected import Duration

# Standard deviation of a node's time beside that of others of its class in the same run, as a part of the whole.
_CLASS_SPREAD = 0.3


class Sums(NamedTuple):
    """What waits, in seconds, its variance, and which of it rests on which basis."""

    seconds: float = 0.0
    variance: float = 0.0
    history: float = 0.0
    similar: float = 0.0


class Pending:
    """Sums over waiting nodes of one sort, in seconds; all of them may be scaled."""

    __slots__ = ("count", "history", "seconds", "similar", "variance")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self.count = 0
        self.seconds = self.variance = self.history = self.similar = 0.0

    def change(self, duration: Duration, sign: int) -> None:
        """Add a node (*sign* 1) or take it out (-1)."""
        seconds = sign * duration.seconds
        self.seconds += seconds
        self.variance += seconds * duration.seconds * duration.spread**2
        if duration.basis == "history":
            self.history += seconds
        elif duration.basis == "similar":
            self.similar += seconds
        self.count += sign
        self._forget_rounding()

    def take_out(self, other: Pending) -> None:
        """Take all nodes of *other* out."""
        self.seconds -= other.seconds
        self.variance -= other.variance
        self.history -= other.history
        self.similar -= other.similar
        self.count -= other.count
        self._forget_rounding()

    def _forget_rounding(self) -> None:
        if self.count == 0:
            # What rounding left goes with the last one.
            self.clear()

    def scaled(self, pace: float) -> Sums:
        """The sums where all takes *pace* times as long."""
        # Of small terms beside large ones rounding may have left less than nothing.
        sums = (pace * self.seconds, pace**2 * self.variance, pace * self.history, pace * self.similar)
        return Sums(*(max(0.0, each) for each in sums))


Sort = Literal["learned", "steps", "rest", "fixed"]
"""What nodes have in common whose expected times are scaled alike: learned ones; of the others those with steps and
the rest; and those that don't follow the server's pace."""


def sort_of(duration: Duration, *, paced: bool) -> Sort:
    """The sort of a node."""
    if not paced:
        return "fixed"
    if duration.basis != "prior":
        return "learned"
    return "steps" if duration.step else "rest"


class _Class:
    """The nodes of one class of which nothing was learned: those that wait, and what those took that have run."""

    __slots__ = ("actual", "pending", "planned", "sort")

    def __init__(self, sort: Sort) -> None:
        self.pending = Pending()
        self.sort = sort
        self.actual = self.planned = 0.0


class Waiting:
    """All waiting nodes of a run, by their sort.

    Where nothing was learned of a class, the first of its nodes that ends tells what to expect of the others.
    """

    def __init__(self) -> None:
        self._sorts: dict[Sort, Pending] = {sort: Pending() for sort in get_args(Sort)}
        self._classes: dict[str, _Class] = {}
        self._shown: dict[str, _Class] = {}

    def clear(self) -> None:
        """Forget all that waits."""
        for pending in self._sorts.values():
            pending.clear()
        for each in self._classes.values():
            each.pending.clear()

    def change(self, class_type: str, duration: Duration, sign: int, *, paced: bool) -> None:
        """A node waits (*sign* 1), or no longer (-1)."""
        sort, learned = sort_of(duration, paced=paced), duration.basis != "prior"
        if not learned:
            self._class(class_type, sort).pending.change(duration, sign)
        if learned or class_type not in self._shown:
            self._sorts[sort].change(duration, sign)

    def ran(self, class_type: str, seconds: float, duration: Duration, *, paced: bool) -> None:
        """A node of which nothing was learned took *seconds* where *duration* was expected."""
        if duration.seconds <= 0:
            return
        of_class = self._class(class_type, sort_of(duration, paced=paced))
        of_class.actual += seconds
        of_class.planned += duration.seconds
        if class_type not in self._shown:
            self._shown[class_type] = of_class
            self._sorts[of_class.sort].take_out(of_class.pending)

    def _class(self, class_type: str, sort: Sort) -> _Class:
        found = self._classes.get(class_type)
        if found is None:
            found = self._classes[class_type] = _Class(sort)
        return found

    def planned(self, *sorts: Sort) -> float:
        """Seconds that are expected of these sorts."""
        return sum(max(0.0, self._sorts[sort].seconds) for sort in sorts)

    def sums(self, paces: Mapping[Sort, float]) -> Iterator[Sums]:
        """What waits; *paces*: how long each sort takes beside what was expected, 1 where it isn't said."""
        for sort, pending in self._sorts.items():
            if pending.count:
                yield pending.scaled(paces.get(sort, 1.0))
        for each in self._shown.values():
            if each.pending.count:
                seconds = max(0.0, each.pending.seconds) * each.actual / each.planned
                yield Sums(seconds, (_CLASS_SPREAD * seconds) ** 2)
