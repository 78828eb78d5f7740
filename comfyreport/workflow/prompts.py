"""Where a workflow takes its prompt from: pure functions on an API-format graph.

The prompt is found as a person finds it in the editor: from each sampler up along the positive conditioning
to the nodes that hold text. No node class has to be known; inputs are told apart by their names, and the few
classes whose names mislead are listed here. Every walk is a loop over a queue and visits a link once, so
that cycles end and long chains don't exhaust the stack.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from comfyreport.errors import WorkflowError
from comfyreport.events import NodeRef
from comfyreport.protocol.responses import node_ref
from comfyreport.text import printable

Graph = Mapping[str, Mapping[str, Any]]


class Link(NamedTuple):
    """The output of a node that feeds an input."""

    node: str
    slot: float


class Target(NamedTuple):
    """An input that the prompt can be written to."""

    node: str
    name: str


class TextNode(NamedTuple):
    """A node that holds text as a literal: the names of those inputs and the first text that isn't blank."""

    node: NodeRef
    inputs: tuple[str, ...]
    text: str


Candidate = frozenset[Target]

# Inputs that take the same prompt together: encoders with several text models, wildcards and their result.
_GROUPS = (
    ("text_g", "text_l", "text"),
    ("clip_l", "clip_g", "t5xxl", "llama"),
    ("bert", "mt5xl"),
    ("wildcard_text", "populated_text"),
)
_PROMPTS = (
    "text",
    "prompt",
    "positive_prompt",
    "positive",
    "user_prompt",
    "prompt_text",
    "text_positive",
    "prompt_positive",
    "positive_text",
    "text_prompt",
    "caption",
    "tags",
)
_STRINGS = ("value", "string")
_TEXTUAL = frozenset([*_PROMPTS, *_STRINGS, *(name for group in _GROUPS for name in group)]) - {"positive"}
_AVERSE = re.compile(r"negative|system|(?<![a-z])neg(?![a-z])")
_PIECE = re.compile(r"(string|str|text|prompt|value|input|any|concat|caption)[ _]?([a-z]|\d{1,3})?")

_CONDITIONING = re.compile(r"positive|(?<![a-z])cond|guider|embeds|pipe")
_NEGATIVE = re.compile(r"negative|uncond|empty|(?<![a-z])neg(?![a-z])")
_ONLY = {"DualCFGGuider": "cond1"}  # its cond2 is the picture's conditioning, usually with the negative text
_UNPAIRED = ("sampler", "loader", "pipe")  # classes whose second output isn't a negative conditioning
_PAYLOAD = re.compile(r"model|clip|vae|latent|image|pixels|samples|mask|audio|video")
_SELECTORS = ("select", "switch", "index", "input", "boolean", "selected", "which")
_WANTED = {"prompt", "positive prompt", "positive"}

_LISTED = 20
_SHOWN = 40
_HINT = (
    "Edit the text in the workflow and leave the prompt out, or give the node that is to take it "
    'the title "Prompt" in ComfyUI and export the workflow again.'
)


def find_prompt(graph: Graph) -> Candidate:
    """The inputs that hold the workflow's prompt; a WorkflowError that lists the text nodes unless it's clear."""
    samplers = _samplers(graph)
    starts = samplers or [
        link
        for node in graph.values()
        if any("positive" in name.lower() or name == "guider" for name in _links(node))
        for link in _conditioning(node, 0)
    ]
    if samplers is not None or starts:
        encoders = _encoders(graph, starts or [])
    else:
        encoders = [node_id for node_id, node in graph.items() if _prompt_inputs(inputs_of(node))]
    encoders = encoders or [node_id for node_id in graph if _is_titled(graph, node_id)]
    candidates: dict[Candidate, set[str]] = {}
    known: dict[str, list[Candidate]] = {}
    for node_id in encoders:
        for candidate in _candidates(graph, node_id, known):
            titles = candidates.setdefault(candidate, {_title(graph, node_id)})
            titles.update(_title(graph, target.node) for target in candidate)
    chosen = _choose(graph, candidates)
    if chosen is None:
        raise _unclear(graph, candidates, sampled=samplers is not None)
    return chosen


def text_nodes(graph: Graph) -> list[TextNode]:
    """All nodes that hold a text which may be a prompt, in file order; the negative ones too."""
    nodes = []
    for node_id in graph:
        inputs = inputs_of(graph[node_id])
        names = tuple(name for name, value in inputs.items() if isinstance(value, str) and _is_text(name))
        if names:
            text = next((inputs[name] for name in names if inputs[name].strip()), "")
            nodes.append(TextNode(_ref(graph, node_id), names, text))
    return nodes


