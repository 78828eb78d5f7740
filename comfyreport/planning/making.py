"""A plan is made of what was asked for: files are read, the grid and the rows are understood, and all runs counted."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict

from comfyreport.errors import UsageError
from comfyreport.jobs.workflow import MAX_TEXT, decoded, need_one_reader, read_file, stdin_readers
from comfyreport.planning.grids import MAX_VALUES, Axis, parse_grids, reads_stdin
from comfyreport.planning.plan import Parts, Plan, Wanted
from comfyreport.planning.prompts_file import MAX_BYTES, Rows, read_rows
from comfyreport.planning.source import File, Source
from comfyreport.text import printable, text_of
from comfyreport.workflow.files import STDIN, Workflow

Load = Callable[[File], Workflow]
"""Reads a workflow, and converts it where that is needed."""
Read = Callable[[str, int], bytes]
"""What a file holds, `-` being stdin; UsageError where it can't be read, or has more bytes than that."""

_VERSION = 1
"""Of how plans are made: another one makes other runs of the same flags and files."""


def reading(folder: str) -> Read:
    """What reads files, relative ones from *folder* on."""
    return lambda path, limit: read_file(path, folder, limit, hint="name a file that can be read; - is stdin")


def make_plan(wanted: Wanted, *, load: Load, read: Read, entropy: int) -> Plan:
    """The runs that are *wanted*. Files are read, each once; nothing is compared with the workflows yet.

    Raises UsageError, WorkflowError, and what *load* and *read* raise.

    :param entropy: what random seeds are made from.
    """
    _check_readers(wanted)
    texts: dict[str, str] = {}

    def text_of_file(path: str) -> str:
        if path not in texts:
            texts[path] = decoded(read(path, MAX_TEXT), path).removesuffix("\n").removesuffix("\r")
        return texts[path]

    axes = parse_grids(wanted.grid, text_of_file)
    rows = None if wanted.prompts is None else read_rows(wanted.prompts, read(wanted.prompts, MAX_BYTES))
    if rows is not None:
        _check_apart(axes, rows)
    loaded, own = _load_all(wanted, rows, load)
    parts = Parts(
        sources=tuple(Source(named, each, wanted.settings, text_of_file) for named, each in loaded),
        named=len(wanted.workflows),
        rows=rows,
        own=own,
        axes=axes,
        repeat=wanted.repeat,
        files=wanted.files,
        output=wanted.output,
    )
    plan = Plan(parts, _fingerprint(wanted, rows, [each for _, each in loaded], texts), entropy)
    if plan.size > MAX_VALUES:
        raise UsageError(
            f"that makes {plan.size:,} runs, and a command makes at most {MAX_VALUES:,}",
            hint="make several commands of it",
        )
    return plan


def _check_readers(wanted: Wanted) -> None:
    readers = ["--workflow"] * sum(each == STDIN for each in wanted.workflows) + stdin_readers(wanted.settings)
    readers += ["--prompts"] * (wanted.prompts == STDIN) + ["--grid"] * sum(map(reads_stdin, wanted.grid))
    need_one_reader(readers)
    if wanted.repeat < 1:
        raise UsageError(f"--repeat {wanted.repeat} is no whole number from 1", hint="1 makes each run once")


def _check_apart(axes: Iterable[Axis], rows: Rows) -> None:
    columns = {name for row in rows.rows for name in row.names}
    for axis in axes:
        if axis.name in columns:
            raise UsageError(
                f"--grid {printable(axis.name, 60)} and the column {printable(axis.name, 60)} of {rows.shown} set the "
                "same input",
                hint="leave one of them out",
            )


def _load_all(wanted: Wanted, rows: Rows | None, load: Load) -> tuple[list[tuple[File, Workflow]], dict[int, int]]:
    """The workflows, each read once, those of the flags first; and by a row's place the one that it names."""
    loaded: list[tuple[File, Workflow]] = [(named, load(named)) for named in wanted.workflows]
    own: dict[int, int] = {}
    if rows is None:
        if not loaded:
            raise UsageError("there is no workflow", hint="name its file: --workflow FILE")
        return loaded, own
    places = {os.fspath(named): place for place, named in enumerate(wanted.workflows) if not isinstance(named, Mapping)}
    failed: dict[str, UsageError] = {}
    faults = rows.faults()
    for place, row in enumerate(rows.rows):
        if "workflow" not in row.names:
            if not wanted.workflows:
                faults.add(rows.where(row), "no workflow is named", "name one for all such rows: --workflow FILE")
            continue
        path: str = row.values[row.names.index("workflow")]
        if path not in places and path not in failed:
            try:
                loaded.append((path, _load_file(path, load)))
                places[path] = len(loaded) - 1
            except UsageError as error:
                failed[path] = error
        if path in failed:
            faults.add(rows.where(row), f"workflow: {failed[path].message}", failed[path].hint)
        else:
            own[place] = places[path]
    faults.raise_any()
    return loaded, own


def _load_file(path: str, load: Load) -> Workflow:
    if path == STDIN:
        raise UsageError("stdin is no file", hint="name the workflow's file")
    return load(path)


def _fingerprint(wanted: Wanted, rows: Rows | None, workflows: list[Workflow], texts: Mapping[str, str]) -> str:
    """What is the same for the same runs: by what files hold, but for those for loaders, of which the paths count."""
    told = {
        "plan": _VERSION,
        "workflows": [(each.graph, asdict(each.wrapping)) for each in workflows],
        "prompts": None if rows is None else rows.digest,
        "texts": dict(texts),
        "settings": asdict(wanted.settings),
        "files": [each[:3] for each in wanted.files],
        "output": None if wanted.output is None else os.fspath(wanted.output),
        "repeat": wanted.repeat,
        "grid": wanted.grid,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=text_of).encode("utf-8", "replace")).hexdigest()
