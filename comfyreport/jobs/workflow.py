"""The workflow of a job: read, and set as the user asks."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from comfyreport.access.secret_keys import hide
from comfyreport.errors import UsageError
from comfyreport.events import InputValue
from comfyreport.files import expanded
from comfyreport.text import bounded, printable
from comfyreport.workflow.files import STDIN, Converter, Workflow, from_mapping, load
from comfyreport.workflow.settings import MAX_SEED, Settings, find_settings

MAX_TEXT = 16 * 1024 * 1024
"""Bytes of a file whose text becomes an input."""


def load_workflow(
    workflow: str | os.PathLike[str] | Mapping[str, Any] | Workflow, folder: str, settings: Settings, convert: Converter
) -> Workflow:
    """*workflow*, a file, a graph, or what was read before, with *settings*; relative paths start at *folder*.

    Reads files. Raises UsageError or WorkflowError, and what *convert* raises.
    """
    if isinstance(workflow, Workflow):
        found = workflow
    elif isinstance(workflow, Mapping):
        found = from_mapping(workflow, convert)
    elif not os.fspath(workflow):
        raise UsageError("the workflow's name is empty", hint="give --workflow the path of a file")
    else:
        stdin = os.fspath(workflow) == STDIN
        found = load(STDIN if stdin else os.path.join(folder, workflow), shown=os.fspath(workflow), convert=convert)

    _need_one_reader(workflow, settings)

    def read(path: str) -> str:
        return _read(expanded(path), folder)

    if settings.prompt_file is not None:
        settings = replace(settings, prompt=read(settings.prompt_file))
    if settings.seed == "random":
        settings = replace(settings, seed=random.SystemRandom().randint(0, MAX_SEED))
    return found.with_settings(find_settings(found.graph, settings, read, found.editor_nodes))


def inputs_set(workflow: Workflow) -> tuple[InputValue, ...]:
    """What was set in *workflow*, as reporters are told: without secrets, a key for a paid service being an input."""
    refs = {ref.id: ref for ref in workflow.manifest()}
    return tuple(
        InputValue(node=refs[node], name=name, value=bounded(hide({name: setting.value})[name]))
        for (node, name), setting in workflow.settings.items()
    )


def _need_one_reader(workflow: object, settings: Settings) -> None:
    """UsageError where stdin is to be read more than once: it would be empty then."""
    readers = ["--workflow"] if workflow == STDIN else []
    readers += ["--prompt-file"] if settings.prompt_file == STDIN else []
    readers += ["--set"] * sum(assignment.endswith(f"=@{STDIN}") for assignment in settings.assignments)
    if len(readers) > 1:
        raise UsageError(f"stdin can't be read by {' and '.join(readers)}: it comes once", hint="name files")


def _read(path: str, folder: str) -> str:
    """The text of a file, without the end of its last line."""
    if not path:
        raise UsageError("the name of the file with the text is empty", hint="name a file; - for stdin")
    shown = "stdin" if path == STDIN else printable(path, 200) or '""'
    try:
        stdin = path == STDIN
        with open(0, "rb", closefd=False) if stdin else open(os.path.join(folder, path), "rb") as file:
            data = file.read(MAX_TEXT + 1)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown} isn't UTF-8 text (byte {error.start})", hint="save it as UTF-8") from None
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"{shown} can't be read: {cause}", hint="name a file with the text; @@ begins a text with @"
        ) from None
    if len(data) > MAX_TEXT:
        raise UsageError(
            f"{shown} is larger than {MAX_TEXT // 1024 // 1024} MiB", hint="name a file with the text alone"
        )
    return text.removesuffix("\n").removesuffix("\r")
