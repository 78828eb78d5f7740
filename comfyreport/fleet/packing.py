"""Making a job into an assignment: whatever it needs of this machine is read, and goes along."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from comfyreport.access.credentials import Access, certificate_files
from comfyreport.errors import UsageError
from comfyreport.fleet.assignment import Assignment, Note, SentFile
from comfyreport.inputs.loaders import loaders
from comfyreport.inputs.local_files import Given, Kind, LocalFile
from comfyreport.inputs.uploads import Uploads, plan_uploads
from comfyreport.jobs.converting import converter
from comfyreport.jobs.job import Job, workflow_of
from comfyreport.timing import Timing
from comfyreport.workflow.files import Workflow
from comfyreport.workflow.graph import inputs_of
from comfyreport.workflow.settings import Settings

MOST_BYTES = 64 * 1024 * 1024
"""Of files for loaders that travel with one run."""


def assign(job: Job, index: int, *, command: str, timing: Timing, note: Note | None) -> Assignment:
    """*job*, a workflow to submit, as it travels. Blocks: reads files.

    Raises UsageError, WorkflowError, and what converting raises.
    """
    _need_nothing_here(job)
    convert = converter(job.server_text, job.access or Access.of(os.environ), timing, job.folder)
    workflow = workflow_of(job, convert)
    assert workflow is not None
    given: list[Given] = []
    files: list[SentFile] = []
    for number, loaded in enumerate(_loaded_files(workflow, plan_uploads(workflow, job.files, job.folder))):
        path = loaded.path or f"{number}/{os.path.basename(loaded.file.path)}"
        if not loaded.path:
            given.append(Given(loaded.kind, loaded.node, path, path))
        files.append(SentFile(path, _read(loaded.file, MOST_BYTES - sum(len(each.data) for each in files))))
    travelling = replace(
        job,
        workflow={} if isinstance(job.workflow, Mapping) else os.fspath(job.workflow or ""),
        loaded=_without(workflow, given),
        settings=Settings(),
        files=tuple(given),
        output=None if job.output is None else os.fspath(job.output),
        access=None if job.access is None else _portable(job.access, job.folder),
        folder="",
        prepare=None,
        simulated=None,
    )
    return Assignment(command, index, travelling, timing, tuple(files), note)


def _need_nothing_here(job: Job) -> None:
    """UsageError where the job wants what only the machine of the command could do."""
    for flag, wanted in (("--sidecar", job.sidecar), ("--record", job.record is not None)):
        if wanted:
            raise UsageError(
                f"{flag} can't be had where an engine makes the runs: it needs the server beside the command",
                hint=f"leave out {flag}, or name servers instead of an engine",
            )


class _Loaded(NamedTuple):
    """A file and the node that loads it; `path`: it stands in the workflow, and is sent if the server lacks it."""

    kind: Kind
    node: str
    file: LocalFile
    path: str = ""


def _loaded_files(workflow: Workflow, uploads: Uploads) -> Iterator[_Loaded]:
    for loader, file in uploads.placed:
        yield _Loaded(loader.kind, loader.node, file)
    for given, file in uploads.open:
        yield _Loaded(given.kind, given.node, file)
    for loader, file in uploads.literals:
        value = str(inputs_of(workflow.graph[loader.node])[loader.name])
        inside = not os.path.isabs(value) and os.pardir not in value.replace(os.sep, "/").split("/")
        # A path that leads elsewhere on this machine is given to the node anew.
        yield _Loaded(loader.kind, loader.node, file, value if inside else "")


def _without(workflow: Workflow, given: Iterable[Given]) -> Workflow:
    """*workflow* without what is set of the nodes that are *given* files: nothing is set twice."""
    nodes = {each.node for each in given}
    places = {(loader.node, loader.name) for loader in loaders(workflow.graph) if loader.node in nodes}
    return replace(workflow, settings={key: value for key, value in workflow.settings.items() if key not in places})


def _read(file: LocalFile, room: int) -> bytes:
    if file.size > room:
        raise UsageError(
            f"{file.shown} is too large to travel with a run: {MOST_BYTES // 1024 // 1024} MiB is the most for all "
            "files of one",
            hint="put it into a folder that the servers share, and name it as they do: --set NODE.INPUT=NAME",
        )
    try:
        with open(file.path, "rb") as opened:
            return opened.read(file.size)
    except OSError as error:
        raise UsageError(
            f"{file.shown} can't be read any more: {error.strerror or error}", hint="check the file, and try again"
        ) from error


def _portable(access: Access, folder: str) -> Access:
    """*access* so that it can be pickled; certificates are named as they are here, and the workers need them there."""
    cacert, *certificate = [
        name and os.path.join(folder, name) for name in (access.cacert, *certificate_files(access.client_cert))
    ]
    return replace(
        access,
        headers=dict(access.headers),
        extra_data=dict(access.extra_data),
        cacert=cacert,
        client_cert=",".join(certificate),
    )
