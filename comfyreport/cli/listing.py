"""What is installed: the reporters, their options, and why some of them can't be loaded."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from comfyreport.errors import ComfyReportError, ReporterError
from comfyreport.reporting.plugins import entry_points, load, package_of
from comfyreport.reporting.signature import signature_of
from comfyreport.reporting.streams import Stream
from comfyreport.reporting.validation import HOOKS

_PLACES = {"stream": "a path, - for stdout, or stderr", "path": "a path", "url": "a URL", "none": "none"}


def describe(name: str) -> dict[str, Any]:
    """All about one installed reporter, as `comfyreport reporters --json` tells it."""
    point = entry_points()[name]
    about: dict[str, Any] = {"name": name, "package": package_of(point), "value": point.value, "error": None}
    try:
        value = load(point)
        about["hooks"] = _hooks(value)
        about["docs"] = _docs(value)
        if isinstance(value, ModuleType):
            summary = about["docs"].partition("\n")[0]
            return about | {"summary": summary, "destination": "none", "options": []}
        signature = signature_of(value, name)
    except ComfyReportError as error:
        return about | {"error": error.message}
    default = signature.default
    options = [
        {
            "name": option.name,
            "takes": option.values,
            "default": option.default,
            "required": option.required,
            "help": option.help,
        }
        for option in signature.options.values()
    ]
    return about | {
        "summary": signature.summary,
        "destination": _PLACES[signature.destination],
        "default_destination": None
        if default is None
        else default.name
        if isinstance(default, Stream)
        else str(default),
        "destination_required": signature.required,
        "options": options,
    }


def _hooks(value: Any) -> list[str] | None:
    """The hooks of a module, of a class, or of the class that a factory says it returns; None where it doesn't say.

    Nothing is made to find out: that could open files, or take a terminal.
    """
    target = value
    if not isinstance(value, (ModuleType, type)):
        try:
            target = typing.get_type_hints(value).get("return")
        except Exception:  # noqa: BLE001  whatever a stranger's annotations raise
            target = None
    return sorted(hook for hook in dir(target) if hook in HOOKS) if isinstance(target, (ModuleType, type)) else None


def _docs(value: Any) -> str:
    """What a reporter says of itself, without what its options say."""
    lines = (inspect.getdoc(value) or "").splitlines()
    ends = next((number for number, line in enumerate(lines) if line.startswith(":param ")), len(lines))
    return "\n".join(lines[:ends]).strip()


def list_reporters(name: str | None, *, as_json: bool) -> str:
    """All reporters, or one, as text; UsageError where there is none of that name."""
    known = sorted(entry_points())
    if name is not None and name not in known:
        raise ReporterError(f"there is no reporter {name!r}", hint=f"installed: {', '.join(known) or 'none'}")
    found = [describe(each) for each in ([name] if name is not None else known)]
    if as_json:
        return json.dumps(found[0] if name is not None else found, indent=2, default=str)
    return "\n".join(line for about in found for line in _lines(about, in_full=name is not None))


def _lines(about: dict[str, Any], *, in_full: bool) -> Iterator[str]:
    summary = about.get("summary")
    yield f"{about['name']}  ({about['package']})" + (f"  {summary}" if summary else "")
    if about["error"]:
        yield f"    can't be loaded: {about['error']}"
        return
    if in_full:
        yield from (f"    {line}".rstrip() for line in about["docs"].splitlines()[1:])
        default = _default(about.get("default_destination"), required=about.get("destination_required", False))
        yield f"    DEST: {about['destination']}{default}"
    for option in about["options"]:
        default = _default(option["default"], required=option["required"])
        yield f"    ,{option['name']}={option['takes']}{default}" + (f"  {option['help']}" if in_full else "").rstrip()
    if in_full:
        hooks = about["hooks"]
        yield f"    hooks: {'not told by its factory' if hooks is None else ', '.join(hooks) or 'none'}"


def _default(value: object, *, required: bool) -> str:
    """What holds where nothing is given, as it would be given."""
    if value is None or value == "":
        return " (required)" if required else ""
    return f" (default {str(value).lower() if isinstance(value, bool) else value})"
