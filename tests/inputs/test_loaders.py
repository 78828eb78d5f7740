"""Which node a file is for: by its class and its links, never by order."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport.errors import UsageError
from comfyreport.inputs.loaders import declared_loader, find_loader, leading_to_outputs, no_loader, unknown_classes
from comfyreport.inputs.local_files import Kind


def node(class_type: str, title: str = "", /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}


GRAPH = {
    "10": node("LoadImage", "Person", image="person.png"),
    "11": node("LoadImageMask", "Where", image="mask.png", channel="alpha"),
    "12": node("LoadImage", "Nobody's", image="old.png"),
    "13": node("LoadAudio", audio="a.mp3"),
    "14": node("FancyVideoLoader", video="v.mp4"),
    "20": node("Mix", image=["10", 0], mask=["11", 0], audio=["13", 0], video=["14", 0]),
    "21": node("SaveImage", images=["20", 0], filename_prefix="x"),
}


def found(graph: Any, kind: Kind, name: str = "", declared: Any = None) -> Any:
    loader = find_loader(graph, kind, name, declared or {})
    return None if loader is None else (loader.node, loader.name)


def refusal(graph: Any, kind: Kind, name: str = "") -> UsageError:
    with pytest.raises(UsageError) as caught:
        find_loader(graph, kind, name)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("image", ("10", "image")), ("mask", ("11", "image")), ("audio", ("13", "audio")), ("video", ("14", "video"))],
)
def test_the_one_that_leads_to_an_output(kind: Kind, expected: tuple[str, str]) -> None:
    assert found(GRAPH, kind) == expected


@pytest.mark.parametrize("name", ["12", "Nobody's", "nobody's"])
def test_one_that_is_named(name: str) -> None:
    assert found(GRAPH, "image", name) == ("12", "image")


def test_one_that_is_named_by_its_class() -> None:
    assert found(GRAPH, "mask", "LoadImageMask") == ("11", "image")
    assert found(GRAPH, "audio", "loadaudio") == ("13", "audio")


def test_an_id_beats_a_title() -> None:
    graph = {"a": node("LoadImage", "b", image="1"), "b": node("LoadImage", "LoadImage", image="2")}
    assert found(graph, "image", "b") == ("b", "image")
    assert "several nodes" in refusal(graph, "image", "LoadImage").message, "one's title is the class of both"


def test_of_several_of_a_name_the_loader_is_meant() -> None:
    graph = {"1": node("LoadImage", "In", image="a.png"), "2": node("ImageScale", "In", image=["1", 0])}
    assert found(graph, "image", "In") == ("1", "image")


def test_several_are_listed() -> None:
    graph = {**GRAPH, "20": node("Mix", image=["10", 0], other=["12", 0])}
    error = refusal(graph, "image")
    assert '10 (LoadImage "Person"), 12 (LoadImage "Nobody\'s")' in error.message
    assert error.hint.endswith("--image 10=FILE")
    assert "several nodes" in refusal(GRAPH, "image", "LoadImage").message


def test_no_such_node() -> None:
    error = refusal(GRAPH, "image", "99")
    assert error.message == "the workflow has no node '99'"
    assert "10 (LoadImage" in error.hint


def test_a_loader_whose_mask_alone_is_used_is_one_of_masks() -> None:
    graph = {
        "1": node("LoadImage", image="a.png"),
        "2": node("LoadImage", image="m.png"),
        "3": node("SaveImage", images=["1", 0], mask=["2", 1]),
    }
    assert found(graph, "image") == ("1", "image")
    assert found(graph, "mask") == ("2", "image")
    assert found(graph, "mask", "1") == ("1", "image")


def test_a_linked_file_is_no_loaders_own() -> None:
    graph = {"1": node("LoadImage", image=["3", 0]), "2": node("SaveImage", images=["1", 0]), "3": node("Name")}
    assert found(graph, "image") is None


@pytest.mark.parametrize("class_type", ["LoadImageFromUrl", "VHS_LoadImagesPath", "LoadImageBase64", "ImageScale"])
def test_what_loads_from_elsewhere_is_left_alone(class_type: str) -> None:
    graph = {"1": node(class_type, image="a.png"), "2": node("SaveImage", images=["1", 0])}
    assert found(graph, "image") is None


def test_what_the_server_declares() -> None:
    graph = {"1": node("Portrait", source="a.png", x=1), "2": node("SaveImage", images=["1", 0])}
    info = {"Portrait": {"input": {"required": {"x": ["INT"], "source": [["a.png"], {"image_upload": True}]}}}}
    declared = declared_loader(info, "Portrait")
    assert declared == ("image", "source")
    assert found(graph, "image", "", {"Portrait": declared}) == ("1", "source")
    assert unknown_classes(graph, "") == ["Portrait"]
    assert unknown_classes(graph, "2") == []


@pytest.mark.parametrize(
    "info",
    [
        None, [], {}, {"A": 1}, {"A": {"input": 1}}, {"A": {"input": {"required": [1]}}},
        {"A": {"input": {"required": {"a": 1, "b": [], "c": ["X", 1], "d": ["X", {"image_upload": "yes"}]}}}},
    ],
)  # fmt: skip
def test_an_odd_declaration_says_nothing(info: Any) -> None:
    assert declared_loader(info, "A") is None


def test_what_leads_to_an_output() -> None:
    assert leading_to_outputs(GRAPH) == {"10", "11", "13", "14", "20", "21"}
    assert leading_to_outputs({"1": node("A", x=["2", 0]), "2": node("B", x=["1", 0])}) == set()
    assert leading_to_outputs({"1": node("A", x=["nowhere", 0])}) == {"1"}


def test_what_is_told_where_there_is_none() -> None:
    assert "leads to an output loads a file" in no_loader(GRAPH, "video", "").message
    assert "10 (LoadImage" in no_loader(GRAPH, "video", "").hint
    assert no_loader(GRAPH, "image", "20").message == "--image: node 20 (Mix) loads no image file"
    assert "add a node" in no_loader({"1": node("SaveImage")}, "image", "").hint
