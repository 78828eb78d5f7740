"""Looking a prompt up over HTTP, and cancelling it by where it is. These calls block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple
from urllib.parse import quote

from comfyreport.errors import UnreachableError
from comfyreport.net.client import Client
from comfyreport.protocol import responses
from comfyreport.protocol.statuses import Response

# Prompts that may have ended between a submission and the look for it.
_RECENT = 20


class Lookup(NamedTuple):
    """What one look found; `queue` is None where it wasn't asked or gave no useful answer.

    `readable`: the history could be read, so that a prompt that isn't in it has not ended; `error` is what the
    server answered instead where something could not be read. `assigned_id` is the id that the server gave the prompt,
    where that was looked for. Where it was to be cancelled, `queue_before` is the queue as it was before that,
    `cancel_attempt` says what was done, in words, and `deleted` that it was deleted from the queue and will never run.
    """

    history: responses.History | None
    queue: responses.Queue | None
    cancel_attempt: str = ""
    readable: bool = True
    assigned_id: str | None = None
    error: UnreachableError | None = None
    queue_before: responses.Queue | None = None
    deleted: bool = False

    def location(self, prompt_id: str) -> Literal["queue", "nowhere", "unknown"]:
        """Where the prompt is that history doesn't have."""
        if self.queue is not None and self.queue.position(prompt_id) is not None:
            return "queue"
        return "nowhere" if self.queue is not None and self.readable else "unknown"


class Lookups:
    """Looks prompts up on one server, in the way that it has.

    ComfyUI from 0.33 on (server.py, /api/jobs) lists its queue without the graphs, and cancels in one step; where that
    isn't known it is tried once, and the older routes are taken where it fails.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._has_jobs: bool | None = None

    @property
    def extra_requests(self) -> int:
        """How many requests more a look makes while it isn't known which routes the server has."""
        return 1 if self._has_jobs is None else 0

    def queue(self, *, graphs: bool = False) -> tuple[responses.Queue | None, Response]:
        """The queue, None where what answers is none, and the answer. Raises UnreachableError.

        :param graphs: whether its entries must hold workflows and clients.
        """
        if not graphs and self._has_jobs is not False:
            answer = self._client.get("/api/jobs?status=pending,in_progress")
            queue = responses.read_jobs(answer.body)
            if queue is not None:
                self._has_jobs = True
            if queue is not None or (self._has_jobs and answer.status != 200):
                return queue, answer
            self._note_missing(answer)
        answer = self._client.get("/queue")
        return responses.read_queue(answer.body), answer

    def _note_missing(self, answer: Response) -> None:
        """Whatever stands before the server may answer in its place for a while: that tells nothing."""
        if answer.status in (200, 404, 405):
            self._has_jobs = False

    def look_up(self, prompt_id: str, *, graphs: bool = False) -> Lookup:
        """Look a prompt up: history first, which decides.

        Raises UnreachableError where there is no answer, or only that of a proxy which has no server behind it.
        """
        place = self._client.address.base
        answer = self._client.get(f"/history/{quote(prompt_id, safe='')}")
        history = responses.read_history(answer.body, prompt_id)
        if history is not None:
            return Lookup(history, None)
        error = None if answer.status == 200 and isinstance(answer.body, dict) else answer.as_error(place)
        readable = error is None
        queue, answer = self.queue(graphs=graphs)
        if queue is None:
            error = answer.as_error(place)
            if error.retryable and not readable:
                raise error
        return Lookup(None, queue, readable=readable, error=error)

    def look_up_submission(self, prompt_id: str, *, client_id: str) -> Lookup:
        """Look for a prompt whose POST had no answer: servers before `prompt_id` was added give it an id of their own.

        Nobody else has its client id. Raises UnreachableError as `look_up` does.
        """
        result = self.look_up(prompt_id, graphs=not self._has_jobs)
        if self._has_jobs or result.queue is None or result.location(prompt_id) != "nowhere":
            return result
        assigned_id = next((entry.prompt_id for entry in result.queue.all if entry.client_id == client_id), None)
        if assigned_id is None:
            recent = self._client.get(f"/history?max_items={_RECENT}")
            assigned_id = responses.find_submission(recent.body, client_id)
        return result._replace(assigned_id=assigned_id)

    def cancel_and_look_up(self, prompt_id: str, *, runs: bool, sure: bool) -> Lookup:
        """Cancel this prompt alone, by where it is now, then look for it. Raises UnreachableError.

        A pending one is deleted, a running one interrupted with its id. Servers from before ComfyUI PR #9607 interrupt
        whatever runs, so the queue is asked first; where it can't be read, *runs* says what the socket knows. Where the
        socket tells of it right now (*sure*), it is what runs, and nothing is asked first.
        """
        if sure:
            cancel_attempt = self._cancel_job(prompt_id) or self._interrupt(prompt_id)
            return self.look_up(prompt_id)._replace(cancel_attempt=cancel_attempt)
        queue_before, answer = self.queue()
        if runs if queue_before is None else prompt_id in _ids(queue_before.running):
            cancel_attempt = self._cancel_job(prompt_id) or self._interrupt(prompt_id)
        elif queue_before is None:
            cancel_attempt = f"the server doesn't tell where it is (HTTP {answer.status}), so nothing was sent to it"
        elif queue_before.position(prompt_id) is not None:
            cancel_attempt = self._cancel_job(prompt_id) or _attempt(
                self._client.post("/queue", {"delete": [prompt_id]}), "delete it from its queue"
            )
        else:
            cancel_attempt = ""
        result = self.look_up(prompt_id)
        return result._replace(
            queue_before=queue_before,
            cancel_attempt=cancel_attempt,
            deleted=_deleted(queue_before, result.queue, prompt_id),
        )

    def _cancel_job(self, prompt_id: str) -> str:
        """Cancel it in one step, wherever it is: what was done, in words; empty where the server can't do that."""
        if self._has_jobs is False:
            return ""
        answer = self._client.post(f"/api/jobs/{quote(prompt_id, safe='')}/cancel", {})
        if isinstance(answer.body, dict) and isinstance(answer.body.get("cancelled"), bool):
            self._has_jobs = True
            return "it was told to cancel it"
        self._note_missing(answer)
        return _attempt(answer, "cancel it") if self._has_jobs else ""

    def _interrupt(self, prompt_id: str) -> str:
        return _attempt(self._client.post("/interrupt", {"prompt_id": prompt_id}), "interrupt it")


def _deleted(queue_before: responses.Queue | None, after: responses.Queue | None, prompt_id: str) -> bool:
    """Whether it is certain, from two looks at the queue, that a prompt was deleted from it and will never run.

    To wait in *queue_before* and to be in neither queue nor history afterwards isn't enough: it may have begun before
    its deletion came, and be on its way from one to the other. But while the same others run, no worker is free to
    begin with it.
    """
    if queue_before is None or after is None or after.position(prompt_id) is not None:
        return False
    waited = prompt_id in _ids(queue_before.pending)
    return waited and bool(queue_before.running) and _ids(queue_before.running) == _ids(after.running)


def _ids(entries: Sequence[responses.QueueEntry]) -> set[str]:
    return {entry.prompt_id for entry in entries}


def _attempt(answer: Response, what: str) -> str:
    if answer.status >= 300:
        return f"the server refused to {what} (HTTP {answer.status})"
    return f"it was told to {what}"
