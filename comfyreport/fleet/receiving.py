"""Outputs that a worker sent back: they go where `--output` says, as those of a run on this machine do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from comfyreport import events as ev
from comfyreport.errors import UsageError
from comfyreport.fleet.ends import unsaved
from comfyreport.jobs.job import Job, target_of
from comfyreport.jobs.run_context import RunContext
from comfyreport.saving.target import Target


def save_sent(
    context: RunContext, job: Job, result: ev.RunFinished, files: Sequence[tuple[int, bytes]]
) -> tuple[list[ev.Event], ev.RunFinished]:
    """Save *files*, outputs of *result* by their place; what is told of that, and the end as it is then. Blocks."""
    told: list[ev.Event] = []
    outputs = list(result.outputs)
    failed: list[str] = []
    cause = ""
    target: Target | None = None
    with ExitStack() as stack:
        for position, data in files:
            output = outputs[position]
            try:
                # One for all of them: the second doesn't replace the first.
                target = target or target_of(context, job, None, stack)
                assert target is not None
                spot = target.spot(output, {"prompt_id": result.prompt_id, "seed": result.seed})
                outputs[position] = target.put(output, target.receive(spot, [data]), spot)
                told.append(_event(result, ev.OutputSaved, output=outputs[position]))
            except (OSError, UsageError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                cause = cause or reason
                failed.append(str(output.filename))
                message = f"{output.filename} could not be saved: {reason}"
                told.append(_event(result, ev.Warning, code="download_failed", message=message, node=output.node))
    result = replace(result, outputs=tuple(outputs))
    return told, unsaved(result, failed, cause) if failed else result


def _event(result: ev.RunFinished, cls: Callable[..., ev.Event], **fields: object) -> ev.Event:
    """An event right before *result*."""
    return cls(seq=0, time=result.time, elapsed=0.0, prompt_id=result.prompt_id, run_index=result.run_index, **fields)
