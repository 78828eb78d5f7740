"""comfyreport: run a ComfyUI workflow and watch it through pluggable reporters.

Names are loaded on first use, so that importing `hookimpl` or an event loads no network library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from comfyreport._version import __version__

if TYPE_CHECKING:
    from comfyreport.access import Access
    from comfyreport.api import run_generation, wait_for_completion
    from comfyreport.drawing import Lines, Region, bar, pad, shorten
    from comfyreport.errors import ReporterError
    from comfyreport.events import (
        SCHEMA,
        AnyEvent,
        ConnectionChanged,
        ErrorInfo,
        Event,
        Heartbeat,
        NodeCached,
        NodeError,
        NodeFinished,
        NodePreview,
        NodeProgress,
        NodeRef,
        NodeStarted,
        NodeText,
        Output,
        OutputReady,
        OutputSaved,
        QueueChanged,
        RunFinished,
        RunQueued,
        RunStarted,
        StreamFinished,
        StreamStarted,
        Warning,  # noqa: A004  the event's name
    )
    from comfyreport.hookspecs import hookimpl
    from comfyreport.jsonlines import to_dict, to_line
    from comfyreport.streams import Stream, cell_width, fit, printable, stderr, stdout
    from comfyreport.summary import describe_work, format_bytes
    from comfyreport.thinning import Thinner
    from comfyreport.timing import Timing
    from comfyreport.tracker import ProgressTracker
    from comfyreport.view import NodeView, RunView
    from comfyreport.wording import (
        color_tag,
        describe_event,
        describe_result,
        describe_waiting,
        format_seconds,
        format_steps,
        percentage,
    )

_HOMES = {
    "access": ("Access",),
    "api": ("run_generation", "wait_for_completion"),
    "drawing": ("Lines", "Region", "bar", "pad", "shorten"),
    "errors": ("ReporterError",),
    "events": (
        "SCHEMA",
        "AnyEvent",
        "ConnectionChanged",
        "ErrorInfo",
        "Event",
        "Heartbeat",
        "NodeCached",
        "NodeError",
        "NodeFinished",
        "NodePreview",
        "NodeProgress",
        "NodeRef",
        "NodeStarted",
        "NodeText",
        "Output",
        "OutputReady",
        "OutputSaved",
        "QueueChanged",
        "RunFinished",
        "RunQueued",
        "RunStarted",
        "StreamFinished",
        "StreamStarted",
        "Warning",
    ),
    "hookspecs": ("hookimpl",),
    "jsonlines": ("to_dict", "to_line"),
    "streams": ("Stream", "cell_width", "fit", "printable", "stderr", "stdout"),
    "summary": ("describe_work", "format_bytes"),
    "thinning": ("Thinner",),
    "timing": ("Timing",),
    "tracker": ("ProgressTracker",),
    "view": ("NodeView", "RunView"),
    "wording": (
        "color_tag",
        "describe_event",
        "describe_result",
        "describe_waiting",
        "format_seconds",
        "format_steps",
        "percentage",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "SCHEMA",
    "Access",
    "AnyEvent",
    "ConnectionChanged",
    "ErrorInfo",
    "Event",
    "Heartbeat",
    "Lines",
    "NodeCached",
    "NodeError",
    "NodeFinished",
    "NodePreview",
    "NodeProgress",
    "NodeRef",
    "NodeStarted",
    "NodeText",
    "NodeView",
    "Output",
    "OutputReady",
    "OutputSaved",
    "ProgressTracker",
    "QueueChanged",
    "Region",
    "ReporterError",
    "RunFinished",
    "RunQueued",
    "RunStarted",
    "RunView",
    "Stream",
    "StreamFinished",
    "StreamStarted",
    "Thinner",
    "Timing",
    "Warning",
    "__version__",
    "bar",
    "cell_width",
    "color_tag",
    "describe_event",
    "describe_result",
    "describe_waiting",
    "describe_work",
    "fit",
    "format_bytes",
    "format_seconds",
    "format_steps",
    "hookimpl",
    "pad",
    "percentage",
    "printable",
    "run_generation",
    "shorten",
    "stderr",
    "stdout",
    "to_dict",
    "to_line",
    "wait_for_completion",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))
