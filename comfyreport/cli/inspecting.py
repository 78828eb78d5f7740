"""`comfyreport inspect`, `comfyreport convert` and `--dry-run`: the job of their flags, looked at and not run."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import SystemRandom

from comfyreport.cli.running import job_of
from comfyreport.errors import UsageError
from comfyreport.flags.batch_flags import wants_many
from comfyreport.flags.credentials import access_of, parse_extra_data
from comfyreport.inputs.object_info import load_object_info, save_json
from comfyreport.jobs.converting import convert_for_simulator
from comfyreport.jobs.file_claims import check_apart
from comfyreport.jobs.inspecting import Inspector, asked_info, converted_file, inspect_job, inspector
from comfyreport.jobs.job import Job
from comfyreport.jobs.simulating import SIMULATED
from comfyreport.jobs.workflow import read_workflow
from comfyreport.listings.workflow import list_workflow, submission
from comfyreport.planning.source import File
from comfyreport.workflow.files import Workflow

_STDOUT = "-"


def inspect_workflow(arguments: Namespace) -> str:
    """What the workflow is made of, as text or JSON; without one, where the server's classes were saved.

    Raises UsageError, WorkflowError or UnreachableError.
    """
    saved: str | None = arguments.save_object_info
    job = Job(server=arguments.server, workflow=arguments.workflow, access=access_of(arguments, {}))
    if saved == _STDOUT and arguments.workflow:
        raise UsageError("--save-object-info - and the workflow's listing both use stdout", hint="name a file")
    if saved is not None:
        check_apart([("WORKFLOW", arguments.workflow)], "--save-object-info", saved)
        text = json.dumps(asked_info(job))
        if saved == _STDOUT:
            return text
        save_json("--save-object-info", saved, text)
        if not arguments.workflow:
            return saved
    return list_workflow(inspect_job(job), as_json=arguments.json)


def convert_workflow(arguments: Namespace) -> str:
    """The workflow in API format, or where it was written to.

    Raises UsageError, WorkflowError or UnreachableError.
    """
    output: str | None = arguments.output
    info: str | None = arguments.object_info
    job = Job(server=arguments.server, workflow=arguments.workflow, access=access_of(arguments, {}))
    check_apart([("FILE", arguments.workflow), ("--object-info", info)], "--output", output)
    convert = None if info is None else load_object_info(info)
    if convert is None and job.server_text == SIMULATED:
        convert = convert_for_simulator
    text = json.dumps(converted_file(job, convert).graph, indent=2, ensure_ascii=False)
    if output is None or output == _STDOUT:
        return text
    save_json("--output", output, text)
    return output


def dry_runs(arguments: Namespace, prepare: Callable[[Workflow], Workflow] | None = None) -> Iterator[str]:
    """The bodies that would be submitted, each in JSON. Raises UsageError or WorkflowError.

    What the server would refuse is a RejectedError; a server that was named and isn't there is an UnreachableError.
    """
    extra_data = parse_extra_data(arguments.extra_data)
    job = replace(job_of(arguments), access=access_of(arguments, extra_data), prepare=prepare)
    with inspector(job) as server:
        for each in _planned(arguments, job, server) if wants_many(arguments) else [job]:
            result = server.inspect(each)
            if result.unreached is not None and arguments.server not in ("", SIMULATED):
                raise result.unreached
            yield submission(result, extra_data)


def _planned(arguments: Namespace, job: Job, server: Inspector) -> Iterator[Job]:
    """The jobs of all runs that the flags ask for, once all are known to be possible."""
    # Loaded where there are many: `inspect` and `convert` have no use for it.
    from comfyreport.batch.command import plan_of
    from comfyreport.cli.many import many_of
    from comfyreport.planning.checking import check_with_server

    def load(file: File) -> Workflow:
        return read_workflow(file, job.folder, server.convert)

    # A seed that is drawn is another one in each plan.
    plan = plan_of(many_of(arguments, job), load, SystemRandom().getrandbits(64))
    check_with_server(plan, server.ask)
    for run in plan:
        yield replace(
            job, workflow=run.workflow, loaded=run.loaded, settings=run.settings, files=run.files, output=run.output
        )
