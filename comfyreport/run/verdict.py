"""The verdict: how a run ended, decided here and nowhere else, from what HTTP and the socket said. Pure.

History decides. Where it can't be had, a typed error or interrupt from the socket is believed, for the server sends
one only when it is so; a success isn't, because without history its outputs aren't known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from comfyreport.errors import UnreachableError
from comfyreport.estimates.estimator import Estimate
from comfyreport.events import EXIT_CODES, ErrorInfo, NodeRef, PromptState, Status, Submitted
from comfyreport.protocol.messages import ExecutionError, ExecutionInterrupted
from comfyreport.protocol.responses import History
from comfyreport.run.nodes import Nodes

_TRACEBACK_LINES = 12
_LINE_LENGTH = 1000
_MESSAGE_LENGTH = 4000
# Names of files that one message tells.
_NAMES_SHOWN = 10


class Verdict(NamedTuple):
    """How a run ended."""

    status: Status
    error: ErrorInfo | None = None
    prompt_state: PromptState = "none"
    submitted: Submitted = "no"
    retryable: bool = False

    @property
    def exit_code(self) -> int:
        """The run's exit code."""
        return EXIT_CODES[self.status]


class Cancel(NamedTuple):
    """Why the prompt is being cancelled, which decides the run's status: without a `reason`, the user wants it.

    `hint` is the next step where there is a reason.
    """

    status: Status = "cancelled"
    code: str = "cancelled"
    reason: str = ""
    hint: str = ""

    @property
    def by_user(self) -> bool:
        """Whether the user wants it, so that it counts as cancelled whatever came of it."""
        return not self.reason

    def end(
        self, said: str, state: PromptState, submitted: Submitted, *, hint: str = "", node: NodeRef | None = None
    ) -> Verdict:
        """How the run ends, behind the reason; *said* and *hint*: what became of the cancel, and what to do of it."""
        message, hint = ("; ".join(filter(None, parts)) for parts in ((self.reason, said), (self.hint, hint)))
        return Verdict(self.status, ErrorInfo(code=self.code, message=message, hint=hint, node=node), state, submitted)

    def confirmed(self, where: str = "", node: NodeRef | None = None) -> Verdict:
        """The server has cancelled the prompt; *where* it was then."""
        return self.end(f"cancelled by the user{where}" if self.by_user else "", "cancelled", "yes", node=node)


BY_USER = Cancel()

# What estimates rest on, where they may cancel a run.
_BASES = {"history": "earlier runs of this workflow", "similar": "earlier runs of similar workflows"}


def exceeds(limit: float, elapsed: float, estimate: Estimate | None) -> bool:
    """Whether a run won't be done within *limit* seconds of its beginning, even if all goes well from here on.

    What only this run showed is no basis for that: its first steps are too odd.
    """
    return estimate is not None and estimate.basis in _BASES and elapsed + estimate.low > limit


def over_limit(limit: float, elapsed: float, estimate: Estimate) -> Cancel:
    """The prompt is cancelled because of *estimate*, *elapsed* seconds after the beginning."""
    times = (elapsed, estimate.low, estimate.high, elapsed + estimate.high)
    now, low, high, total = (f"{round(seconds, 1):g}" for seconds in times)
    late = f"the run won't be done within the {limit:g} s of --max-eta"
    basis = f"judging by {_BASES[estimate.basis]} (basis: {estimate.basis})"
    rest = f"after {now} s there are {low} to {high} s left, {basis}"
    hint = f"raise --max-eta (up to {total} s are needed in all), or ask for less"
    return Cancel("timeout", "time_limit", f"{late}: {rest}", hint)


def late(limit: float) -> Cancel:
    """The prompt is cancelled because *limit* seconds are over."""
    return Cancel("timeout", "time_limit", f"the time limit of {limit:g} s is over", "raise --timeout, or ask for less")


