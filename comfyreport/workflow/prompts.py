"""Where texts stand that make a conditioning: pure functions on an API-format graph.

A text is found as a person finds it in the editor: from what takes the conditioning up to the nodes that hold text. No
node class has to be known; inputs are distinguished by their names, and the few classes whose names mislead are listed
here. Links count, never titles or what a text says.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from comfyreport.workflow.graph import OTHER_DATA, Graph, Link, Target, as_link, class_of, inputs_of, links_of

Role = Literal["positive", "negative"]


Candidate = frozenset[Target]
Uses = Mapping[str, set[tuple[float, str]]]

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
_SEEN = re.compile(r"image|pixels|mask|audio|video")
_SELECTOR_NAMES = ("select", "switch", "index", "input", "boolean", "selected", "which")
# Classes that take or hand on both conditionings at once: which one is meant isn't told by the output's number.
_BOTH = re.compile(r"sampler|loader|pipe|guider|detailer|upscale|context|(?<![a-z])bus(?![a-z])")


def find_texts(graph: Graph, users: Iterable[str], role: Role) -> list[Candidate]:
    """The ways to set the text behind the conditioning of *users*: samplers, or nodes with a text of their own.

    A way is all inputs that are set together. Text that reaches the conditioning only through ConditioningZeroOut has
    no effect, and is none.
    """
    encoders: dict[str, None] = {}
    uses = _uses(graph)
    for user in users:
        starts = _conditioning(graph[user], 0, role, starting=True)
        ends, passed = _walk(graph, starts, role, uses) if starts else ([], [])
        encoders.update(dict.fromkeys(ends or passed))
        if not starts and _prompt_inputs(inputs_of(graph[user]), role=role):
            encoders[user] = None
    candidates: dict[Candidate, None] = {}
    sources: dict[str, list[Candidate]] = {}
    for node_id in encoders:
        candidates.update(dict.fromkeys(_candidates(graph, node_id, sources, role)))
    return list(candidates)


def with_text(graph: Graph, samplers: Iterable[str]) -> set[str]:
    """Those of *samplers* whose positive conditioning is made of text."""
    uses = _uses(graph)
    starts = {sampler: _conditioning(graph[sampler], 0, "positive", starting=True) for sampler in samplers}
    return {sampler for sampler, each in starts.items() if any(_walk(graph, each, "positive", uses))}


def is_sampler(node: Mapping[str, Any]) -> bool:
    """Whether a node samples: it takes a conditioning, with a model or a seed of its own, or has such a name."""
    links, kind = links_of(node), class_of(node).lower()
    if "guider" in links:
        return True
    takes = any(_is_conditioning(name) or _NEGATIVE.search(name.lower()) for name in links)
    own = "sampler" in kind or "model" in links or any(name in inputs_of(node) for name in ("seed", "noise_seed"))
    return takes and own and "guider" not in kind


def _is_text_part(name: str) -> bool:
    return _TEXT_PART.fullmatch(name) is not None


def _is_negative(name: str) -> bool:
    lower = name.lower()
    return bool(_NEGATIVE.search(lower)) and "empty" not in lower


def _is_conditioning(name: str) -> bool:
    lower = name.lower()
    return bool(_CONDITIONING.search(lower)) and not _NEGATIVE.search(lower) and lower not in _TEXT_NAMES


def _prompt_inputs(
    inputs: Mapping[str, Any], more: tuple[str, ...] = (), *, role: Role = "positive"
) -> tuple[str, ...]:
    """The inputs of one node that hold its prompt, as a literal or linked; only the best known name counts."""
    names = {name.lower(): name for name, value in inputs.items() if isinstance(value, str) or as_link(value)}
    if role == "negative":
        negative = tuple(name for lower, name in names.items() if "negative" in lower)
        return negative if len(negative) == 1 else ()
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


def _texts_of(inputs: Mapping[str, Any], role: Role, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The inputs that hold an encoder's text; one that has both roles' texts gives that of *role*."""
    return (role == "negative" and _prompt_inputs(inputs, role=role)) or _prompt_inputs(inputs, more)


