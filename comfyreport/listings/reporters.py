"""What is installed: the reporters, their options, and why some of them can't be loaded."""

from __future__ import annotations

import inspect
import json
import math
import typing
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from comfyreport.errors import ComfyReportError, ReporterError, one_line
from comfyreport.reporting.installed import entry_points, load
from comfyreport.reporting.signature import signature_of
from comfyreport.reporting.streams import Stream
from comfyreport.reporting.validation import HOOKS
from comfyreport.text import printable

_DESTINATIONS = {"stream": "a path, - for stdout, or stderr", "path": "a path", "url": "a URL", "none": "none"}


def describe(name: str) -> dict[str, Any]:
    """One installed reporter, as `comfyreport reporters --json` prints it."""
    installed = entry_points()[name]
    description: dict[str, Any] = {
        "name": name,
        "package": installed.package,
        "value": installed.point.value,
        "error": None,
    }
    try:
        description |= _described(load(installed), name)
    except ComfyReportError as error:
        description["error"] = error.message
    except Exception as error:  # noqa: BLE001  what a package holds may raise anything when it is looked at
        description["error"] = one_line(error)
    return description


def _described(value: Any, name: str) -> dict[str, Any]:
    """What a loaded reporter says of itself."""
    told: dict[str, Any] = {"hooks": _hooks(value), "docs": _docs(value)}
    if isinstance(value, ModuleType):
        return told | {"summary": told["docs"].partition("\n")[0], "destination": "none", "options": []}
    signature = signature_of(value, name)
    default = signature.default
    options = [
        {
            "name": option.name,
            "takes": option.values,
            "default": _plain(option.default),
            "required": option.required,
            "help": option.help,
        }
        for option in signature.options.values()
    ]
    return told | {
        "summary": signature.summary,
        "destination": _DESTINATIONS[signature.destination],
        "default_destination": None
        if default is None
        else default.name
        if isinstance(default, Stream)
        else str(default),
        "destination_required": signature.required,
        "options": options,
    }


def _plain(default: Any) -> Any:
    """An option's default in a form that JSON has."""
    finite = not isinstance(default, float) or math.isfinite(default)
    return default if finite and isinstance(default, (str, int, float, bool, type(None))) else str(default)


def _hooks(value: Any) -> list[str] | None:
    """The hooks of a module, a class, or the class that a factory's annotation says it returns; None without one.

    The factory isn't called for it: that could open files, or take a terminal.
    """
    target = value
    if not isinstance(value, (ModuleType, type)):
        try:
            target = typing.get_type_hints(value).get("return")
        except Exception:  # noqa: BLE001  a package's annotations may raise anything
            target = None
    return sorted(hook for hook in dir(target) if hook in HOOKS) if isinstance(target, (ModuleType, type)) else None


def _docs(value: Any) -> str:
    """A reporter's docstring without the part on its parameters."""
    lines = (inspect.getdoc(value) or "").splitlines()
    end = next((number for number, line in enumerate(lines) if line.startswith(":param ")), len(lines))
    return "\n".join(lines[:end]).strip()


def list_reporters(name: str | None, *, as_json: bool) -> str:
    """All reporters, or one, as text; UsageError where there is none of that name."""
    installed = sorted(entry_points())
    if name is not None and name not in installed:
        raise ReporterError(f"there is no reporter {name!r}", hint=f"installed: {', '.join(installed) or 'none'}")
    reporters = [describe(each) for each in ([name] if name is not None else installed)]
    if as_json:
        return json.dumps(reporters[0] if name is not None else reporters, indent=2)
    lines = (line for description in reporters for line in _text_lines(description, in_full=name is not None))
    # A package's names, docs and errors may hold anything.
    return "\n".join(map(printable, lines))


def _text_lines(description: dict[str, Any], *, in_full: bool) -> Iterator[str]:
    summary = description.get("summary")
    yield f"{description['name']}  ({description['package']})" + (f"  {summary}" if summary else "")
    if description["error"]:
        yield f"    can't be loaded: {description['error']}"
        return
    if in_full:
        yield from (f"    {line}".rstrip() for line in description["docs"].splitlines()[1:])
        default = _default(
            description.get("default_destination"), required=description.get("destination_required", False)
        )
        yield f"    DEST: {description['destination']}{default}"
    for option in description["options"]:
        default = _default(option["default"], required=option["required"])
        yield f"    ,{option['name']}={option['takes']}{default}" + (f"  {option['help']}" if in_full else "").rstrip()
    if in_full:
        hooks = description["hooks"]
        yield f"    hooks: {'not told by its factory' if hooks is None else ', '.join(hooks) or 'none'}"


def _default(value: object, *, required: bool) -> str:
    """The default as it would be written on the command line."""
    if value is None or value == "":
        return " (required)" if required else ""
    return f" (default {str(value).lower() if isinstance(value, bool) else value})"
