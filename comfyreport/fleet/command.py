"""A command of many runs whose runs an engine makes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain

from comfyreport.batch.command import Prepared
from comfyreport.batch.ledger import Ledger
from comfyreport.batch.state import Attempt
from comfyreport.fleet.assignment import Note
from comfyreport.fleet.dask import connect
from comfyreport.fleet.fleet import Fleet
from comfyreport.jobs.session import Session


def fleet(session: Session, prepared: Prepared, ledger: Ledger, engine: str, stack: ExitStack) -> Fleet:
    """What makes the runs of *prepared* through the engine at that address, which *stack* closes. Blocks.

    Raises UsageError or UnreachableError.
    """
    command = uuid.uuid4().hex
    connected = connect(engine, command)
    stack.callback(connected.close)

    begun = adopted(prepared.begun)
    return Fleet(
        session,
        connected,
        ledger,
        lambda index: replace(prepared.job_of(index), server=prepared.job.server),
        command=command,
        todo=chain(begun, prepared.todo),
        begun=begun,
        retries=prepared.many.retries,
    )


def adopted(attempts: Iterable[Attempt]) -> dict[int, Note]:
    """Where the *attempts* of an earlier command are, by the index of their run."""
    return {each.index: Note(each.server, each.prompt_id, each.client_id) for each in attempts}
