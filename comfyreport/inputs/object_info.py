"""What a server declares of all its classes: asked when it is needed, kept for the next command, read from a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from comfyreport.errors import UsageError, WorkflowError
from comfyreport.files import resolve, write_whole
from comfyreport.inputs.classes import ask_class
from comfyreport.inputs.info_cache import SIZE_LIMIT, InfoCache
from comfyreport.net.client import Client
from comfyreport.protocol.messages import Json
from comfyreport.text import printable
from comfyreport.workflow.graph import class_of

# Loaded where there is something to convert.
if TYPE_CHECKING:
    from comfyreport.workflow.convert import Converted

_MOST_QUESTIONS = 10
_SAVE_HINT = "save one with: comfyreport inspect --save-object-info FILE"


class ObjectInfo:
    """The answer of one server to `/object_info`.

    :param cache: where answers are kept; None: nowhere.
    :param anew: whether the server is asked even where its answer is kept.
    """

    def __init__(self, client: Client, cache: InfoCache | None, *, anew: bool = False) -> None:
        self._client = client
        self._cache = cache
        self._anew = anew
        self._classes: Json | None = None
        self._is_kept = False

    def classes(self) -> Json:
        """The classes by their names. Raises UnreachableError where the server doesn't tell them."""
        if self._classes is None:
            self._classes = self._ask()
        return self._classes

    def convert(self, ui: Mapping[str, Any]) -> Converted:
        """What the front end would have sent for what the editor saved. Raises WorkflowError or UnreachableError.

        A refusal that rests on what was kept doesn't count: the server may have other classes and files by now. Nor
        does what a package other than ComfyUI declared, whose version nobody tells, unless it does so still.
        """
        from comfyreport.workflow.convert import convert

        classes = self.classes()
        try:
            converted = convert(ui, classes)
            if not self._is_kept or self._holds(classes, {class_of(node) for node in converted.prompt.values()}):
                return converted
        except WorkflowError:
            if not self._is_kept:
                raise
        self._anew, self._classes = True, None
        return convert(ui, self.classes())

    def _holds(self, classes: Json, used: set[str]) -> bool:
        """Whether the server still declares those of the *used* classes that aren't ComfyUI's own as it did."""
        foreign = [name for name in used if str(classes[name].get("python_module", "")).startswith("custom_nodes")]
        # So many questions take longer than one for all.
        few = len(foreign) <= _MOST_QUESTIONS
        return few and all(ask_class(self._client, name) == {name: classes[name]} for name in foreign)

    def _ask(self) -> Json:
        server = self._client.address.base
        version = self._version()
        kept = self._cache.read(server, version) if self._cache and version and not self._anew else None
        self._is_kept = kept is not None
        if kept is not None:
            return kept
        answer = self._client.get("/object_info")
        if answer.status != 200 or not isinstance(answer.body, dict):
            raise answer.as_error(server)
        if self._cache and version:
            self._cache.write(server, version, answer.body)
        return answer.body

    def _version(self) -> str:
        """The server's version of ComfyUI; empty where it doesn't tell one."""
        if self._cache is None:
            return ""
        body = self._client.get("/system_stats").body
        system = body.get("system") if isinstance(body, dict) else None
        version = system.get("comfyui_version") if isinstance(system, dict) else None
        return version if isinstance(version, str) and len(version) <= 100 else ""


def load_object_info(path: str) -> Callable[[Mapping[str, Any]], Converted]:
    """What converts by a saved answer to `/object_info`. Raises UsageError where the file holds none."""
    from comfyreport.workflow.convert import convert

    shown = printable(path, 200) or '""'
    try:
        with open(path, "rb") as file:
            data = file.read(SIZE_LIMIT + 1)
        if len(data) > SIZE_LIMIT:
            raise ValueError("it is too large")
        classes = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        cause = getattr(error, "strerror", None) or ("it isn't JSON" if isinstance(error, ValueError) else "no JSON")
        raise UsageError(f"--object-info {shown} can't be read: {cause}", hint=_SAVE_HINT) from None
    if not _are_classes(classes):
        raise UsageError(f"--object-info {shown} isn't what a server answers to /object_info", hint=_SAVE_HINT)
    return lambda ui: convert(ui, classes)


def _are_classes(classes: Json) -> bool:
    return isinstance(classes, dict) and any(isinstance(each, dict) and "input" in each for each in classes.values())


def save_json(flag: str, path: str, text: str) -> None:
    """Write *text* into the file that *flag* names, whole or not at all; its folder is made. Raises UsageError."""
    if not path:
        raise UsageError(f"{flag}: the name of the file is empty", hint="name a file; - for stdout")
    try:
        place = resolve(path)
        if place.descriptor is None:
            os.makedirs(os.path.dirname(place.path), exist_ok=True)
        write_whole(place.path, f"{text}\n".encode("utf-8", "replace"))
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{flag} {printable(path, 200)} can't be written: {cause}", hint="name a file in a folder of yours"
        ) from None
