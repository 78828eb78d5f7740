"""Asks a server whether it can be used, and has it cancel what was given to another meanwhile. These calls block."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from comfyreport.access.address import Address
from comfyreport.access.credentials import Access
from comfyreport.errors import UnreachableError, one_line
from comfyreport.net.client import Client
from comfyreport.net.lookup import Lookups
from comfyreport.timing import Timing


class Probe(NamedTuple):
    """What a server answered: how many prompts are in its queue, or why it can't be used."""

    remaining: int = 0
    error: UnreachableError | None = None


def probe(address: Address, access: Access, timing: Timing, moved: Iterable[str] = ()) -> Probe:
    """Ask a server for its queue.

    :param moved: prompts of ours that another server was given since this one was lost: they are cancelled first.
    """
    client = Client(address, timing=timing, access=access)
    try:
        lookups = Lookups(client)
        for prompt_id in moved:
            lookups.cancel_and_look_up(prompt_id, runs=False, sure=False)
        queue, answer = lookups.queue()
        if queue is None:
            raise answer.as_error(address.base)
        return Probe(len(queue.all))
    except UnreachableError as error:
        return Probe(error=error)
    except Exception as error:  # noqa: BLE001  whoever waits for an answer must have one
        return Probe(error=UnreachableError(f"{address.base} could not be asked: {one_line(error)}", retryable=True))
    finally:
        with contextlib.suppress(OSError):
            client.close()


def first_answers(addresses: Sequence[Address], access: Access, timing: Timing) -> Iterator[Address]:
    """Those of *addresses* whose servers answer, the quickest first; all are asked side by side."""
    answers: queue.SimpleQueue[tuple[Address, Probe]] = queue.SimpleQueue()
    for address in addresses:
        ask = partial(lambda each: answers.put((each, probe(each, access, timing))), address)
        threading.Thread(target=ask, name="comfyreport-probe", daemon=True).start()
    for _ in addresses:
        address, found = answers.get()
        if found.error is None:
            yield address
