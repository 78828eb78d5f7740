"""comfyreport: run a ComfyUI workflow and watch it through pluggable reporters.

Names are loaded on first use, so that importing `hookimpl` or an event loads no network library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfyreport._lazy import lazy
from comfyreport._version import __version__

if TYPE_CHECKING:
    from comfyreport.access.address import web_address
    from comfyreport.access.credentials import Access
    from comfyreport.api import run_generation, run_many, wait_for_completion
    from comfyreport.errors import ReporterError, UsageError
    from comfyreport.events import (
        SCHEMA,
        AnyEvent,
        ConnectionChanged,
        ErrorInfo,
        Event,
        Heartbeat,
        InputValue,
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
    from comfyreport.files import write_whole
    from comfyreport.jobs.tracker import ProgressTracker
    from comfyreport.render.countdown import Countdown, describe_time_left
    from comfyreport.render.drawing import Lines, Region, bar, pad, shorten
    from comfyreport.render.fleet import FailedRun, Fleet, RunRow, ServerRow
    from comfyreport.render.fleet_frame import describe_fleet, describe_progress, describe_running, fleet_frame
    from comfyreport.render.formats import format_seconds, format_speed, format_steps, percentage
    from comfyreport.render.history import Histories, NodeHistory, NodeRow, Note, Rate, RunHistory, Span, run_origin
    from comfyreport.render.pictures import PictureSize, picture_block, picture_size
    from comfyreport.render.run_frame import run_frame
    from comfyreport.render.runs import describe_in_run, describe_inputs, run_name, server_name
    from comfyreport.render.summary import describe_slowest, describe_work, format_bytes
    from comfyreport.render.throttle import Thinner
    from comfyreport.render.thumbnails import Thumbnails, link_to, saved_path, small_picture
    from comfyreport.render.wording import (
        color_tag,
        describe_event,
        describe_node_time,
        describe_result,
        describe_waiting,
    )
    from comfyreport.reporting.hookspecs import FlagParser, hookimpl
    from comfyreport.reporting.streams import Block, Stream, stderr, stdout
    from comfyreport.text import cell_width, fit, printable
    from comfyreport.timing import Timing

__getattr__, __dir__ = lazy(
    __name__,
    {
        "comfyreport.api": (
            "run_generation",
            "run_many",
            "wait_for_completion",
        ),
        "comfyreport.jobs.tracker": ("ProgressTracker",),
        "comfyreport.errors": ("ReporterError", "UsageError"),
        "comfyreport.files": ("write_whole",),
        "comfyreport.events": (
            "SCHEMA",
            "AnyEvent",
            "ConnectionChanged",
            "ErrorInfo",
            "Event",
            "Heartbeat",
            "InputValue",
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
        "comfyreport.access.address": ("web_address",),
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
        "comfyreport.render.fleet": ("FailedRun", "Fleet", "RunRow", "ServerRow"),
        "comfyreport.render.fleet_frame": ("describe_fleet", "describe_progress", "describe_running", "fleet_frame"),
        "comfyreport.render.formats": (
            "format_seconds",
            "format_speed",
            "format_steps",
            "percentage",
        ),
        "comfyreport.render.history": (
            "Histories",
            "NodeHistory",
            "NodeRow",
            "Note",
            "Rate",
            "RunHistory",
            "Span",
            "run_origin",
        ),
        "comfyreport.render.pictures": ("PictureSize", "picture_block", "picture_size"),
        "comfyreport.render.run_frame": ("run_frame",),
        "comfyreport.render.runs": ("describe_in_run", "describe_inputs", "run_name", "server_name"),
        "comfyreport.render.summary": (
            "describe_slowest",
            "describe_work",
            "format_bytes",
        ),
        "comfyreport.render.throttle": ("Thinner",),
        "comfyreport.render.thumbnails": ("Thumbnails", "link_to", "saved_path", "small_picture"),
        "comfyreport.render.wording": (
            "color_tag",
            "describe_event",
            "describe_node_time",
            "describe_result",
            "describe_waiting",
        ),
        "comfyreport.reporting.hookspecs": ("FlagParser", "hookimpl"),
        "comfyreport.reporting.streams": (
            "Block",
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
    "Block",
    "ConnectionChanged",
    "Countdown",
    "ErrorInfo",
    "Event",
    "FailedRun",
    "FlagParser",
    "Fleet",
    "Heartbeat",
    "Histories",
    "InputValue",
    "Lines",
    "NodeCached",
    "NodeError",
    "NodeFinished",
    "NodeHistory",
    "NodePreview",
    "NodeProgress",
    "NodeRef",
    "NodeRow",
    "NodeStarted",
    "NodeText",
    "NodeTime",
    "NodeView",
    "Note",
    "Output",
    "OutputReady",
    "OutputSaved",
    "PictureSize",
    "ProgressTracker",
    "QueueChanged",
    "Rate",
    "Region",
    "ReporterError",
    "RunFinished",
    "RunHistory",
    "RunQueued",
    "RunRow",
    "RunStarted",
    "RunView",
    "ServerRow",
    "Span",
    "Stream",
    "StreamFinished",
    "StreamStarted",
    "Thinner",
    "Thumbnails",
    "TimeLeft",
    "Timing",
    "UsageError",
    "Warning",
    "__version__",
    "bar",
    "cell_width",
    "color_tag",
    "describe_event",
    "describe_fleet",
    "describe_in_run",
    "describe_inputs",
    "describe_node_time",
    "describe_progress",
    "describe_result",
    "describe_running",
    "describe_slowest",
    "describe_time_left",
    "describe_waiting",
    "describe_work",
    "fit",
    "fleet_frame",
    "format_bytes",
    "format_seconds",
    "format_speed",
    "format_steps",
    "hookimpl",
    "link_to",
    "pad",
    "percentage",
    "picture_block",
    "picture_size",
    "printable",
    "run_frame",
    "run_generation",
    "run_many",
    "run_name",
    "run_origin",
    "saved_path",
    "server_name",
    "shorten",
    "small_picture",
    "stderr",
    "stdout",
    "to_dict",
    "to_line",
    "wait_for_completion",
    "web_address",
    "write_whole",
]
