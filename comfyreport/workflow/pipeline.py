"""What makes a workflow's outputs: the samplers that are meant, found by following the graph up from the outputs. Pure.

A node that isn't on the way of the picture (or video, sound, model) isn't meant: one that makes a depth map for a
ControlNet has a sampler too. A node that samples nowhere but makes the picture itself, such as a partner's, is a
generator.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from comfyreport.workflow.graph import Graph, Link, class_of, inputs_of, is_number, links_of, upward
from comfyreport.workflow.prompts import is_sampler, with_text

# Words in the names of classes.
_SAVES = frozenset(("save", "saver", "videocombine", "output", "export", "exporter", "send", "websocket"))
_SHOWS = frozenset(("preview", "previewer", "display", "show", "view", "viewer", "compare", "comparer"))
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
# Inputs on which no picture comes. Of those with a control picture only the conditioning is meant.
_NO_PICTURE = re.compile(
    r"model|clip(?!_?space)|vae|positive|negative|cond|guider|sigmas|noise|control|sampler|mask|text|prompt|seed"
    r"|width|height|steps|cfg|fps|filename|style|lora|length|batch"
)
_SEED = re.compile(r"(.+_)?seed")


@dataclass(frozen=True)
class Pipeline:
    """The meant samplers, the nearest to an output first; `generators` only where they have a text or a seed."""

    samplers: tuple[str, ...]
    generators: tuple[str, ...]


def outputs_of(graph: Graph) -> tuple[list[str], list[str]]:
    """The nodes that save, and those that only show."""
    saving, showing = [], []
    for node_id, node in graph.items():
        words = [word.lower() for word in _WORD.findall(class_of(node))] if links_of(node) else []
        if _SAVES & {*words, *map("".join, pairwise(words))}:
            saving.append(node_id)
        elif _SHOWS & set(words):
            showing.append(node_id)
    return saving, showing


def find_pipeline(graph: Graph) -> Pipeline:
    """What makes the outputs. What is only shown counts where nothing is saved, or where it goes on from what is.

    Where that leads to nothing, whatever nothing depends on is taken for an output.
    """
    saving, showing = outputs_of(graph)
    found = _found(graph, saving)
    for node_id in showing:
        shown = _found(graph, [node_id])
        if not _make(graph, found) or set(shown) & set(found):
            found |= shown
    if not _make(graph, found):
        used = {link.node for node in graph.values() for link in links_of(node).values()}
        ends = _found(graph, [node_id for node_id, node in graph.items() if node_id not in used and links_of(node)])
        found = ends if _make(graph, ends) else found or ends
    samplers = [node_id for node_id in found if is_sampler(graph[node_id])]
    named = [node_id for node_id in samplers if "sampler" in class_of(graph[node_id]).lower()]
    # A detailer refines what a sampler made, with a text of its own.
    samplers = named or samplers
    generators = [node_id for node_id in found if not is_sampler(graph[node_id])]
    if _make(graph, found):
        generators = [node_id for node_id in generators if _has_prompt(graph[node_id])]
    return Pipeline(tuple(_without_helpers(graph, samplers)), tuple(generators))


def _make(graph: Graph, found: Iterable[str]) -> bool:
    """Whether one of the nodes samples or makes something of a text; others with a seed are filters, mostly."""
    return any(is_sampler(graph[node_id]) or _has_prompt(graph[node_id]) for node_id in found)


def picture_links(node: Mapping[str, Any]) -> list[Link]:
    """The links by which the picture comes into a node; where there is none, the mask."""
    links = links_of(node)
    chosen = [link for name, link in links.items() if not _NO_PICTURE.search(name.lower())]
    return chosen or [link for name, link in links.items() if "mask" in name.lower()]


def _found(graph: Graph, roots: Iterable[str]) -> dict[str, None]:
    """The samplers and generators on the picture's way to *roots*, the nearest first."""
    return {
        node_id: None
        for node_id in upward(graph, roots, picture_links)
        if is_sampler(node := graph[node_id]) or _has_prompt(node) or seeds_of(node)
    }


def seeds_of(node: Mapping[str, Any]) -> list[str]:
    """The inputs of a node that hold its seeds, or are linked to one."""
    inputs = inputs_of(node)
    return [
        name
        for name in inputs
        if _SEED.fullmatch(name.lower()) and (is_number(inputs[name]) or links_of(node).get(name))
    ]


def _has_prompt(node: Mapping[str, Any]) -> bool:
    """Whether a node makes what it makes from a text of its own; with a model beside it, the text finds, not makes."""
    inputs = inputs_of(node)
    if any(re.search(r"model|clip|vae", name.lower()) for name in links_of(node)):
        return False
    names = {name.lower() for name, value in inputs.items() if isinstance(value, str) or name in links_of(node)}
    return bool(names & {"prompt", "prompt_text", "text_prompt", "positive_prompt"})


def _without_helpers(graph: Graph, samplers: list[str]) -> list[str]:
    """*samplers* without those above others that no text reaches: they make a depth map or such."""
    if len(samplers) < 2:
        return samplers
    texts = with_text(graph, samplers)
    if not texts:
        return samplers
    fed = {
        other for node_id in samplers for other in _found(graph, (link.node for link in picture_links(graph[node_id])))
    }
    return [node_id for node_id in samplers if node_id in texts or node_id not in fed]
