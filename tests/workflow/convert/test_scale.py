"""Large files take as long as they are large."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from comfyreport.workflow.convert import convert
from tests.workflow.convert.files import HOST, File, Link, server


def large(count: int) -> dict[str, Any]:
    """A file of *count* nodes of many kinds: chains, bypassed nodes, reroutes, primitives, subgraphs."""
    inside = File().node(5, "LatentUpscaleBy", ["area", 2], inputs={"samples": None}, types="LATENT", outputs="LATENT")
    file = File().subgraph(inside, {"in": ("LATENT", [Link(5, 0)])}, {"out": ("LATENT", Link(5))})
    file.node(1, "EmptyLatentImage", [64, 64, 1], outputs="LATENT")
    for index in range(2, count, 5):
        source: dict[str, Link | None] = {"samples": Link(index - 1)}
        file.node(index, "LatentUpscaleBy", ["area", 2], inputs=source, types="LATENT", outputs="LATENT")
        file.node(index + 1, "Reroute", inputs={"": Link(index)})
        file.node(index + 2, "LatentUpscaleBy", ["area", 2], inputs={"samples": Link(index + 1)}, types="LATENT",
                  outputs="LATENT", mode=4)  # fmt: skip
        file.node(index + 3, "PrimitiveNode", [3, "fixed"])
        file.node(index + 4, HOST, inputs={"in": Link(index + 2)}, types="LATENT", outputs="LATENT")
    return file.content()


def calls(content: dict[str, Any]) -> int:
    """How many functions are called while *content* is converted."""
    count = 0

    def counted(*_: Any) -> None:
        nonlocal count
        count += 1

    sys.setprofile(counted)
    try:
        convert(content, server())
    finally:
        sys.setprofile(None)
    return count


def reroutes(count: int) -> dict[str, Any]:
    """A chain of reroutes, and as many nodes that are fed by its end."""
    file = File().node(1, "EmptyImage", [64, 64, 1, 0], outputs="IMAGE")
    for index in range(2, count):
        file.node(index, "Reroute", inputs={"": Link(index - 1)})
    for index in range(count, 2 * count):
        file.node(index, "SaveImage", ["x"], inputs={"images": Link(count - 1)}, types="IMAGE")
    return file.content()


def saves(count: int) -> dict[str, Any]:
    """Nodes whose names of files hold places that no node fills."""
    file = File()
    for index in range(count):
        file.node(index, "SaveImage", ["%Nobody.x%" * 3])
    return file.content()


@pytest.mark.parametrize("make", [reroutes, saves])
def test_what_all_nodes_look_for_is_found_once(make: Callable[[int], dict[str, Any]]) -> None:
    small, ten_times = make(20), make(200)
    calls(small)
    assert calls(ten_times) < 12 * calls(small)


def test_ten_times_the_nodes_take_ten_times_the_work() -> None:
    small, ten_times = large(200), large(2000)
    assert len(ten_times["nodes"]) >= 2000
    calls(small)
    assert calls(ten_times) < 12 * calls(small)
