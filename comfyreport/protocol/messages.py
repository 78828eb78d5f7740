"""The messages that a server sends over the socket, typed: what `decode` makes of frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Union

Json = Any


class StatusMessage(NamedTuple):
    """How many prompts the server has, running and pending; `sid` is this socket's client id, on connect only."""

    remaining: int | None
    sid: str | None = None


class FeatureFlags(NamedTuple):
    """The server's answer to the client's feature flags."""

    flags: Mapping[str, Json]


class ExecutionStart(NamedTuple):
    """The prompt worker took the prompt."""

    prompt_id: str


class ExecutionCached(NamedTuple):
    """Nodes of the prompt whose results are cached, needed or not."""

    prompt_id: str
    nodes: tuple[str, ...]


class ProgressState(NamedTuple):
    """All nodes that have begun so far; the entries are read one by one with `node_state`."""

    prompt_id: str
    nodes: Mapping[str, Json]


class NodeState(NamedTuple):
    """One entry of a `ProgressState`. It never shows an error: the failing node stays running."""

    raw_id: str
    display_id: str
    running: bool
    finished: bool
    value: float


class Executing(NamedTuple):
    """A node begins. `node` None: the worker is done with the prompt. `prompt_id` None: the note after a reconnect."""

    prompt_id: str | None
    node: str | None
    display_node: str | None


class ProgressMessage(NamedTuple):
    """A node's bar moved."""

    prompt_id: str
    node: str
    value: float
    maximum: float


class Executed(NamedTuple):
    """A node's outputs for the user interface; `output` is empty where the server sent none."""

    prompt_id: str
    node: str
    display_node: str | None
    output: Mapping[str, Json]


class ExecutionSuccess(NamedTuple):
    """All nodes ran, but history may not have the prompt yet."""

    prompt_id: str


class ExecutionError(NamedTuple):
    """A node raised. Of type `ExecutionBlocked` it ends nothing."""

    prompt_id: str
    node: str
    node_type: str
    message: str
    exception_type: str
    traceback: tuple[str, ...]
    executed: tuple[str, ...]

    @property
    def blocked(self) -> bool:
        """Whether it is a verbose ExecutionBlocker, after which the run goes on (ComfyUI execution.py)."""
        return self.exception_type == "ExecutionBlocked"


class ExecutionInterrupted(NamedTuple):
    """An interrupt took effect."""

    prompt_id: str
    node: str | None
    executed: tuple[str, ...]


class PreviewFrame(NamedTuple):
    """A preview image. Frames without metadata (kind 1) name neither node nor prompt."""

    image: bytes
    media_type: str
    prompt_id: str | None = None
    node: str | None = None
    display_node: str | None = None


class TextFrame(NamedTuple):
    """A node's line of text; broadcast to all clients, without a prompt's id."""

    node: str
    text: str


class Unknown(NamedTuple):
    """A message of a type that isn't known: newer servers and custom nodes send some."""

    kind: str


class Malformed(NamedTuple):
    """A message that could not be understood."""

    reason: str


class Oversized(NamedTuple):
    """A text message of *size* bytes that holds so many values that it was not read."""

    size: int


Message = Union[  # noqa: UP007  isinstance works alike on all supported versions
    StatusMessage,
    FeatureFlags,
    ExecutionStart,
    ExecutionCached,
    ProgressState,
    Executing,
    ProgressMessage,
    Executed,
    ExecutionSuccess,
    ExecutionError,
    ExecutionInterrupted,
    PreviewFrame,
    TextFrame,
    Unknown,
    Malformed,
    Oversized,
]
