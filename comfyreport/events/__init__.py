"""The events of a run: their classes, the closed lists of codes, and `RunView`, the state that the events add up to.

This is the contract with reporters and with readers of the JSON stream. In go what a run knows, as keyword arguments;
out come frozen records, which `jsonlines` writes as one JSON line each and `schema` describes as a JSON Schema. Pure:
no clock, no I/O. All wings above may use it.
"""

from comfyreport.events.codes import (
    ERROR_CODES as ERROR_CODES,
    EXIT_CODES as EXIT_CODES,
    EXIT_REPORTER_FAILED as EXIT_REPORTER_FAILED,
    WARNING_CODES as WARNING_CODES,
)
from comfyreport.events.types import (
    EVENT_CLASSES as EVENT_CLASSES,
    EVENT_TYPES as EVENT_TYPES,
    SCHEMA as SCHEMA,
    AnyEvent as AnyEvent,
    ConnectionChanged as ConnectionChanged,
    ConnectionState as ConnectionState,
    ErrorInfo as ErrorInfo,
    Event as Event,
    Heartbeat as Heartbeat,
    InputValue as InputValue,
    Instant as Instant,
    Kind as Kind,
    NodeCached as NodeCached,
    NodeError as NodeError,
    NodeFinished as NodeFinished,
    NodePreview as NodePreview,
    NodeProgress as NodeProgress,
    NodeRef as NodeRef,
    NodeStarted as NodeStarted,
    NodeText as NodeText,
    NodeTime as NodeTime,
    Output as Output,
    OutputReady as OutputReady,
    OutputSaved as OutputSaved,
    ProgressEvent as ProgressEvent,
    PromptState as PromptState,
    QueueChanged as QueueChanged,
    RunFinished as RunFinished,
    RunQueued as RunQueued,
    RunStarted as RunStarted,
    Source as Source,
    Status as Status,
    StreamFinished as StreamFinished,
    StreamStarted as StreamStarted,
    Submitted as Submitted,
    Warning as Warning,  # noqa: A004  the event's name
)
from comfyreport.events.view import NodeView as NodeView, RunView as RunView, TimeLeft as TimeLeft
from comfyreport.events.views import RunViews as RunViews
