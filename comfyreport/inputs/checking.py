"""What the user set, checked against what the server declares of the nodes' classes."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from comfyreport.errors import UnreachableError, UsageError
from comfyreport.inputs.classes import ask_class
from comfyreport.inputs.declared import Declared, declared_inputs, fault, fitted
from comfyreport.net.client import Client
from comfyreport.text import printable
from comfyreport.workflow.files import Workflow
from comfyreport.workflow.graph import Graph, Target, class_of, inputs_of
from comfyreport.workflow.settings import Setting

_MAX_SHOWN = 60
_NAMES_SHOWN = 20


Ask = Callable[[str], Mapping[str, Declared] | None]
"""What a server declares of a class's inputs; None where it doesn't tell."""


def asking(client: Client) -> Ask:
    """What asks *client*'s server, once for each class. Blocks."""
    known: dict[str, Mapping[str, Declared] | None] = {}

    def ask(class_type: str) -> Mapping[str, Declared] | None:
        if class_type not in known:
            known[class_type] = _ask(client, class_type)
        return known[class_type]

    return ask


def check_settings(client: Client, workflow: Workflow) -> Workflow:
    """*workflow* with its settings as the types that the server declares. Raises UsageError where one doesn't fit.

    A class that the server doesn't tell of is left to the submission, which it refuses in its own words.
    """
    return workflow.with_settings(checked(workflow.graph, workflow.settings, asking(client)))


def checked(graph: Graph, settings: Mapping[Target, Setting], ask: Ask) -> dict[Target, Setting]:
    """Those of *settings* whose inputs are declared, as their types. Raises UsageError where one doesn't fit."""
    found: dict[Target, Setting] = {}
    for target, setting in settings.items():
        inputs = ask(class_of(graph[target.node]))
        if inputs is not None and target.name in inputs:
            found[target] = _checked(target, setting, inputs[target.name])
        elif not setting.known:
            raise unknown_input(graph, target, inputs)
    return found


def _ask(client: Client, class_type: str) -> dict[str, Declared] | None:
    try:
        return declared_inputs(ask_class(client, class_type), class_type)
    except UnreachableError:
        # The submission will tell it.
        return None


def _checked(target: Target, setting: Setting, declared: Declared) -> Setting:
    value = fitted(setting.text, setting.value, declared)
    wrong = fault(value, declared)
    if wrong is not None:
        place = printable(f"{target.node}.{target.name}", _MAX_SHOWN)
        raise UsageError(f"{place} {wrong[0]}", hint="this is what the server declares of that input")
    return setting._replace(value=value, known=True)


def unknown_input(graph: Graph, target: Target, declared: Mapping[str, Declared] | None) -> UsageError:
    """The error for an input that neither the workflow's node nor its class has."""
    there = [name for name in inputs_of(graph[target.node]) if name != target.name]
    names = list(dict.fromkeys([*there, *(declared or {})]))
    near = difflib.get_close_matches(target.name, names, 3, 0.5)
    listed = ", ".join(printable(name, _MAX_SHOWN) for name in near or names[:_NAMES_SHOWN]) or "none"
    kind = printable(class_of(graph[target.node]), _MAX_SHOWN)
    return UsageError(
        f"node {printable(target.node, _MAX_SHOWN)} ({kind}) has no input {printable(target.name, _MAX_SHOWN)!r}; "
        f"{'near is' if near else 'it has'} {listed}",
        hint="'comfyreport inspect WORKFLOW' shows the nodes and their inputs",
    )
