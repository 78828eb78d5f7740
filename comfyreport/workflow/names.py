"""What the short names mean in a workflow: `prompt`, `negative`, `seed`, `steps`, `size`, `batch` and `model`. Pure.

Each is one or several inputs that are set together, found by following links from the outputs. What isn't clear is an
error that lists the candidates: nothing is ever guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from comfyreport.errors import WorkflowError
from comfyreport.text import printable
from comfyreport.workflow.graph import (
    OTHER_DATA,
    Graph,
    Link,
    Target,
    inputs_of,
    links_of,
    literal_source,
    ref_of,
    takers,
    upward,
    value_at,
)
from comfyreport.workflow.pipeline import Pipeline, find_pipeline, picture_links, seeds_of
from comfyreport.workflow.prompts import Candidate, find_texts

Changes = dict[Target, Any]

_VALUES = ("value", "int", "number", "float")
_SHARED = {
    "seed": re.compile("seed"),
    "steps": re.compile("step"),
    "size": re.compile("width|height|size|resolution"),
    "batch": re.compile("batch|amount|count|frames|length"),
}
"""What inputs are called that a number under a short name may feed."""
_BATCHES = ("batch_size",)
_COUNTS = ("batch_size", "n", "num_images", "number_of_images")
_MODEL_LINK = re.compile(r"(base_)?(model|unet)([ _]?\w)?|any(thing)?|input|.*pipe|context|base_ctx|")
_MODEL_NAMES = ("ckpt_name", "unet_name", "gguf_name", "base_ckpt_name", "diffusion_name", "model_name", "model")
_MODEL_FILE = re.compile(r"\.(safetensors|sft|gguf|ckpt|pth?|bin)$", re.IGNORECASE)
_NO_MODEL = re.compile(r"vae|clip|lora|control|upscale|text")

_MAX_LISTED = 20
_MAX_SHOWN = 40


class Found(NamedTuple):
    """What a name stands for: `targets` that are set together, or several `candidates`, of which one is meant."""

    targets: tuple[Target, ...]
    candidates: tuple[Target, ...] = ()


def find(graph: Graph, name: str) -> Found:
    """The inputs for which the short *name* stands; nothing in both where there is no place for it."""
    found = _FINDERS[name](graph, find_pipeline(graph))
    shared = _SHARED.get(name)
    if shared is not None:
        # A primitive that also gives what is something else isn't meant by this name.
        primitives = {target.node for target in found.targets if target.name in _VALUES}
        if any(not shared.search(taker) for node_id in primitives for taker in takers(graph, node_id)):
            return Found((), found.targets)
    return found


def changes(graph: Graph, name: str, value: Any) -> Changes:
    """What setting *name* to *value* changes; `size` takes (width, height). Raises WorkflowError where it isn't clear.

    With the steps of samplers that share a schedule moves the step at which one hands over to the other, in proportion.
    """
    return changing(graph, name)(value)


def changing(graph: Graph, name: str) -> Callable[[Any], Changes]:
    """`changes` of one name for many values: the graph is followed once. Raises WorkflowError where it isn't clear."""
    found = find(graph, name)
    if not found.targets:
        raise _unclear(graph, name, found.candidates)

    def sizes(value: Any) -> Changes:
        changed = {target: value[index % 2] for index, target in enumerate(found.targets)}
        if any(changed[target] != value[index % 2] for index, target in enumerate(found.targets)):
            raise _unclear(graph, name, dict.fromkeys(found.targets))
        return changed

    def others(value: Any) -> Changes:
        changed = dict.fromkeys(found.targets, value)
        if name == "steps":
            changed |= _moved(graph, find_pipeline(graph), value_at(graph, found.targets[0]), value)
        return changed

    return sizes if name == "size" else others


def seeds(graph: Graph) -> list[tuple[int, bool]]:
    """The seeds of what makes the outputs, each with whether its node adds noise; a refiner may add none."""
    return [
        (value, inputs_of(graph[target.node]).get("add_noise", True) not in (False, "disable"))
        for target in find(graph, "seed").targets
        if isinstance(value := value_at(graph, target), int)
    ]


# --- texts


def _prompt(graph: Graph, pipeline: Pipeline) -> Found:
    candidates = find_texts(graph, (*pipeline.samplers, *pipeline.generators), "positive")
    return _choose(graph, candidates, blank=False)


