"""`comfyreport inspect` and `--dry-run`: the job of their flags, looked at and not run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace

from comfyreport.cli.credentials import access_of, parse_extra_data
from comfyreport.cli.input_flags import given_files, settings_of
from comfyreport.jobs.inspecting import inspect_job
from comfyreport.jobs.job import SIMULATED, Job
from comfyreport.listings.workflow import list_workflow, submission
from comfyreport.workflow.files import Workflow


def inspect_workflow(arguments: Namespace) -> str:
    """What the workflow is made of, as text or JSON. Raises UsageError or WorkflowError."""
    job = Job(server=arguments.server, workflow=arguments.workflow, access=access_of(arguments, {}))
    return list_workflow(inspect_job(job), as_json=arguments.json)


def dry_run(arguments: Namespace, prepare: Callable[[Workflow], Workflow] | None = None) -> str:
    """The body that would be submitted, in JSON. Raises UsageError or WorkflowError.

    What the server would refuse is a RejectedError; a server that was named and isn't there is an UnreachableError.
    """
    extra_data = parse_extra_data(arguments.extra_data)
    job = Job(
        server=arguments.server,
        workflow=arguments.workflow,
        settings=settings_of(arguments),
        files=given_files(arguments),
        access=access_of(arguments, extra_data),
    )
    result = inspect_job(replace(job, prepare=prepare))
    if result.unreached is not None and arguments.server not in ("", SIMULATED):
        raise result.unreached
    return submission(result, extra_data)
