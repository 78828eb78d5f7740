"""What can't be converted is refused, with the node; whatever stands in a file, nothing else is raised."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from comfyreport.errors import WorkflowError
from comfyreport.workflow.convert import convert
from tests.workflow.convert.files import File, Link, pairs, refusal, server

HOSTILE = "\x1b[31mgone\r\n\u202e" + "x" * 500


def decoder(**more: Any) -> File:
    return File().node(9, "VAEDecode", inputs={"samples": Link(1)}, title="Last", **more)


def test_an_unknown_class_names_the_node_and_one_that_is_near() -> None:
    error = refusal(File().node(4, "KSamplr", title="Mine").content())
    assert error.message == (
        'node 4 ("Mine", KSamplr) can\'t be converted: the server has no class KSamplr; near is KSampler'
    )
    assert error.hint.startswith("Install the package that it comes from, or remove or mute that node, or open")


@pytest.mark.parametrize("kind", ["SetNode", "GetNode", "Reroute (rgthree)", "workflow>my group", "Label (rgthree)"])
def test_nodes_of_other_packages_that_live_in_the_browser_are_unknown(kind: str) -> None:
    assert "the server has no class" in refusal(File().node(4, kind).content()).message


@pytest.mark.parametrize(
    ("kind", "stored", "cause"),
    [
        ("Anything Everywhere", [], "it has invisible links"),
        ("Power Lora Loader (rgthree)", [{}, {"on": True, "lora": "a"}], "2 of its values belong to widgets that its"),
    ],
)
def test_what_another_package_sends_by_a_script_of_its_own(kind: str, stored: list[Any], cause: str) -> None:
    info = {kind: {"input": {"required": {"model": ["MODEL"]}}, "python_module": "custom_nodes.pack"}}
    assert cause in refusal(File().node(4, kind, stored).content(), info).message
    convert(File().node(4, kind, stored, mode=2).content(), info)


def test_a_link_that_isn_t_there() -> None:
    content = decoder().content()
    content["links"] = []
    error = refusal(content)
    assert error.message == (
        'node 9 ("Last", VAEDecode) can\'t be converted: the link 1 of its input samples leads to nowhere'
    )


def test_a_link_from_a_node_that_isn_t_there() -> None:
    error = refusal(decoder().content())
    assert error.message.startswith('node 9 ("Last", VAEDecode) can\'t be converted: one of its links begins at node 1')


def test_a_circle_of_reroutes() -> None:
    file = decoder().node(1, "Reroute", inputs={"": Link(2)}).node(2, "Reroute", inputs={"": Link(1)})
    assert "its links lead in a circle" in refusal(file.content()).message


def test_a_circle_of_nodes_that_run_is_for_the_server_to_refuse() -> None:
    file = File().node(1, "VAEDecode", inputs={"samples": Link(2)}).node(2, "VAEDecode", inputs={"samples": Link(1)})
    assert set(file.converted().prompt) == {"1", "2"}


def test_a_hostile_title_stays_text() -> None:
    file = File().node(1, "VAEDecode", title=HOSTILE)
    assert file.converted().prompt["1"]["_meta"] == {"title": HOSTILE}
    message = refusal(file.node(2, HOSTILE, title=HOSTILE).content()).message
    assert message.isprintable()
    assert len(message) < 500


@pytest.mark.parametrize("title", [5, ["a"], {"a": 1}, True])
def test_a_title_that_is_no_text_is_refused(title: Any) -> None:
    assert "node 1 (VAEDecode)" in refusal(File().node(1, "VAEDecode", title=title).content()).message


def test_too_many_nodes_by_opening_each_other() -> None:
    content: dict[str, Any] = {"nodes": [{"id": 1, "type": "s0"}], "definitions": {"subgraphs": []}}
    for depth in range(20):
        nodes = [{"id": index, "type": f"s{depth + 1}"} for index in range(10)]
        content["definitions"]["subgraphs"].append({"id": f"s{depth}", "nodes": nodes})
    content["definitions"]["subgraphs"].append({"id": "s20", "nodes": [{"id": 1, "type": "VAEDecode"}]})
    assert "open into more than 100000 nodes" in refusal(content).message


def test_too_many_in_each_other() -> None:
    subgraphs = [{"id": f"s{depth}", "nodes": [{"id": 1, "type": f"s{depth + 1}"}]} for depth in range(2000)]
    content = {"nodes": [{"id": 1, "type": "s0"}], "definitions": {"subgraphs": subgraphs}}
    assert "more than 50 subgraphs stand in each other" in refusal(content).message


def test_values_that_are_nested_too_deep() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    content = File().node(1, "EmptyLatentImage", []).content()
    content["nodes"][0]["widgets_values"] = [value]
    assert "nested too deep" in refusal(content).message


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"nodes": {}},
        {"nodes": [5]},
        {"nodes": [{}]},
        {"nodes": [{"id": 1}]},
        {"nodes": [{"id": None, "type": "VAEDecode"}]},
        {"nodes": [{"id": 1, "type": ["VAEDecode"]}]},
        {"nodes": [{"id": 1, "type": "VAEDecode"}, {"id": "1", "type": "VAEDecode"}]},
        {"nodes": [{"id": 1, "type": "VAEDecode", "inputs": 5}]},
        {"nodes": [{"id": 1, "type": "VAEDecode", "widgets_values": "ab"}]} | {"links": {}},
        {"nodes": [{"id": 1, "type": "KSampler", "widgets_values": "ab"}]},
        {"nodes": [], "links": [[1, 2]]},
        {"nodes": [], "links": [5]},
        {"nodes": [], "definitions": {"subgraphs": {}}},
    ],
)
def test_what_no_editor_wrote(content: dict[str, Any]) -> None:
    refusal(content)


def places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    """The paths to all that stands in *value*."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from places(each, (*path, key))


JUNK: tuple[Any, ...] = (
    None, True, -1, 7, 1e308, 10**400, float("nan"), float("inf"), "", "x", "-10", [], [None], {}, {"id": 1},
    HOSTILE, [[[]]],
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(name for name in pairs() if name.startswith("hm_")))
def test_whatever_stands_in_a_file_nothing_else_is_raised(name: str) -> None:
    chance, original = Random(name), pairs()[name]["ui"]
    paths = [path for path in places({"nodes": original["nodes"], "links": original["links"],
                                      "definitions": original.get("definitions", {})}) if path]  # fmt: skip
    for _ in range(60):
        content = copy.deepcopy(original)
        for path in chance.sample(paths, 2):
            with suppress(LookupError, TypeError):
                target = content
                for key in path[:-1]:
                    target = target[key]
                target[path[-1]] = chance.choice(JUNK)
        with suppress(WorkflowError):
            json.dumps(convert(content, server(), chance=Random(1)).prompt)
