"""What the user sets in a workflow: `NODE.INPUT=VALUE`, and the short names. Pure, but for the files that are read."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn

from comfyreport.errors import UsageError
from comfyreport.text import printable
from comfyreport.workflow.graph import Graph, Target, as_link, class_of, inputs_of, is_number, ref_of
from comfyreport.workflow.names import NAMES, changes

# Loaded where there is something to convert.
if TYPE_CHECKING:
    from comfyreport.workflow.convert import EditorNode

MAX_SEED = 2**53 - 1
"""The largest seed that is drawn: the editor, too, keeps to what JavaScript can count."""

_MAX_SHOWN = 60
_MAX_LISTED = 20
_TRUTHS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False, "1": True, "0": False}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is asked for; None where nothing is.

    `assignments` are `NODE.INPUT=VALUE`; `inputs` the same as a mapping, whose values may have a type already; `size`
    is (width, height); `prompt_file` is read in place of `prompt`.
    """

    assignments: tuple[str, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)
    prompt: str | None = None
    prompt_file: str | None = None
    negative: str | None = None
    seed: int | Literal["random", "keep"] | None = None
    steps: int | None = None
    size: tuple[int, int] | None = None
    batch: int | None = None
    model: str | None = None

    def names(self) -> Iterator[tuple[str, Any]]:
        """The short names that are given, with their values."""
        for name in NAMES:
            value = getattr(self, name)
            if value is not None and value != "keep":
                yield name, value


class Setting(NamedTuple):
    """What an input is set to; `text`: as it was written, where its type rests on what stood there before."""

    value: Any
    text: str | None = None
    known: bool = True


class _Place(NamedTuple):
    """What NODE.INPUT means: a node, its input, and what is set for it; `known`: that is there already."""

    node: str
    name: str
    targets: tuple[Target, ...]
    known: bool


def find_settings(
    graph: Graph, wanted: Settings, read: Callable[[str], str], editor_nodes: Sequence[EditorNode] = ()
) -> dict[Target, Setting]:
    """The inputs that *wanted* sets. Raises UsageError, or WorkflowError where a short name isn't clear.

    An assignment beats a short name, and a later one an earlier one. A widget of one of the *editor_nodes* sets all
    that has its value.

    :param read: the text of a file, for `@FILE`.
    """
    found: dict[Target, Setting] = {}
    for name, value in wanted.names():
        found |= {target: Setting(each) for target, each in changes(graph, name, value).items()}
    for place, value in [*assigned(graph, editor_nodes, wanted.assignments, read), *wanted.inputs.items()]:
        found |= setting(graph, editor_nodes, place)(value)
    return found


def assigned(
    graph: Graph, editor_nodes: Sequence[EditorNode], assignments: Iterable[str], read: Callable[[str], str]
) -> Iterator[tuple[str, str]]:
    """NODE.INPUT and the text of each `NODE.INPUT=VALUE`. Raises UsageError where one is none.

    :param read: the text of a file, for `@FILE`.
    """
    for assignment in assignments:
        place, equals, text = _split(graph, editor_nodes, assignment)
        if not equals:
            raise _no_assignment(assignment)
        yield place, file_text(text, read)


def file_text(text: str, read: Callable[[str], str]) -> str:
    """What `@FILE` means: the text that *read* finds there. `@@` begins a text with `@`, and others are as they are."""
    if text.startswith("@@"):
        return text[1:]
    return read(text[1:]) if text.startswith("@") else text


def setting(graph: Graph, editor_nodes: Sequence[EditorNode], place: str) -> Callable[[Any], dict[Target, Setting]]:
    """What setting *place*, NODE.INPUT, to a value sets: it is looked for once. A text becomes what stands there.

    Raises UsageError where the place isn't clear, or, when it is called, where the text has no such type.
    """
    chosen = _chosen(graph, editor_nodes, place)

    def found(value: Any) -> dict[Target, Setting]:
        if not isinstance(value, str):
            return dict.fromkeys(chosen.targets, Setting(value, None, chosen.known))
        return {each: Setting(typed(value, graph, each), value, chosen.known) for each in chosen.targets}

    return found


def _split(graph: Graph, editor_nodes: Sequence[EditorNode], assignment: str) -> tuple[str, str, str]:
    """NODE.INPUT, `=` and VALUE: at the first `=` behind which the node is there, for ids and titles may have one."""
    for index, character in enumerate(assignment):
        if character == "=" and index and any(_places(graph, editor_nodes, assignment[:index])):
            return assignment[:index], "=", assignment[index + 1 :]
    return assignment.partition("=")


def _places(graph: Graph, editor_nodes: Sequence[EditorNode], place: str) -> Iterator[_Place]:
    """The nodes and inputs that NODE.INPUT may mean: both may have dots in them."""
    shown = {node.id: node for node in editor_nodes}
    for index, character in enumerate(place):
        if character != ".":
            continue
        name = place[index + 1 :]
        for node_id in nodes_named(graph, place[:index], editor_nodes):
            if node_id in graph:
                yield _Place(node_id, name, (Target(node_id, name),), name in inputs_of(graph[node_id]))
            else:
                targets = tuple(Target(*each) for each in shown[node_id].inputs.get(name, ()))
                yield _Place(node_id, name, targets, bool(targets))


def apply(graph: Graph, settings: Mapping[Target, Setting]) -> dict[str, dict[str, Any]]:
    """A copy of *graph* with *settings*."""
    changed = {key: dict(node) for key, node in graph.items()}
    for target, setting in settings.items():
        node = changed[target.node]
        node["inputs"] = {**inputs_of(node), target.name: setting.value}
    return changed


