"""The pairs, and small files of the editor for tests of one rule each."""

from __future__ import annotations

import copy
import functools
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from comfyreport.errors import WorkflowError
from comfyreport.workflow.convert import Converted, convert

DATA = Path(__file__).parent / "data"
HOST = "11111111-2222-3333-4444-555555555555"

Json = Any


@functools.cache
def _data(name: str) -> Json:
    return json.loads(gzip.decompress((DATA / f"{name}.json.gz").read_bytes()))


def pairs() -> Mapping[str, Mapping[str, Json]]:
    """Each pair's `ui` and `api` by its name."""
    found: Mapping[str, Mapping[str, Json]] = _data("pairs")
    return found


def server() -> dict[str, Json]:
    """What a ComfyUI 0.3.64 declares."""
    found: dict[str, Json] = _data("object_info")
    return found


class Link(NamedTuple):
    """The output that an input of a small file is linked to."""

    node: int | str
    slot: int = 0


class File:
    """A file that the editor could have saved; a node's inputs say what they are linked to."""

    def __init__(self, version: float = 0.4) -> None:
        self.version = version
        self.nodes: list[dict[str, Json]] = []
        self.links: list[list[Json]] = []
        self.subgraphs: list[dict[str, Json]] = []

    def node(
        self,
        node_id: int | str,
        kind: str,
        values: Json = None,
        *,
        inputs: Mapping[str, Link | None] | None = None,
        types: str = "*",
        outputs: str = "*",
        widgets: tuple[str, ...] = (),
        **more: Json,
    ) -> File:
        """Add a node; `widgets` are the inputs that stand for one, `types` is the type of all inputs."""
        slots = []
        for index, (name, source) in enumerate((inputs or {}).items()):
            link_id = None
            if source is not None:
                link_id = len(self.links) + 1
                self.links.append([link_id, source.node, source.slot, node_id, index, types])
            widget = {"widget": {"name": name}} if name in widgets else {}
            slots.append({"name": name, "type": types, "link": link_id, **widget})
        entry = {"id": node_id, "type": kind, "mode": 0, "inputs": slots, "properties": {}, **more}
        entry["outputs"] = [{"name": each, "type": each, "links": []} for each in outputs.split()]
        if values is not None:
            entry["widgets_values"] = values
        self.nodes.append(entry)
        return self

    def subgraph(
        self, inner: File, inputs: Mapping[str, tuple[str, list[Link]]], outputs: Mapping[str, tuple[str, Link]]
    ) -> File:
        """Define the subgraph `HOST`: *inner*, with the places (node, input) where its inputs lead, and its outputs."""
        graph = inner.graph()
        graph["links"] = [
            dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), link, strict=True))
            for link in graph["links"]
        ]
        ports: dict[str, list[Json]] = {"inputs": [], "outputs": []}
        for slot, (name, (kind, targets)) in enumerate(inputs.items()):
            ids = [self._inside(graph, -10, slot, target.node, target.slot, kind) for target in targets]
            ports["inputs"].append({"id": name, "name": name, "type": kind, "linkIds": ids})
        for slot, (name, (kind, source)) in enumerate(outputs.items()):
            ids = [self._inside(graph, source.node, source.slot, -20, slot, kind)]
            ports["outputs"].append({"id": name, "name": name, "type": kind, "linkIds": ids})
        self.subgraphs.append({**graph, **ports, "id": HOST, "name": "Inner"})
        return self

    @staticmethod
    def _inside(graph: Json, origin: Json, origin_slot: int, target: Json, target_slot: int, kind: str) -> int:
        link_id = len(graph["links"]) + 1
        names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        graph["links"].append(dict(zip(names, (link_id, origin, origin_slot, target, target_slot, kind), strict=True)))
        for node in graph["nodes"]:
            if node["id"] == target:
                node["inputs"][target_slot]["link"] = link_id
        return link_id

    def graph(self) -> dict[str, Json]:
        """Nodes and links, as they stand in a file."""
        nodes, links = copy.deepcopy(self.nodes), copy.deepcopy(self.links)
        for link in links:
            for node in nodes:
                if node["id"] == link[1] and link[2] < len(node["outputs"]):
                    node["outputs"][link[2]]["links"].append(link[0])
        return {"nodes": nodes, "links": links}

    def content(self) -> dict[str, Json]:
        """The whole file."""
        return {**self.graph(), "version": self.version, "definitions": {"subgraphs": self.subgraphs}}

    def converted(self, seed: int = 1) -> Converted:
        """What becomes of it on the server of the pairs."""
        return convert(self.content(), server(), chance=Random(seed))

    def inputs(self, node_id: int | str) -> dict[str, Json]:
        """The inputs of a node in the prompt."""
        found: dict[str, Json] = self.converted().prompt[str(node_id)]["inputs"]
        return found


def refusal(content: Json, info: Json = None) -> WorkflowError:
    """The error for a file that can't be converted."""
    with pytest.raises(WorkflowError) as caught:
        convert(content, server() if info is None else info)
    assert caught.value.hint
    return caught.value
