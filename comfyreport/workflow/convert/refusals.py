"""The refusal of a graph: which node stood in the way, why, and what to do. Titles are hostile, and told as text."""

from __future__ import annotations

from comfyreport.errors import WorkflowError
from comfyreport.text import printable

_MAX_SHOWN = 60
_EXPORT = "or open the file in ComfyUI and choose Workflow > Export (API)"


def shown(value: object) -> str:
    """What stood in the file, on one line and not too long."""
    return printable(str(value), _MAX_SHOWN)


def refused(place: str, cause: str, hint: str) -> WorkflowError:
    """The error that *place*, a node or the file, can't be converted: *cause*, and what can be done."""
    return WorkflowError(f"{place} can't be converted: {cause}", hint=f"{hint}, {_EXPORT}.")
