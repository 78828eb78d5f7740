"""The workflow of a job: read, and set as the user asks."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
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
    found = workflow if isinstance(workflow, Workflow) else read_workflow(workflow, folder, convert)
    readers = stdin_readers(settings)
    need_one_reader([*(["--workflow"] if workflow == STDIN else []), *readers])

    def read(path: str) -> str:
        return read_text(path, folder)

    if settings.prompt_file is not None:
        settings = replace(settings, prompt=read(settings.prompt_file))
    if settings.seed == "random":
        settings = replace(settings, seed=random.SystemRandom().randint(0, MAX_SEED))
    return found.with_settings(find_settings(found.graph, settings, read, found.editor_nodes))


def read_workflow(workflow: str | os.PathLike[str] | Mapping[str, Any], folder: str, convert: Converter) -> Workflow:
    """*workflow*, a file or a graph, as it is; a relative path starts at *folder*. Reads a file.

    Raises UsageError or WorkflowError, and what *convert* raises.
    """
    if isinstance(workflow, Mapping):
        return from_mapping(workflow, convert)
    if not os.fspath(workflow):
        raise UsageError("the workflow's name is empty", hint="give --workflow the path of a file")
    stdin = os.fspath(workflow) == STDIN
    return load(STDIN if stdin else os.path.join(folder, workflow), shown=os.fspath(workflow), convert=convert)


def inputs_set(workflow: Workflow) -> tuple[InputValue, ...]:
    """What was set in *workflow*, as reporters are told: without secrets, a key for a paid service being an input."""
    refs = {ref.id: ref for ref in workflow.manifest()}
    return tuple(
        InputValue(node=refs[node], name=name, value=bounded(hide({name: setting.value})[name]))
        for (node, name), setting in workflow.settings.items()
    )


def stdin_readers(settings: Settings) -> list[str]:
    """The flags that read stdin for *settings*, each as often as it does."""
    readers = ["--prompt-file"] if settings.prompt_file == STDIN else []
    return readers + ["--set"] * sum(assignment.endswith(f"=@{STDIN}") for assignment in settings.assignments)


def need_one_reader(readers: Sequence[str]) -> None:
    """UsageError where stdin is to be read more than once: it would be empty then."""
    if len(readers) > 1:
        raise UsageError(f"stdin can't be read by {' and '.join(readers)}: it comes once", hint="name files")


def read_text(path: str, folder: str) -> str:
    """The text of a file, without the end of its last line; `~` is a home folder. Raises UsageError."""
    data = read_file(path, folder, MAX_TEXT, hint="name a file with the text; @@ begins a text with @")
    return decoded(data, path).removesuffix("\n").removesuffix("\r")


def read_file(path: str, folder: str, limit: int, *, hint: str) -> bytes:
    """What a file holds, `-` being stdin. Raises UsageError where it can't be read, or has more than *limit* bytes."""
    if not path:
        raise UsageError("the name of the file is empty", hint="name a file; - for stdin")
    try:
        stdin = path == STDIN
        with open(0, "rb", closefd=False) if stdin else open(os.path.join(folder, expanded(path)), "rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{shown_path(path)} can't be read: {cause}", hint=hint) from None
    if len(data) > limit:
        raise UsageError(f"{shown_path(path)} is larger than {limit // 1024 // 1024} MiB", hint=hint)
    return data


def decoded(data: bytes, path: str) -> str:
    """The text in a file's *data*. Raises UsageError where it isn't UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{shown_path(path)} isn't UTF-8 text (byte {error.start})"
        raise UsageError(message, hint="save it as UTF-8") from None


def shown_path(path: str) -> str:
    """*path* for messages."""
    return "stdin" if path == STDIN else printable(path, 200) or '""'
