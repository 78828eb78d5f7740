"""What a newer server does in another way: ids, throttled bars, previews that a prompt asks for, jobs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from comfyreport.simulator import Simulator

from .client import DEADLINE, Client, Socket, connected
from .conftest import FAST, NEWER, OLDER
from .prompts import picture, probe


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(speed=FAST, version=NEWER) as started:
        yield started


def run(client: Client, prompt: dict[str, Any], **more: Any) -> Socket:
    """Runs a prompt to its end; its closed socket."""
    socket = Socket(client.url)
    socket.wait_end(client.submit(prompt, socket.client_id, **more))
    socket.close()
    return socket


def steps(socket: Socket) -> list[tuple[float, float]]:
    return [(each["data"]["value"], each["data"]["max"]) for each in socket.messages("progress")]


@pytest.mark.parametrize("wrong", ["job/1", 12345, True, "", "0F0A1D52-93C5-4A7E-9D1C-8A4F0F8C2B11", "0" * 32])
def test_a_prompt_id_must_be_a_uuid(client: Client, wrong: Any) -> None:
    answer = client.post("/prompt", {"prompt": picture(), "prompt_id": wrong})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_prompt_id")


def test_a_prompt_id_may_be_left_to_the_server(client: Client) -> None:
    given = str(uuid.uuid4())
    assert client.submit(picture(), prompt_id=given) == given
    assert str(uuid.UUID(client.submit(picture(), prompt_id=None))) != given


def test_steps_without_previews_are_throttled(client: Client) -> None:
    """300 steps of 10 ms (recording h33)."""
    told = steps(run(client, probe("ProbeProgress", count=300, delay=0.01)))
    assert told == [(step, 300) for step in [*range(1, 300, 10), 300]]


def test_of_a_second_pass_the_end_alone_is_told(client: Client) -> None:
    told = steps(run(client, probe("ProbeProgress", mode="restart", count=6, delay=0.25)))
    assert told == [(step, 6) for step in [1, 2, 3, 4, 5, 6, 6, 6]]


def test_a_long_bar_is_told_each_half_percent(client: Client) -> None:
    told = steps(run(client, probe("ProbeProgress", count=2000, delay=4)))
    assert told == [(step, 2000) for step in [*range(1, 2000, 10), 2000]]


def test_steps_with_previews_are_all_told(client: Client) -> None:
    assert len(steps(run(client, picture(steps=400)))) == 400


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(
    ("asked", "sent"), [("none", False), ("auto", True), ("taesd", True), ("default", None), ("nonsense", None)]
)
def test_a_prompt_may_ask_for_previews(own: bool, asked: str, sent: bool | None) -> None:
    with Simulator(speed=FAST, previews=own) as simulator, connected(simulator) as client:
        socket = run(client, picture(), extra_data={"preview_method": asked})
        assert any(isinstance(frame, bytes) for frame in socket.frames) == (own if sent is None else sent)
    with Simulator(speed=FAST, previews=own, version=OLDER) as simulator, connected(simulator) as client:
        socket = run(client, picture(), extra_data={"preview_method": asked})
        assert any(isinstance(frame, bytes) for frame in socket.frames) == own


def test_keys_of_api_nodes_are_told_nobody(client: Client) -> None:
    socket = run(client, picture(), extra_data={"api_key_comfy_org": "secret", "other": "x"})
    assert "secret" not in client.session.get(f"{client.url}/history", timeout=DEADLINE).text
    assert client.get(f"/history/{socket.ended()[0]}")[socket.ended()[0]]["prompt"][3]["other"] == "x"


# --- jobs


def statuses(client: Client, query: str = "") -> list[tuple[str, str]]:
    return [(job["id"], job["status"]) for job in client.get(f"/api/jobs{query}")["jobs"]]


def cancel(client: Client, prompt_id: str) -> Any:
    answer = client.post(f"/api/jobs/{prompt_id}/cancel")
    assert answer.status_code == 200
    return answer.json()


def test_jobs(simulator: Simulator, client: Client) -> None:
    pause = simulator.pause_at("5", 1)
    socket = Socket(client.url)
    running, waiting, next_one = (client.submit(picture(seed), socket.client_id) for seed in (1, 2, 3))
    assert pause.reached.wait(DEADLINE)
    assert sorted(statuses(client)) == sorted([(running, "in_progress"), (waiting, "pending"), (next_one, "pending")])
    job = client.get(f"/api/jobs/{waiting}")
    assert job.pop("create_time") > 1e12
    assert job == {
        "id": waiting,
        "status": "pending",
        "priority": 1,
        "outputs_count": 0,
        "previewable_outputs_count": 0,
    }
    assert cancel(client, waiting) == {"cancelled": True}
    assert client.session.get(f"{client.url}/api/jobs/{waiting}", timeout=DEADLINE).status_code == 404
    assert cancel(client, waiting) == {"cancelled": False}
    assert cancel(client, running) == {"cancelled": True}
    pause.release()
    socket.wait_end(next_one)
    socket.close()
    assert sorted(statuses(client)) == sorted([(running, "cancelled"), (next_one, "completed")])
    assert cancel(client, next_one) == {"cancelled": False}
    assert statuses(client, "?status=cancelled,failed") == [(running, "cancelled")]
    job = client.get(f"/api/jobs/{next_one}")
    entry = client.get(f"/history/{next_one}")[next_one]
    assert (job["outputs"], job["execution_status"]) == (entry["outputs"], entry["status"])
    assert job["workflow"]["prompt"] == picture(3)
    assert job["preview_output"]["nodeId"] == "7"
    assert job["execution_end_time"] >= job["execution_start_time"]


def test_a_failed_job_has_its_error(client: Client) -> None:
    socket = run(client, probe("SimulateError", message="as asked"))
    job = client.get(f"/api/jobs/{socket.ended()[0]}")
    assert (job["status"], job["execution_error"]["exception_message"]) == ("failed", "as asked\n")


def test_a_job_tells_3d_files_as_objects(client: Client) -> None:
    prompt = probe("ImageInvert")
    prompt["3"] = {"class_type": "Save3DAdvanced", "inputs": {"model_3d": ["2", 0], "filename_prefix": "3d/x"}}
    job = client.get(f"/api/jobs/{run(client, prompt).ended()[0]}")
    file = {"filename": "3d/x_00001.glb", "type": "output", "subfolder": "", "mediaType": "3d"}
    assert job["outputs"]["3"]["result"] == [file, []]


def test_pages_of_jobs(client: Client) -> None:
    ids = [run(client, picture(seed)).ended()[0] for seed in (1, 2, 3)]
    page = client.get("/api/jobs?limit=2&sort_order=asc")
    assert [job["id"] for job in page["jobs"]] == ids[:2]
    assert page["pagination"] == {"offset": 0, "limit": 2, "total": 3, "has_more": True}
    assert [job["id"] for job in client.get("/api/jobs?offset=2&sort_order=asc")["jobs"]] == ids[2:]
    assert len(client.get("/api/jobs?sort_by=execution_duration")["jobs"]) == 3


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("status=nonsense", "Invalid status value(s): nonsense. Valid values: pending, in_progress, completed, failed"),
        ("limit=0", "limit must be a positive integer"),
        ("limit=x", "limit must be an integer"),
        ("offset=x", "offset must be an integer"),
        ("sort_by=x", "sort_by must be 'created_at' or 'execution_duration'"),
        ("sort_order=x", "sort_order must be 'asc' or 'desc'"),
    ],
)
def test_wrong_queries_are_refused(client: Client, query: str, words: str) -> None:
    answer = client.session.get(f"{client.url}/api/jobs?{query}", timeout=DEADLINE)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(words)


def test_several_jobs_are_cancelled_at_once(simulator: Simulator, client: Client) -> None:
    pause = simulator.pause_at("5", 1)
    ids = [client.submit(picture(seed), "me") for seed in (1, 2)]
    assert pause.reached.wait(DEADLINE)
    answer = client.post("/api/jobs/cancel", {"job_ids": [*ids, "no id", 5]})
    assert (answer.status_code, answer.json()["invalid_ids"]) == (400, ["no id", "5"])
    assert client.post("/api/jobs/cancel", {"job_ids": ids}).json() == {"cancelled": True}
    assert simulator.prompt_status(ids[1]) == "nowhere"
    pause.release()
    bodies: tuple[Any, ...] = (None, [], {"job_ids": "x"})
    for body in bodies:
        assert client.post("/api/jobs/cancel", body).status_code == 400


def test_jobs_are_under_api_alone_and_older_servers_have_none(client: Client) -> None:
    assert client.session.get(f"{client.url}/jobs", timeout=DEADLINE).status_code == 404
    assert client.get("/node_replacements")["T2IAdapterLoader"][0]["new_node_id"] == "ControlNetLoader"
    with Simulator(speed=FAST, version=OLDER) as older, connected(older) as other:
        for path in ("/api/jobs", "/api/jobs/x", "/node_replacements"):
            answer = other.session.get(other.url + path, timeout=DEADLINE)
            assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (404, "text/plain")


# --- nodes to try failures with


@pytest.mark.parametrize(
    ("class_type", "exception", "words"),
    [
        ("SimulateError", "RuntimeError", "failed on request\n"),
        ("SimulateOutOfMemory", "torch.OutOfMemoryError", "CUDA out of memory."),
    ],
)
def test_nodes_that_fail(client: Client, class_type: str, exception: str, words: str) -> None:
    (error,) = run(client, probe(class_type)).messages("execution_error")
    assert (error["data"]["node_id"], error["data"]["exception_type"]) == ("2", exception)
    assert error["data"]["exception_message"].startswith(words)


@pytest.mark.parametrize("message", ["", "not today"])
def test_a_node_that_blocks(client: Client, message: str) -> None:
    socket = run(client, probe("SimulateBlock", message=message))
    told = [error["data"]["exception_message"] for error in socket.messages("execution_error")]
    assert told == ([f"Execution Blocked: {message}"] if message else [])
    assert "execution_success" in socket.types()
    assert client.get(f"/history/{socket.ended()[0]}")[socket.ended()[0]]["outputs"] == {}
