"""One look over HTTP, with a client that answers from a table."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from comfyreport.net.client import Client
from comfyreport.net.lookup import Lookups
from comfyreport.protocol.statuses import Response


class _Table:
    """Answers GET from a table, and notes what was asked."""

    def __init__(self, bodies: dict[str, Any]) -> None:
        self.address = SimpleNamespace(base="http://server")
        self.bodies = bodies
        self.asked: list[str] = []

    def get(self, path: str) -> Response:
        self.asked.append(path)
        return Response(200, self.bodies[path], "")


def _look(table: _Table) -> str | None:
    return Lookups(cast(Client, table)).look_up_submission("mine", client_id="me").assigned_id


def _job(prompt_id: str, client_id: str) -> list[Any]:
    return [1, prompt_id, {}, {"client_id": client_id}, []]


def test_a_submission_under_another_id_is_found_in_the_queue() -> None:
    queue = {"queue_running": [_job("a", "you")], "queue_pending": [_job("b", "me")]}
    table = _Table({"/history/mine": {}, "/queue": queue})
    assert _look(table) == "b"


def test_a_submission_under_another_id_that_has_ended_is_found_in_history() -> None:
    history = {"c": {"prompt": _job("c", "me")}}
    queue: dict[str, Any] = {"queue_running": [], "queue_pending": []}
    table = _Table({"/history/mine": {}, "/queue": queue, "/history?max_items=20": history})
    assert _look(table) == "c"


def test_history_is_not_searched_for_a_submission_that_is_there() -> None:
    queue = {"queue_running": [_job("mine", "me")], "queue_pending": []}
    table = _Table({"/history/mine": {}, "/queue": queue})
    assert _look(table) is None
    assert table.asked == ["/history/mine", "/queue"]


def test_a_list_of_jobs_that_is_not_all_of_them_is_none() -> None:
    jobs = "/api/jobs?status=pending,in_progress"
    part = {"jobs": [{"id": "other", "status": "pending"}], "pagination": {"has_more": True}}
    queue = {"queue_running": [_job("mine", "me")], "queue_pending": []}
    table = _Table({jobs: {"jobs": []}, "/history/mine": {}, "/queue": queue})
    lookups = Lookups(cast(Client, table))
    assert lookups.look_up("mine").location("mine") == "nowhere"
    table.bodies[jobs] = part
    assert lookups.look_up("mine").location("mine") == "queue"