def _negative(graph: Graph, pipeline: Pipeline) -> Found:
    users = (*pipeline.samplers, *pipeline.generators)
    positive = {target for each in find_texts(graph, users, "positive") for target in each}
    # A text that both conditionings are made of is the prompt.
    candidates = [each for each in find_texts(graph, users, "negative") if not each & positive]
    return _choose(graph, candidates, blank=True)


def _choose(graph: Graph, candidates: Iterable[Candidate], *, blank: bool) -> Found:
    """The one candidate, or all of them where they hold the same text; *blank*: an empty one, too."""
    groups = list(candidates)
    every = tuple(dict.fromkeys(target for each in groups for target in sorted(each)))
    texts = {str(value_at(graph, target)).strip() for target in every}
    if len(groups) <= 1 or (len(texts) == 1 and (blank or "" not in texts)):
        return Found(every)
    return Found((), every)


# --- numbers


def _seed(graph: Graph, pipeline: Pipeline) -> Found:
    found: dict[Target, None] = {}
    for node_id in (*pipeline.samplers, *pipeline.generators):
        holder = links_of(graph[node_id]).get("noise")
        holder_id = holder.node if holder is not None and holder.node in graph else node_id
        for name in seeds_of(graph[holder_id]):
            source = literal_source(graph, Target(holder_id, name))
            if source is not None:
                found[source] = None
    return Found(tuple(found))


def _steps(graph: Graph, pipeline: Pipeline) -> Found:
    found: dict[Target, None] = {}
    for node_id in (*pipeline.samplers, *pipeline.generators):
        holder = next(_scheduling(graph, node_id, "steps"), None)
        source = None if holder is None else literal_source(graph, Target(holder, "steps"))
        if source is not None:
            found[source] = None
    return _agreeing(graph, found)


def _scheduling(graph: Graph, node_id: str, name: str) -> Iterator[str]:
    """The nodes with an input *name*, among a sampler and what its sigmas come from."""
    seen: set[str] = set()
    while node_id in graph and node_id not in seen:
        seen.add(node_id)
        if name in inputs_of(graph[node_id]):
            yield node_id
        link = links_of(graph[node_id]).get("sigmas")
        if link is None:
            return
        node_id = link.node


def _moved(graph: Graph, pipeline: Pipeline, before: Any, steps: int) -> Changes:
    """The steps at which samplers begin, end or are split, for a schedule of *steps* in place of *before*."""
    changed: Changes = {}
    for node_id in pipeline.samplers:
        for name in ("start_at_step", "end_at_step", "step"):
            for holder in _scheduling(graph, node_id, name):
                source = literal_source(graph, Target(holder, name))
                at: Any = 0 if source is None else value_at(graph, source)
                if source is None or not 0 < at <= before:
                    continue
                changed[source] = steps if at == before else min(max(round(at * steps / before), 1), max(steps - 1, 1))
    return changed


def _size(graph: Graph, pipeline: Pipeline) -> Found:
    sizes: dict[tuple[Target, Target], None] = {}
    for node_id in _latents(graph, pipeline):
        if {"width", "height"} <= inputs_of(graph[node_id]).keys():
            width, height = (literal_source(graph, Target(node_id, name)) for name in ("width", "height"))
            if width is not None and height is not None:
                sizes[width, height] = None
    every = tuple(target for pair in sizes for target in pair)
    values = {tuple(value_at(graph, target) for target in pair) for pair in sizes}
    return Found(every) if len(values) <= 1 else Found((), every)


def _batch(graph: Graph, pipeline: Pipeline) -> Found:
    found: dict[Target, None] = {}
    repeated: dict[Target, None] = {}
    for node_id in _latents(graph, pipeline):
        inputs = inputs_of(graph[node_id])
        names = _COUNTS if node_id in pipeline.generators else _BATCHES
        name = next((name for name in names if name in inputs), None)
        source = None if name is None else literal_source(graph, Target(node_id, name))
        if source is not None:
            found[source] = None
        elif "amount" in inputs and (amount := literal_source(graph, Target(node_id, "amount"))) is not None:
            repeated[amount] = None
    return _agreeing(graph, found or repeated)


def _latents(graph: Graph, pipeline: Pipeline) -> dict[str, None]:
    """The nodes above the samplers from which their pictures come, and the generators."""
    generators = [graph[node_id] for node_id in pipeline.generators]

    def follow(node: Mapping[str, Any]) -> list[Link]:
        # What a generator was given gives no size.
        return [] if any(node is each for each in generators) else picture_links(node)

    starts = [link.node for node_id in pipeline.samplers for link in picture_links(graph[node_id])]
    return dict.fromkeys([*pipeline.generators, *upward(graph, starts, follow)])


