"""The HTTP responses of a ComfyUI server, typed: the answer to a submission, the queue, the history.

Bodies come in as parsed JSON of any shape; what can't be understood is left out or becomes None, nothing is
raised. Sources: ComfyUI 0.3.64, `server.py` and `execution.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from comfyreport.events import NodeError, NodeRef
from comfyreport.protocol.decode import read_error, read_id, read_ids, read_interrupted, read_text
from comfyreport.protocol.messages import ExecutionError, ExecutionInterrupted, Json
from comfyreport.protocol.refusals import Refused as Refused, read_node_errors, read_refused as read_refused
from comfyreport.text import ID_LIMIT, NAME_LIMIT, PROMPT_ID_LIMIT

_END_MESSAGES = ("execution_success", "execution_error", "execution_interrupted")

# Seconds; no run is longer: ten years.
_MAX_SECONDS = 3.2e8


class Accepted(NamedTuple):
    """The server took the prompt. `node_errors` are outputs that it left out all the same."""

    prompt_id: str | None
    node_errors: tuple[NodeError, ...] = ()


class QueueEntry(NamedTuple):
    """One prompt of the queue."""

    number: float
    prompt_id: str
    client_id: str | None
    graph: Json = None
    output_nodes: tuple[str, ...] = ()


class Queue(NamedTuple):
    """The server's queue, the pending prompts in the order in which they will run."""

    running: tuple[QueueEntry, ...]
    pending: tuple[QueueEntry, ...]

    def position(self, prompt_id: str) -> int | None:
        """How many prompts come before *prompt_id*; 0 if it runs; None if it isn't there."""
        if any(entry.prompt_id == prompt_id for entry in self.running):
            return 0
        for index, entry in enumerate(self.pending):
            if entry.prompt_id == prompt_id:
                return len(self.running) + index
        return None

    @property
    def all(self) -> tuple[QueueEntry, ...]:
        """The whole queue."""
        return (*self.running, *self.pending)

    @property
    def remaining(self) -> int:
        """Prompts in the queue, the running one included."""
        return len(self.all)


def read_jobs(body: Json) -> Queue | None:
    """The body of GET /api/jobs for those that run or wait; None if it is none of ComfyUI's, or not all of it.

    It is sorted by when they came, and they run by their priority.
    """
    jobs = body.get("jobs") if isinstance(body, dict) else None
    pages = body.get("pagination") if isinstance(body, dict) else None
    if not isinstance(jobs, list) or (isinstance(pages, dict) and pages.get("has_more")):
        return None
    by_status: dict[str, list[QueueEntry]] = {"in_progress": [], "pending": []}
    for job in jobs:
        prompt_id = read_id(job.get("id")) if isinstance(job, dict) else None
        entries = by_status.get(read_text(job.get("status"))) if prompt_id is not None else None
        if prompt_id is not None and entries is not None:
            priority = job.get("priority")
            number = float(priority) if isinstance(priority, (int, float)) else 0.0
            entries.append(QueueEntry(number, prompt_id, None))
    pending = sorted(by_status["pending"], key=lambda entry: entry.number)
    return Queue(tuple(by_status["in_progress"]), tuple(pending))


class HistoryOutput(NamedTuple):
    """The outputs of one node in the history: `node` is the display node where the server names it."""

    node: str
    ui: Mapping[str, Json]


class History(NamedTuple):
    """The history of a prompt that has ended, which decides how it ended.

    `has_status` is False where an old server sent no status: then `end` is a success unless a message says otherwise.
    `created`, `started` and `ended` are the server's times, in seconds since the epoch; None where it sends none.
    """

    prompt_id: str
    end: Literal["success", "error", "interrupted"]
    error: ExecutionError | None
    interrupted: ExecutionInterrupted | None
    cached: tuple[str, ...]
    outputs: tuple[HistoryOutput, ...]
    graph: Json = None
    client_id: str | None = None
    output_nodes: tuple[str, ...] = ()
    has_status: bool = True
    created: float | None = None
    started: float | None = None
    ended: float | None = None

    def between(self, earlier: float | None, later: float | None) -> float | None:
        """The seconds between two of its times; None where one is missing or the difference is absurd."""
        if earlier is None or later is None or not 0 <= later - earlier <= _MAX_SECONDS:
            return None
        return round(later - earlier, 3)


def node_ref(node_id: str, node: Mapping[str, Json]) -> NodeRef:
    """A node of a workflow as events name it: its title is `_meta.title`, else its class, else its id."""
    class_type = read_text(node.get("class_type"), NAME_LIMIT)
    meta = node.get("_meta")
    title = read_text(meta.get("title"), NAME_LIMIT) if isinstance(meta, Mapping) else ""
    if not title.strip():
        title = class_type or node_id
    return NodeRef(id=node_id, class_type=class_type, title=title)


def manifest_of(graph: Json) -> tuple[NodeRef, ...]:
    """The nodes of a workflow, in its order; what has no node's form is left out."""
    nodes = graph.items() if isinstance(graph, Mapping) else ()
    ids = ((read_id(node_id), node) for node_id, node in nodes if isinstance(node, Mapping))
    return tuple(node_ref(node_id, node) for node_id, node in ids if node_id is not None)


def read_accepted(body: Json, refs: Mapping[str, NodeRef]) -> Accepted | None:
    """The body of a 200 from POST /prompt; None if it is none of ComfyUI's."""
    if not isinstance(body, dict) or "prompt_id" not in body:
        return None
    prompt_id = body["prompt_id"]
    return Accepted(
        prompt_id if isinstance(prompt_id, str) and 0 < len(prompt_id) <= PROMPT_ID_LIMIT else None,
        read_node_errors(body.get("node_errors"), refs),
    )


