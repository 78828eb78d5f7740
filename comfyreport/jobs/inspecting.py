"""A job's workflow as it would be submitted, and what its server says of it, without submitting anything."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import NamedTuple

from comfyreport.access.address import parse_address
from comfyreport.access.credentials import Access
from comfyreport.errors import UnreachableError
from comfyreport.inputs.checking import check_settings, unknown_input
from comfyreport.inputs.uploads import plan_uploads, planned
from comfyreport.jobs.job import SIMULATED, Job, workflow_of
from comfyreport.net.client import Client
from comfyreport.protocol.messages import Json
from comfyreport.timing import Timing
from comfyreport.workflow.declared import Problem, offline_problems, problems
from comfyreport.workflow.files import Workflow


class Inspected(NamedTuple):
    """The workflow with what was set, what is wrong with it, and `unreached`: why no server was asked, or None."""

    workflow: Workflow
    problems: tuple[Problem, ...]
    server: str
    unreached: UnreachableError | None


def inspect_job(job: Job) -> Inspected:
    """Load *job*'s workflow, set what it asks for, and compare it with what its server declares, if one answers.

    Raises UsageError or WorkflowError.
    """
    workflow = workflow_of(job)
    assert workflow is not None
    uploads = plan_uploads(workflow, job.files, job.folder)
    sent = {(loader.node, loader.name) for loader, _ in (*uploads.placed, *uploads.literals)}
    workflow = planned(workflow, uploads)
    if job.server_text == SIMULATED:
        # It would take anything.
        return _offline(workflow, SIMULATED, UnreachableError("the simulator isn't asked"))
    address = parse_address(job.server_text)
    access = job.access or Access.of(os.environ)
    # An answer soon or none: nobody waits here for a server to come up.
    timing = Timing.of(os.environ)
    client = Client(address, timing=replace(timing, connect_timeout=min(timing.connect_timeout, 3.0)), access=access)
    try:
        info = _declarations(client)
        workflow = check_settings(client, workflow)
        found = tuple(each for each in problems(workflow.graph, info) if (each.node, each.input_name) not in sent)
        return Inspected(workflow, (*found, *_cycles(workflow)), address.base, None)
    except UnreachableError as error:
        return _offline(workflow, address.base, error)
    finally:
        client.close()


def _declarations(client: Client) -> Json:
    """The classes of a server. Raises UnreachableError where it doesn't tell them."""
    answer = client.get("/object_info")
    if answer.status != 200 or not isinstance(answer.body, dict):
        raise answer.as_error(client.address.base)
    return answer.body


def _cycles(workflow: Workflow) -> list[Problem]:
    return [problem for problem in offline_problems(workflow.graph) if problem.code == "cycle"]


def _offline(workflow: Workflow, server: str, unreached: UnreachableError) -> Inspected:
    """Without a server nobody can say whether a class has an input that its node lacks: UsageError."""
    for target, setting in workflow.settings.items():
        if not setting.known:
            raise unknown_input(workflow.graph, target, None)
    return Inspected(workflow, tuple(offline_problems(workflow.graph)), server, unreached)
