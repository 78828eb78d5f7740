"""Queue, cancelling, caching, history, and what the nodes do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comfyreport.simulator import BEFORE_HISTORY, BETWEEN_PROMPTS, Breakpoint, Simulator
from comfyreport.simulator.faults import Script
from tests import recordings

from .client import DEADLINE, Client, Socket, binary, until
from .conftest import OLDER
from .prompts import picture, probe


def reached(pause: Breakpoint) -> None:
    assert pause.reached.wait(DEADLINE)


def progress(socket: Socket, node: str) -> list[tuple[float, float]]:
    return [(m["data"]["value"], m["data"]["max"]) for m in socket.messages("progress") if m["data"]["node"] == node]


def executing(socket: Socket) -> list[str]:
    return [m["data"]["node"] for m in socket.messages("executing") if m["data"]["node"] is not None]


def cached(socket: Socket) -> list[str]:
    (message,) = socket.messages("execution_cached")
    nodes: list[str] = message["data"]["nodes"]
    return nodes


def test_prompts_run_in_the_order_of_their_numbers(simulator: Simulator, client: Client) -> None:
    pause = simulator.pause_at("1")
    socket = Socket(client.url)
    first = client.submit(picture(1), socket.client_id)
    reached(pause)
    second = client.submit(picture(2), socket.client_id)
    third = client.submit(picture(3), socket.client_id)
    urgent = client.submit(picture(4), socket.client_id, front=True)
    queue = client.get("/queue")
    assert [entry[:2] for entry in queue["queue_running"]] == [[0, first]]
    assert sorted(entry[:2] for entry in queue["queue_pending"]) == [[-3, urgent], [1, second], [2, third]]
    prompt, extra_data, outputs = queue["queue_running"][0][2:]
    assert (prompt, extra_data["client_id"], outputs) == (picture(1), socket.client_id, ["7"])
    assert ("create_time" in extra_data) == simulator.settings.newer
    assert client.get("/prompt") == {"exec_info": {"queue_remaining": 4}}
    pause.release()
    socket.wait_end(third)
    socket.close()
    assert socket.ended() == [first, urgent, second, third]


def test_refused_prompts_use_up_numbers(client: Client) -> None:
    assert client.post("/prompt", {"prompt": {}}).status_code == 400
    assert client.post("/prompt", {}).status_code == 400
    assert client.post("/prompt", {"prompt": picture()}).json()["number"] == 2
    assert client.post("/prompt", {"prompt": picture(), "number": 0.5}).json()["number"] == 0.5


@pytest.mark.parametrize("simulator", [OLDER], indirect=True)
@pytest.mark.parametrize(("given", "used"), [(12345, "12345"), (None, "None"), ("job/42 é", "job/42 é")])
def test_client_may_choose_the_prompt_id(client: Client, given: Any, used: str) -> None:
    socket = Socket(client.url)
    assert client.submit(picture(), socket.client_id, prompt_id=given) == used
    socket.wait_end(used)
    socket.close()
    assert list(client.get("/history")) == [used]


def test_only_wanted_outputs_run(client: Client) -> None:
    prompt = {**picture(), "8": {"class_type": "PreviewImage", "inputs": {"images": ["6", 0]}}}
    socket = Socket(client.url)
    prompt_id = client.submit(prompt, socket.client_id, partial_execution_targets=["8"])
    socket.wait_end(prompt_id)
    socket.close()
    assert list(client.get(f"/history/{prompt_id}")[prompt_id]["outputs"]) == ["8"]


def test_deleted_prompt_is_told_by_status_alone(simulator: Simulator, client: Client) -> None:
    pause = simulator.pause_at("1")
    socket = Socket(client.url)
    running = client.submit(picture(1), socket.client_id)
    reached(pause)
    pending = client.submit(picture(2), socket.client_id)
    socket.wait_for("status", 4)
    assert client.post("/queue", {"delete": ["unknown", running]}).status_code == 200
    assert client.post("/queue", {"delete": [pending]}).content == b""
    pause.release()
    socket.wait_end(running)
    socket.close()
    assert client.get(f"/history/{pending}") == {}
    assert client.get(f"/history/{running}")[running]["status"]["completed"]
    remaining = [m["data"]["status"]["exec_info"]["queue_remaining"] for m in socket.messages("status")]
    assert remaining == [0, 1, 1, 2, 1, 1, 0]  # the last pending one's deletion is told twice


def test_interrupt_hits_the_running_prompt_alone(simulator: Simulator, client: Client) -> None:
    pause = simulator.pause_at("5", 2)
    socket = Socket(client.url)
    client.post("/interrupt")  # nothing runs: must not hit the next one
    running = client.submit(picture(1), socket.client_id)
    pending = client.submit(picture(2), socket.client_id)
    reached(pause)
    client.post("/interrupt", {"prompt_id": pending})
    assert client.post("/interrupt", {"prompt_id": running}).content == b""
    pause.release()
    socket.wait_end(pending)
    socket.close()
    assert [m["data"]["prompt_id"] for m in socket.messages("execution_interrupted")] == [running]
    status = client.get(f"/history/{running}")[running]["status"]
    assert (status["status_str"], status["completed"]) == ("error", False)
    assert [kind for kind, _ in status["messages"]][-1] == "execution_interrupted"
    assert client.get(f"/history/{pending}")[pending]["status"]["completed"]


def test_interrupt_while_decoding(simulator: Simulator, client: Client) -> None:
    """It bites at the next node, in a newer server at once."""
    pause = simulator.pause_at("6")
    socket = Socket(client.url)
    prompt_id = client.submit(picture(), socket.client_id)
    reached(pause)
    client.post("/interrupt")
    pause.release()
    socket.wait_end(prompt_id)
    socket.close()
    (message,) = socket.messages("execution_interrupted")
    bitten = "6" if simulator.settings.newer else "7"
    assert message["data"]["node_id"] == bitten
    assert executing(socket)[-1] == bitten


def test_history_comes_after_success_and_before_the_end(simulator: Simulator, client: Client) -> None:
    pause = simulator.pause_at(BEFORE_HISTORY)
    socket = Socket(client.url)
    prompt_id = client.submit(picture(), socket.client_id)
    reached(pause)
    socket.wait_for("execution_success")
    assert client.get(f"/history/{prompt_id}") == {}
    assert len(client.get("/queue")["queue_running"]) == 1
    pause.release()
    socket.wait_end(prompt_id)
    assert list(client.get(f"/history/{prompt_id}")) == [prompt_id]
    socket.close()
    assert socket.types()[-3:] == ["execution_success", "status", "executing"]


def test_between_two_prompts_none_is_running(simulator: Simulator, client: Client) -> None:
    started, pause = simulator.pause_at("1"), simulator.pause_at(BETWEEN_PROMPTS)
    client.submit(picture(1))
    reached(started)
    client.submit(picture(2))
    started.release()
    reached(pause)
    queue = client.get("/queue")
    assert queue["queue_running"] == []
    assert len(queue["queue_pending"]) == 1
    pause.release()


def test_history_can_be_shortened_and_emptied(client: Client) -> None:
    ids = [client.run(picture(seed))[1] for seed in range(3)]
    assert list(client.get("/history")) == ids
    assert list(client.get("/history?max_items=2")) == ids[1:]
    client.post("/history", {"delete": ids[:1]})
    assert list(client.get("/history")) == ids[1:]
    client.post("/history", {"clear": True})
    assert client.get("/history") == {}


def test_cache_goes_by_inputs_and_forgets_what_the_next_prompt_lacks(client: Client) -> None:
    assert cached(client.run(picture(1))[0]) == []
    assert cached(client.run(picture(1))[0]) == ["1", "2", "3", "4", "5", "6", "7"]
    assert cached(client.run(picture(2))[0]) == ["1", "2", "3", "4"]
    other, _ = client.run({f"x{n}": node for n, node in _renamed(picture(2)).items()})
    assert len(cached(other)) == 7  # the ids don't count
    client.run(probe("ImageInvert"))
    assert cached(client.run(picture(2))[0]) == []


def _renamed(prompt: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(prompt)
    for node_id in prompt:
        text = text.replace(f'["{node_id}", ', f'["x{node_id}", ')
    found: dict[str, Any] = json.loads(text)
    return found


def test_free_empties_the_cache(client: Client) -> None:
    client.run(picture())
    client.post("/free", {"unload_models": True, "free_memory": True})
    assert cached(client.run(picture())[0]) == []


@pytest.mark.parametrize(
    ("class_type", "inputs", "steps"),
    [
        ("KSampler", {"steps": 4}, 4),
        ("KSamplerAdvanced", {"steps": 10, "start_at_step": 3, "end_at_step": 8}, 5),
        ("KSamplerAdvanced", {"steps": 10, "start_at_step": 3, "end_at_step": 10000}, 7),
        ("SomebodysSampler", {"steps": ["10", 0]}, 6),
        ("SamplerCustom", {"sigmas": ["11", 0]}, 9),
        ("SamplerCustomAdvanced", {"sigmas": ["12", 0]}, 9),
        ("SamplerCustomAdvanced", {"sigmas": ["10", 0]}, 20),
    ],
)
def test_sampler_takes_its_steps_from_the_workflow(
    client: Client, class_type: str, inputs: dict[str, Any], steps: int
) -> None:
    prompt = picture(**inputs) | {
        "10": {"class_type": "PrimitiveInt", "inputs": {"value": 6}},
        "11": {"class_type": "BasicScheduler", "inputs": {"steps": 9, "scheduler": "simple"}},
        "12": {"class_type": "SplitSigmas", "inputs": {"sigmas": ["11", 0]}},
    }
    prompt["5"]["class_type"] = class_type
    if "steps" not in inputs:
        del prompt["5"]["inputs"]["steps"]
    socket, _ = client.run(prompt)
    assert progress(socket, "5") == [(step, steps) for step in range(1, steps + 1)]


def test_flux_run_takes_as_long_as_on_a_fast_gpu(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def count(script: Script, seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(Script, "wait", count)
    prompt = recordings.workflow("q_sampler_custom_advanced")
    prompt["17"]["inputs"]["steps"] = 20
    client.run(prompt)
    assert 5 < sum(waited) < 6.5


def test_previews_are_pictures_of_the_old_kind_unless_asked_otherwise(client: Client) -> None:
    socket, _ = client.run(picture(steps=2))
    frames = [binary(frame) for frame in socket.frames if isinstance(frame, bytes)]
    assert [(kind, header) for kind, header, _ in frames] == [(1, 1)] * 2
    assert all(data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9") for _, _, data in frames)


def test_out_of_memory_is_told_with_its_tips(client: Client) -> None:
    socket, prompt_id = client.run(probe("ProbeRaise", kind="oom"))
    (message,) = socket.messages("execution_error")
    assert message["data"]["exception_type"] == "torch.OutOfMemoryError"
    assert "This error means you ran out of memory on your GPU.\n\nTIPS: " in message["data"]["exception_message"]
    assert "execution_success" not in socket.types()
    assert client.get(f"/history/{prompt_id}")[prompt_id]["status"]["status_str"] == "error"


def test_error_in_an_inner_node_is_blamed_on_the_outer_one(client: Client) -> None:
    socket, _ = client.run(probe("ProbeExpand", what="raise"))
    (message,) = socket.messages("execution_error")
    assert (message["data"]["node_id"], message["data"]["node_type"]) == ("2", "ProbeExpand")
    assert message["data"]["executed"] == ["1", "2.0.0.1"]


def test_inner_output_is_told_with_both_ids(client: Client) -> None:
    socket, prompt_id = client.run(probe("ProbeExpand", what="output"))
    inner = socket.messages("executed")[0]["data"]
    assert (inner["node"], inner["display_node"]) == ("2.0.0.2", "2")
    assert list(client.get(f"/history/{prompt_id}")[prompt_id]["outputs"]) == ["2.0.0.2", "3"]


def test_loop_shows_its_body_again(client: Client) -> None:
    socket, _ = client.run(recordings.workflow("k_for_loop"))
    shown = [m["data"].get("display_node") for m in socket.messages("executing")]
    assert shown.count("5") == 4
    assert "execution_success" in socket.types()


def test_silent_blocker_tells_nothing(client: Client) -> None:
    socket, prompt_id = client.run(probe("TestExecutionBlocker", block=True, verbose=False))
    assert "execution_error" not in socket.types()
    assert client.get(f"/history/{prompt_id}")[prompt_id]["outputs"] == {}


def test_asynchronous_node_stands_still_while_another_works(client: Client) -> None:
    prompt = picture()
    prompt["8"] = {"class_type": "TestSleep", "inputs": {"value": ["4", 0], "seconds": 0.505}}
    prompt["9"] = {"class_type": "PreviewAny", "inputs": {"source": ["8", 0]}}
    socket, _ = client.run(prompt)
    told = [(m["type"], m["data"].get("node")) for m in socket.messages()]
    begun, ended = told.index(("executing", "5")), told.index(("executing", "6"))
    assert ("progress", "8") in told[:begun]
    assert ("progress", "8") not in told[begun:ended]
    assert ("progress", "8") in told[ended:]


def test_error_ends_the_prompt_with_parallel_nodes_under_way(client: Client) -> None:
    prompt = recordings.workflow("u_parallel_nodes")
    prompt["3"] = {"class_type": "ProbeRaise", "inputs": {"image": ["1", 0]}}
    socket, _ = client.run(prompt)
    states = socket.messages("progress_state")[-1]["data"]["nodes"]
    assert states["4"]["state"] == "running"
    assert len(socket.messages("execution_error")) == 1


def test_malformed_values_fail_the_node_not_the_server(client: Client) -> None:
    socket, _ = client.run(probe("ProbeText", text="{nothing}", count="many"))
    assert socket.messages("execution_error")[0]["data"]["exception_type"] == "KeyError"
    assert "execution_success" in client.run(picture())[0].types()


def test_big_graph_runs_to_its_end(client: Client) -> None:
    prompt: dict[str, Any] = {"0": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1}}}
    for number in range(1, 60):
        prompt[str(number)] = {"class_type": "ImageInvert", "inputs": {"image": [str(number - 1), 0]}}
    prompt["last"] = {"class_type": "PreviewImage", "inputs": {"images": ["59", 0]}}
    socket, _ = client.run(prompt)
    assert executing(socket) == [*map(str, range(60)), "last"]


def test_slow_work_is_left_when_the_server_stops() -> None:
    with Simulator(speed=0.001) as slow:
        client = Client(slow)
        client.submit(picture())
        until(lambda: bool(client.get("/queue")["queue_running"]), "the prompt to run")
        client.session.close()
