"""`--sidecar`: a file of JSON beside each one that is saved, which tells what made it and how to make it again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from comfyreport._version import __version__
from comfyreport.access.secret_keys import hide
from comfyreport.events import Output
from comfyreport.run import Run
from comfyreport.shell import quote

if TYPE_CHECKING:
    from comfyreport.saving.target import Target

_OUTPUTS_TOLD = 100
"""Outputs of the run that each sidecar lists: of a run that makes thousands, all of them would be millions of lines."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What was asked for: nothing in it is secret.

    `settings`: the inputs that were set, by `NODE.INPUT`. `workflow`: its file; none where it came from elsewhere.
    `prompt_id`: that of a prompt which was only followed. `output`: as `--output` takes it.
    """

    server: str
    workflow: str | os.PathLike[str] | None = None
    prompt: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    output: str | os.PathLike[str] = ""

    def fields(self) -> dict[str, Any]:
        """What a sidecar tells of it."""
        return {
            "server": self.server,
            "workflow": None if self.workflow is None else os.fspath(self.workflow),
            "prompt": self.prompt,
            "inputs": self._settings,
            "command": self.command,
        }

    @property
    def _settings(self) -> dict[str, Any]:
        # A key for a paid service is an input of some nodes.
        return {name: hide({name.rpartition(".")[2]: value}).popitem()[1] for name, value in self.settings.items()}

    @property
    def command(self) -> str | None:
        """The command that makes it again, as the system's shell takes it; None where there is no workflow's file."""
        if self.workflow is None:
            return None
        words = ["comfyreport", "--workflow", os.fspath(self.workflow), "--server", self.server]
        if self.settings:
            for name, value in self._settings.items():
                words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
        elif self.prompt is not None:
            words += ["--prompt", self.prompt]
        words += ["--output", os.fspath(self.output), "--sidecar"]
        return " ".join(map(quote, words))


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
