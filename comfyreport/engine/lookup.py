"""The second witness: one look over HTTP, what it may do to cancel a prompt, and when to look again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, NamedTuple
from urllib.parse import quote

from comfyreport.errors import UnreachableError
from comfyreport.net.client import Client, Response
from comfyreport.protocol import responses
from comfyreport.timing import Timing

# Prompts that may have ended between a submission and the look for it.
_RECENT = 20


class Lookup(NamedTuple):
    """What one look found; `queue` is None where it wasn't asked or gave no useful answer.

    `readable`: the history could be read, so that a prompt that isn't in it has not ended; `refusal` is what the
    server answered instead where something could not be read. `given` is the id that the server gave the prompt,
    where that was looked for. Where it was to be cancelled, `before` is the queue as it was then, `tried` tells what
    was done, in words, and `deleted` says that it was deleted from the queue and will never run.
    """

    history: responses.History | None
    queue: responses.Queue | None
    tried: str = ""
    readable: bool = True
    given: str | None = None
    refusal: UnreachableError | None = None
    before: responses.Queue | None = None
    deleted: bool = False

    def where(self, prompt_id: str) -> Literal["queue", "nowhere", "unknown"]:
        """Where the prompt is that history doesn't have."""
        if self.queue is not None and self.queue.position(prompt_id) is not None:
            return "queue"
        return "nowhere" if self.queue is not None and self.readable else "unknown"


def look_up(client: Client, prompt_id: str) -> Lookup:
    """Lookup for a prompt: history first, for it is the last word; the queue carries every queued graph.

    Raises UnreachableError where there is no answer, or only that of a proxy which has no server behind it.
    """
    place = client.address.base
    answer = client.get(f"/history/{quote(prompt_id, safe='')}")
    history = responses.read_history(answer.body, prompt_id)
    if history is not None:
        return Lookup(history, None)
    refusal = None if answer.status == 200 and isinstance(answer.body, dict) else answer.as_error(place)
    readable = refusal is None
    answer = client.get("/queue")
    queue = responses.read_queue(answer.body)
    if queue is None:
        refusal = answer.as_error(place)
        if refusal.retryable and not readable:
            raise refusal
    return Lookup(None, queue, readable=readable, refusal=refusal)


def look_up_submission(client: Client, prompt_id: str, client_id: str) -> Lookup:
    """Lookup for a prompt whose POST had no answer: servers before `prompt_id` was added give it an id of their own.

    Nobody else has its client id. Raises UnreachableError as `look` does.
    """
    found = look_up(client, prompt_id)
    if found.queue is None or found.where(prompt_id) != "nowhere":
        return found
    given = next((entry.prompt_id for entry in found.queue.all if entry.client_id == client_id), None)
    if given is None:
        given = responses.find_submission(client.get(f"/history?max_items={_RECENT}").body, client_id)
    return found._replace(given=given)


def cancel_and_look_up(client: Client, prompt_id: str, *, runs: bool) -> Lookup:
    """Cancel this prompt alone, by where it is now, then look for it. Raises UnreachableError.

    A pending one is deleted, a running one interrupted with its id. Servers from before ComfyUI PR #9607 interrupt
    whatever runs, so the queue is asked first; where it can't be read, *runs* says what the socket knows.
    """
    answer = client.get("/queue")
    before = responses.read_queue(answer.body)
    if runs if before is None else prompt_id in _ids(before.running):
        tried = _told(client.post("/interrupt", {"prompt_id": prompt_id}), "interrupt it")
    elif before is None:
        tried = f"the server doesn't tell where it is (HTTP {answer.status}), so nothing was sent to it"
    elif before.position(prompt_id) is not None:
        tried = _told(client.post("/queue", {"delete": [prompt_id]}), "delete it from its queue")
    else:
        tried = ""
    found = look_up(client, prompt_id)
    return found._replace(before=before, tried=tried, deleted=_deleted(before, found.queue, prompt_id))


