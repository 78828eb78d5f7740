"""The conformance suite tries the hooks of plugins too: flags, and workflows of all kinds."""

from __future__ import annotations

import types
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import pytest

from comfyreport.errors import UsageError
from comfyreport.reporting.hookspecs import FlagParser, hookimpl
from comfyreport.testing.conformance import ConformanceError, conforms

pytestmark = pytest.mark.slow


def plugin_of(**hooks: Any) -> Any:
    """A module with these hooks."""
    module = types.ModuleType("guest")
    for name, function in hooks.items():
        function.__name__ = f"comfyreport_{name}"
        setattr(module, function.__name__, hookimpl(function))
    return module


def plugin_faults(module: Any, flags: Sequence[str] = ()) -> list[str]:
    with pytest.raises(ConformanceError) as caught:
        conforms(module, flags=flags)
    return caught.value.faults


def flag(parser: FlagParser) -> None:
    parser.add_argument("--limit", type=int, required=True)


def test_a_plugin_that_prepares_conforms() -> None:
    def refuse(workflow: dict[str, Any], options: Namespace) -> None:
        if len(workflow) > options.limit:
            raise UsageError("too many")

    conforms(plugin_of(addoption=flag, prepare=refuse), flags=["--limit", "3"])
    assert plugin_faults(plugin_of(addoption=flag, prepare=refuse)) == [
        "no flag given: its flags can't be parsed: the following arguments are required: --limit"
    ]


def test_a_flag_of_ours_is_found() -> None:
    def clash(parser: FlagParser) -> None:
        parser.add_argument("--prompt")

    (fault,) = plugin_faults(plugin_of(addoption=clash))
    assert fault == "plugin guest adds --prompt, which is comfyreport's own (rename that flag)"


def trusts_texts(workflow: dict[str, Any], options: Namespace) -> None:
    for node in workflow.values():
        node["inputs"].get("text", "").replace("a", "b")


def returns_nothing_useful(workflow: dict[str, Any], options: Namespace) -> list[Any]:
    return [workflow]


def refuses_mutely(workflow: dict[str, Any], options: Namespace) -> None:
    raise UsageError("")


def changes_options(workflow: dict[str, Any], options: Namespace) -> None:
    options.prompt = "mine"


def prints(workflow: dict[str, Any], options: Namespace) -> None:
    print("prepared")


@pytest.mark.parametrize(
    ("prepare", "what"),
    [
        (
            trusts_texts,
            "the workflow with inputs of other types: plugin guest: comfyreport_prepare raised",
        ),
        (
            returns_nothing_useful,
            "comfyreport_prepare left what can't be used: the workflow holds no object of nodes but a list",
        ),
        (refuses_mutely, "it refuses a workflow without saying why"),
        (changes_options, "options are read-only"),
        (prints, "it writes to stdout, which isn't its own"),
    ],
)
def test_what_a_plugin_does_wrong_with_a_workflow_is_found(prepare: Any, what: str) -> None:
    (fault,) = plugin_faults(plugin_of(prepare=prepare))
    assert what in fault
