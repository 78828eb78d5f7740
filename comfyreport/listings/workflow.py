"""What is told of a workflow that isn't run: what it is made of, and what would be submitted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from comfyreport.access.secret_keys import hide
from comfyreport.errors import RejectedError, UsageError
from comfyreport.inputs.declared import Problem, describe
from comfyreport.jobs.inspecting import Inspected
from comfyreport.listings.inspection import inspected, told
from comfyreport.text import fit, printable

_VALUE_SHOWN = 60
_LINE = 160
_PROBLEMS_SHOWN = 20


def list_workflow(result: Inspected, *, as_json: bool) -> str:
    """What the workflow is made of, and what a server lacks of it."""
    content = inspected(result.workflow.graph, result.workflow.editor_nodes)
    for node in content["nodes"]:
        node["inputs"] = hide(node["inputs"])
    shown = [place for node in content["editor_nodes"] for several in node["sets"].values() for place in several]
    for place in [*content["models"], *content["files"], *_places(content["names"]), *shown]:
        place["value"] = hide({place["input"]: place["value"]})[place["input"]]
    refs = {ref.id: told(ref) for ref in result.workflow.manifest()}
    content["problems"] = [_told_problem(result, problem, refs[problem.node]) for problem in result.problems]
    content["server"] = {"url": result.server, "reached": result.unreached is None}
    return json.dumps(content, indent=2, ensure_ascii=False) if as_json else "\n".join(_lines(content, result))


def submission(result: Inspected, extra_data: Mapping[str, Any]) -> str:
    """The body that would be submitted, in JSON, without secrets.

    Raises RejectedError where the server would refuse it, UsageError where none would take it.
    """
    if result.problems:
        lines = [describe(result.workflow.graph, problem) for problem in result.problems[:_PROBLEMS_SHOWN]]
        kind = UsageError if result.unreached is not None else RejectedError
        raise kind(
            "\n  ".join(["the workflow can't run as it is:", *lines]),
            hint="'comfyreport inspect WORKFLOW' shows its nodes, and what the server lacks",
        )
    body = result.workflow.body(extra_data)
    for node in body["prompt"].values():
        node["inputs"] = hide(node["inputs"])
    if "extra_data" in body:
        body["extra_data"] = hide(body["extra_data"])
    return json.dumps(body, ensure_ascii=False)


def _places(names: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for found in names.values():
        yield from found.get("sets", ())
        yield from found.get("ambiguous", ())


def _told_problem(result: Inspected, problem: Problem, node: dict[str, str]) -> dict[str, Any]:
    place = {"input": problem.input_name} if problem.input_name else {}
    return {
        "code": problem.code,
        **node,
        **place,
        "message": describe(result.workflow.graph, problem),
        "nearest": list(problem.nearest),
    }


def _lines(content: dict[str, Any], result: Inspected) -> Iterator[str]:
    nodes = content["nodes"]
    width = min(max((len(printable(node["node_id"], 30)) for node in nodes), default=0), 30)
    yield f"{len(nodes)} nodes"
    for node in nodes:
        values = ", ".join(f"{printable(name, 60)}={_value(value)}" for name, value in node["inputs"].items())
        unused = "" if node["reaches_output"] else " (no output depends on it)"
        yield fit(f"  {printable(node['node_id'], 30):{width}}  {_kind(node)}{unused}  {values}", _LINE)
    yield "what the flags set"
    for name, found in content["names"].items():
        places = found.get("sets") or found.get("ambiguous") or []
        words = "; ".join(_place(place) for place in places) or "no place for it"
        yield fit(f"  --{name:9} {'several: ' if 'ambiguous' in found else ''}{words}", _LINE)
    if content["editor_nodes"]:
        yield from _section("shown in the editor alone", list(_editor_lines(content["editor_nodes"])))
    yield from _section("outputs", [f"{printable(node['node_id'], 30)} {_kind(node)}" for node in content["outputs"]])
    yield from _section("models", [_place(place) for place in content["models"]])
    yield from _section("input files", [_place(place) for place in content["files"]])
    if result.unreached is not None:
        yield f"not compared with a server: {printable(result.unreached.message)}"
    yield from _section(
        f"problems ({result.server})" if result.unreached is None else "problems",
        [printable(problem["message"], 500) for problem in content["problems"]],
    )


def _editor_lines(nodes: Sequence[dict[str, Any]]) -> Iterator[str]:
    for node in nodes:
        yield f'{printable(node["node_id"], 30)} "{printable(node["title"], 60)}"'
        for name, places in node["sets"].items():
            yield f"  {printable(name, 60)} sets {'; '.join(_place(place) for place in places) or 'nothing'}"


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    yield title if lines else f"{title}: none"
    yield from (fit(f"  {line}", 3 * _LINE) for line in lines)


def _kind(node: dict[str, Any]) -> str:
    kind, title = printable(node["node"], 60), printable(node["title"], 60)
    return kind if title == kind else f'{kind} "{title}"'


def _place(place: dict[str, Any]) -> str:
    return (
        f"{printable(place['node_id'], 30)}.{printable(place['input'], 40)} ({_kind(place)}): {_value(place['value'])}"
    )


def _value(value: Any) -> str:
    return printable(json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value, _VALUE_SHOWN)
