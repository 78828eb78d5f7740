"""Runs that one user makes one after the other, and the figures of each with what was learned before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from comfyreport.recording.player import Recording
from tests.benchmarks.estimates.figures import Figures, mean, measure
from tests.benchmarks.estimates.memory import Memory
from tests.benchmarks.estimates.playing import Played, graph_of, play
from tests.recordings import timings

GROUPS = (*timings.GROUPS, "faster")
"""Those of the recordings, and one of the invented runs."""


class Case(NamedTuple):
    """One run of a series."""

    name: str
    series: str
    group: str
    recording: Recording


class Result(NamedTuple):
    """How one run was estimated."""

    case: Case
    played: Played
    figures: Figures


def recorded() -> list[Case]:
    """The runs that were recorded on a real server."""
    return [Case(entry.name, entry.series, entry.group, entry.load()) for entry in timings.entries()]


def run(cases: Iterable[Case], memory: Callable[[], Memory]) -> list[Result]:
    """Play the runs in their order, each series with a memory of its own."""
    memories: dict[str, Memory] = {}
    results = []
    for case in cases:
        known = memories.setdefault(case.series, memory())
        graph = graph_of(case.recording)
        played = play(case.recording, known.expect(graph))
        known.learn(graph, played.observations)
        results.append(Result(case, played, measure(played)))
    return results


def grouped(results: Iterable[Result]) -> Mapping[str, Figures]:
    """Means over the runs of each group, in the order of `GROUPS`."""
    by_group: dict[str, list[Figures]] = {}
    for result in results:
        by_group.setdefault(result.case.group, []).append(result.figures)
    return {group: mean(by_group[group]) for group in GROUPS if group in by_group}