def typed(text: str, graph: Graph, target: Target) -> Any:
    """*text* as the type of what stands at *target*; a link in JSON is one anywhere. Raises UsageError."""
    standing = inputs_of(graph[target.node]).get(target.name)
    parsed = _parsed(text)
    link = as_link(parsed)
    if link is not None:
        if link.node not in graph:
            _refuse(target, f"links to node {printable(link.node, _MAX_SHOWN)}, which the workflow doesn't have")
        return parsed
    if isinstance(standing, bool):
        value = _TRUTHS.get(text.strip().lower())
        return value if value is not None else _refuse_type(target, text, "true or false", standing)
    if is_number(standing):
        return parsed if is_number(parsed) else _refuse_type(target, text, "a number", standing)
    if isinstance(standing, str):
        return text
    if standing is None or as_link(standing):
        return text if parsed is None else parsed
    return parsed if parsed is not None else _refuse_type(target, text, "JSON", standing)


def _parsed(text: str) -> Any:
    """*text* as JSON; None where it is none."""
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        return None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _no_assignment(text: str) -> UsageError:
    return UsageError(
        f"--set {printable(text, _MAX_SHOWN)!r} isn't NODE.INPUT=VALUE",
        hint="such as --set 3.steps=20; 'comfyreport inspect WORKFLOW' shows nodes and inputs",
    )


def _chosen(graph: Graph, editor_nodes: Sequence[EditorNode], place: str) -> _Place:
    """What *place*, NODE.INPUT, names. UsageError where that is nothing, or not clear."""
    node_name, dot, input_name = place.rpartition(".")
    if not dot or not input_name:
        raise _no_assignment(place)
    every = list(_places(graph, editor_nodes, place))
    chosen = [each for each in every if each.known] or every
    if not chosen:
        raise _no_node(graph, editor_nodes, node_name)
    if len({each.node for each in chosen}) > 1:
        lines = [f"--set {printable(place, _MAX_SHOWN)} could mean several nodes:"]
        lines += [_shown(graph, editor_nodes, each.node) for each in chosen[:_MAX_LISTED]]
        raise UsageError("\n".join(lines), hint=f"name it by its id: --set {chosen[0].node}.{chosen[0].name}=VALUE")
    if not chosen[0].targets:
        (node,) = (each for each in editor_nodes if each.id == chosen[0].node)
        names = ", ".join(printable(name, _MAX_SHOWN) for name in node.inputs) or "none"
        raise UsageError(
            f"--set: what the editor shows as node {_shown(graph, editor_nodes, node.id).strip()} has no value "
            f"{printable(chosen[0].name, _MAX_SHOWN)!r} that reaches the prompt; it has {names}",
            hint="'comfyreport inspect WORKFLOW' shows the nodes that run, and their inputs",
        )
    return chosen[0]


def nodes_named(graph: Graph, name: str, editor_nodes: Sequence[EditorNode] = ()) -> list[str]:
    """The node of that id, else all of that title or class; capitals count only where both are there.

    Else those whose id ends so: inside a subgraph the editor shows the end of an id alone.
    """
    shown = {node.id for node in editor_nodes}
    if name in graph or name in shown:
        return [name]
    names = _names(graph, editor_nodes)
    exact = [node_id for node_id, each in names.items() if name in each]
    folded = exact or [key for key, each in names.items() if name.lower() in {one.lower() for one in each}]
    return folded or [node_id for node_id in names if node_id.rpartition(":")[2] == name]


def _names(graph: Graph, editor_nodes: Sequence[EditorNode]) -> dict[str, tuple[str, ...]]:
    """What nodes are called beside their ids: title and class."""
    names: dict[str, tuple[str, ...]] = {
        node_id: (ref_of(graph, node_id).title, class_of(node)) for node_id, node in graph.items()
    }
    return names | {node.id: (node.title,) for node in editor_nodes}


def _no_node(graph: Graph, editor_nodes: Sequence[EditorNode], name: str) -> UsageError:
    every = _names(graph, editor_nodes)
    names = dict.fromkeys(each for node_id, others in every.items() for each in (node_id, *others))
    near = difflib.get_close_matches(name, names, 3, 0.5)
    shown = ", ".join(printable(each, _MAX_SHOWN) for each in near)
    return UsageError(
        f"--set: the workflow has no node {printable(name, _MAX_SHOWN)!r}" + (f"; near is {shown}" if near else ""),
        hint="name a node by its id, title or class; 'comfyreport inspect WORKFLOW' shows them",
    )


def _shown(graph: Graph, editor_nodes: Sequence[EditorNode], node_id: str) -> str:
    if node_id not in graph:
        title = next(node.title for node in editor_nodes if node.id == node_id)
        return f'  {printable(node_id, _MAX_SHOWN)} ("{printable(title, _MAX_SHOWN)}")'
    ref = ref_of(graph, node_id)
    id_, kind, title = (printable(each, _MAX_SHOWN) for each in (ref.id, ref.class_type, ref.title))
    return f'  {id_} ({kind} "{title}")'


def _refuse(target: Target, why: str) -> NoReturn:
    place = printable(f"{target.node}.{target.name}", _MAX_SHOWN)
    raise UsageError(f"--set {place} {why}", hint="'comfyreport inspect WORKFLOW' shows what stands there")


def _refuse_type(target: Target, text: str, kind: str, standing: object) -> NoReturn:
    shown = printable(str(standing), _MAX_SHOWN)
    _refuse(target, f"takes {kind} (there stands {shown}), not {printable(text, _MAX_SHOWN)!r}")
