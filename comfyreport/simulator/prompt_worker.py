"""The prompt queue and its one worker, with history, cache and files. Knows no HTTP."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Collection
from typing import Any

from comfyreport.sim_nodes.files import FileStore
from comfyreport.sim_nodes.settings import Settings
from comfyreport.sim_nodes.validation import ValidationResult, replace_retired, validate

from .execution import Execution
from .faults import BEFORE_HISTORY, BETWEEN_PROMPTS, Script
from .nodes import NodeResult
from .running_prompt import PromptLost, QueueItem, RunningPrompt
from .sockets import Sockets

HISTORY_LIMIT = 1000
"""Entries; the oldest goes first (10,000 in a real server)."""
HISTORY_SECONDS = 0.02
"""Between execution_success and the entry in history; the real server leaves such a gap, which a client
that asks at once hits half of the time."""


class PromptWorker:
    def __init__(self, script: Script, settings: Settings) -> None:
        self.script = script
        self.settings = settings
        self.sockets = Sockets(script.outgoing)
        self.files = FileStore(settings.present)
        self.pending: list[QueueItem] = []
        self.running: RunningPrompt | None = None
        self.history: dict[str, Any] = {}
        self.cache: dict[str, NodeResult] = {}
        self._next_number = 0
        self._item_added = asyncio.Event()

    # What HTTP asks for

    def next_number(self, front: bool) -> int:
        """Every POST uses one up, accepted or not (recording e)."""
        number, self._next_number = self._next_number, self._next_number + 1
        return -number if front else number

    def validate(self, prompt: Any, targets: Collection[str] | None) -> ValidationResult:
        replace_retired(prompt, self.settings)
        return validate(prompt, self.settings, self.files.input_files(), targets)

    def put(self, item: QueueItem) -> None:
        self.script.prompt_accepted(item.prompt_id, behind=bool(self.pending) or self.running is not None)
        heapq.heappush(self.pending, item)
        self._item_added.set()
        self.send_status()

    def delete(self, prompt_ids: Collection[str]) -> None:
        """Takes prompts out of the queue; the running one isn't touched."""
        for prompt_id in prompt_ids:
            item = next((item for item in self.pending if item.prompt_id == prompt_id), None)
            if item is not None:
                if len(self.pending) == 1:
                    self.send_status(pending=0)  # the last one's deletion is sent twice
                self.pending.remove(item)
                heapq.heapify(self.pending)
                self.send_status()

    def clear(self) -> None:
        self.pending.clear()
        self.send_status()

    def interrupt(self, prompt_id: str | None) -> None:
        """Stops the running prompt; one that waits can't be interrupted, nor one that comes later."""
        if self.running is not None and prompt_id in (None, self.running.item.prompt_id):
            self.running.interrupted.set()

    def cancel(self, prompt_id: str) -> bool:
        """Takes a prompt out of the queue, or stops it where it runs; False for one that is neither there."""
        if self.running is not None and self.running.item.prompt_id == prompt_id:
            self.interrupt(prompt_id)
            return True
        waits = any(item.prompt_id == prompt_id for item in self.pending)
        self.delete([prompt_id])
        return waits

    def lose_prompt(self) -> None:
        """Loses the prompt that waits, else the one that runs; nothing but a status message comes of it."""
        if self.pending:
            self.delete([self.pending[0].prompt_id])
        elif self.running is not None:
            self.running.lost = True

    def prompt_status(self, prompt_id: str) -> str:
        """See `Simulator.prompt_status`."""
        if prompt_id in self.history:
            status = self.history[prompt_id]["status"]
            return _outcome(status["messages"], status["status_str"])
        if self.running is not None and self.running.item.prompt_id == prompt_id:
            return "running"
        return "pending" if any(item.prompt_id == prompt_id for item in self.pending) else "nowhere"

    def queue(self) -> dict[str, Any]:
        running = [] if self.running is None else [self.running.item.as_list()]
        return {"queue_running": running, "queue_pending": [item.as_list() for item in self.pending]}

    def status(self, pending: int | None = None) -> dict[str, Any]:
        pending = len(self.pending) if pending is None else pending
        return {"exec_info": {"queue_remaining": pending + (self.running is not None)}}

    def send_status(self, pending: int | None = None) -> None:
        self.sockets.send("status", {"status": self.status(pending)}, None)

    def last_node_id(self, sid: str) -> str | None:
        """The display id that a reconnecting client is sent, if its prompt is the running one."""
        running = self.running
        return running.last_node_id if running is not None and running.client_id == sid else None

    # The worker

    async def run(self) -> None:
        """Runs what is in the queue, for ever."""
        while True:
            while not self.pending:
                self._item_added.clear()
                await self._item_added.wait()
            item = heapq.heappop(self.pending)
            running = self.running = RunningPrompt(item, self.sockets, self.files, self.script, self.settings)
            execution = Execution(running, self.cache)
            self.send_status()
            in_history = await self._execute(running, execution)
            self.running = None
            self.send_status()
            if in_history:
                running.send_to_client("executing", {"node": None, "prompt_id": item.prompt_id})
            await self.script.pause(BETWEEN_PROMPTS)

    async def _execute(self, running: RunningPrompt, execution: Execution) -> bool:
        """Runs one prompt until history has it; False if it gets lost."""
        prompt_id = running.item.prompt_id
        try:
            status = await execution.execute()
            self.script.prompt_executed(prompt_id, _outcome(running.messages, status))
            await self.script.pause(BEFORE_HISTORY)
            await self.script.wait(HISTORY_SECONDS)
            await self.script.wait_for_history()
            running.check_lost()
        except PromptLost:
            return False
        while len(self.history) >= HISTORY_LIMIT:
            del self.history[next(iter(self.history))]
        self.history[prompt_id] = running.history_entry(status)
        return True


def _outcome(messages: list[list[Any]], status: str) -> str:
    """`success`, `error` or `interrupted`: history's status doesn't tell the last two apart."""
    return "interrupted" if any(event == "execution_interrupted" for event, _ in messages) else status
