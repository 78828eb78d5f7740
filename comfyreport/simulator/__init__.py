"""A simulated ComfyUI: the same answers and messages as a real one (0.33.0, or 0.3.64), without models or a GPU.

In go workflows in API format over HTTP, out come messages over WebSocket, history and files; a test may stop it
anywhere (`Simulator.pause_at`) and let things go wrong (`Simulator.play`). It imports nothing of the rest of the
package but `sim_nodes`. How the real server behaves was observed; where a docstring names a recording, it is that file
of tests/recordings. What the nodes of each class do stands in `nodes`.
"""

try:
    import aiohttp as _aiohttp  # noqa: F401
except ImportError as missing:
    raise ImportError('the simulator needs aiohttp: pip install "comfyreport[sim]"', name="aiohttp") from missing

from .faults import (
    BEFORE_HISTORY,
    BETWEEN_PROMPTS,
    KINDS,
    MOMENTS,
    BegunFault,
    Breakpoint,
    Fault,
    Kind,
    Moment,
    RequestRecord,
    Script,
)
from .simulator import Simulator, serve

__all__ = [
    "BEFORE_HISTORY",
    "BETWEEN_PROMPTS",
    "KINDS",
    "MOMENTS",
    "BegunFault",
    "Breakpoint",
    "Fault",
    "Kind",
    "Moment",
    "RequestRecord",
    "Script",
    "Simulator",
    "serve",
]
