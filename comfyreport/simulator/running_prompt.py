"""A prompt while it is executed: what its nodes, its execution and the worker share."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass, field
from typing import Any

from comfyreport.sim_nodes.files import FileStore
from comfyreport.sim_nodes.graph import DynamicPrompt, Prompt, inputs_of, resolve_literal
from comfyreport.sim_nodes.node_classes import ASYNC_CLASSES
from comfyreport.sim_nodes.settings import Settings
from comfyreport.sim_nodes.throttle import Throttle

from .faults import Script
from .sockets import JPEG, Sockets

PREVIEW_METHODS = ("none", "auto", "latent2rgb", "taesd")
"""What a prompt may ask for; anything else is the server's own."""
_MODEL_WORK = re.compile(r"Sampler|Decode|Encode")


@dataclass(slots=True)
class QueueItem:
    """A prompt that was accepted."""

    number: float
    prompt_id: str
    prompt: Prompt
    extra_data: dict[str, Any]
    outputs_to_execute: list[str]

    @property
    def client_id(self) -> str | None:
        client_id = self.extra_data.get("client_id")
        return client_id if isinstance(client_id, str) else None

    def __lt__(self, other: QueueItem) -> bool:
        return self.number < other.number

    def as_list(self) -> list[Any]:
        """The form in `/queue` and `/history`."""
        return [self.number, self.prompt_id, self.prompt, self.extra_data, self.outputs_to_execute]


class PromptInterrupted(Exception):  # noqa: N818 - no error: somebody asked for it
    """POST /interrupt took effect."""


class PromptLost(Exception):  # noqa: N818 - no error: a fault that is played
    """The server has lost the running prompt."""


@dataclass
class RunningPrompt:
    """`settings`: the server's."""

    item: QueueItem
    sockets: Sockets
    files: FileStore
    script: Script
    settings: Settings
    messages: list[list[Any]] = field(default_factory=list)
    """What history keeps of the messages: type and data of each."""
    outputs: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    last_node_id: str | None = None
    """The display id of the node that was started last: what a reconnecting client is sent."""
    interrupted: asyncio.Event = field(default_factory=asyncio.Event)
    lost: bool = False

    def __post_init__(self) -> None:
        self.client_id = self.item.client_id
        self.prompt = DynamicPrompt(self.item.prompt)
        self.states: dict[str, dict[str, Any]] = {}
        """The nodes of `progress_state`."""
        self.no_sync_node = asyncio.Event()
        """Whether no synchronous node is at work: while one is, asynchronous ones stand still."""
        self.no_sync_node.set()
        asked = self.item.extra_data.get("preview_method") if self.settings.newer else None
        self.previews = asked != "none" if asked in PREVIEW_METHODS else self.settings.previews
        """Whether samplers send preview images."""

    def state(self, node_id: str) -> dict[str, Any]:
        ids = self.prompt.ids(node_id)
        fresh = {
            "value": 1,
            "max": 1,
            "state": "pending",
            "node_id": node_id,
            "prompt_id": self.item.prompt_id,
            "display_node_id": ids.display,
            "parent_node_id": ids.parent,
            "real_node_id": ids.real,
        }
        return self.states.setdefault(node_id, fresh)

    def send_progress_state(self) -> None:
        data = {"prompt_id": self.item.prompt_id, "nodes": self.states}
        self.sockets.send("progress_state", data, self.client_id)

    def send_to_client(self, event: str, data: dict[str, Any]) -> None:
        """Sends a message to the client that submitted the prompt; where there is none, to nobody."""
        if self.client_id is not None:
            self.sockets.send(event, data, self.client_id)

    def add_message(self, event: str, data: dict[str, Any], *, broadcast: bool = False) -> None:
        """Sends a message that history keeps. Without a client it goes to nobody, or to everybody."""
        data = {"prompt_id": self.item.prompt_id, **data, "timestamp": int(time.time() * 1000)}
        self.messages.append([event, data])
        if self.client_id is not None or broadcast:
            self.sockets.send(event, data, self.client_id)

    def add_output(self, node_id: str, ui: dict[str, Any]) -> None:
        """Keeps a node's output for history."""
        ids = self.prompt.ids(node_id)
        self.outputs[node_id] = ui
        self.meta[node_id] = {
            "node_id": node_id,
            "display_node": ids.display,
            "parent_node": ids.parent,
            "real_node_id": ids.real,
        }

    def history_entry(self, status: str) -> dict[str, Any]:
        return {
            "prompt": self.item.as_list(),
            "outputs": self.outputs,
            "status": {"status_str": status, "completed": status == "success", "messages": self.messages},
            "meta": self.meta,
        }

    def check_interrupted(self) -> None:
        if self.interrupted.is_set():
            raise PromptInterrupted

    def check_lost(self) -> None:
        if self.lost:
            raise PromptLost

    async def reach(self, node_id: str, step: float) -> None:
        """A node has started (step 0) or reported a step: here faults begin, and the worker stops at a breakpoint."""
        await self.script.node_reached(self.prompt.class_type(node_id), step)
        self.check_lost()
        await self.script.pause(node_id, step)