# --- models


def _model(graph: Graph, pipeline: Pipeline) -> Found:
    found: dict[Target, None] = {}
    untraced = False
    for node_id in pipeline.samplers:
        before = len(found)
        guider = links_of(graph[node_id]).get("guider")
        start = guider.node if guider is not None and guider.node in graph else node_id
        seen = list(upward(graph, [link.node for link in _model_links(graph[start])], _model_links))
        for holder in seen:
            if not _model_links(graph[holder]):
                found |= dict.fromkeys(Target(holder, name) for name in _model_names(graph[holder]))
        untraced = untraced or (len(found) == before and not seen)
    for node_id in pipeline.generators:
        if isinstance(inputs_of(graph[node_id]).get("model"), str):
            found[Target(node_id, "model")] = None
    # A sampler whose model isn't found may well have another one.
    return Found((), tuple(found)) if untraced and found else _agreeing(graph, found)


def _model_links(node: Mapping[str, Any]) -> list[Link]:
    links = links_of(node)
    named = {name.lower(): link for name, link in links.items() if _MODEL_LINK.fullmatch(name.lower())}
    chosen = [link for name, link in named.items() if "model" in name or "unet" in name] or list(named.values())
    if not chosen and len(links) == 1 and not OTHER_DATA.search(next(iter(links)).lower()):
        chosen = list(links.values())
    return chosen


def _model_names(node: Mapping[str, Any]) -> list[str]:
    """The inputs with the name of a model's file: a well-known one, else all that look like one."""
    inputs = inputs_of(node)
    known = next((name for name in _MODEL_NAMES if isinstance(inputs.get(name), str)), None)
    if known is not None:
        return [known]
    return [
        name
        for name, value in inputs.items()
        if isinstance(value, str) and _MODEL_FILE.search(value) and not _NO_MODEL.search(name.lower())
    ]


# --- what isn't clear


def _agreeing(graph: Graph, found: Iterable[Target]) -> Found:
    """All of them where they hold the same value, else candidates."""
    every = tuple(found)
    values = [value_at(graph, target) for target in every]
    return Found(every) if all(value == values[0] for value in values) else Found((), every)


def _unclear(graph: Graph, name: str, candidates: Iterable[Target]) -> WorkflowError:
    order = {node_id: index for index, node_id in enumerate(graph)}
    listed = sorted(candidates, key=lambda target: order[target.node])
    if not listed:
        return WorkflowError(
            f"the workflow has no place for --{name}: no input of that kind is found by following the links from its "
            "outputs up; it may be computed, or stand in a node of another kind",
            hint="Name an input: --set NODE.INPUT=VALUE. 'comfyreport inspect WORKFLOW' shows what there is.",
        )
    lines = [f"--{name} could mean several inputs of the workflow:"]
    by_node: dict[str, list[Target]] = {}
    for target in listed:
        by_node.setdefault(target.node, []).append(target)
    for node_id, targets in list(by_node.items())[:_MAX_LISTED]:
        ref = ref_of(graph, node_id)
        places = ", ".join(printable(f"{node_id}.{target.name}", 2 * _MAX_SHOWN) for target in targets)
        shown = ", ".join(printable(str(value_at(graph, target)), _MAX_SHOWN) for target in targets)
        lines.append(
            f'  {places} ({printable(ref.class_type, _MAX_SHOWN)} "{printable(ref.title, _MAX_SHOWN)}"): {shown}'
        )
    if len(by_node) > _MAX_LISTED:
        lines.append(f"  and {len(by_node) - _MAX_LISTED} more")
    first = by_node[listed[0].node]
    named = " ".join(f"--set {printable(f'{target.node}.{target.name}', 2 * _MAX_SHOWN)}=VALUE" for target in first)
    return WorkflowError("\n".join(lines), hint=f"Name what is meant: {named}")


_FINDERS: Mapping[str, Callable[[Graph, Pipeline], Found]] = {
    "prompt": _prompt,
    "negative": _negative,
    "seed": _seed,
    "steps": _steps,
    "size": _size,
    "batch": _batch,
    "model": _model,
}
NAMES = tuple(_FINDERS)
"""The short names."""
