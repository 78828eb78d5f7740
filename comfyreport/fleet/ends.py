"""The ends of runs that no server told, what changes an end, and how an engine fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from comfyreport import events as ev
from comfyreport.errors import ComfyReportError, UnreachableError, one_line
from comfyreport.jobs.run_context import RunContext
from comfyreport.run import verdict
from comfyreport.run.verdict import Verdict


def cut(context: RunContext) -> ev.RunFinished:
    """The end of a run of *context* that was cancelled before anything was submitted."""
    context.fail(KeyboardInterrupt())
    return context.results[-1]


def changed(result: ev.RunFinished, to: Verdict) -> ev.RunFinished:
    """*result* with another verdict."""
    return replace(
        result,
        status=to.status,
        exit_code=to.exit_code,
        error=to.error,
        prompt_state=to.prompt_state,
        submitted=to.submitted,
        retryable=to.retryable,
    )


def unsaved(result: ev.RunFinished, names: Sequence[str], cause: str, hint: str = "") -> ev.RunFinished:
    """*result* where the outputs of these *names* could not be brought to the command; *cause*: why."""
    before = Verdict(result.status, result.error, result.prompt_state, result.submitted, result.retryable)
    after = verdict.unsaved(before, names, cause)
    if after.error is not None and after is not before and hint:
        after = after._replace(error=replace(after.error, hint=hint))
    return changed(result, after)


def worker_lost(what: str, attempts: int, note: object) -> Verdict:
    """Each worker that began the run died."""
    error = ev.ErrorInfo(
        code="worker_lost",
        message=f"{what}, in each of {attempts} attempts" if attempts > 1 else what,
        hint="look into the workers' logs: the machine's memory is the likely cause; then run it again",
    )
    begun = note is not None
    return Verdict("lost", error, "unknown" if begun else "none", "unknown" if begun else "no", retryable=True)


class GivenUpError(Exception):
    """The engine gave a run up that nobody here cancelled."""


def unusable(shown: str, error: BaseException) -> ComfyReportError:
    """*error* of an engine as the user is told of it."""
    hint = "look into the logs of the engine and of its workers, then run it again"
    said = "it gave its runs up; was it stopped?" if isinstance(error, GivenUpError) else one_line(error)[:300]
    return UnreachableError(f"{shown} failed: {said}", hint=hint, code="engine", retryable=True)
