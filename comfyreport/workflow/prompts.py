"""Where a workflow takes its prompt from: pure functions on an API-format graph.

The prompt is found as a person finds it in the editor: from each sampler up along the positive conditioning
to the nodes that hold text. No node class has to be known; inputs are distinguished by their names, and the few
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
_PROMPT_GROUPS = (
    ("text_g", "text_l", "text"),
    ("clip_l", "clip_g", "t5xxl", "llama"),
    ("bert", "mt5xl"),
    ("wildcard_text", "populated_text"),
)
_PROMPT_NAMES = (
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
_STRING_NAMES = ("value", "string")
_TEXT_NAMES = frozenset([*_PROMPT_NAMES, *_STRING_NAMES, *(name for group in _PROMPT_GROUPS for name in group)]) - {
    "positive"
}
_NOT_PROMPT = re.compile(r"negative|system|(?<![a-z])neg(?![a-z])")
_TEXT_PART = re.compile(r"(string|str|text|prompt|value|input|any|concat|caption)[ _]?([a-z]|\d{1,3})?")

_CONDITIONING = re.compile(r"positive|(?<![a-z])cond|guider|embeds|pipe")
_NEGATIVE = re.compile(r"negative|uncond|empty|(?<![a-z])neg(?![a-z])")
_ONLY_INPUTS = {"DualCFGGuider": "cond1"}  # its cond2 is the picture's conditioning, usually with the negative text
_WITHOUT_NEGATIVE_OUTPUT = ("sampler", "loader", "pipe")  # classes whose second output isn't a negative conditioning
_OTHER_DATA = re.compile(r"model|clip|vae|latent|image|pixels|samples|mask|audio|video")
_SELECTOR_NAMES = ("select", "switch", "index", "input", "boolean", "selected", "which")
_PROMPT_TITLES = {"prompt", "positive prompt", "positive"}

_MAX_LISTED = 20
_MAX_SHOWN = 40
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
    encoders = encoders or [node_id for node_id in graph if _has_prompt_title(graph, node_id)]
    candidates: dict[Candidate, set[str]] = {}
    sources: dict[str, list[Candidate]] = {}
    for node_id in encoders:
        for candidate in _candidates(graph, node_id, sources):
            titles = candidates.setdefault(candidate, {_title(graph, node_id)})
            titles.update(_title(graph, target.node) for target in candidate)
    chosen = _choose(graph, candidates)
    if chosen is None:
        raise _ambiguous(graph, candidates, has_sampler=samplers is not None)
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
    return lower in _TEXT_NAMES or "prompt" in lower or lower in ("positive", "negative") or _is_text_part(lower)


def _has_prompt_title(graph: Graph, node_id: str) -> bool:
    """Whether a node that holds text has the title of a prompt."""
    return _title(graph, node_id).strip().lower() in _PROMPT_TITLES and bool(
        _prompt_inputs(inputs_of(graph[node_id]), _STRING_NAMES)
    )


def _is_text_part(name: str) -> bool:
    return _TEXT_PART.fullmatch(name) is not None


def _is_conditioning(name: str) -> bool:
    lower = name.lower()
    return bool(_CONDITIONING.search(lower)) and not _NEGATIVE.search(lower) and lower not in _TEXT_NAMES


def _prompt_inputs(inputs: Mapping[str, Any], more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The inputs of one node that hold its prompt, as a literal or linked; only the best known name counts."""
    names = {name.lower(): name for name, value in inputs.items() if isinstance(value, str) or as_link(value)}
    for group in _PROMPT_GROUPS:
        together = tuple(names[name] for name in group if name in names)
        if len(together) > 1:
            return together
    for prompt_name in _PROMPT_NAMES + more:
        if prompt_name in names:
            return (names[prompt_name],)
    for lower, name in names.items():
        if lower.endswith("prompt") and not _NOT_PROMPT.search(lower) and isinstance(inputs[name], str):
            return (name,)
    return ()


