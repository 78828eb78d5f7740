"""A job's workflow as it would be submitted, and what its server says of it, without submitting anything."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from comfyreport.access.address import parse_address
from comfyreport.access.credentials import Access
from comfyreport.errors import UnreachableError, UsageError, WorkflowError
from comfyreport.inputs.checking import asking, checked, unknown_input
from comfyreport.inputs.declared import Declared, Problem, offline_problems, problems
from comfyreport.inputs.object_info import ObjectInfo
from comfyreport.inputs.uploads import plan_uploads, planned
from comfyreport.jobs.converting import convert_for_simulator, info_of, unasked
from comfyreport.jobs.job import Job, workflow_of
from comfyreport.jobs.simulating import SIMULATED
from comfyreport.net.client import Client
from comfyreport.protocol.messages import Json
from comfyreport.text import printable
from comfyreport.timing import Timing
from comfyreport.workflow.convert import Converted
from comfyreport.workflow.files import Converter, Workflow, load
from comfyreport.workflow.graph import Target


class Inspected(NamedTuple):
    """The workflow with what was set, what is wrong with it, and `unreached`: why no server was asked, or None."""

    workflow: Workflow
    problems: tuple[Problem, ...]
    server: str
    unreached: UnreachableError | None


class Inspector:
    """Compares workflows with what one server declares, which is asked once, if it answers.

    `convert` makes what the editor saved into a prompt for that server, and `ask` tells of a class of its.
    """

    def __init__(self, client: Client | None, folder: str) -> None:
        # Without a client it is the simulator, which would take anything.
        self._client = client
        self.unreached = UnreachableError("the simulator isn't asked") if client is None else None
        self._info = None if client is None else info_of(client, folder, anew=True)
        self.convert = convert_for_simulator if self._info is None else partial(_converted, self._info)
        self._ask = None if client is None else asking(client)

    def ask(self, class_type: str) -> Mapping[str, Declared] | None:
        """The inputs of a class; None where the server doesn't tell."""
        return None if self._ask is None or self._classes() is None else self._ask(class_type)

    def inspect(self, job: Job) -> Inspected:
        """Load *job*'s workflow, set what it asks for, and compare it with what the server declares.

        Raises UsageError or WorkflowError, and UnreachableError where the workflow can't be read without a server.
        """
        workflow, sent = _planned(job, self.convert)
        server = SIMULATED if self._client is None else self._client.address.base
        classes = self._classes()
        if self.unreached is not None:
            return _offline(workflow, server, self.unreached)
        workflow = workflow.with_settings(checked(workflow.graph, workflow.settings, self.ask))
        found = tuple(each for each in problems(workflow.graph, classes) if (each.node, each.input_name) not in sent)
        return Inspected(workflow, (*found, *_cycles(workflow)), server, None)

    def _classes(self) -> Json:
        """What the server declares; None where none answered, which `unreached` tells of."""
        if self._info is None or self.unreached is not None:
            return None
        try:
            return self._info.classes()
        except UnreachableError as error:
            self.unreached = error
            return None


@contextmanager
def inspector(job: Job) -> Iterator[Inspector]:
    """What compares workflows with the server of *job*. Raises UsageError where its address is none."""
    if job.server_text == SIMULATED:
        yield Inspector(None, job.folder)
        return
    with closing(_client(job)) as client:
        yield Inspector(client, job.folder)


def inspect_job(job: Job) -> Inspected:
    """Load *job*'s workflow, set what it asks for, and compare it with what its server declares, if one answers.

    Raises UsageError or WorkflowError, and UnreachableError where the workflow can't be read without a server.
    """
    with inspector(job) as found:
        return found.inspect(job)


def converted_file(job: Job, convert: Converter | None = None) -> Workflow:
    """*job*'s workflow, which the editor saved, in API format.

    Raises UsageError, WorkflowError, also where it is in API format already, and UnreachableError.

    :param convert: None: the server of the job is asked.
    """
    assert not isinstance(job.workflow, (Mapping, type(None)))
    with closing(_client(job)) as client:
        found = load(job.workflow, convert=convert or partial(_converted, info_of(client, job.folder)))
    if not found.converted:
        raise WorkflowError(
            f"{printable(job.workflow, 4096)} is in API format already: there is nothing to convert",
            hint="it runs as it is: comfyreport --workflow FILE",
        )
    return found


def asked_info(job: Job) -> Json:
    """What the job's server declares of its classes, asked anew. Raises UsageError or UnreachableError."""
    if job.server_text == SIMULATED:
        raise UsageError("the simulator isn't asked", hint="name a server that runs: --server URL")
    with closing(_client(job)) as client:
        return info_of(client, job.folder, anew=True).classes()


def _client(job: Job) -> Client:
    # An answer soon or none: nobody waits here for a server to come up.
    timing = Timing.of(os.environ)
    timing = replace(timing, connect_timeout=min(timing.connect_timeout, 3.0))
    return Client(parse_address(job.server_text), timing=timing, access=job.access or Access.of(os.environ))


def _converted(info: ObjectInfo, ui: Mapping[str, Any]) -> Converted:
    try:
        return info.convert(ui)
    except UnreachableError as error:
        raise unasked(error) from error


def _planned(job: Job, convert: Converter) -> tuple[Workflow, set[Target]]:
    """The workflow as it would be submitted, and the inputs whose files would be sent before."""
    workflow = workflow_of(job, convert)
    assert workflow is not None
    uploads = plan_uploads(workflow, job.files, job.folder)
    sent = {Target(loader.node, loader.name) for loader, _ in (*uploads.placed, *uploads.literals)}
    return planned(workflow, uploads), sent


def _cycles(workflow: Workflow) -> list[Problem]:
    return [problem for problem in offline_problems(workflow.graph) if problem.code == "cycle"]


def _offline(workflow: Workflow, server: str, unreached: UnreachableError) -> Inspected:
    """Without a server nobody can say whether a class has an input that its node lacks: UsageError."""
    for target, setting in workflow.settings.items():
        if not setting.known:
            raise unknown_input(workflow.graph, target, None)
    return Inspected(workflow, tuple(offline_problems(workflow.graph)), server, unreached)
