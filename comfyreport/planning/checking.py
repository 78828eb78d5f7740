"""All runs of a plan are checked before one is submitted: against their workflows, and what a server declares.

Many runs share what is set in them, so that what was checked once isn't again: a place is looked for once a workflow,
a value once a place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from comfyreport.errors import UsageError
from comfyreport.files import STDOUT, descriptor_of
from comfyreport.inputs.checking import Ask, checked
from comfyreport.inputs.local_files import KINDS, Kind, look_at, parse_given
from comfyreport.inputs.uploads import plan_uploads
from comfyreport.jobs.converting import no_conversion
from comfyreport.jobs.workflow import load_workflow
from comfyreport.planning.columns import FILE_NAMES, MAX_SHOWN
from comfyreport.planning.grids import Axis
from comfyreport.planning.plan import Plan, PlannedRun
from comfyreport.planning.prompts_file import Row, Rows
from comfyreport.planning.source import Source, overlap, sets_inputs
from comfyreport.saving.clashes import check_clashes
from comfyreport.saving.template import read_output
from comfyreport.text import printable
from comfyreport.workflow.files import Workflow
from comfyreport.workflow.graph import Target
from comfyreport.workflow.names import NAMES
from comfyreport.workflow.settings import Setting, find_settings

_FLAG = re.compile(rf"--(set|{'|'.join(FILE_NAMES)}):? ")
_SAME_FOR_ALL = tuple(name for name in NAMES if name not in ("size", "steps"))
"""Short names that set what they set whatever the value is, so that one value tells of all."""


def check_plan(plan: Plan, folder: str) -> None:
    """Check all runs against their workflows, and the files for loaders.

    Raises UsageError, or WorkflowError, where one can't be made: bad rows by their numbers, an axis by its name.

    :param folder: where relative paths start.
    """
    if len(plan) > 1 and plan.parts.output is not None:
        _check_output(plan.parts.output)
    checks = _Checks(plan)
    checks.names()
    checks.values(lambda source, name, value: _check_value(source, name, value, folder))
    checks.runs(lambda run: _check_run(run, folder))


def check_outputs(runs: Sequence[PlannedRun], folder: str, *, strict: bool) -> None:
    """UsageError where two of *runs*, all that a command makes, would write one file.

    :param folder: where relative paths start; none: the current one.
    :param strict: several servers choose names, and what is there is replaced (see `check_clashes`).
    """
    if len(runs) > 1:
        check_clashes(((run.index, run.output, _seed_in_name(run)) for run in runs), folder=folder, strict=strict)


def _seed_in_name(run: PlannedRun) -> int | None:
    """The seed of a run, where a name is made of it."""
    if run.output is None or "{seed" not in os.fspath(run.output):
        return None
    return load_workflow(run.loaded, "", run.settings, no_conversion).seed()


def check_with_server(plan: Plan, ask: Ask) -> None:
    """Check what is set in all runs against what a server declares. `check_plan` comes first.

    Raises UsageError where a value doesn't fit, or isn't among those that can be chosen.

    :param ask: what the server declares of a class's inputs; None where it doesn't tell, which is left to it.
    """
    checks = _Checks(plan)
    checks.values(lambda source, name, value: _check_declared(source, name, value, ask))
    checks.runs(lambda run: _set_in(run, ask))


class _Part(NamedTuple):
    """One thing that a row sets in a workflow."""

    source: Source
    row: Row
    name: str
    value: Any


class _Checks:
    """Looks at all that differs in a plan, each once, and tells what is wrong with rows by their numbers."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._rows = plan.parts.rows
        self._axes = tuple(axis.name for axis in plan.parts.axes)

    def names(self) -> None:
        """Find what all names set, in each workflow; UsageError where that isn't clear, or two set the same."""
        for source, row, _ in self._shapes():
            columns = () if row is None else row.names
            for name in filter(sets_inputs, (*columns, *self._axes)):
                try:
                    source.setter(name)
                except UsageError as error:
                    raise self._named(error, source, row if name in columns else None, name) from error
            found = overlap(source, (*columns, *self._axes))
            if found is not None:
                raise self._named(_both_set(source, *found), source, row)

    def runs(self, check: Callable[[PlannedRun], None]) -> None:
        """Call *check* for one run, the last repetition, of each workflow with each set of names that is set in it."""
        for source, row, number in self._shapes():
            try:
                check(self._plan[number * self._plan.runs_of_pair + self._plan.parts.repeat - 1])
            except UsageError as error:
                raise self._named(error, source, row) from error

    def _shapes(self) -> Iterator[tuple[Source, Row | None, int]]:
        """The first pair of each workflow with each set of names, with its number."""
        seen: set[tuple[Source, tuple[str, ...]]] = set()
        for number in range(self._plan.pairs):
            source, row = self._plan.pair(number)
            shape = source, () if row is None else row.names
            if shape not in seen:
                seen.add(shape)
                yield source, row, number

    def values(self, check: Callable[[Source, str, Any], None]) -> None:
        """Call *check* for each value under each name in each workflow, each once."""
        for axis, source in self._varied():
            for value in dict.fromkeys(axis.values):
                try:
                    check(source, axis.name, value)
                except UsageError as error:
                    raise self._named(error, source, None, axis.name) from error
        if self._rows is not None:
            self._row_values(self._rows, check)

    def _row_values(self, rows: Rows, check: Callable[[Source, str, Any], None]) -> None:
        faults = rows.faults()
        fine: set[tuple[int, str, Any]] = set()
        for part in self._of_rows():
            key = _key(part)
            if key is not None and key in fine:
                continue
            try:
                check(part.source, part.name, part.value)
                if key is not None:
                    fine.add(key)
            except UsageError as error:
                faults.add(rows.where(part.row), _about(part.name, error), error.hint)
        faults.raise_any()

    def _varied(self) -> Iterator[tuple[Axis, Source]]:
        """Each axis with each workflow that has runs."""
        used = dict.fromkeys(self._plan.pair(number)[0] for number in range(self._plan.pairs))
        for axis in self._plan.parts.axes:
            for source in used:
                yield axis, source

    def _of_rows(self) -> Iterator[_Part]:
        for number in range(self._plan.pairs):
            source, row = self._plan.pair(number)
            assert row is not None
            for name, value in zip(row.names, row.values, strict=True):
                yield _Part(source, row, name, value)

    def _named(self, error: UsageError, source: Source, row: Row | None, name: str = "") -> UsageError:
        """*error* with what was set: the row or the axis, by *name*, and the workflow where there are several."""
        message = _about(name, error) if name or row is not None else error.message
        if row is not None and self._rows is not None:
            message = f"{self._rows.shown}, {self._rows.where(row)}: {message}"
        elif name:
            message = f"--grid {message}"
        if len(self._plan.parts.sources) > 1 and source.shown and source.shown not in message:
            first, *others = message.split("\n")
            message = "\n".join([f"{first.removesuffix(':')} (in {printable(source.shown, 200)})", *others])
        return type(error)(message, hint=error.hint)