def _deleted(before: responses.Queue | None, after: responses.Queue | None, prompt_id: str) -> bool:
    """Whether it is certain, from two looks at the queue, that a prompt was deleted from it and will never run.

    To wait *before* and to be in neither queue nor history *after* isn't enough: it may have begun before its deletion
    came, and be on its way from one to the other. But while the same others run, no worker is free to begin with it.
    """
    if before is None or after is None or after.position(prompt_id) is not None:
        return False
    waited = prompt_id in _ids(before.pending)
    return waited and bool(before.running) and _ids(before.running) == _ids(after.running)


def _ids(entries: Sequence[responses.QueueEntry]) -> set[str]:
    return {entry.prompt_id for entry in entries}


def _told(answer: Response, what: str) -> str:
    if answer.status >= 300:
        return f"the server refused to {what} (HTTP {answer.status})"
    return f"it was told to {what}"


class RequestBudget:
    """How many requests may be made: a few at once, then one every *pause* seconds.

    To cancel, some may be made in advance. In any minute, and at the usual pause, there are fewer than 60.
    """

    _AT_ONCE = 16.0
    _IN_ADVANCE = 8.0

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._left = self._AT_ONCE
        self._at = 0.0

    def take(self, count: int, now: float, *, urgent: bool = False) -> float:
        """Take *count* requests at *now* seconds: 0, or the seconds until that may be tried again."""
        self._left = min(self._AT_ONCE, self._left + max(0.0, now - self._at) / self._pause)
        self._at = now
        missing = count - self._left - (self._IN_ADVANCE if urgent else 0.0)
        if missing > 0:
            # Never so little that a clock wouldn't tell it.
            return max(missing, 0.05) * self._pause
        self._left -= count
        return 0.0


class PollSchedule:
    """When to look again, and whether a prompt that is nowhere is gone. Polite: 1 s growing to 10 s, with jitter."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._delay = timing.poll_first
        self._ended_delay = timing.history_poll
        self._cancel_delay = timing.poll_first / 4
        self._absent_since: float | None = None
        self._unknown_since: float | None = None

    def reset(self) -> None:
        """The socket tells of the run: no need to look."""
        self._delay = self._timing.poll_first
        self.present()

    def present(self) -> None:
        """The queue has the prompt."""
        self._absent_since = self._unknown_since = None

    @property
    def absent(self) -> bool:
        """Whether the last look that could tell found the prompt in neither queue nor history."""
        return self._absent_since is not None

    def gone(self, began: float, now: float) -> bool:
        """A look that *began* then found the prompt in neither place: true the second time, over the hand-over gap.

        Once tells nothing: history is asked before the queue, and between the two the prompt may have moved from the
        queue into history; a server may also have it in neither while it hands it over. So the second look must have
        begun, not only ended, when the gap was over: an answer that was slow tells of an earlier moment.
        """
        self._unknown_since = None
        if self._absent_since is None:
            self._absent_since = now
            return False
        return began >= self._absent_since + self._timing.handover

    def unreadable(self, now: float) -> bool:
        """The server answers, but not so that it could be known where the prompt is: true when that lasts."""
        self._absent_since = None
        if self._unknown_since is None:
            self._unknown_since = now
        return now - self._unknown_since >= self._timing.unknown_state

    def next_delay(self, *, cancelling: bool, ending: bool) -> float:
        """Seconds until the next look."""
        if cancelling:
            delay = self._cancel_delay
            self._cancel_delay = min(2 * delay, 2 * self._timing.poll_first)
            return delay
        if self._absent_since is not None:
            return self._timing.handover
        if ending and self._ended_delay < self._timing.poll_first:
            delay = self._ended_delay
            self._ended_delay = 2 * delay
            return delay
        delay = self._delay
        self._delay = min(1.5 * delay, self._timing.poll_max)
        if self._unknown_since is not None:
            # That must not last longer than it is borne.
            delay = min(delay, self._timing.unknown_state / 5)
        return delay * random.uniform(0.8, 1.0)
