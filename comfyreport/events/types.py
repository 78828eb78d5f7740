"""The events: one frozen dataclass for each type, and the closed lists of statuses and states.

This module is the contract with reporters and with readers of the JSON stream. Fields carry their
meaning in `Annotated`, from where the JSON Schema and the documentation take it. Readers ignore fields,
types and codes that they don't know: adding one is a minor version of `SCHEMA`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal, NamedTuple, Union

from comfyreport.events.records import HOLDS_ANY, Record, record

SCHEMA = "1.0"

Source = Literal["ws", "http", "client"]
Status = Literal[
    "success",
    "error",
    "interrupted",
    "usage",
    "unreachable",
    "rejected",
    "lost",
    "timeout",
    "partial",
    "cancelled",
    "detached",
    "internal",
]
PromptState = Literal["none", "pending", "running", "finished", "cancelled", "unknown"]
Submitted = Literal["yes", "no", "unknown"]
Kind = Literal["image", "video", "audio", "model", "text", "value", "file"]
ConnectionState = Literal["connected", "lost", "restored", "polling"]


class Instant(NamedTuple):
    """A moment: `time` in seconds since the epoch, `elapsed` in monotonic seconds since the command began."""

    time: float
    elapsed: float


@record
class NodeRef(Record):
    """A node of the submitted workflow; nodes that the server makes by expansion are told as their parent."""

    id: Annotated[str, "id of the node in the submitted workflow"]
    class_type: Annotated[str, "the node's class, such as KSampler; empty where it isn't known"] = ""
    title: Annotated[str, "the node's title, else its class, else its id"] = ""
    raw_id: Annotated[str | None, "the server's id of the node, where it differs (expanded nodes)"] = None

    @property
    def name(self) -> str:
        """The class type, else the id: what the JSON stream tells as `node`."""
        return self.class_type or self.id


@record
class Output(Record):
    """One thing that a run made: a file on the server, or a value such as a text."""

    node: Annotated[NodeRef, "the node that made it"]
    index: Annotated[int, "position among the node's outputs, from 0"]
    kind: Annotated[Kind, "what it is, from its name and media type"]
    filename: Annotated[str | None, "the server's name of the file; not to be trusted as a path"] = None
    subfolder: Annotated[str | None, "the server's folder below `folder`; not to be trusted as a path"] = None
    folder: Annotated[str | None, "output, temp or input"] = None
    url: Annotated[str | None, "where the file can be fetched, without credentials"] = None
    media_type: Annotated[str | None, "MIME type, where known"] = None
    bytes: Annotated[int | None, "size in bytes, once saved"] = None
    path: Annotated[str | None, "where it was saved; - for stdout"] = None
    path_bytes: Annotated[
        str | None, "the path's bytes in base64, where they are no UTF-8 and `path` can't tell them"
    ] = None
    value: Annotated[Any, "the value itself, for kinds text and value; one over 65,536 characters as its JSON, cut"] = (
        field(default=None, metadata={HOLDS_ANY: True})
    )
    cached: Annotated[bool, "taken from the server's cache: made by an earlier run"] = False


@record
class NodeError(Record):
    """Why the server refused one input of one node."""

    node: Annotated[NodeRef, "the node that was refused"]
    type: Annotated[str, "the server's name of the error, such as value_not_in_list"]
    message: Annotated[str, "the server's message"]
    details: Annotated[str, "the server's details: which input, which value"] = ""


@record
class ErrorInfo(Record):
    """Why a run isn't a success: what a program needs to decide, and what a person needs to read."""

    code: Annotated[str, "one of the closed list of error codes"]
    message: Annotated[str, "what happened, in one line or a few"]
    hint: Annotated[str, "the next step; may be empty"] = ""
    node: Annotated[NodeRef | None, "the node that failed"] = None
    exception_type: Annotated[str | None, "the exception's type on the server"] = None
    traceback: Annotated[tuple[str, ...], "the last lines of the server's traceback"] = ()
    node_errors: Annotated[tuple[NodeError, ...], "for a rejected workflow: what was refused"] = ()


