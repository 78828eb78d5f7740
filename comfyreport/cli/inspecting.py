"""What is told of a workflow that isn't run: `comfyreport inspect`, and `--dry-run`."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any

from comfyreport.access.credentials import Access
from comfyreport.access.secret_keys import hide
from comfyreport.cli.credentials import parse_extra_data, parse_headers
from comfyreport.cli.input_flags import given_files, settings_of
from comfyreport.errors import ComfyReportError, UsageError
from comfyreport.jobs.inspecting import Inspected, inspect_job
from comfyreport.jobs.job import SIMULATED, Job
from comfyreport.text import fit, printable
from comfyreport.workflow.declared import Problem, describe
from comfyreport.workflow.inspection import inspected, told
from comfyreport.workflow.settings import Settings

_VALUE_SHOWN = 60
_LINE = 160


class RefusedError(ComfyReportError):
    """The server would refuse the workflow (exit code 4)."""

    code = "rejected"


def inspect_workflow(arguments: Namespace) -> str:
    """What the workflow is made of, as text or JSON. Raises UsageError or WorkflowError."""
    result = inspect_job(_job(arguments, Settings(), {}))
    content = inspected(result.workflow.graph)
    for node in content["nodes"]:
        node["inputs"] = hide(node["inputs"])
    content["problems"] = [_told_problem(result, problem) for problem in result.problems]
    content["server"] = {"url": result.server, "reached": result.unreached is None}
    if arguments.json:
        return json.dumps(content, indent=2, ensure_ascii=False)
    return "\n".join(_lines(content, result))


def dry_run(arguments: Namespace) -> str:
    """The body that would be submitted, in JSON. Raises UsageError or WorkflowError.

    What the server would refuse is a RefusedError, what none would take a usage error; a server that was named and
    isn't there is an UnreachableError.
    """
    extra_data = parse_extra_data(arguments.extra_data)
    result = inspect_job(_job(arguments, settings_of(arguments), extra_data))
    if result.unreached is not None and arguments.server not in ("", SIMULATED):
        raise result.unreached
    if result.problems:
        lines = [describe(result.workflow.graph, problem) for problem in result.problems[:20]]
        kind = UsageError if result.unreached is not None else RefusedError
        raise kind(
            "\n  ".join(["the workflow can't run as it is:", *lines]),
            hint="'comfyreport inspect WORKFLOW' shows its nodes, and what the server lacks",
        )
    body = result.workflow.body(extra_data)
    if "extra_data" in body:
        body["extra_data"] = hide(body["extra_data"])
    return json.dumps(body, ensure_ascii=False)


def _job(arguments: Namespace, settings: Settings, extra_data: dict[str, Any]) -> Job:
    access = Access.of(
        os.environ,
        headers=parse_headers(arguments.header),
        extra_data=extra_data,
        cacert=arguments.cacert or "",
        insecure=arguments.insecure,
        client_cert=arguments.client_cert or "",
    )
    return Job(
        server=arguments.server,
        workflow=arguments.workflow,
        settings=settings,
        files=given_files(arguments),
        access=access,
    )


def _told_problem(result: Inspected, problem: Problem) -> dict[str, Any]:
    ref = next(ref for ref in result.workflow.manifest() if ref.id == problem.node)
    place = {"input": problem.input_name} if problem.input_name else {}
    return {
        "code": problem.code,
        **told(ref),
        **place,
        "message": describe(result.workflow.graph, problem),
        "nearest": list(problem.nearest),
    }


def _lines(content: dict[str, Any], result: Inspected) -> Iterator[str]:
    nodes = content["nodes"]
    width = min(max((len(printable(node["node_id"], 30)) for node in nodes), default=0), 30)
    yield f"{len(nodes)} nodes"
    for node in nodes:
        values = ", ".join(f"{name}={_value(value)}" for name, value in node["inputs"].items())
        unused = "" if node["reaches_output"] else " (no output depends on it)"
        yield fit(f"  {printable(node['node_id'], 30):{width}}  {_kind(node)}{unused}  {values}", _LINE)
    yield "what the flags set"
    for name, found in content["names"].items():
        places = found.get("sets") or found.get("ambiguous") or []
        words = "; ".join(_place(place) for place in places) or "no place for it"
        yield fit(f"  --{name:9} {'several: ' if 'ambiguous' in found else ''}{words}", _LINE)
    yield from _section("outputs", [f"{printable(node['node_id'], 30)} {_kind(node)}" for node in content["outputs"]])
    yield from _section("models", [_place(place) for place in content["models"]])
    yield from _section("input files", [_place(place) for place in content["files"]])
    if result.unreached is not None:
        yield f"not compared with a server: {printable(result.unreached.message)}"
    yield from _section(
        f"problems ({result.server})" if result.unreached is None else "problems",
        [printable(problem["message"], 500) for problem in content["problems"]],
    )


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
