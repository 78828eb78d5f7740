"""A command of many runs whose runs an engine makes."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from dataclasses import replace

from comfyreport.batch.command import Prepared
from comfyreport.fleet.dask import connect
from comfyreport.fleet.fleet import Fleet
from comfyreport.jobs.session import Session
from comfyreport.ledger.ledger import Ledger


def fleet(session: Session, prepared: Prepared, ledger: Ledger, engine: str, stack: ExitStack) -> Fleet:
    """What makes the runs of *prepared* through the engine at that address, which *stack* closes. Blocks.

    Raises UsageError or UnreachableError.
    """
    command = uuid.uuid4().hex
    connected = connect(engine, command)
    stack.callback(connected.close)
    return Fleet(
        session,
        connected,
        ledger,
        lambda index: replace(prepared.job_of(index), server=prepared.job.server),
        command=command,
        todo=prepared.todo,
        begun=prepared.begun,
        retries=prepared.many.retries,
    )
