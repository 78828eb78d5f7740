"""What viewers of Chrome's trace events need of a file, and what they show of it."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from typing import Any

from comfyreport.text import is_safe

_PHASES = {"M", "X", "i", "C"}


class TraceFile:
    """A trace file, checked: the tracks with their slices and instants, and the counters, by name.

    Times are in seconds. With several runs the names of tracks and counters begin with the run's.
    """

    def __init__(self, text: str) -> None:
        whole = json.loads(text, parse_constant=_refuse)
        assert set(whole) == {"traceEvents", "displayTimeUnit", "otherData"}
        assert whole["displayTimeUnit"] in ("ms", "ns")
        self.about: dict[str, Any] = whole["otherData"]
        self.events: list[dict[str, Any]] = whole["traceEvents"]
        for event in self.events:
            _check(event)
        self.processes = {e["pid"]: e["args"]["name"] for e in self.events if e["name"] == "process_name"}
        self._threads = {
            (e["pid"], e["tid"]): e["args"]["name"] for e in self.events if e["name"] == "thread_name"
        }  # fmt: skip
        assert len(set(self._threads)) == len(self._threads)
        self.slices: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.instants: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.counters: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for event in self.events:
            self._sort(event)
        for name, slices in self.slices.items():
            _check_nesting(name, slices)

    def _sort(self, event: dict[str, Any]) -> None:
        several = len(self.processes) > 1
        lead = f"{self.processes[event['pid']]}: " if several else ""
        if event["ph"] == "C":
            self.counters[lead + event["name"]].append((event["ts"] / 1e6, event["args"]["value"]))
        elif event["ph"] != "M":
            kind = self.slices if event["ph"] == "X" else self.instants
            kind[lead + self._threads[event["pid"], event["tid"]]].append(event)

    def names(self, track: str, category: str | None = None) -> list[str]:
        """The names of the slices of a track, in order of their start, a slice before those in it."""
        found = [e for e in self.slices[track] if category in (None, e["cat"])]
        return [e["name"] for e in sorted(found, key=lambda e: (e["ts"], -e["dur"]))]

    def of(self, category: str) -> list[dict[str, Any]]:
        """All slices of a category."""
        return [e for e in self.events if e["ph"] == "X" and e["cat"] == category]


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def _check(event: dict[str, Any]) -> None:
    assert event["ph"] in _PHASES
    assert type(event["pid"]) is int
    assert type(event["tid"]) is int
    assert isinstance(event["name"], str)
    assert all(map(is_safe, event["name"]))
    assert all(map(is_safe, "".join(value for value in event["args"].values() if isinstance(value, str))))
    if event["ph"] != "M":
        assert type(event["ts"]) is int
        assert event["ts"] >= 0
    if event["ph"] == "X":
        assert type(event["dur"]) is int
        assert event["dur"] >= 0
        assert event["cat"]
    if event["ph"] == "i":
        assert event["s"] in ("g", "p", "t")
    if event["ph"] == "C":
        assert all(type(value) in (int, float) for value in event["args"].values())


def _check_nesting(name: str, slices: list[dict[str, Any]]) -> None:
    """Slices of a track lie side by side or in one another; viewers draw others wrongly."""
    spans = [(e["ts"], e["ts"] + e["dur"]) for e in slices]
    open_: list[tuple[int, int]] = []
    for begin, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        while open_ and open_[-1][1] <= begin:
            open_.pop()
        assert not open_ or end <= open_[-1][1], f"{name}: {(begin, end)} and {open_[-1]} overlap"
        open_.append((begin, end))


def overlap(slices: list[dict[str, Any]]) -> bool:
    """Whether any of *slices* were at the same time."""
    ordered = sorted(slices, key=lambda e: e["ts"])
    return any(later["ts"] < earlier["ts"] + earlier["dur"] for earlier, later in itertools.pairwise(ordered))
