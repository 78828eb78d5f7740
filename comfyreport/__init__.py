"""comfyreport: run a ComfyUI workflow and watch it through pluggable reporters.

Names are loaded on first use, so that importing `hookimpl` or an event loads no network library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from comfyreport._version import __version__

if TYPE_CHECKING:
    from comfyreport.engine.tracker import ProgressTracker
    from comfyreport.errors import ReporterError
    from comfyreport.events.jsonlines import to_dict, to_line
    from comfyreport.events.types import (
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
    from comfyreport.events.view import NodeView, RunView
    from comfyreport.net.access import Access
    from comfyreport.render.drawing import Lines, Region, bar, pad, shorten
    from comfyreport.render.summary import describe_work, format_bytes
    from comfyreport.render.throttle import Thinner
    from comfyreport.render.wording import (
        color_tag,
        describe_event,
        describe_result,
        describe_waiting,
        format_seconds,
        format_steps,
        percentage,
    )
    from comfyreport.reporting.hookspecs import hookimpl
    from comfyreport.reporting.streams import Stream, stderr, stdout
    from comfyreport.text import cell_width, fit, printable

_HOMES = {
    "net.access": ("Access",),
    "api": ("run_generation", "wait_for_completion"),
    "render.drawing": ("Lines", "Region", "bar", "pad", "shorten"),
    "errors": ("ReporterError",),
    "events.types": (
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
    "reporting.hookspecs": ("hookimpl",),
    "events.jsonlines": ("to_dict", "to_line"),
    "reporting.streams": ("Stream", "stderr", "stdout"),
    "render.summary": ("describe_work", "format_bytes"),
    "text": ("cell_width", "fit", "printable"),
    "render.throttle": ("Thinner",),
    "engine.tracker": ("ProgressTracker",),
    "events.view": ("NodeView", "RunView"),
    "render.wording": (
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