def _samplers(graph: Graph) -> list[Link] | None:
    """The links that bring the samplers their positive conditioning; None where there is no sampler."""
    starts: list[Link] = []
    has_sampler = False
    for node in graph.values():
        if "sampler" in class_of(node).lower():
            names = _links(node)
            has_sampler |= any(_is_conditioning(name) or _NEGATIVE.search(name.lower()) for name in names)
            starts.extend(_conditioning(node, 0))
    return starts if has_sampler else None


def _conditioning(node: Mapping[str, Any], slot: float) -> list[Link]:
    """The links by which conditioning comes into a node and leaves it at that output."""
    links = _links(node)
    kind = class_of(node)
    if kind in _ONLY_INPUTS:
        return [link for name, link in links.items() if name == _ONLY_INPUTS[kind]]
    if slot == 1 and not any(part in kind.lower() for part in _WITHOUT_NEGATIVE_OUTPUT):
        negative = [link for name, link in links.items() if _NEGATIVE.search(name.lower())]
        if negative:
            return negative
    named = {name.lower(): link for name, link in links.items() if _is_conditioning(name)}
    return [link for name, link in named.items() if "positive" in name] or list(named.values())


def _switched(node: Mapping[str, Any]) -> list[Link]:
    """The inputs that a switch passes on; all if its selector can't be read, none if the node is no switch."""
    links = _links(node)
    kind = class_of(node).lower()
    if not links or ("switch" not in kind and "on_true" not in links and "on_false" not in links):
        return []
    if "any switch" in kind:  # takes the first one that has a value
        return [links[min(links, key=lambda name: (len(name), name))]]
    for name, value in inputs_of(node).items():
        if name.lower() not in _SELECTOR_NAMES or not isinstance(value, int):
            continue
        if isinstance(value, bool):
            selected = [link for key, link in links.items() if str(value).lower() in key.lower()]
        else:
            selected = [link for key, link in links.items() if re.findall(r"\d+$", key) == [str(value)]]
        if len(selected) == 1:
            return selected
    return list(links.values())


def _pass_through(node: Mapping[str, Any]) -> list[Link]:
    """The one input of a node that passes it on, such as a reroute."""
    links = _links(node)
    name = next(iter(links), "").lower()
    passes = len(links) == 1 and not _NEGATIVE.search(name) and not _OTHER_DATA.search(name)
    return list(links.values()) if passes else []


def _encoders(graph: Graph, starts: Iterable[Link]) -> list[str]:
    """The first text nodes above the links.

    Text that is zeroed out on its way, or is in a node which takes conditioning as well (the label of
    a GLIGEN box), is only taken where there is no other.
    """
    starts = list(starts)
    for through_zero in (False, True):
        ends, passed = _walk(graph, starts, through_zero)
        if ends:
            return ends
    return passed


def _walk(graph: Graph, starts: Iterable[Link], through_zero: bool) -> tuple[list[str], list[str]]:
    """The text nodes at the ends of all paths up, and those passed on the way."""
    todo = deque(starts)
    seen: set[Link] = set()
    ends: dict[str, None] = {}
    passed: dict[str, None] = {}
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
        above = _switched(node) or _conditioning(node, link.slot)
        if above:
            if any(isinstance(inputs[name], str) for name in names):
                passed[link.node] = None
            todo.extend(above)
        elif names or any(isinstance(inputs.get(name), str) for name in _STRING_NAMES):
            ends[link.node] = None
        else:
            todo.extend(_pass_through(node))
    return list(ends), list(passed)


