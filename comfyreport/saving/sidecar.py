"""`--sidecar`: a file of JSON beside each one that is saved, which tells what made it, and how to make it again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from comfyreport._version import __version__
from comfyreport.events import Output
from comfyreport.run import Run
from comfyreport.saving.target import Target

_OUTPUTS_TOLD = 100
"""Outputs of the run that each sidecar lists: of a run that makes thousands, all of them would be millions of lines."""


def run_fields(run: Run, now: float) -> dict[str, Any]:
    """What a sidecar tells of its *run*, as seen at *now* seconds of its clock."""
    queue_seconds, seconds = run.times(now)
    outputs = [
        {"node_id": output.node.id, "index": output.index, "filename": output.filename, "path": output.path}
        for output in run.outputs[:_OUTPUTS_TOLD]
        if output.filename is not None
    ]
    return {
        "prompt_id": run.prompt_id,
        "run_index": run.run_index,
        "seed": run.seed,
        "queue_seconds": queue_seconds,
        "seconds": seconds,
        "node_seconds": run.nodes.seconds(),
        "cached": list(run.nodes.cached),
        "outputs_total": len(run.outputs),
        "outputs": outputs,
    }


def write_sidecars(
    target: Target, fields: Mapping[str, Any], outputs: Sequence[Output], *, wait: Callable[[], None]
) -> list[tuple[str, str]]:
    """Write one beside each of *outputs*; the files that can't have one, and why. Blocks.

    :param wait: is called between them; what it raises ends the writing.
    """
    failed: list[tuple[str, str]] = []
    assert target.origin is not None
    asked, at = target.origin.fields(), time.strftime("%Y-%m-%dT%H:%M:%S%z")
    for output in outputs:
        wait()
        told = {"comfyreport": __version__, "saved_at": at, "output": _output(output), **asked, **fields}
        try:
            target.write_beside(output, json.dumps(told, indent=2, ensure_ascii=False, default=str) + "\n")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            failed.append((f"{os.path.basename(output.path or '')}.json", f"could not be written: {reason}"))
    return failed


def _output(output: Output) -> dict[str, Any]:
    return {
        "node_id": output.node.id,
        "node": output.node.name,
        "title": output.node.title,
        "index": output.index,
        "kind": output.kind,
        "filename": output.filename,
        "subfolder": output.subfolder,
        "folder": output.folder,
        "url": output.url,
        "media_type": output.media_type,
        "bytes": output.bytes,
        "path": output.path,
        "cached": output.cached,
    }