def _uses(graph: Graph) -> Uses:
    """By which inputs the outputs of each node are taken: (output, name)."""
    uses: dict[str, set[tuple[float, str]]] = {}
    for node in graph.values():
        for name, link in links_of(node).items():
            uses.setdefault(link.node, set()).add((link.slot, name.lower()))
    return uses


def _role_at(slot: float, role: Role, uses: Iterable[tuple[float, str]]) -> Role:
    """The conditioning that a node with both gives at the output *slot*.

    Positive is 0 and negative 1, before the latent; behind a model, or in another order, it is 1 and 2. Of a node that
    gives more than that, the role that is looked for decides: a name such as `positive` is at both ends of the link.
    """
    taken = dict(uses)
    first = taken.get(0, "")
    behind = "model" in first or (2 in taken and (_is_conditioning(taken[2]) or _is_negative(taken[2])))
    place = slot - 1 if behind else slot
    return role if place not in (0, 1) or "context" in first or "pipe" in first else "negative" if place else "positive"


def _conditioning(
    node: Mapping[str, Any],
    slot: float,
    role: Role,
    *,
    starting: bool = False,
    uses: Iterable[tuple[float, str]] = (),
) -> list[Link]:
    """The links by which conditioning comes into a node and leaves it at that output; *starting*: into its user."""
    links = links_of(node)
    kind = class_of(node)
    both = starting or _BOTH.search(kind.lower())
    named = {name.lower(): link for name, link in links.items() if _is_conditioning(name)}
    if (role if both else _role_at(slot, role, uses)) == "negative":
        negative = [link for name, link in links.items() if _is_negative(name)]
        if negative:
            return negative
        if both:
            # What has none of its own may be given both at once.
            return [link for name, link in named.items() if re.search(r"guider|pipe|embeds", name)]
    if kind in _ONLY_INPUTS:
        return [link for name, link in links.items() if name == _ONLY_INPUTS[kind]]
    return [link for name, link in named.items() if "positive" in name] or list(named.values())


def _switched(node: Mapping[str, Any]) -> list[Link]:
    """The inputs that a switch passes on; all if its selector can't be read, none if the node is no switch."""
    links = links_of(node)
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
    links = links_of(node)
    name = next(iter(links), "").lower()
    passes = len(links) == 1 and not _NEGATIVE.search(name) and not OTHER_DATA.search(name)
    return list(links.values()) if passes else []


def _walk(graph: Graph, starts: Iterable[Link], role: Role, uses: Uses) -> tuple[list[str], list[str]]:
    """The text nodes at the ends of all paths up, and those passed on the way.

    A node that takes conditioning as well, such as a GLIGEN box with its label, is passed.
    """
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
        if "zeroout" in class_of(node).lower():
            continue
        names = _texts_of(inputs, role)
        higher = _switched(node) or _conditioning(node, link.slot, role, uses=uses.get(link.node, ()))
        if higher:
            if any(isinstance(inputs[name], str) for name in names):
                passed[link.node] = None
            todo.extend(higher)
        elif names or any(isinstance(inputs.get(name), str) for name in _STRING_NAMES):
            ends[link.node] = None
        else:
            todo.extend(_pass_through(node))
    return list(ends), list(passed)


def _candidates(graph: Graph, node_id: str, sources: dict[str, list[Candidate]], role: Role) -> list[Candidate]:
    """The ways to set the text of an encoder: at the node itself, or where its text comes from.

    A text that is made from no other text (a caption, a file) is replaced at the encoder. `sources` keeps
    those of each linked node, for encoders that share it.
    """
    inputs = inputs_of(graph[node_id])
    together: set[Target] = set()
    alternatives: list[Candidate] = []
    for name in _texts_of(inputs, role, _STRING_NAMES):
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
        links = links_of(node)
        if any(_SEEN.search(name.lower()) for name in links):
            # It tells what it sees, or hears: its own text is a question.
            continue
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