@dataclass(slots=True)
class Outcome:
    """What is known of the end so far.

    `success`, `error` and `interrupted` are the socket's messages, `worker_done` its `executing` with node null, which
    the prompt worker sends when it is done with the prompt. `cancel`: why the prompt is being cancelled, if it is.
    `submitted`: whether the server got the prompt; `expected_outputs` is how many files the user wants at least.
    """

    success: bool = False
    error: ExecutionError | None = None
    interrupted: ExecutionInterrupted | None = None
    worker_done: bool = False
    cancel: Cancel | None = None
    submitted: Submitted = "yes"
    expected_outputs: int = 0
    dropped_outputs: ErrorInfo | None = None
    blocked_nodes: list[ErrorInfo] = field(default_factory=list)

    def succeed(self) -> None:
        """The socket said that the prompt succeeded: so no limit wants it cancelled any more."""
        self.success = True
        if self.cancel is not None and not self.cancel.by_user:
            self.cancel = None

    @property
    def cancelling(self) -> bool:
        """Whether the prompt is being cancelled."""
        return self.cancel is not None

    @property
    def finished(self) -> bool:
        """Whether the socket said how the prompt ended, which it says only when it is so."""
        return self.success or self.error is not None or self.interrupted is not None

    @property
    def ended(self) -> bool:
        """Whether the socket said that the prompt is over, one way or another: history will tell."""
        return self.worker_done or self.finished


def end_of(history: History, outcome: Outcome) -> Literal["success", "error", "interrupted"]:
    """How the prompt ended by its history; where that is ambiguous, by the socket."""
    ambiguous = not history.has_status or (history.end == "error" and history.error is None)
    if ambiguous and outcome.interrupted is not None:
        return "interrupted"
    if ambiguous and outcome.error is not None:
        return "error"
    return history.end


def from_history(history: History, outcome: Outcome, nodes: Nodes, files: int) -> Verdict:
    """The verdict once history has the prompt; *files* is how many files the run made."""
    end = end_of(history, outcome)
    if end == "interrupted":
        return _interrupted(history.interrupted or outcome.interrupted, outcome, nodes)
    if end == "error":
        return Verdict("error", _node_error(history.error or outcome.error, nodes), "finished", "yes")
    if outcome.cancel is not None and outcome.cancel.by_user:
        return outcome.cancel.end("the prompt had finished before it could be cancelled", "finished", "yes")
    if outcome.dropped_outputs is not None:
        return Verdict("partial", outcome.dropped_outputs, "finished", "yes")
    if outcome.blocked_nodes:
        return Verdict("partial", outcome.blocked_nodes[0], "finished", "yes")
    if files < outcome.expected_outputs:
        message = f"the run made {files} files, {outcome.expected_outputs} were expected"
        return Verdict("partial", ErrorInfo(code="too_few_outputs", message=message), "finished", "yes")
    return Verdict("success", None, "finished", "yes")


def without_history(outcome: Outcome, nodes: Nodes, code: str, message: str, hint: str) -> Verdict:
    """The verdict when history can't be had: the socket's error or interrupt, else lost."""
    if outcome.interrupted is not None:
        return _interrupted(outcome.interrupted, outcome, nodes)
    if outcome.error is not None:
        return Verdict("error", _node_error(outcome.error, nodes), "finished", "yes")
    if outcome.cancel is not None:
        unconfirmed = "the prompt was to be cancelled, but the server did not confirm it"
        return outcome.cancel.end(unconfirmed, "unknown", outcome.submitted, hint=message)
    if outcome.success:
        message = f"the server said that the run succeeded, but its outputs can't be learned: {message}"
    error = ErrorInfo(code=code, message=message, hint=hint)
    return Verdict("lost", error, "unknown", outcome.submitted, retryable=code in ("server_restarted", "server_gone"))


def _interrupted(interrupt: ExecutionInterrupted | None, outcome: Outcome, nodes: Nodes) -> Verdict:
    ref: NodeRef | None = None
    if interrupt is not None and interrupt.node is not None:
        ref = nodes.node(nodes.display_id(interrupt.node)).ref
    if outcome.cancel is not None:
        return outcome.cancel.confirmed(node=ref)
    error = ErrorInfo(
        code="interrupted",
        message="the prompt was interrupted on the server",
        hint="somebody else stopped it, in the browser or through the API; run it again",
        node=ref,
    )
    return Verdict("interrupted", error, "finished", "yes", retryable=True)


