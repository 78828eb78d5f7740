"""What the user wants of a run beside its outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Limits and manners. Times in seconds; None for no limit.

    `max_eta`: what is estimated to be done later than that after the beginning is cancelled.
    `ping_interval`: None for the usual one, which is none on loopback; 0 for none. `take_over`: follow a prompt under
    the client id that submitted it, so that its browser tab hears no more. `include_temp`: temporary
    outputs are results as others are. `cancel_late`: a prompt whose `timeout` is over is cancelled, not left running.
    """

    timeout: float | None = None
    max_eta: float | None = None
    wait_for_server: float = 0.0
    on_interrupt: Literal["cancel", "detach"] = "cancel"
    take_over: bool = False
    expect_outputs: int = 0
    ping_interval: float | None = None
    include_temp: bool = False
    cancel_late: bool = False