class NodeContext:
    """What one node may read and do while it runs."""

    def __init__(self, running: RunningPrompt, node_id: str) -> None:
        self.node_id = node_id
        self.prompt = running.prompt.nodes
        self.class_type = running.prompt.class_type(node_id)
        self.inputs = inputs_of(self.prompt[node_id])
        self.is_async = self.class_type in ASYNC_CLASSES
        self.files = running.files
        self._running = running
        self._throttle = Throttle()

    @property
    def submitted_prompt(self) -> str:
        """The prompt as it was submitted, as JSON."""
        return json.dumps(self._running.item.prompt)

    def float_input(self, name: str, default: float, node_id: str | None = None) -> float:
        """A number among the inputs, also one from a primitive node; the default for anything else."""
        inputs = inputs_of(self.prompt[node_id or self.node_id])
        try:
            return float(resolve_literal(self.prompt, inputs.get(name)))
        except (TypeError, ValueError):
            return default

    def int_input(self, name: str, default: int, node_id: str | None = None) -> int:
        return int(self.float_input(name, default, node_id))

    async def wait(self, seconds: float) -> None:
        """Works for so long; an asynchronous node stands still while another works (one loop: recording u)."""
        self._throttle.now += seconds
        if self._running.settings.newer and _MODEL_WORK.search(self.class_type):
            await self._work_on_model(seconds)
        else:
            await self._running.script.wait(seconds)
        while self.is_async and not self._running.no_sync_node.is_set():
            await self._running.no_sync_node.wait()

    async def _work_on_model(self, seconds: float) -> None:
        """The same, where an interrupt takes effect within one operation of the model (recording f33)."""
        work = asyncio.ensure_future(self._running.script.wait(seconds))
        interrupt = asyncio.ensure_future(self._running.interrupted.wait())
        try:
            await asyncio.wait((work, interrupt), return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            interrupt.cancel()
        await self._running.script.wait_while_stalled()
        self._running.check_interrupted()

    async def progress(self, value: float, maximum: float, preview: tuple[int, bytes] | None = None) -> None:
        """One step of a progress bar, with its preview (format and image). Here an interrupt takes effect."""
        running, sockets = self._running, self._running.sockets
        client_id = running.client_id
        value = min(value, maximum)
        if preview is not None and preview[0] == JPEG and not running.previews:
            preview = None
        if running.settings.newer and not self._throttle.passes(value, maximum, preview=preview is not None):
            await running.reach(self.node_id, value)
            return
        running.check_interrupted()
        state = running.state(self.node_id)
        state.update(value=value, max=maximum)
        running.send_progress_state()
        # A frame with metadata goes before `progress`, the old kind after it (recordings c and n).
        wants_metadata = sockets.wants_metadata(client_id)
        if preview and wants_metadata:
            metadata = {key: part for key, part in state.items() if key not in ("value", "max", "state")}
            sockets.send_preview(*preview, metadata, client_id)
        data = {"value": value, "max": maximum, "prompt_id": running.item.prompt_id, "node": self.node_id}
        sockets.send("progress", data, client_id)
        if preview and not wants_metadata:
            sockets.send_preview(*preview, None, client_id)
        await running.reach(self.node_id, value)

    def send_text(self, text: str, *, to_client: bool) -> None:
        """A text frame; one that isn't for the prompt's client goes to every socket."""
        display_id = self._running.prompt.ids(self.node_id).display
        self._running.sockets.send_text(display_id, text, self._running.client_id if to_client else None)
