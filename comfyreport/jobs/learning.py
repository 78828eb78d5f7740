"""What earlier runs took, for a job: read and kept where it may learn. A store that can't be used fails no run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TypeVar

from comfyreport.errors import ComfyReportError, one_line
from comfyreport.jobs.job import Job
from comfyreport.learning.observed import Observed
from comfyreport.learning.store import Store, store_path
from comfyreport.text import says_no, well_formed
from comfyreport.timing import Timing

NO_LEARN = "COMFYREPORT_NO_LEARN"

_Result = TypeVar("_Result")


def learns(job: Job) -> bool:
    """Whether *job* learns: neither it nor the environment says otherwise."""
    return job.learn and says_no(os.environ.get(NO_LEARN, ""))


def read_durations(
    job: Job,
    server: str,
    class_types: Iterable[str],
    *,
    warn: Callable[[str], None],
    patience: float = Timing.store_wait,
) -> list[Observed]:
    """What was seen on *server* of nodes of these classes, newest first; nothing where *job* doesn't learn. Blocks.

    :param warn: is told, in one line, why nothing can be read.
    :param patience: seconds to wait for other processes.
    """
    return _tried(job, lambda store: store.observed(server, class_types), warn, patience) or []


def write_durations(
    job: Job,
    server: str,
    observed: Iterable[Observed],
    *,
    warn: Callable[[str], None],
    patience: float = Timing.store_wait,
) -> None:
    """Keep what was seen on *server* of a run's nodes, unless *job* doesn't learn. Blocks; see `read_durations`."""
    _tried(job, lambda store: store.add(server, observed), warn, patience)


def _tried(job: Job, use: Callable[[Store], _Result], warn: Callable[[str], None], patience: float) -> _Result | None:
    """What *use* returns; None where *job* doesn't learn, or the store can't be used."""
    if not learns(job):
        return None
    try:
        return use(Store(store_path(os.environ, job.folder), patience=patience))
    except ComfyReportError as error:
        warn(well_formed(f"{error.message} ({error.hint})"))
    except Exception as error:  # noqa: BLE001  a Python without SQLite, a fault: the run goes on without it
        warn(f"what earlier runs took can't be used: {one_line(error)}")
    return None
