"""A plan: the runs of one command, each made when it is asked for, so that a hundred thousand take little memory."""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any, overload

from comfyreport.access.secret_keys import hide
from comfyreport.inputs.local_files import KINDS, Given, parse_given
from comfyreport.planning.grids import Axis
from comfyreport.planning.prompts_file import Row, Rows
from comfyreport.planning.source import File, Source, sets_inputs
from comfyreport.workflow.files import Workflow
from comfyreport.workflow.graph import Target
from comfyreport.workflow.names import NAMES
from comfyreport.workflow.settings import MAX_SEED, Settings


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What runs are asked for: *workflows*, each with all rows of *prompts*, all values of *grid*, *repeat* times.

    `settings`, `files` and `output` hold for all runs in which nothing else is set. `grid` are texts `NAME=VALUES`;
    `prompts` is the file of rows, `-` for stdin, or None. A row may name its own workflow.
    """

    workflows: tuple[File, ...] = ()
    settings: Settings = field(default_factory=Settings)
    files: tuple[Given, ...] = ()
    output: str | os.PathLike[str] | None = None
    repeat: int = 1
    grid: tuple[str, ...] = ()
    prompts: str | None = None


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run of a plan; `index` counts from 1.

    `workflow` is as it was named, and `loaded` what it holds: read once for all its runs, nothing set yet. `settings`
    and `files` are all that is set in this run, `inputs` what tells it from the others, by name, for people: without
    secrets. `model` is what it loads as its main models: runs of one model are best made by one server; empty where it
    isn't known.
    """

    index: int
    workflow: File
    loaded: Workflow
    settings: Settings
    files: tuple[Given, ...]
    output: str | os.PathLike[str] | None
    inputs: tuple[tuple[str, str], ...]
    model: str


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a plan is made of. The first *named* of the *sources* are those of the flags, the others are of rows.

    `own`: the source of each row that names one, by the row's place.
    """

    sources: tuple[Source, ...]
    named: int
    rows: Rows | None
    own: Mapping[int, int]
    axes: tuple[Axis, ...]
    repeat: int
    files: tuple[Given, ...]
    output: str | os.PathLike[str] | None


class Plan(Sequence[PlannedRun]):
    """The runs of a command: for each workflow, each row, each combination of the grid, each repetition.

    A run is made when it is asked for. The same plan with the same entropy has the same runs, drawn seeds included.

    :param fingerprint: the SHA-256, in hexadecimal, of all that decides what the runs are, but for the entropy.
    :param entropy: what random seeds are made from.
    """

    def __init__(self, parts: Parts, fingerprint: str, entropy: int) -> None:
        self.parts = parts
        self.fingerprint = fingerprint
        self.entropy = entropy
        self._combinations = prod(len(axis.values) for axis in parts.axes)
        self._axis_names = tuple(axis.name for axis in parts.axes)

    @property
    def size(self) -> int:
        """How many runs there are, also where that is more than a sequence may have."""
        return self.pairs * self.runs_of_pair

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> PlannedRun: ...

    @overload
    def __getitem__(self, index: slice) -> list[PlannedRun]: ...

    def __getitem__(self, index: int | slice) -> PlannedRun | list[PlannedRun]:
        if isinstance(index, slice):
            return [self._run(each) for each in range(len(self))[index]]
        return self._run(range(len(self))[index])

    @property
    def runs_of_pair(self) -> int:
        """How many runs there are of one workflow with one row."""
        return self._combinations * self.parts.repeat

    @property
    def pairs(self) -> int:
        """How many pairs there are of a workflow with a row, or workflows where there are no rows."""
        if self.parts.rows is None:
            return self.parts.named
        return len(self.parts.rows.rows) + max(self.parts.named - 1, 0) * len(self._free)

    def pair(self, number: int) -> tuple[Source, Row | None]:
        """A workflow and a row; *number* counts from 0. Rows with a workflow of their own come once, with the first."""
        sources, rows, own = self.parts.sources, self.parts.rows, self.parts.own
        if rows is None:
            return sources[number], None
        if number < len(rows.rows):
            return sources[own.get(number, 0)], rows.rows[number]
        later, place = divmod(number - len(rows.rows), len(self._free))
        return sources[later + 1], rows.rows[self._free[place]]

    @cached_property
    def _free(self) -> array[int]:
        """The rows that are for each workflow, by their places."""
        rows = () if self.parts.rows is None else self.parts.rows.rows
        return array("L", (place for place in range(len(rows)) if place not in self.parts.own))

    def _run(self, place: int) -> PlannedRun:
        pair, rest = divmod(place, self.runs_of_pair)
        combination, repetition = divmod(rest, self.parts.repeat)
        source, row = self.pair(pair)
        values = dict(self._values(row, combination))
        names, given = tuple(values), _given(values)
        loaded = frozenset(at for each in given if (at := source.loader(each.kind, each.node)) is not None)
        settings = _set(source.settings(names, loaded), values)
        drawn = settings.seed == "random"
        if drawn:
            settings = replace(settings, seed=draw_seed(self.entropy, place))
        settings = source.repeated(settings, repetition)
        seeds = source.seeds(settings) if self.parts.repeat > 1 or drawn else {}
        return PlannedRun(
            index=place + 1,
            workflow=source.named,
            loaded=source.loaded,
            settings=settings,
            files=(*self._files(source, names, given, loaded), *given),
            output=values.get("output", self.parts.output),
            inputs=tuple(self._told(source, values, seeds)),
            model=source.model(settings),
        )

    def _values(self, row: Row | None, combination: int) -> Iterator[tuple[str, Any]]:
        """What the row and the grid set, by name; the last axis varies fastest."""
        if row is not None:
            yield from zip(row.names, row.values, strict=True)
        left = self._combinations
        for axis in self.parts.axes:
            left //= len(axis.values)
            yield axis.name, axis.values[combination // left % len(axis.values)]

    def _files(
        self, source: Source, names: tuple[str, ...], given: Sequence[Given], loaded: frozenset[Target]
    ) -> Iterator[Given]:
        """The files of the flags for loaders that nothing else is set for: neither a file, nor by *names*."""
        named = {(each.kind, each.node) for each in given}
        for each in self.parts.files:
            target = source.loader(each.kind, each.node)
            if (each.kind, each.node) not in named and target not in loaded and target not in source.set_by(names):
                yield each

    def _told(self, source: Source, values: Mapping[str, Any], seeds: Mapping[str, int]) -> Iterator[tuple[str, str]]:
        if len(self.parts.sources) > 1 and "workflow" not in values:
            yield "workflow", source.shown or f"workflow {self.parts.sources.index(source) + 1}"
        for name, value in values.items():
            if name not in seeds:
                yield name, _shown(name, value)
        for name, seed in seeds.items():
            yield name, str(seed)


def draw_seed(entropy: int, place: int) -> int:
    """The seed of the run at *place*, from 0, where it is to be random: always the same one for the same entropy."""
    digest = hashlib.sha256(f"{entropy}:{place}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % (MAX_SEED + 1)


def _set(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """*settings* with what a row and the grid set, which beats it."""
    short = {name: value for name, value in values.items() if name in NAMES}
    inputs = {name: value for name, value in values.items() if name not in NAMES and sets_inputs(name)}
    return replace(settings, **short, inputs={**settings.inputs, **inputs}) if short or inputs else settings


def _given(values: Mapping[str, Any]) -> list[Given]:
    """The files for loaders of a row and the grid."""
    return [parse_given(kind, values[kind]) for kind in KINDS if kind in values]


def _shown(name: str, value: Any) -> str:
    """*value* as text, without what is secret."""
    if name == "size":
        return "x".join(map(str, value))
    input_name = name.rpartition(".")[2]
    value = hide({input_name: value})[input_name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