def _both_set(source: Source, first: str, second: str, target: Target) -> UsageError:
    names = [printable(each, MAX_SHOWN) for each in (first, second, f"{target.node}.{target.name}")]
    return UsageError(f"{names[0]} and {names[1]} both set {names[2]}{source.where}", hint="leave one of them out")


def _key(part: _Part) -> tuple[int, str, Any] | None:
    """What is the same for parts that are checked alike; None where the value is no key."""
    try:
        hash(part.value)
    except TypeError:
        return None
    # True is 1, and 1.0 too.
    value = part.value if isinstance(part.value, str) else (type(part.value), part.value)
    return id(part.source), part.name, value


def _about(name: str, error: UsageError) -> str:
    """*error*'s message for what was set under *name*, not by the flag that it speaks of."""
    message = _FLAG.sub("", error.message, count=1)
    shown = printable(name, MAX_SHOWN)
    return f"{shown}: {message}" if shown and not message.startswith(f"{shown} ") else message


# --- against the workflow


def _check_run(run: PlannedRun, folder: str) -> None:
    plan_uploads(_applied(run), run.files, folder)


def _applied(run: PlannedRun) -> Workflow:
    loaded = run.loaded
    return loaded.with_settings(find_settings(loaded.graph, run.settings, _no_file, loaded.editor_nodes))


def _no_file(path: str) -> str:
    raise AssertionError(f"{path} was to be read when the plan was made")


def _check_value(source: Source, name: str, value: Any, folder: str) -> None:
    if name in FILE_NAMES:
        given = parse_given(_kind(name), value)
        look_at(given, folder)
        source.loader(given.kind, given.node)
    elif name == "output":
        _check_output(value)
    elif name not in _SAME_FOR_ALL and sets_inputs(name):
        source.setter(name)(value)


def _check_output(output: str | os.PathLike[str]) -> None:
    """UsageError where *output* is no template that is understood, or takes what one run makes alone."""
    try:
        path = read_output(output).path
    except UsageError as error:
        # It may be a cell of somebody's file.
        raise UsageError(printable(error.message, 500), hint=error.hint) from error
    # Where links lead isn't asked: there may be a name for each of very many runs.
    descriptor = STDOUT if path == "-" else descriptor_of(path) if path.startswith(("/dev/", "/proc/")) else None
    if descriptor is not None:
        raise UsageError(
            f"--output {printable(path, MAX_SHOWN)} takes the file of one run alone",
            hint="name a folder, or a template such as 'made/{prompt_id}-{index}.{ext}'",
        )


def _kind(name: str) -> Kind:
    return next(kind for kind in KINDS if kind == name)


# --- against the server


def _set_in(run: PlannedRun, ask: Ask) -> None:
    checked(run.loaded.graph, _applied(run).settings, ask)


def _check_declared(source: Source, name: str, value: Any, ask: Ask) -> None:
    if sets_inputs(name) and not (name == "seed" and isinstance(value, str)):
        settings: dict[Target, Setting] = source.setter(name)(value)
        checked(source.loaded.graph, settings, ask)