@record
class NodeTime(Record):
    """What one node of a run took, and how that compares with earlier runs."""

    node: Annotated[NodeRef, "the node"]
    seconds: Annotated[
        float | None, "seconds that it ran, over all its runs in a loop; 0 if cached; absent where nobody saw it begin"
    ] = None
    share: Annotated[
        float | None, "its part of all seconds that are known of nodes, 0 to 1; absent without seconds"
    ] = None
    cached: Annotated[bool, "its result came from the server's cache"] = False
    steps_per_second: Annotated[float | None, "steps a second, as last told of its bar; absent without one"] = None
    usual_seconds: Annotated[float | None, "seconds that it usually takes here, where that was learned"] = None


@record
class InputValue(Record):
    """An input of the workflow that was set for a run: by the user, or by a plugin."""

    node: Annotated[NodeRef, "the node"]
    name: Annotated[str, "the input's name"]
    value: Annotated[Any, "what it was set to; nothing secret, and a value over 65,536 characters as its JSON, cut"] = (
        field(default=None, metadata={HOLDS_ANY: True})
    )


@record
class Event(Record):
    """What all events have in common."""

    seq: Annotated[int, "strictly increasing over a command; a thinned stream has gaps"]
    time: Annotated[float, "seconds since the epoch, UTC"]
    elapsed: Annotated[float, "monotonic seconds since the stream started"]
    prompt_id: Annotated[str | None, "the prompt's id; absent before it is submitted"] = None
    source: Annotated[Source, "who said so: the socket, HTTP, or comfyreport itself"] = "client"
    run_index: Annotated[int | None, "which run this is, from 1, where a command makes several"] = None
    worker: Annotated[str | None, "the worker of an engine that made the run, where there is one"] = None


@record
class ProgressEvent(Event):
    """An event that tells how far the whole run is."""

    fraction: Annotated[float, "share of the expected time that is over, 0 to 1; never falls, 1 only at success"] = 0.0
    run_eta_seconds: Annotated[float | None, "seconds until the run ends; absent without a basis"] = None
    run_eta_low: Annotated[float | None, "lower end of the range in which 80 % of the truths lie"] = None
    run_eta_high: Annotated[float | None, "upper end of that range"] = None
    eta_basis: Annotated[Literal["history", "similar", "steps"] | None, "what the whole-run estimate rests on"] = None
    nodes_done: Annotated[int, "nodes that ran to their end, cached ones left out"] = 0
    nodes_total: Annotated[int, "nodes of the workflow, cached ones left out"] = 0


@record
class StreamStarted(Event):
    """The first event of every command."""

    type: Literal["stream_started"] = field(default="stream_started", init=False)
    schema: Annotated[str, "version of the event schema, major.minor"] = SCHEMA
    comfyreport: Annotated[str, "version of comfyreport"] = ""
    command: Annotated[str, "run, attach or replay"] = "run"
    server: Annotated[str, "the server's address, without credentials"] = ""
    reporters: Annotated[tuple[str, ...], "names of the reporters"] = ()
    runs_total: Annotated[int, "how many runs the command makes"] = 1
    runs_planned: Annotated[
        int | None, "how many runs there are in all, where the command makes those that an earlier one has left"
    ] = None


@record
class RunQueued(Event):
    """The server has taken the prompt."""

    type: Literal["run_queued"] = field(default="run_queued", init=False)
    client_id: Annotated[str | None, "the id under which the server tells of this prompt"] = None
    nodes: Annotated[tuple[NodeRef, ...], "the nodes of the workflow"] = ()
    position: Annotated[int | None, "prompts before this one, 0 = running; absent until known"] = None
    seed: Annotated[int | None, "the sampler's seed, where there is exactly one"] = None
    server: Annotated[str | None, "the server that took it, where a command has several runs"] = None


