"""comfyreport: run a ComfyUI workflow and watch it through pluggable reporters.

Names are loaded on first use, so that importing `hookimpl` or an event loads no network library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfyreport._lazy import lazy
from comfyreport._version import __version__

if TYPE_CHECKING:
    from comfyreport.access.credentials import Access
    from comfyreport.api import run_generation, wait_for_completion
    from comfyreport.errors import ReporterError, UsageError
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
        NodeTime,
        NodeView,
        Output,
        OutputReady,
        OutputSaved,
        QueueChanged,
        RunFinished,
        RunQueued,
        RunStarted,
        RunView,
        StreamFinished,
        StreamStarted,
        TimeLeft,
        Warning,  # noqa: A004  the event's name
    )
    from comfyreport.events.jsonlines import to_dict, to_line
    from comfyreport.jobs.tracker import ProgressTracker
    from comfyreport.render.countdown import Countdown, describe_time_left
    from comfyreport.render.drawing import Lines, Region, bar, pad, shorten
    from comfyreport.render.formats import format_seconds, format_speed, format_steps, percentage
    from comfyreport.render.summary import describe_slowest, describe_work, format_bytes
    from comfyreport.render.throttle import Thinner
    from comfyreport.render.wording import (
        color_tag,
        describe_event,
        describe_node_time,
        describe_result,
        describe_waiting,
    )
    from comfyreport.reporting.hookspecs import FlagParser, hookimpl
    from comfyreport.reporting.streams import Stream, stderr, stdout
    from comfyreport.text import cell_width, fit, printable
    from comfyreport.timing import Timing

__getattr__, __dir__ = lazy(
    __name__,
    {
        "comfyreport.api": (
            "run_generation",
            "wait_for_completion",
        ),
        "comfyreport.jobs.tracker": ("ProgressTracker",),
        "comfyreport.errors": ("ReporterError", "UsageError"),
        "comfyreport.events": (
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
            "NodeTime",
            "NodeView",
            "Output",
            "OutputReady",
            "OutputSaved",
            "QueueChanged",
            "RunFinished",
            "RunQueued",
            "RunStarted",
            "RunView",
            "StreamFinished",
            "StreamStarted",
            "TimeLeft",
            "Warning",
        ),
        "comfyreport.events.jsonlines": (
            "to_dict",
            "to_line",
        ),
        "comfyreport.access.credentials": ("Access",),
        "comfyreport.render.countdown": (
            "Countdown",
            "describe_time_left",
        ),
        "comfyreport.render.drawing": (
            "Lines",
            "Region",
            "bar",
            "pad",
            "shorten",
        ),
        "comfyreport.render.formats": (
            "format_seconds",
            "format_speed",
            "format_steps",
            "percentage",
        ),
        "comfyreport.render.summary": (
            "describe_slowest",
            "describe_work",
            "format_bytes",
        ),
        "comfyreport.render.throttle": ("Thinner",),
        "comfyreport.render.wording": (
            "color_tag",
            "describe_event",
            "describe_node_time",
            "describe_result",
            "describe_waiting",
        ),
        "comfyreport.reporting.hookspecs": ("FlagParser", "hookimpl"),
        "comfyreport.reporting.streams": (
            "Stream",
            "stderr",
            "stdout",
        ),
        "comfyreport.text": (
            "cell_width",
            "fit",
            "printable",
        ),
        "comfyreport.timing": ("Timing",),
    },
)

__all__ = [
    "SCHEMA",
    "Access",
    "AnyEvent",
    "ConnectionChanged",
    "Countdown",
    "ErrorInfo",
    "Event",
    "FlagParser",
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
    "NodeTime",
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
    "TimeLeft",
    "Timing",
    "UsageError",
    "Warning",
    "__version__",
    "bar",
    "cell_width",
    "color_tag",
    "describe_event",
    "describe_node_time",
    "describe_result",
    "describe_slowest",
    "describe_time_left",
    "describe_waiting",
    "describe_work",
    "fit",
    "format_bytes",
    "format_seconds",
    "format_speed",
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
