"""The server that is simulated for one command: `--server sim`."""

from __future__ import annotations

import os
from contextlib import ExitStack

from comfyreport.access.address import Address, parse_address
from comfyreport.errors import UsageError

SIMULATED = "sim"
"""What `--server` calls it."""

_DESCRIPTORS = 20


def start_simulator(stack: ExitStack) -> Address:
    """Start one that ends with *stack*; its address. UsageError where it can't be had as the environment wants it."""
    try:
        from comfyreport.simulator import Simulator
    except ImportError as error:
        raise UsageError(
            f"the simulator needs a package that isn't installed ({error.name})",
            hint='pip install "comfyreport[sim]"',
        ) from error
    speed = os.environ.get("COMFYREPORT_SIM_SPEED", "1")
    strict = os.environ.get("COMFYREPORT_SIM_STRICT", "0")
    if strict not in ("", "0", "1"):
        raise UsageError(f"COMFYREPORT_SIM_STRICT is {strict!r}", hint="1: only what is known is accepted; 0: anything")
    try:
        simulator = Simulator(speed=float(speed), strict=strict == "1")
    except ValueError as error:
        raise UsageError(f"COMFYREPORT_SIM_SPEED is {speed!r}", hint="give it a number over 0") from error
    _need_descriptors(_DESCRIPTORS)
    return parse_address(stack.enter_context(simulator).url)


def _need_descriptors(count: int) -> None:
    """OSError where this process can't open as many: asyncio, which needs them, would log that and wait for ever."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
