"""How the runs of a command are made, by what they have of limits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from comfyreport.batch.scheduler import KEPT
from comfyreport.engine.options import RunOptions


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How the runs are made. `kept`: how many a server is given at once; `retries`: how often a lost run is begun anew.

    `wait_for_server`: seconds that servers are waited for.
    """

    kept: int = KEPT
    retries: int = 2
    wait_for_server: float = 0.0

    @classmethod
    def of(cls, runs: Iterable[RunOptions], retries: int) -> Manners:
        """Those of runs that have these options."""
        runs = list(runs)
        # Limits count from the submission on, so that nothing may wait behind another run.
        limited = any(options.timeout or options.max_eta for options in runs)
        return cls(
            kept=1 if limited else KEPT,
            retries=retries,
            wait_for_server=max((options.wait_for_server for options in runs), default=0.0),
        )