def inputs_of(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """The node's inputs, empty where it has none."""
    inputs = node.get("inputs")
    return inputs if isinstance(inputs, Mapping) else {}


def class_of(node: Mapping[str, Any]) -> str:
    """The node's class type, empty where it has none."""
    return str(node.get("class_type", ""))


def _ref(graph: Graph, node_id: str) -> NodeRef:
    return node_ref(node_id, graph[node_id])


def _title(graph: Graph, node_id: str) -> str:
    return _ref(graph, node_id).title


def as_link(value: object) -> Link | None:
    """The value as a link, if the server would take it for one."""
    if isinstance(value, list) and len(value) == 2:
        node, slot = value
        if isinstance(node, str) and isinstance(slot, int | float):
            return Link(node, slot)
    return None


def _links(node: Mapping[str, Any]) -> dict[str, Link]:
    return {name: link for name, value in inputs_of(node).items() if (link := as_link(value))}


def _is_text(name: str) -> bool:
    """Whether a literal text under that name may be a prompt of some kind."""
    lower = name.lower()
    return lower in _TEXTUAL or "prompt" in lower or lower in ("positive", "negative") or _is_piece(lower)


def _is_titled(graph: Graph, node_id: str) -> bool:
    """Whether a node that holds text is called the prompt by its title."""
    titled = _title(graph, node_id).strip().lower() in _WANTED
    return titled and bool(_prompt_inputs(inputs_of(graph[node_id]), _STRINGS))


def _is_piece(name: str) -> bool:
    return _PIECE.fullmatch(name) is not None


def _is_conditioning(name: str) -> bool:
    lower = name.lower()
    return bool(_CONDITIONING.search(lower)) and not _NEGATIVE.search(lower) and lower not in _TEXTUAL


def _prompt_inputs(inputs: Mapping[str, Any], more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The inputs of one node that hold its prompt, as a literal or linked; only the best known name counts."""
    names = {name.lower(): name for name, value in inputs.items() if isinstance(value, str) or as_link(value)}
    for group in _GROUPS:
        held = tuple(names[name] for name in group if name in names)
        if len(held) > 1:
            return held
    for known in _PROMPTS + more:
        if known in names:
            return (names[known],)
    for lower, name in names.items():
        if lower.endswith("prompt") and not _AVERSE.search(lower) and isinstance(inputs[name], str):
            return (name,)
    return ()


def _samplers(graph: Graph) -> list[Link] | None:
    """The links that bring the samplers their positive conditioning; None where there is no sampler."""
    starts: list[Link] = []
    found = False
    for node in graph.values():
        if "sampler" in class_of(node).lower():
            names = _links(node)
            found |= any(_is_conditioning(name) or _NEGATIVE.search(name.lower()) for name in names)
            starts.extend(_conditioning(node, 0))
    return starts if found else None


def _conditioning(node: Mapping[str, Any], slot: float) -> list[Link]:
    """The links by which conditioning comes into a node and leaves it at that output."""
    links = _links(node)
    kind = class_of(node)
    if kind in _ONLY:
        return [link for name, link in links.items() if name == _ONLY[kind]]
    if slot == 1 and not any(part in kind.lower() for part in _UNPAIRED):
        negative = [link for name, link in links.items() if _NEGATIVE.search(name.lower())]
        if negative:
            return negative
    named = {name.lower(): link for name, link in links.items() if _is_conditioning(name)}
    return [link for name, link in named.items() if "positive" in name] or list(named.values())


def _chosen(node: Mapping[str, Any]) -> list[Link]:
    """The inputs that a switch lets through; none if it is no switch or can't be read."""
    links = _links(node)
    kind = class_of(node).lower()
    if not links or ("switch" not in kind and "on_true" not in links and "on_false" not in links):
        return []
    if "any switch" in kind:  # takes the first one that has a value
        return [links[min(links, key=lambda name: (len(name), name))]]
    for name, value in inputs_of(node).items():
        if name.lower() not in _SELECTORS or not isinstance(value, int):
            continue
        if isinstance(value, bool):
            sure = [link for key, link in links.items() if str(value).lower() in key.lower()]
        else:
            sure = [link for key, link in links.items() if re.findall(r"\d+$", key) == [str(value)]]
        if len(sure) == 1:
            return sure
    return list(links.values())


def _passed(node: Mapping[str, Any]) -> list[Link]:
    """The one input of a node that hands on what it gets, such as a reroute."""
    links = _links(node)
    name = next(iter(links), "").lower()
    passes = len(links) == 1 and not _NEGATIVE.search(name) and not _PAYLOAD.search(name)
    return list(links.values()) if passes else []


def _encoders(graph: Graph, starts: Iterable[Link]) -> list[str]:
    """The first text nodes above the links.

    Text that is zeroed out on its way, or stands in a node which takes conditioning as well (the label of
    a GLIGEN box), is only taken where there is no other.
    """
    starts = list(starts)
    for through_zero in (False, True):
        found, beside = _walk(graph, starts, through_zero)
        if found:
            return found
    return beside


def _walk(graph: Graph, starts: Iterable[Link], through_zero: bool) -> tuple[list[str], list[str]]:
    """The text nodes at the ends of all ways up, and those passed on the way."""
    todo = deque(starts)
    seen: set[Link] = set()
    found: dict[str, None] = {}
    beside: dict[str, None] = {}
    while todo:
        link = todo.popleft()
        if link in seen or link.node not in graph:
            continue
        seen.add(link)
        node = graph[link.node]
        inputs = inputs_of(node)
        if "zeroout" in class_of(node).lower() and not through_zero:
            continue
        names = _prompt_inputs(inputs)
        above = _chosen(node) or _conditioning(node, link.slot)
        if above:
            if any(isinstance(inputs[name], str) for name in names):
                beside[link.node] = None
            todo.extend(above)
        elif names or any(isinstance(inputs.get(name), str) for name in _STRINGS):
            found[link.node] = None
        else:
            todo.extend(_passed(node))
    return list(found), list(beside)


def _candidates(graph: Graph, node_id: str, known: dict[str, list[Candidate]]) -> list[Candidate]:
    """The ways to set the text of an encoder: at the node itself, or where its text comes from.

    A text that is made from no other text (a caption, a file) is replaced at the encoder. `known` keeps
    what the sources were found to be, for encoders that share them.
    """
    inputs = inputs_of(graph[node_id])
    together: set[Target] = set()
    alternatives: list[Candidate] = []
    for name in _prompt_inputs(inputs, _STRINGS):
        link = as_link(inputs[name])
        if link and link.node not in known:
            known[link.node] = _sources(graph, link)
        sources = known[link.node] if link else []
        if len(sources) > 1:
            alternatives.extend(sources)
        else:
            together.update(sources[0] if sources else {Target(node_id, name)})
    return [*alternatives, frozenset(together)] if together else alternatives


def _sources(graph: Graph, start: Link) -> list[Candidate]:
    """Where a linked text is written: each literal is a candidate.

    Of a node that joins texts, the linked ones count, and its own literals only if there are none: those
    are what stays the same around the prompt, such as a trigger word.
    """
    todo = deque([start.node])
    seen: set[str] = set()
    found: dict[Candidate, None] = {}
    while todo:
        node_id = todo.popleft()
        if node_id in seen or node_id not in graph:
            continue
        seen.add(node_id)
        node = graph[node_id]
        inputs = inputs_of(node)
        links = _links(node)
        names = _prompt_inputs(inputs, _STRINGS)
        literals = frozenset(Target(node_id, name) for name in names if isinstance(inputs[name], str))
        above = [links[name] for name in names if name in links]
        if not names:
            pieces = [link for name, link in links.items() if _is_piece(name.lower())]
            above = _chosen(node) or pieces or _passed(node)
        if literals:
            found[literals] = None
        todo.extend(link.node for link in above)
        if not names and not above:
            for name, value in inputs.items():
                if isinstance(value, str) and value.strip() and _is_piece(name.lower()):
                    found[frozenset({Target(node_id, name)})] = None
    return list(found)


def _choose(graph: Graph, candidates: Mapping[Candidate, set[str]]) -> Candidate | None:
    """The one candidate, or the one that is meant: all hold the same text, or the titles tell."""
    if len(candidates) > 1:
        every = frozenset(target for candidate in candidates for target in candidate)
        texts = {str(inputs_of(graph[target.node])[target.name]).strip() for target in every}
        if len(texts) == 1 and "" not in texts:
            return every
        titles = {candidate: {title.strip().lower() for title in held} for candidate, held in candidates.items()}
        named = [candidate for candidate, held in titles.items() if held & _WANTED]
        if len(named) != 1:
            named = [c for c, held in titles.items() if not any(_AVERSE.search(title) for title in held)]
        return named[0] if len(named) == 1 else None
    return next(iter(candidates), None)


def _unclear(graph: Graph, candidates: Iterable[Candidate], *, sampled: bool) -> WorkflowError:
    places = [f"{target.node} {target.name}" for candidate in candidates for target in sorted(candidate)]
    if places:
        shown = ", ".join(printable(place, _SHOWN) for place in places[:_LISTED])
        message = f"the prompt could go to several places in the workflow ({shown})"
    elif sampled:
        message = "no text node feeds the positive conditioning of a sampler, so the prompt has no place"
    else:
        message = "the workflow has no node that takes a prompt"
    nodes = text_nodes(graph)
    if not nodes:
        hint = "Leave the prompt out: no node of this workflow holds a text."
        return WorkflowError(message, hint=hint)
    lines = [f"{message}; its text nodes:"]
    for ref, _, text in nodes[:_LISTED]:
        title = printable(ref.title, _SHOWN)
        name = f"{printable(ref.id, _SHOWN)} {printable(ref.class_type, _SHOWN)}"
        lines.append(f'  {name} "{title}": "{printable(text, _SHOWN)}"')
    if len(nodes) > _LISTED:
        lines.append(f"  and {len(nodes) - _LISTED} more")
    return WorkflowError("\n".join(lines), hint=_HINT)
