"""Plugins prepare the workflow: each changes what the one before it left, or refuses it."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from comfyreport.access.secret_keys import is_secret_key
from comfyreport.errors import ReporterError, UsageError, WorkflowError, one_line
from comfyreport.reporting.hookspecs import PREFIX
from comfyreport.reporting.plugins import Reporter
from comfyreport.reporting.validation import Hook
from comfyreport.workflow.files import Workflow, from_mapping
from comfyreport.workflow.graph import Target, class_of, inputs_of
from comfyreport.workflow.settings import Setting
from comfyreport.workflow.wrapping import Wrapping

PREPARE_HOOK = f"{PREFIX}prepare"

_SECRET = ("extra_data", "header", "reporter", "servers")


class Options(argparse.Namespace):
    """The command line's values, as plugins see them: read-only."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"options are read-only: {name} can't be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"options are read-only: {name} can't be removed")


def options_of(arguments: argparse.Namespace, server: str) -> Options:
    """What plugins are told of the command line: no secrets.

    :param server: the server as it may be shown.
    """
    values = {name: value for name, value in vars(arguments).items() if name not in _SECRET}
    # An input may be a key, and so may what is set to it.
    for name in ("assignments", "grid"):
        values[name] = [each for each in values.get(name) or () if not _is_secret(each)]
    options = Options()
    vars(options).update(values, server=server)
    return options


def _is_secret(assignment: str) -> bool:
    return is_secret_key(assignment.partition("=")[0].rpartition(".")[2])


def prepare(workflow: Workflow, plugins: Iterable[Reporter], options: Options) -> Workflow:
    """*workflow* as the plugins leave it. UsageError: a plugin refuses it, or fails."""
    hooks = [(plugin, plugin.hooks[PREPARE_HOOK]) for plugin in plugins if PREPARE_HOOK in plugin.hooks]
    for plugin, hook in sorted(hooks, key=lambda each: each[1].rank):
        workflow = call_prepare(hook, str(plugin), workflow, options)
    return workflow


def call_prepare(hook: Hook, plugin: str, workflow: Workflow, options: Options) -> Workflow:
    """*workflow* as the hook of one plugin leaves it, checked as a file is. UsageError: it refuses it, or fails."""
    graph: dict[str, dict[str, Any]] = copy.deepcopy(workflow.graph)
    for node in graph.values():
        if not isinstance(node.get("_meta"), dict):
            node["_meta"] = {}
    given = {"workflow": graph, "options": options}
    try:
        returned = hook.function(*[given[argument] for argument in hook.arguments])
    except UsageError as error:
        # A plugin may give it anything.
        message = str(error.message) or f"plugin {plugin} refuses the workflow"
        raise UsageError(message, hint=str(error.hint)) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ReporterError(
            f"plugin {plugin}: {PREPARE_HOOK} raised {one_line(error)}",
            hint="nothing was submitted; repair that plugin, or leave it out",
        ) from error
    checked = _checked(graph if returned is None else returned, plugin)
    settings = {
        target: setting
        for target, setting in workflow.settings.items()
        if target.node in checked and inputs_of(checked[target.node]).get(target.name) == setting.value
    }
    rebuilt = workflow.rebuilt or checked.keys() != workflow.graph.keys()
    for node_id in checked.keys() & workflow.graph.keys():
        before, after = inputs_of(workflow.graph[node_id]), inputs_of(checked[node_id])
        rebuilt = rebuilt or bool(before.keys() - after.keys())
        rebuilt = rebuilt or class_of(workflow.graph[node_id]) != class_of(checked[node_id])
        settings |= {
            Target(node_id, name): Setting(value)
            for name, value in after.items()
            if name not in before or before[name] != value
        }
    return replace(workflow, graph=checked, settings=settings, rebuilt=rebuilt)


def _checked(graph: Any, plugin: str) -> dict[str, dict[str, Any]]:
    hint = "nothing was submitted; the hook changes the nodes that it is given, or returns all nodes by id"
    try:
        checked = from_mapping(graph)
    except WorkflowError as error:
        message = f"plugin {plugin}: {PREPARE_HOOK} left what can't be used: {error.message}"
        raise ReporterError(message, hint=hint) from error
    except Exception as error:
        # A mapping of its own kind may raise anything.
        raise ReporterError(f"plugin {plugin}: {PREPARE_HOOK} left what raises {one_line(error)}", hint=hint) from error
    if checked.wrapping != Wrapping():
        raise ReporterError(f"plugin {plugin}: {PREPARE_HOOK} left more than the workflow's nodes", hint=hint)
    return checked.graph