def read_queue(body: Json) -> Queue | None:
    """The body of GET /queue; None if it is none of ComfyUI's. `queue_pending` arrives as an unsorted heap."""
    if not isinstance(body, dict):
        return None
    running, pending = body.get("queue_running"), body.get("queue_pending")
    if not isinstance(running, list) or not isinstance(pending, list):
        return None
    return Queue(tuple(_entries(running)), tuple(sorted(_entries(pending), key=lambda entry: entry.number)))


def _entries(items: list[Json]) -> Iterator[QueueEntry]:
    for item in items:
        if not isinstance(item, list) or len(item) < 2:
            continue
        number, prompt_id = item[0], read_id(item[1])
        if prompt_id is None:
            continue
        yield QueueEntry(
            number if isinstance(number, (int, float)) else 0,
            prompt_id,
            _client_of(item[3]) if len(item) > 3 else None,
            item[2] if len(item) > 2 else None,
            read_ids(item[4]) if len(item) > 4 else (),
        )


def _client_of(extra: Json) -> str | None:
    client_id = extra.get("client_id") if isinstance(extra, dict) else None
    return client_id if isinstance(client_id, str) and len(client_id) <= PROMPT_ID_LIMIT else None


def read_history(body: Json, prompt_id: str) -> History | None:
    """The body of GET /history/ID; None as long as the prompt isn't in it.

    `status.messages` distinguish an error from an interrupt; `status_str` alone doesn't. Servers before `status`
    was added have none: an entry there is an end, and a success as far as history shows.
    """
    entry = body.get(prompt_id) if isinstance(body, dict) else None
    if not isinstance(entry, dict):
        return None
    status = entry.get("status")
    messages = dict(_messages(status))
    error = messages.get("execution_error")
    interrupted = messages.get("execution_interrupted")
    failed = isinstance(status, dict) and status.get("status_str") == "error"
    end: Literal["success", "error", "interrupted"] = "success"
    if interrupted is not None:
        end = "interrupted"
    elif error is not None or failed:
        end = "error"
    return History(
        prompt_id,
        end,
        None if error is None else read_error(error),
        None if interrupted is None else read_interrupted(interrupted),
        read_ids(messages.get("execution_cached", {}).get("nodes")),
        tuple(_outputs(entry)),
        *_submission(entry.get("prompt")),
        has_status=isinstance(status, dict),
        created=_created(entry.get("prompt")),
        started=_seconds(messages.get("execution_start", {}).get("timestamp")),
        ended=_seconds(
            next((message.get("timestamp") for message in map(messages.get, _END_MESSAGES) if message), None)
        ),
    )


def _seconds(milliseconds: Json) -> float | None:
    """A time stamp of the server, which counts milliseconds, as seconds (ComfyUI execution.py)."""
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, (int, float)):
        return None
    return milliseconds / 1000 if abs(milliseconds) < 1e15 else None


def _created(prompt: Json) -> float | None:
    """When it was submitted: servers from 0.3.75 on send it (`create_time`, ComfyUI server.py)."""
    extra = prompt[3] if isinstance(prompt, list) and len(prompt) > 3 else None
    return _seconds(extra.get("create_time")) if isinstance(extra, dict) else None


def find_submission(body: Json, client_id: str) -> str | None:
    """The id of the prompt that *client_id* submitted, from the body of GET /history; None if it isn't there."""
    for prompt_id, entry in body.items() if isinstance(body, dict) else ():
        submitter = _submission(entry.get("prompt"))[1] if isinstance(entry, dict) else None
        if submitter == client_id and len(prompt_id) <= PROMPT_ID_LIMIT:
            return str(prompt_id)
    return None


def _submission(prompt: Json) -> tuple[Json, str | None, tuple[str, ...]]:
    """The workflow, the client's id and the output nodes, from history's copy of what was queued."""
    parts = prompt if isinstance(prompt, list) else []
    graph, extra, output_nodes = [*parts[2:5], None, None, None][:3]
    return graph, _client_of(extra), read_ids(output_nodes)


def needed_nodes(graph: Json, output_nodes: Iterable[str]) -> list[str]:
    """The nodes that *output_nodes* depend on, themselves included, each after those it needs."""
    order: list[str] = []
    seen: set[str] = set()
    stack: list[tuple[str, bool]] = [(node_id, False) for node_id in reversed(list(output_nodes))]
    while stack:
        node_id, ready = stack.pop()
        if ready:
            order.append(node_id)
        elif node_id not in seen and isinstance(graph, dict) and isinstance(graph.get(node_id), dict):
            seen.add(node_id)
            stack.append((node_id, True))
            inputs = graph[node_id].get("inputs")
            for value in inputs.values() if isinstance(inputs, dict) else ():
                if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
                    stack.append((value[0], False))
    return order


def _messages(status: Json) -> Iterator[tuple[str, dict[str, Any]]]:
    messages = status.get("messages") if isinstance(status, dict) else None
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, list) and len(message) == 2:
            kind, data = message
            if isinstance(kind, str) and isinstance(data, dict):
                yield kind, data


def _outputs(entry: Mapping[str, Json]) -> Iterator[HistoryOutput]:
    outputs, meta = entry.get("outputs"), entry.get("meta")
    for raw_id, ui in outputs.items() if isinstance(outputs, dict) else ():
        node_meta = meta.get(raw_id) if isinstance(meta, dict) else None
        display = node_meta.get("display_node") if isinstance(node_meta, dict) else None
        node = display if isinstance(display, str) else raw_id
        if isinstance(ui, dict) and len(node) <= ID_LIMIT:
            yield HistoryOutput(node, ui)
