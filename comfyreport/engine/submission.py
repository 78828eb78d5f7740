"""The submission of one prompt: its POST, and what the answer means, or that there was none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from comfyreport import events as ev
from comfyreport.access.address import DEFAULT_SERVER
from comfyreport.errors import UnreachableError
from comfyreport.events import Instant
from comfyreport.inputs.allowed_values import add_allowed_values
from comfyreport.net.client import Client
from comfyreport.net.lookup import Lookup, Lookups
from comfyreport.protocol import responses
from comfyreport.protocol.messages import Json
from comfyreport.protocol.statuses import Response
from comfyreport.run import Run, verdict
from comfyreport.shell import quote

# Statuses that aren't ComfyUI's whatever the body says, those that keep everything out, and those that say that the
# server, which got the prompt, was too slow (408 and 499 are a proxy's of its client, which is another proxy).
_NOT_REFUSALS = (401, 404, 405, 407, 408, 499)
_LOGINS = (401, 405, 407)
_NO_ANSWER = (408, 499, 504, 524)


class Submission:
    """What became of the POST. `pending`: it was sent, and neither its answer nor its failure has come yet.

    `if_absent`: the verdict where the server then has the prompt in neither queue nor history, which an odd answer
    leaves open; None where that isn't decided by the answer.
    """

    def __init__(self, run: Run, client: Client) -> None:
        self.pending = False
        self.if_absent: verdict.Verdict | None = None
        self._run = run
        self._client = client
        self._unanswered = False
        self._graph: Json = None

    def call(self, body: Json) -> Callable[[], Response]:
        """The blocking call that submits *body*; from now on it is pending."""
        self.pending = True
        self._graph = body.get("prompt") if isinstance(body, dict) else None
        client = self._client
        return lambda: add_allowed_values(client, client.post("/prompt", body, timeout=client.timing.submit_timeout))

    def look(self, client_id: str) -> Callable[[Lookups, str], Lookup] | None:
        """How to look for a prompt of which it isn't known under which id the server has it, if that is so."""
        if self._unanswered and not self._run.queued:
            return partial(Lookups.look_up_submission, client_id=client_id)
        return None

    def answered(self, answer: Response, at: Instant) -> Sequence[ev.Event]:
        """The server's answer: the prompt is taken or refused, or it isn't known.

        Whatever stands between may answer in the server's place after it had passed the prompt on. Only what ComfyUI
        itself says is believed at once, and what keeps everything out (a login).
        """
        self.pending = False
        run, status = self._run, answer.status
        refs = run.nodes.refs()
        accepted = responses.read_accepted(answer.body, refs) if status == 200 else None
        refusing = 400 <= status < 500 and status not in _NOT_REFUSALS
        refused = responses.read_refused(answer.body, refs, self._graph) if refusing else None
        if fact := accepted or refused:
            return run.feed(fact, at)
        error = answer.as_error(self._client.address.base)
        if not run.queued and (status in _LOGINS or 300 <= status < 400):
            run.conclude(verdict.unreachable(error))
            return ()
        if status == 500:
            self.if_absent = verdict.server_failed(answer.text)
        elif status not in _NO_ANSWER:
            self.if_absent = verdict.unreachable(error)
        return self._lost(error, at)

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
    command = f"comfyreport attach {quote(prompt_id)}"
    return command if server == DEFAULT_SERVER else f"{command} --server {quote(server)}"
