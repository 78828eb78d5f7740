"""The second witness: one look over HTTP, what it may do to cancel a prompt, and when to look again."""

from __future__ import annotations

import random
from typing import Literal, NamedTuple

from comfyreport import answers
from comfyreport.client import Client
from comfyreport.timing import Timing

Did = Literal["", "deleted", "interrupted"]


class Look(NamedTuple):
    """What one look found; `queue` is None where it wasn't asked or gave no useful answer."""

    history: answers.History | None
    queue: answers.Queue | None
    did: Did = ""


def look(client: Client, prompt_id: str) -> Look:
    """Look for a prompt: history first, for it is the last word; the queue carries every queued graph.

    Raises UnreachableError.
    """
    history = answers.read_history(client.get(f"/history/{prompt_id}").body, prompt_id)
    return Look(history, None if history is not None else answers.read_queue(client.get("/queue").body))


def cancel_and_look(client: Client, prompt_id: str) -> Look:
    """Cancel this prompt alone, by where it is now, then look for it. Raises UnreachableError.

    A pending one is deleted, a running one interrupted with its id. Servers from before ComfyUI PR #9607 interrupt
    whatever runs, so the queue is asked first.
    """
    queue = answers.read_queue(client.get("/queue").body)
    did: Did = ""
    if queue is not None and any(entry.prompt_id == prompt_id for entry in queue.running):
        client.post("/interrupt", {"prompt_id": prompt_id})
        did = "interrupted"
    elif queue is not None and queue.position(prompt_id) is not None:
        client.post("/queue", {"delete": [prompt_id]})
        did = "deleted"
    return look(client, prompt_id)._replace(did=did)


class Pace:
    """When to look again, and whether a prompt that is nowhere is gone. Polite: 1 s growing to 10 s, with jitter."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._delay = timing.poll_first
        self._ended_delay = timing.ended_poll
        self._absent_since: float | None = None

    def fresh(self) -> None:
        """The socket tells of the run: no need to look."""
        self._delay = self._timing.poll_first
        self._absent_since = None

    def present(self) -> None:
        """The queue has the prompt."""
        self._absent_since = None

    def gone(self, now: float) -> bool:
        """The server answers and has the prompt in neither place: true the second time, over the hand-over gap.

        Between the worker's last message and the history's entry it is in neither for a moment (ComfyUI main.py).
        """
        if self._absent_since is None:
            self._absent_since = now
            return False
        return now - self._absent_since >= self._timing.handover

    def next_delay(self, *, cancelling: bool, ending: bool) -> float:
        """Seconds until the next look."""
        if cancelling:
            return self._timing.poll_first / 4
        if self._absent_since is not None:
            return self._timing.handover
        if ending:
            delay = self._ended_delay
            self._ended_delay = min(2 * delay, self._timing.poll_first)
            return delay
        delay = self._delay
        self._delay = min(1.5 * delay, self._timing.poll_most)
        return delay * random.uniform(0.8, 1.0)
