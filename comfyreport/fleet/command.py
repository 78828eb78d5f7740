"""A command of many runs whose runs an engine makes."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain

from comfyreport.batch.command import Prepared
from comfyreport.batch.ledger import Ledger
from comfyreport.fleet.assignment import Note
from comfyreport.fleet.dask import connect
from comfyreport.fleet.fleet import Fleet
from comfyreport.jobs.job import Job
from comfyreport.jobs.session import Session


def fleet(session: Session, prepared: Prepared, ledger: Ledger, engine: str, stack: ExitStack) -> Fleet:
    """What makes the runs of *prepared* through the engine at that address, which *stack* closes. Blocks.

    Raises UsageError or UnreachableError.
    """
    command = uuid.uuid4().hex
    connected = connect(engine, command)
    stack.callback(connected.close)

    def job(index: int) -> Job:
        run = prepared.plan[index - 1]
        return replace(
            prepared.job,
            workflow=run.workflow,
            loaded=run.loaded,
            settings=run.settings,
            files=run.files,
            output=run.output,
        )

    for attempt in prepared.begun:
        ledger.adopt(attempt)
    begun = {each.index: Note(each.server, each.prompt_id, each.client_id) for each in prepared.begun}
    return Fleet(
        session,
        connected,
        ledger,
        job,
        command=command,
        todo=chain(begun, prepared.todo),
        begun=begun,
        retries=prepared.many.retries,
    )