def _node_error(error: ExecutionError | None, nodes: Nodes) -> ErrorInfo:
    if error is None:
        return ErrorInfo(
            code="node_error",
            message="the server says that the run failed, but not why",
            hint="look into the server's log",
        )
    node = nodes.node(nodes.display_id(error.node)).ref
    if not node.class_type and error.node_type:
        node = NodeRef(id=node.id, class_type=error.node_type, title=error.node_type)
    out_of_memory = _is_out_of_memory(error)
    return ErrorInfo(
        code="out_of_memory" if out_of_memory else "node_error",
        message=error.message[:_MESSAGE_LENGTH] or error.exception_type or "the node failed without a message",
        hint=(
            "use a smaller size or batch, or free the server's memory (POST /free), and run it again"
            if out_of_memory
            else "look at the node's inputs; the server's log has the whole traceback"
        ),
        node=node,
        exception_type=error.exception_type or None,
        traceback=tuple(line[:_LINE_LENGTH] for line in error.traceback[-_TRACEBACK_LINES:]),
    )


def _is_out_of_memory(error: ExecutionError) -> bool:
    """Whether memory ran out: torch's own exception, its older text, or Python's (ComfyUI model_management.py)."""
    kind = error.exception_type
    return kind.endswith("OutOfMemoryError") or kind == "MemoryError" or "out of memory" in error.message.lower()


def blocked_node(error: ExecutionError, nodes: Nodes) -> ErrorInfo:
    """Why a run with a blocked node is partial."""
    return ErrorInfo(
        code="blocked",
        message=error.message[:_MESSAGE_LENGTH] or "the node blocked what comes after it",
        hint="outputs below the blocked node were not made",
        node=nodes.node(nodes.display_id(error.node)).ref,
    )


# --- ends that comfyreport itself decides on


def prompt_state_of(
    outcome: Outcome, started: bool, queued: bool, *, sent: bool, absent: bool
) -> tuple[PromptState, Submitted]:
    """Where a prompt is as far as known, and whether the server got it.

    *sent*: it may have got it; *absent*: it has it in neither queue nor history, where one is that has just ended. One
    that is being cancelled may go on or not.
    """
    if not sent:
        return "none", "no"
    if not queued:
        return "unknown", "unknown"
    if outcome.finished:
        return "finished", "yes"
    if absent or outcome.worker_done or outcome.cancelling:
        return "unknown", "yes"
    return "running" if started else "pending", "yes"


def unreachable(error: UnreachableError, *, sent: bool = False) -> Verdict:
    """No usable ComfyUI: nothing was submitted, unless that was done before (*sent*)."""
    info = ErrorInfo(code=error.code, message=error.message, hint=error.hint)
    state: tuple[PromptState, Submitted] = ("unknown", "unknown") if sent else ("none", "no")
    return Verdict("unreachable", info, *state, error.retryable)


def server_failed(text: str) -> Verdict:
    """The server answered the submission with an error of its own (ComfyUI does so where a body makes it raise)."""
    message = f"the server failed on the workflow: {' '.join(text.split())[:200]}"
    return Verdict("rejected", ErrorInfo(code="server_error", message=message, hint="look into the server's log"))


def deleted() -> Verdict:
    """The prompt was in the queue, and is now in neither queue nor history."""
    error = ErrorInfo(
        code="deleted",
        message="the prompt was deleted from the queue before it ran",
        hint="somebody cleared it in the browser or through the API; run it again",
    )
    return Verdict("lost", error, "none", "yes", True)


def vanished(outcome: Outcome, nodes: Nodes, *, seen: bool, was_down: bool, dropped: bool) -> Verdict:
    """The prompt is in neither queue nor history, and isn't known to have been deleted.

    *seen*: the server has had it; *was_down*: for a while the server could not be reached; *dropped*: the connection
    broke, as a quick restart makes it.
    """
    if was_down or dropped:
        cause = "was restarted" if was_down else "closed the connection, probably to restart,"
        message = f"the server {cause} and has forgotten the prompt"
        return without_history(outcome, nodes, "server_restarted", message, "run it again")
    message = "the server answers, but has the prompt in neither its queue nor its history"
    hint = "run it again" if seen else "check the id; a server forgets its prompts when it is restarted"
    return without_history(outcome, nodes, "prompt_vanished", message, hint)


