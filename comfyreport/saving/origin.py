"""What was asked for, as it is told beside what came of it: without secrets. Pure."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from comfyreport.access.secret_keys import hide_inputs
from comfyreport.shell import quote


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What was asked for: nothing in it is secret.

    `settings`: the inputs that were set, by `NODE.INPUT`; `files`: of those, the kinds and paths of uploaded files.
    `workflow`: its file; none where it came from elsewhere, or a plugin made another of it. `output`: as `--output`
    takes it.
    """

    server: str
    workflow: str | os.PathLike[str] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    include_temp: bool = False
    output: str | os.PathLike[str] = ""

    def fields(self) -> dict[str, Any]:
        """What a sidecar tells of it."""
        return {
            "server": self.server,
            "workflow": None if self.workflow is None else os.fspath(self.workflow),
            "inputs": hide_inputs(self.settings),
            "command": self.command,
        }

    @property
    def command(self) -> str | None:
        """The command that makes it again, as the system's shell takes it; None where there is no workflow's file."""
        if self.workflow is None:
            return None
        words = ["comfyreport", "--workflow", os.fspath(self.workflow), "--server", self.server]
        for name, value in hide_inputs(self.settings).items():
            if name in self.files:
                kind, path = self.files[name]
                words += [f"--{kind}", f"{name.rpartition('.')[0]}={path}"]
                continue
            text = value if isinstance(value, str) else json.dumps(value)
            words += ["--set", f"{name}=@{text}" if text.startswith("@") else f"{name}={text}"]
        words += ["--output", os.fspath(self.output), *(["--include-temp"] if self.include_temp else []), "--sidecar"]
        return " ".join(map(quote, words))