@record
class QueueChanged(Event):
    """The prompt's place in the queue, or the queue's length, changed."""

    type: Literal["queue_changed"] = field(default="queue_changed", init=False)
    position: Annotated[int | None, "prompts before this one, 0 = running; absent where not known"] = None
    remaining: Annotated[int | None, "prompts in the server's queue, the running one included"] = None


@record
class RunStarted(Event):
    """The server began to work on the prompt."""

    type: Literal["run_started"] = field(default="run_started", init=False)


@record
class NodeCached(ProgressEvent):
    """A node's result came from the server's cache: it won't run."""

    type: Literal["node_cached"] = field(default="node_cached", init=False)
    node: Annotated[NodeRef, "the node"]


@record
class NodeStarted(ProgressEvent):
    """A node began to work."""

    type: Literal["node_started"] = field(default="node_started", init=False)
    node: Annotated[NodeRef, "the node"]


@record
class NodeProgress(ProgressEvent):
    """A node's own bar moved. Exists only for 0 < step <= max_steps."""

    type: Literal["node_progress"] = field(default="node_progress", init=False)
    step: Annotated[float, "steps done in this pass; a whole number for samplers"]
    max_steps: Annotated[float, "steps of this pass"]
    eta_seconds: Annotated[float, "(max_steps - step) * (elapsed / step), elapsed since the pass began"]
    node: Annotated[NodeRef, "the node"]
    pass_number: Annotated[int, "pass of the node, from 1; a bar that restarts is a new pass"] = 1
    steps_per_second: Annotated[float | None, "steps a second in this pass"] = None


@record
class NodeText(Event):
    """A node sent a line of text about what it does. Of a text over 65,536 characters the rest is an ellipsis."""

    type: Literal["node_text"] = field(default="node_text", init=False)
    node: Annotated[NodeRef, "the node"]
    text: Annotated[str, "the text, as the server sent it; cut at 65,536 characters, the last of them an ellipsis"]


@record
class NodePreview(Event):
    """A picture of work in progress. Made only if a selected reporter implements this very hook."""

    type: Literal["node_preview"] = field(default="node_preview", init=False)
    node: Annotated[NodeRef | None, "the node; absent where the server doesn't say and several run"] = None
    media_type: Annotated[str, "image/jpeg or image/png"]
    image: Annotated[bytes, "the encoded picture"]
    index: Annotated[int, "number of this preview in the run, from 0"] = 0


@record
class NodeFinished(ProgressEvent):
    """A node came to its end."""

    type: Literal["node_finished"] = field(default="node_finished", init=False)
    node: Annotated[NodeRef, "the node"]
    seconds: Annotated[
        float | None, "how long it ran; nodes that ran side by side overlap; absent where its beginning wasn't seen"
    ] = None
    outputs: Annotated[tuple[Output, ...], "what it told of its outputs so far"] = ()


@record
class OutputReady(Event):
    """An output is known, with its URL."""

    type: Literal["output_ready"] = field(default="output_ready", init=False)
    output: Annotated[Output, "the output"]


@record
class OutputSaved(Event):
    """An output is on disk, with its path."""

    type: Literal["output_saved"] = field(default="output_saved", init=False)
    output: Annotated[Output, "the output"]


@record
class ConnectionChanged(Event):
    """The connection to the server changed."""

    type: Literal["connection_changed"] = field(default="connection_changed", init=False)
    state: Annotated[ConnectionState, "what it is now; polling means that only HTTP tells how the run goes"]
    detail: Annotated[str, "why, in words"] = ""


@record
class Heartbeat(ProgressEvent):
    """Nothing was heard for a while, or the saving of a file takes long, and comfyreport is still there."""

    type: Literal["heartbeat"] = field(default="heartbeat", init=False)
    node: Annotated[NodeRef | None, "the node that runs, where one is known"] = None
    silent_seconds: Annotated[float, "seconds since the server was last heard"] = 0.0
    node_seconds: Annotated[float | None, "seconds that the node has run"] = None
    state: Annotated[Literal["queued", "running", "unknown"], "where the prompt is"] = "unknown"
    sent_bytes: Annotated[int | None, "bytes of a file or the workflow that are sent, while that goes on"] = None
    total_bytes: Annotated[int | None, "bytes that are to be sent, or received, in all then; absent if not known"] = (
        None
    )
    received_bytes: Annotated[int | None, "bytes that came of the outputs that are being fetched"] = None