def unreadable(outcome: Outcome, nodes: Nodes, refusal: UnreachableError | None) -> Verdict:
    """The server answers, but its queue or history could long not be read; *refusal* is what it said instead."""
    message = "the server answers, but its history or its queue can't be read"
    if refusal is None:
        return without_history(outcome, nodes, "no_history", message, "look into the server's log")
    auth = refusal.code == "auth"
    hint = refusal.hint if auth else "look into the server's log, and for the prompt there"
    return without_history(outcome, nodes, "auth" if auth else "no_history", f"{message}: {refusal.message}", hint)


def server_gone(outcome: Outcome, nodes: Nodes, unanswered: float) -> Verdict:
    """The server has not answered for *unanswered* seconds."""
    message = f"the server has not answered for {unanswered:.0f} s"
    active = next(iter(reversed(nodes.active.values())), None)
    if active is not None:
        bar = active.active_bar
        message += f", last seen in {active.ref.title}" + (f" at {bar.value:g}/{bar.maximum:g}" if bar else "")
    elif nodes.executed:
        message += f", last seen after {nodes.node(list(nodes.executed)[-1]).ref.title}"
    hint = "see whether the server died (out of memory is the likely cause), then run it again"
    return without_history(outcome, nodes, "server_gone", message, hint)


def timed_out(limit: float, command: str, state: PromptState, submitted: Submitted) -> Verdict:
    """The user's limit of *limit* seconds is over; the prompt is left where it is, and *command* follows it."""
    message = f"the time limit of {limit:g} s is over"
    error = ErrorInfo(code="time_limit", message=message, hint=_follow(command, submitted))
    # A prompt that the server still runs would run twice.
    return Verdict("timeout", error, state, submitted, submitted == "no")


def timed_out_while_saving(limit: float) -> Verdict:
    """The user's limit of *limit* seconds is over; the run succeeded, but not all its outputs were saved in time."""
    message = f"the time limit of {limit:g} s was over before all outputs were saved"
    error = ErrorInfo(code="time_limit", message=message, hint="fetch them from the URLs of the outputs")
    return Verdict("timeout", error, "finished", "yes", True)


def _follow(command: str, submitted: Submitted) -> str:
    return "" if submitted == "no" else f"follow it with: {command}"


def cancelled(
    message: str, state: PromptState, submitted: Submitted, *, command: str = "", cancel: Cancel = BY_USER
) -> Verdict:
    """The user, or what *cancel* tells of, stopped the run; *command* follows the prompt where it may still run."""
    hint = f"look at the server's queue, or {_follow(command, submitted)}" if state == "unknown" and command else ""
    return cancel.end(message, state, submitted, hint=hint)


def detached(command: str, state: PromptState, submitted: Submitted, *, cancelling: bool) -> Verdict:
    """The user left, and the prompt goes on, as far as known; *cancelling*: unless it is cancelled by now."""
    message = "left; the prompt goes on" if state in ("pending", "running") else "left; the prompt was left as it is"
    message = "left; whether the prompt was cancelled is not known" if cancelling else message
    error = ErrorInfo(code="detached", message=message, hint=_follow(command, submitted))
    return Verdict("detached", error, state, submitted)


def unsaved(verdict: Verdict, names: Sequence[str], cause: str) -> Verdict:
    """*verdict* where the outputs of these *names* could not be saved; *cause*: why, of the first one."""
    if verdict.status != "success":
        return verdict
    shown = ", ".join(names[:_NAMES_SHOWN])
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    message = f"the run succeeded, but these outputs could not be saved: {shown}{more}"
    error = ErrorInfo(
        code="download_failed",
        message=message + (f" ({cause})" if cause else ""),
        hint="fetch them from the URLs of the outputs",
    )
    return verdict._replace(status="partial", error=error, retryable=True)


def cancelled_while_saving(verdict: Verdict) -> Verdict:
    """*verdict* where the user stopped comfyreport before all outputs were saved."""
    error = ErrorInfo(code="cancelled", message="stopped by the user before all outputs were saved")
    return verdict._replace(status="cancelled", error=error)
