"""The submission of one prompt: its POST, and what the answer means, or that there was none."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from functools import partial

from comfyreport import events as ev
from comfyreport.access.address import DEFAULT_SERVER
from comfyreport.engine.lookup import Lookup, look_up_submission
from comfyreport.errors import UnreachableError
from comfyreport.events import Instant
from comfyreport.net.client import Client
from comfyreport.protocol import responses
from comfyreport.protocol.messages import Json
from comfyreport.protocol.statuses import Response
from comfyreport.run import Run, verdict


class Submission:
    """What became of the POST. `pending`: it was sent, and neither its answer nor its failure has come yet.

    `proxy_error`: a proxy said that it found no server for it. That is looked into, but most likely it is so.
    """

    def __init__(self, run: Run, client: Client) -> None:
        self.pending = False
        self.proxy_error: UnreachableError | None = None
        self._run = run
        self._client = client
        self._unanswered = False

    def call(self, body: Json) -> Callable[[], Response]:
        """The blocking call that submits *body*; from now on it is pending."""
        self.pending = True
        return lambda: self._client.post("/prompt", body, timeout=self._client.timing.submit_timeout)

    def look(self, client_id: str) -> Callable[[Client, str], Lookup] | None:
        """How to look for a prompt of which it isn't known under which id the server has it, if that is so."""
        if self._unanswered and not self._run.queued:
            return partial(look_up_submission, client_id=client_id)
        return None

    def answered(self, answer: Response, at: Instant) -> Sequence[ev.Event]:
        """The server's answer: the prompt is taken or refused, or this is no ComfyUI."""
        self.pending = False
        run = self._run
        refs = run.nodes.refs()
        accepted = responses.read_accepted(answer.body, refs) if answer.status == 200 else None
        refused = responses.read_refused(answer.body, refs) if answer.status in (400, 422) else None
        if fact := accepted or refused:
            return run.feed(fact, at)
        proxy_error = answer.as_error(self._client.address.base)
        if run.queued or proxy_error.retryable:
            # Frames of the run have come, or a proxy had no answer from the server, which may have it all the same.
            self.proxy_error = proxy_error if answer.status in (429, 502, 503) else None
            return self._lost(proxy_error, at)
        if answer.status == 500:
            run.conclude(verdict.server_failed(answer.text))
        else:
            run.conclude(verdict.unreachable(proxy_error))
        return ()

    def failed(self, error: BaseException, at: Instant) -> Sequence[ev.Event]:
        """The POST broke: unless it never left, it must be looked for whether the server has the prompt."""
        self.pending = False
        known = error if isinstance(error, UnreachableError) else UnreachableError(str(error))
        if not known.sent and not self._run.queued:
            self._run.conclude(verdict.unreachable(known))
            return ()
        return self._lost(known, at)

    def _lost(self, known: UnreachableError, at: Instant) -> Sequence[ev.Event]:
        self._unanswered = True
        message = f"the answer to the submission was lost: {known.message}"
        return self._run.emit(ev.Warning, at, code="answer_lost", message=message)


def attach_command(prompt_id: str, server: str) -> str:
    """What to type to follow a prompt again, safe for a shell; *server* is an address without credentials."""
    command = f"comfyreport attach {shlex.quote(prompt_id)}"
    return command if server == DEFAULT_SERVER else f"{command} --server {shlex.quote(server)}"
