"""What plugins do with a workflow before it is submitted: change it, refuse it, or fail and be named."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import pytest

from comfyreport.errors import ReporterError, UsageError, machine_limit
from comfyreport.jobs.preparing import Options, options_of, prepare
from comfyreport.reporting.hookspecs import hookimpl
from comfyreport.reporting.plugins import Reporter
from comfyreport.reporting.validation import Manager, register
from comfyreport.workflow.files import Workflow, from_mapping

Graph = dict[str, Any]

WORKFLOW: Graph = {"1": {"class_type": "CLIPTextEncode", "inputs": {"text": "a", "clip": ["2", 0]}}}


def plugin(
    name: str, act: Callable[[Graph, Namespace], Any], *, tryfirst: bool = False, trylast: bool = False
) -> Reporter:
    """A plugin whose hook is *act*."""

    class Plugin:
        @hookimpl(tryfirst=tryfirst, trylast=trylast)
        def comfyreport_prepare(self, workflow: Graph, options: Namespace) -> Any:
            return act(workflow, options)

    made = Plugin()
    return Reporter(name, made, register(Manager(), made, name), "", None)


def appending(text: str, *, tryfirst: bool = False, trylast: bool = False) -> Reporter:
    def append(workflow: Graph, options: Namespace) -> None:
        workflow["1"]["inputs"]["text"] += text

    return plugin(text, append, tryfirst=tryfirst, trylast=trylast)


def prepared(*plugins: Reporter, content: Any = WORKFLOW, options: Options | None = None) -> Workflow:
    return prepare(from_mapping(content), plugins, options or Options())


def raising(error: BaseException) -> Callable[[Graph, Namespace], Any]:
    def act(workflow: Graph, options: Namespace) -> None:
        raise error

    return act


def test_each_changes_what_the_one_before_it_left() -> None:
    last = appending("last", trylast=True)
    first = appending("first", tryfirst=True)
    text = prepared(last, appending("b"), appending("c"), first).graph["1"]["inputs"]["text"]
    assert text == "afirstbclast"
    assert WORKFLOW["1"]["inputs"]["text"] == "a"


def test_what_is_returned_takes_its_place_and_what_stands_around_it_stays() -> None:
    other = {"9": {"class_type": "SaveImage"}}
    content = {"prompt": WORKFLOW, "extra_data": {"kept": 1}, "front": True}
    workflow = prepared(plugin("other", lambda workflow, options: other), content=content)
    assert workflow.graph == {"9": {"class_type": "SaveImage", "inputs": {}}}
    assert (workflow.wrapping.extra_data, workflow.wrapping.options) == ({"kept": 1}, {"front": True})


def test_each_node_has_what_authors_rely_on() -> None:
    seen: list[Graph] = []
    content = {"1": {"class_type": "A"}, "2": {"class_type": "B", "_meta": 5}}
    prepared(plugin("looks", lambda workflow, options: seen.append(workflow)), content=content)
    assert seen[0]["1"] == {"class_type": "A", "inputs": {}, "_meta": {}}
    assert seen[0]["2"]["_meta"] == {}


def test_nothing_that_it_keeps_changes_the_run() -> None:
    kept: list[Graph] = []
    workflow = prepared(plugin("keeps", lambda workflow, options: kept.append(workflow)))
    kept[0]["1"]["inputs"]["text"] = "too late"
    assert workflow.graph["1"]["inputs"]["text"] == "a"


@pytest.mark.parametrize(
    ("returned", "cause"),
    [
        ([], "no object of nodes but a list"),
        (True, "no object of nodes but a bool"),
        ({}, "has no nodes"),
        ({"1": {"inputs": {}}}, "node 1 has no class_type"),
        ({"1": {"class_type": "A", "inputs": {"x": object()}}}, "a value that isn't JSON (object)"),
        ({"prompt": WORKFLOW, "front": True}, "more than the workflow's nodes"),
    ],
)
def test_what_cannot_be_sent_names_the_plugin(returned: Any, cause: str) -> None:
    with pytest.raises(ReporterError) as caught:
        prepared(plugin("odd", lambda workflow, options: returned))
    assert caught.value.message.startswith("plugin odd: comfyreport_prepare left ")
    assert cause in caught.value.message
    assert "nothing was submitted" in caught.value.hint


def test_what_it_leaves_in_place_is_checked_too() -> None:
    def loop(workflow: Graph, options: Namespace) -> None:
        workflow["1"]["inputs"]["text"] = workflow

    with pytest.raises(
        ReporterError,
        match="plugin loops: comfyreport_prepare left what can't be used: the workflow is nested too deep",
    ):
        prepared(plugin("loops", loop))


class RefusalError(UsageError):
    """One of a plugin's own."""


@pytest.mark.parametrize(
    "error", [UsageError("too dear", hint="pay"), RefusalError("too dear", hint="pay", code="mine")]
)
def test_a_refusal_is_in_the_plugins_words(error: UsageError) -> None:
    with pytest.raises(UsageError) as caught:
        prepared(plugin("guard", raising(error)), appending("never"))
    refused = caught.value
    assert (type(refused), refused.message, refused.hint, refused.code) == (UsageError, "too dear", "pay", "usage")


def test_a_refusal_without_words_names_the_plugin() -> None:
    with pytest.raises(UsageError, match="plugin mute refuses the workflow"):
        prepared(plugin("mute", raising(UsageError(""))))


@pytest.mark.parametrize("error", [ValueError("what"), SystemExit("what"), GeneratorExit("what")])
def test_whatever_else_it_raises_names_plugin_and_hook(error: BaseException) -> None:
    with pytest.raises(ReporterError) as caught:
        prepared(plugin("bad", raising(error)))
    assert caught.value.message == f"plugin bad: comfyreport_prepare raised {type(error).__name__}: what"


def test_a_limit_of_the_machine_is_told_as_one() -> None:
    with pytest.raises(ReporterError) as caught:
        prepared(plugin("big", raising(MemoryError())))
    assert machine_limit(caught.value) is not None


def test_a_keyboard_interrupt_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        prepared(plugin("stopped", raising(KeyboardInterrupt())))


def test_options_hold_no_secrets_and_cannot_be_changed() -> None:
    secrets = {
        "header": ["Authorization: secret"],
        "extra_data": ["key=secret"],
        "reporter": ["notify=//secret"],
        "servers": ("http://user:secret@host",),
        "assignments": ["3.api_key=secret"],
        "grid": ["3.api_key=secret1,secret2", "seed=1..3"],
    }
    arguments = Namespace(**secrets, server="http://user:secret@host", prompt="a fox", limit=5)
    options = options_of(arguments, "http://host")
    assert (options.prompt, options.limit, options.server) == ("a fox", 5, "http://host")
    assert (options.assignments, options.grid) == ([], ["seed=1..3"])
    assert "secret" not in repr(options)
    with pytest.raises(AttributeError, match="read-only"):
        options.limit = 6
    with pytest.raises(AttributeError, match="read-only"):
        del options.limit
    assert options.limit == 5


def test_what_plugins_changed_counts_as_set() -> None:
    workflow = prepare(from_mapping(WORKFLOW), [appending("!")], Options())
    assert {(place.node, place.name): each.value for place, each in workflow.settings.items()} == {("1", "text"): "a!"}
    assert not workflow.rebuilt

    def add(graph: Graph, options: Namespace) -> None:
        graph["3"] = {"class_type": "PreviewImage", "inputs": {}}

    assert prepare(from_mapping(WORKFLOW), [plugin("adds", add)], Options()).rebuilt
