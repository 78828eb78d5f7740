"""Which keys name a secret, and what stands under them: in `extra_data`, one's own and other people's. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from comfyreport.protocol.messages import Json
from comfyreport.text import DEPTH_LIMIT

PLACEHOLDER = "[removed]"

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

# The words of DESIGN's list, and what ends with them ("apikey"); not "author", "tokenizer", "keyframe" or "monkey".
_SECRET_WORD = re.compile(
    r"(?!(?:mon|don|tur|hoc|joc|whis|hot)keys?\Z)\w*(?:keys?|tokens?|passwords?|secrets?)"
    r"|\w*auth|\w*authori[sz]ation|authentication"
)

# What ComfyUI writes into pictures, for everybody: the editor's workflow.
_PUBLIC = "extra_pnginfo"

# What holds a submission's `extra_data`, or what hidden inputs took from there (ComfyUI execution.py).
_HOLDERS = ("extra_data", "current_inputs")

# Lists and objects around those, and what isn't looked into: there may be very much of it.
_DEPTH = 6
_SKIPPED = ("outputs", "meta")

_PAIR = re.compile(r'(\\*"([^"\\]{1,200})\\*"\s*:\s*\\*")((?:[^"\\]|\\[^"])+)')


@lru_cache(maxsize=1024)
def is_secret_key(name: str) -> bool:
    """Whether a key names a secret: one of its words is key, token, auth, password or secret, however it is spelt."""
    return any(_SECRET_WORD.fullmatch(word.lower()) for word in _WORD.findall(name))


def secret_texts(extra_data: Json) -> Iterator[str]:
    """All texts in *extra_data* under keys that name a secret; numbers as texts too."""
    waiting = [(extra_data, False, 0)]
    while waiting:
        value, secret, depth = waiting.pop()
        if isinstance(value, (str, int, float)) and secret and not isinstance(value, bool):
            yield str(value)
        elif depth > DEPTH_LIMIT:
            continue
        elif isinstance(value, Mapping):
            items = ((str(key), item) for key, item in value.items() if key != _PUBLIC)
            waiting += [(item, secret or is_secret_key(key), depth + 1) for key, item in items]
        elif isinstance(value, (list, tuple)):
            waiting += [(item, secret, depth + 1) for item in value]


def hide(value: Json, depth: int = 0) -> Json:
    """A copy of *value* with `PLACEHOLDER` for all that stands under keys that name a secret."""
    if depth > DEPTH_LIMIT:
        return PLACEHOLDER
    if isinstance(value, Mapping):
        return {key: _hidden(str(key), item, depth) for key, item in value.items()}
    return [hide(item, depth + 1) for item in value] if isinstance(value, (list, tuple)) else value


def hide_inputs(inputs: Mapping[str, Json]) -> dict[str, Json]:
    """A copy of *inputs* by NODE.INPUT, or a short name, without secrets: a key for a paid service is an input too."""
    return {place: _hidden(place.rpartition(".")[2], value, 0) for place, value in inputs.items()}


def _hidden(key: str, item: Json, depth: int) -> Json:
    if key == _PUBLIC or item is None or isinstance(item, bool):
        return item
    return PLACEHOLDER if is_secret_key(key) else hide(item, depth + 1)


def hide_in_answer(value: Json, depth: int = 0) -> bool:
    """Hide, in place, the secrets in all submissions that an answer tells of; whether there were any.

    Those are lists of a number, an id, the workflow, in whose inputs may be some too, and `extra_data` in `/queue` and
    `/history`; elsewhere it has that name.
    """
    found = False
    if isinstance(value, dict):
        for key in _HOLDERS:
            if key in value:
                found |= _replace(value, key)
        if "extra_data" in value:
            found |= _hide_in_graph(value.get("prompt"))
        inner = [item for key, item in value.items() if key not in _SKIPPED and key not in _HOLDERS]
    elif isinstance(value, list):
        is_submission = len(value) > 3 and isinstance(value[1], (str, int)) and isinstance(value[2], (dict, type(None)))
        for index in range(3, len(value)) if is_submission else ():
            found |= isinstance(value[index], dict) and _replace(value, index)
        found |= is_submission and _hide_in_graph(value[2])
        inner = [] if is_submission else value
    else:
        return False
    if depth < _DEPTH:
        for item in inner:
            if isinstance(item, (dict, list)):
                found |= hide_in_answer(item, depth + 1)
    return found


def _hide_in_graph(graph: Json) -> bool:
    """Hide, in place, the texts of inputs that are called so; links stay, for a run follows them."""
    found = False
    for node in graph.values() if isinstance(graph, dict) else ():
        inputs: Json = node.get("inputs") if isinstance(node, dict) else None
        for name, value in inputs.items() if isinstance(inputs, dict) else ():
            if isinstance(value, str) and value and is_secret_key(name):
                inputs[name], found = PLACEHOLDER, True
    return found


def _replace(holder: Json, key: Json) -> bool:
    hidden = hide(holder[key])
    if hidden == holder[key]:
        return False
    holder[key] = hidden
    return True


def hide_in_text(text: str) -> str:
    """*text*, JSON that can't be read as such, without texts under keys that name a secret."""
    return _PAIR.sub(lambda pair: pair[1] + PLACEHOLDER if is_secret_key(pair[2]) else pair[0], text)
