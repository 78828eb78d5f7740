"""What drives the time of a workflow's nodes: steps, sizes, models, samplers. Pure.

Sizes are told once, mostly by an empty latent, and go down the links; so do the names of models and samplers. No text
and no seed is in it: two runs that differ in those alone cost the same.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from comfyreport.estimates.expected import Observation
from comfyreport.learning.observed import Observed
from comfyreport.workflow.graph import (
    OTHER_DATA,
    Graph,
    Target,
    as_link,
    class_of,
    inputs_of,
    is_number,
    links_of,
    literal_source,
    value_at,
)

# Words in the names of inputs that say nothing of a node's time: what is drawn, by which chance, under which name.
_IDLE = {"seed", "text", "prompt", "prefix", "positive", "negative", "string", "control", "title"}
# Inputs that name a file whose content drives the time, where nothing else tells its size.
_MEDIA = {"image", "video", "audio", "mask"}
# Links by which what a node works on comes, rather than what it is told of it.
_WORK = re.compile(r"latent|samples|image|pixels|video|frames")
_MODEL_FILE = re.compile(r"\.(safetensors|sft|ckpt|pt|pth|bin|gguf|onnx|engine)$", re.IGNORECASE)
_SAMPLERS = ("sampler_name", "sampler", "scheduler")
_FRAMES = ("length", "frames", "num_frames", "video_frames", "frame_count", "max_frames")
_BATCHES = ("batch_size", "amount")
_SCALES = ("scale_by", "upscale_by", "scale_factor", "rescale_factor")
# The input that takes a schedule, which has steps.
_SCHEDULE = "sigmas"
_MEGAPIXELS = "megapixels"
# Numbers beyond these are no size, no batch and no step count of anything that runs.
_MOST = 1e12
_MOST_STEPS = 1e6
# Of a run no more nodes are kept than so many, the longest.
_MOST_KEPT = 500


class Features(NamedTuple):
    """What drives one node's time.

    `exact` is a digest of all of it, and of the node's place among those that have it in common; `like` is one of the
    class, the models and the sampler. `units`: pixels times frames times batch that it works on; `steps`: of its
    sampling; both 0 where the workflow doesn't tell. `loaders`: the nodes above it, or itself, that load a model;
    `above`: those that feed it.
    """

    class_type: str
    exact: str
    like: str
    units: float
    steps: float
    loaders: frozenset[str]
    above: tuple[str, ...] = ()


class _Handed(NamedTuple):
    """What a node hands down its links."""

    units: float = 0.0
    steps: float = 0.0
    media: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    samplers: frozenset[str] = frozenset()
    loaders: frozenset[str] = frozenset()


def features_of(graph: Graph) -> dict[str, Features]:
    """What drives the time of each node of *graph*."""
    handed: dict[str, _Handed] = {}
    features = {}
    places: Counter[str] = Counter()
    for node_id in _downward(graph):
        node = graph[node_id]
        above = {name: handed[link.node] for name, link in links_of(node).items() if link.node in handed}
        own = handed[node_id] = _hand_down(graph, node_id, above)
        found = _features(graph, node_id, own)
        # Two encoders of texts are one to the eye, but the first loads the model.
        place = places[found.exact]
        places[found.exact] += 1
        features[node_id] = found._replace(exact=_digest([found.exact, place])) if place else found
    return {node_id: features[node_id] for node_id in graph}


def observed(features: Mapping[str, Features], observations: Iterable[Observation]) -> Iterator[Observed]:
    """What was seen of the nodes of a workflow, as it is kept; that they took no time, too."""
    found = []
    for seen in observations:
        if seen.node in features:
            class_type, exact, like, units, *_ = features[seen.node]
            found.append(Observed(class_type, exact, like, units, *seen[1:]))
    yield from heapq.nlargest(_MOST_KEPT, found, key=lambda each: each.seconds)


def _downward(graph: Graph) -> list[str]:
    """The nodes, each behind those above it; those of a cycle come last."""
    users: dict[str, list[str]] = {}
    missing: dict[str, int] = {}
    for node_id, node in graph.items():
        above = {link.node for link in links_of(node).values() if link.node in graph}
        missing[node_id] = len(above)
        for each in above:
            users.setdefault(each, []).append(node_id)
    ready, order = deque(node_id for node_id in graph if not missing[node_id]), []
    while ready:
        node_id = ready.popleft()
        order.append(node_id)
        for user in users.get(node_id, ()):
            missing[user] -= 1
            if not missing[user]:
                ready.append(user)
    done = set(order)
    return order + [node_id for node_id in graph if node_id not in done]


def _hand_down(graph: Graph, node_id: str, above_by_name: Mapping[str, _Handed]) -> _Handed:
    above = above_by_name.values()
    inputs = inputs_of(graph[node_id])
    texts = {name: value for name, value in inputs.items() if isinstance(value, str)}
    models = frozenset(value for value in texts.values() if _MODEL_FILE.search(value))
    media = frozenset(value for name, value in texts.items() if name in _MEDIA)
    works_on = [each for name, each in above_by_name.items() if _WORK.search(name.lower())]
    own_samplers = frozenset(texts[name] for name in _SAMPLERS if name in texts)
    return _Handed(
        units=_units(graph, node_id, max((each.units for each in works_on or above), default=0.0)),
        # Behind a sampler they say nothing any more.
        steps=_steps(graph, node_id) or (above_by_name[_SCHEDULE].steps if _SCHEDULE in above_by_name else 0.0),
        media=_union(media, (each.media for each in above)),
        models=_union(models, (each.models for each in above)),
        samplers=own_samplers or _union(frozenset(), (each.samplers for each in above)),
        loaders=_union(frozenset({node_id} if models else ()), (each.loaders for each in above)),
    )


def _union(own: frozenset[str], above: Iterable[frozenset[str]]) -> frozenset[str]:
    """All in one; the same object where there is nothing to add, for large graphs hand the same sets on and on."""
    found = own
    for each in above:
        if not each <= found:
            found = each if found <= each else found | each
    return found


def _number(graph: Graph, node_id: str, name: str) -> float:
    """The number at this input, also one that a primitive gives; 0 where there is none or it is absurd."""
    source = literal_source(graph, Target(node_id, name)) if name in inputs_of(graph[node_id]) else None
    value = 0.0 if source is None else value_at(graph, source)
    return float(value) if is_number(value) and 0 < value <= _MOST else 0.0


def _first(graph: Graph, node_id: str, names: Iterable[str]) -> float:
    return next((number for name in names if (number := _number(graph, node_id, name))), 0.0)


def _units(graph: Graph, node_id: str, above: float) -> float:
    """Pixels times frames times batch that a node works on, given those of the nodes above it."""
    area = _number(graph, node_id, "width") * _number(graph, node_id, "height")
    area = area or _number(graph, node_id, _MEGAPIXELS) * 1e6
    many = (_first(graph, node_id, _BATCHES) or 1.0) * (_first(graph, node_id, _FRAMES) or 1.0)
    scale = _first(graph, node_id, _SCALES) or 1.0
    units = (area or above) * many * scale**2
    return units if math.isfinite(units) and units <= _MOST else 0.0


def _steps(graph: Graph, node_id: str) -> float:
    steps = _number(graph, node_id, "steps")
    first, last = _number(graph, node_id, "start_at_step"), _number(graph, node_id, "end_at_step")
    if steps and (first or last):
        steps = max(1.0, min(steps, last or steps) - first)
    return steps if steps <= _MOST_STEPS else 0.0


def _features(graph: Graph, node_id: str, handed: _Handed) -> Features:
    class_type = class_of(graph[node_id])
    like = [class_type, sorted(handed.models), sorted(handed.samplers)]
    # Where nothing tells a size, another picture is another node.
    media = [] if handed.units else sorted(handed.media)
    exact = [*like, media, handed.units, handed.steps, sorted(_drivers(graph, node_id))]
    above = tuple({link.node for link in links_of(graph[node_id]).values()})
    return Features(class_type, _digest(exact), _digest(like), handed.units, handed.steps, handed.loaders, above)


def _drivers(graph: Graph, node_id: str) -> Iterator[tuple[str, Any]]:
    """The node's own inputs that drive its time, those too that a primitive gives."""
    inputs = inputs_of(graph[node_id])
    for name, value in inputs.items():
        words = set(name.lower().split("_"))
        if words & _IDLE or name in _MEDIA:
            continue
        if isinstance(value, str):
            # What has several words is a text for somebody to read.
            if len(value.split()) == 1:
                yield name, value
        elif is_number(value) or isinstance(value, bool):
            yield name, _as_server_has_it(value)
        elif as_link(value) and not OTHER_DATA.search(name.lower()):
            source = literal_source(graph, Target(node_id, name))
            if source is not None:
                yield name, _as_server_has_it(value_at(graph, source))


def _as_server_has_it(value: Any) -> Any:
    """A whole number as a float: ComfyUI makes one of it where an input takes floats (execution.py)."""
    return float(value) if type(value) is int and abs(value) <= _MOST else value


def _digest(content: list[Any]) -> str:
    return hashlib.sha256(repr(content).encode("utf-8", "backslashreplace")).hexdigest()[:32]
