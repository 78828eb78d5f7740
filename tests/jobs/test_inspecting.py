"""What a server says of jobs that aren't run: it is asked once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from comfyreport.errors import UnreachableError, UsageError
from comfyreport.jobs.inspecting import Inspected, inspector
from comfyreport.jobs.job import Job
from comfyreport.net.client import Client
from comfyreport.protocol.statuses import Response
from comfyreport.workflow.settings import Settings

GRAPH = {"1": {"class_type": "Blur", "inputs": {"radius": 1}}, "2": {"class_type": "Gone", "inputs": {}}}
INFO = {"Blur": {"input": {"required": {"radius": ["INT", {"max": 5}]}}}}
JOB = Job(server="http://127.0.0.1:8188", workflow=GRAPH)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[str]]:
    """Have servers answer with a body, or raise an error; the routes that are asked for."""

    def answering(body: Any) -> list[str]:
        paths: list[str] = []

        def get(self: Client, path: str) -> Response:
            paths.append(path)
            if isinstance(body, Exception):
                raise body
            return Response(200, body, "")

        monkeypatch.setattr(Client, "get", get)
        return paths

    return answering


def inspect(*radius: int) -> list[Inspected]:
    with inspector(JOB) as found:
        return [found.inspect(replace(JOB, settings=Settings(inputs={"1.radius": each}))) for each in radius]


def test_a_server_is_asked_once_for_all_jobs(asked: Callable[[Any], list[str]]) -> None:
    paths = asked(INFO)
    results = inspect(1, 2, 3)
    assert [result.workflow.graph["1"]["inputs"]["radius"] for result in results] == [1, 2, 3]
    assert [[problem.code for problem in result.problems] for result in results] == [["missing_node"]] * 3
    assert sorted(paths) == ["/object_info", "/object_info/Blur", "/system_stats"]


def test_a_value_that_the_server_does_not_take(asked: Callable[[Any], list[str]]) -> None:
    asked(INFO)
    with pytest.raises(UsageError, match="is at most 5, not 6"):
        inspect(1, 6)


def test_a_server_that_does_not_answer_is_asked_once(asked: Callable[[Any], list[str]]) -> None:
    paths = asked(UnreachableError("nobody there"))
    first, second = inspect(1, 6)
    assert first.unreached is second.unreached is not None
    assert len(paths) <= 2
    with inspector(JOB) as found:
        assert found.ask("Blur") is None


def test_the_simulator_is_not_asked(asked: Callable[[Any], list[str]]) -> None:
    paths = asked(INFO)
    with inspector(replace(JOB, server="sim")) as found:
        assert found.inspect(replace(JOB, server="sim")).unreached is not None
        assert found.ask("Blur") is None
    assert paths == []