def _candidates(graph: Graph, node_id: str, sources: dict[str, list[Candidate]]) -> list[Candidate]:
    """The ways to set the text of an encoder: at the node itself, or where its text comes from.

    A text that is made from no other text (a caption, a file) is replaced at the encoder. `sources` keeps
    those of each linked node, for encoders that share it.
    """
    inputs = inputs_of(graph[node_id])
    together: set[Target] = set()
    alternatives: list[Candidate] = []
    for name in _prompt_inputs(inputs, _STRING_NAMES):
        link = as_link(inputs[name])
        if link and link.node not in sources:
            sources[link.node] = _text_sources(graph, link)
        linked = sources[link.node] if link else []
        if len(linked) > 1:
            alternatives.extend(linked)
        else:
            together.update(linked[0] if linked else {Target(node_id, name)})
    return [*alternatives, frozenset(together)] if together else alternatives


def _text_sources(graph: Graph, start: Link) -> list[Candidate]:
    """The literals that a linked text comes from: each is a candidate.

    Of a node that joins texts, the linked ones count, and its own literals only if there are none: those
    are the constant text around the prompt, such as a trigger word.
    """
    todo = deque([start.node])
    seen: set[str] = set()
    literal_inputs: dict[Candidate, None] = {}
    while todo:
        node_id = todo.popleft()
        if node_id in seen or node_id not in graph:
            continue
        seen.add(node_id)
        node = graph[node_id]
        inputs = inputs_of(node)
        links = _links(node)
        names = _prompt_inputs(inputs, _STRING_NAMES)
        literals = frozenset(Target(node_id, name) for name in names if isinstance(inputs[name], str))
        above = [links[name] for name in names if name in links]
        if not names:
            pieces = [link for name, link in links.items() if _is_text_part(name.lower())]
            above = _switched(node) or pieces or _pass_through(node)
        if literals:
            literal_inputs[literals] = None
        todo.extend(link.node for link in above)
        if not names and not above:
            for name, value in inputs.items():
                if isinstance(value, str) and value.strip() and _is_text_part(name.lower()):
                    literal_inputs[frozenset({Target(node_id, name)})] = None
    return list(literal_inputs)


def _choose(graph: Graph, candidates: Mapping[Candidate, set[str]]) -> Candidate | None:
    """The one candidate; of several all, if they hold the same text, else the one that the titles single out."""
    if len(candidates) > 1:
        every = frozenset(target for candidate in candidates for target in candidate)
        texts = {str(inputs_of(graph[target.node])[target.name]).strip() for target in every}
        if len(texts) == 1 and "" not in texts:
            return every
        titles = {candidate: {title.strip().lower() for title in each} for candidate, each in candidates.items()}
        named = [candidate for candidate, each in titles.items() if each & _PROMPT_TITLES]
        if len(named) != 1:
            named = [c for c, each in titles.items() if not any(_NOT_PROMPT.search(title) for title in each)]
        return named[0] if len(named) == 1 else None
    return next(iter(candidates), None)


def _ambiguous(graph: Graph, candidates: Iterable[Candidate], *, has_sampler: bool) -> WorkflowError:
    inputs = [f"{target.node} {target.name}" for candidate in candidates for target in sorted(candidate)]
    if inputs:
        listed = ", ".join(printable(each, _MAX_SHOWN) for each in inputs[:_MAX_LISTED])
        message = f"the prompt could go to several places in the workflow ({listed})"
    elif has_sampler:
        message = "no text node feeds the positive conditioning of a sampler, so the prompt has no place"
    else:
        message = "the workflow has no node that takes a prompt"
    nodes = text_nodes(graph)
    if not nodes:
        hint = "Leave the prompt out: no node of this workflow holds a text."
        return WorkflowError(message, hint=hint)
    lines = [f"{message}; its text nodes:"]
    for ref, _, text in nodes[:_MAX_LISTED]:
        title = printable(ref.title, _MAX_SHOWN)
        name = f"{printable(ref.id, _MAX_SHOWN)} {printable(ref.class_type, _MAX_SHOWN)}"
        lines.append(f'  {name} "{title}": "{printable(text, _MAX_SHOWN)}"')
    if len(nodes) > _MAX_LISTED:
        lines.append(f"  and {len(nodes) - _MAX_LISTED} more")
    return WorkflowError("\n".join(lines), hint=_HINT)