@record
class Warning(Event):  # noqa: A001  the event's name; the builtin is not used here
    """Something that a person should know and that doesn't end the run."""

    type: Literal["warning"] = field(default="warning", init=False)
    code: Annotated[str, "one of the closed list of warning codes"]
    message: Annotated[str, "what happened"]
    node: Annotated[NodeRef | None, "the node that it is about"] = None


@record
class RunFinished(Event):
    """The end of a run: exactly one for each run, whatever happened."""

    type: Literal["run_finished"] = field(default="run_finished", init=False)
    status: Annotated[Status, "how it ended"]
    exit_code: Annotated[int, "the run's exit code"]
    error: Annotated[ErrorInfo | None, "why, unless it is a success"] = None
    outputs: Annotated[tuple[Output, ...], "what the run made"] = ()
    executed: Annotated[tuple[str, ...], "ids of the nodes that ran, in order of their start"] = ()
    cached: Annotated[tuple[str, ...], "ids of the nodes whose results came from the cache"] = ()
    queue_seconds: Annotated[float | None, "seconds between submission and start"] = None
    seconds: Annotated[float, "seconds from submission to the end, or from the command's begin"] = 0.0
    node_seconds: Annotated[
        Mapping[str, float], "seconds that each node ran, by id; without those whose run nobody saw"
    ] = field(default_factory=dict, metadata={HOLDS_ANY: True})
    node_times: Annotated[
        tuple[NodeTime, ...], "what each node took: the cached ones, then the others in order of their start"
    ] = ()
    usual_seconds: Annotated[
        float | None, "seconds that such a run usually takes from its start to its end, where that was learned"
    ] = None
    prompt_state: Annotated[PromptState, "where the prompt is now, as far as known"] = "none"
    submitted: Annotated[Submitted, "whether the server got the prompt"] = "no"
    retryable: Annotated[bool, "whether the same command may succeed when tried again"] = False
    seed: Annotated[int | None, "the seed that was used, where there is exactly one"] = None
    output_nodes: Annotated[
        tuple[str, ...] | None, "ids of the nodes that were to make outputs, by the server; absent where it didn't say"
    ] = None
    inputs: Annotated[
        tuple[InputValue, ...] | None, "the inputs that were set for this run; absent where none was, or it isn't known"
    ] = None
    workflow: Annotated[str | None, "the workflow's file, as it was named; absent where it came from none"] = None
    server: Annotated[str | None, "the server that it ran on, or was to run on, where a command has several runs"] = (
        None
    )


@record
class StreamFinished(Event):
    """The last event of every command."""

    type: Literal["stream_finished"] = field(default="stream_finished", init=False)
    status: Annotated[str, "status of the first run that isn't a success, else success"]
    exit_code: Annotated[int, "the process's exit code"]
    runs: Annotated[int, "how many runs there were"] = 1
    failed: Annotated[int, "how many of them were no success"] = 0
    reporter_failures: Annotated[tuple[str, ...], "reporters that were switched off, and why"] = ()


AnyEvent = Union[  # noqa: UP007  isinstance and get_args work alike on all supported versions
    StreamStarted,
    RunQueued,
    QueueChanged,
    RunStarted,
    NodeCached,
    NodeStarted,
    NodeProgress,
    NodeText,
    NodePreview,
    NodeFinished,
    OutputReady,
    OutputSaved,
    ConnectionChanged,
    Heartbeat,
    Warning,
    RunFinished,
    StreamFinished,
]
EVENT_CLASSES: tuple[type[Event], ...] = AnyEvent.__args__  # type: ignore[attr-defined]
EVENT_TYPES: Mapping[str, type[Event]] = {str(cls.__dataclass_fields__["type"].default): cls for cls in EVENT_CLASSES}
