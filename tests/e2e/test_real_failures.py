"""The installed command on a real ComfyUI: runs that fail, each in its own way."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.comfyui_server import poll
from tests.e2e.driver import Driver, Ended
from tests.e2e.raw_client import RawClient, chain, counting, node, txt2img

pytestmark = [pytest.mark.real, pytest.mark.e2e]


def assert_ended(ended: Ended, code: int, status: str, error: str, prompt_state: str) -> dict[str, Any]:
    """How the run ended; returns what is told of the error."""
    result = ended.result
    assert (ended.code, result["status"], result["prompt_state"]) == (code, status, prompt_state), ended.err
    found: dict[str, Any] = result["error"]
    assert found["code"] == error
    assert found["message"]
    return found


def idle(raw: RawClient) -> bool:
    return not raw.running() and not raw.pending()


def test_a_node_that_raises(real: Driver) -> None:
    graph = chain(counting(2), node("ReportRaise", message="by design", steps=3, seconds=0.0))
    ended = real.follow(graph, "--reporter", "console")
    error = assert_ended(ended, 1, "error", "node_error", "finished")
    assert (error["node"], error["node_id"], error["exception_type"]) == ("ReportRaise", "3", "RuntimeError")
    assert error["message"] == "by design"
    assert error["hint"]
    assert "RuntimeError(message)" in error["traceback"][-1] or "raise" in error["traceback"][-1]
    assert "[ERROR] Generation failed" in ended.err
    assert "ReportRaise (node 3)" in ended.err
    assert "by design" in ended.err
    assert "failing.py" in ended.err
    assert "Hint: " in ended.err
    assert ended.result["retryable"] is False
    assert ended.out == ""


def test_an_inner_node_that_raises_is_told_as_its_outer_one(real: Driver) -> None:
    ended = real.follow(chain(node("ReportExpand", inner="raise", steps=1, seconds=0.0)))
    error = assert_ended(ended, 1, "error", "node_error", "finished")
    assert (error["node"], error["node_id"]) == ("ReportExpand", "2")
    assert error["message"] == "raised inside"
    assert "raised inside" in ended.err


def test_out_of_memory(real: Driver) -> None:
    ended = real.follow(chain(node("ReportOutOfMemory")), "--reporter", "quiet")
    error = assert_ended(ended, 1, "error", "out_of_memory", "finished")
    assert error["exception_type"] == "torch.OutOfMemoryError"
    assert "size or batch" in error["hint"]
    assert ended.err.startswith("[ERROR] ")
    assert "Hint: " in ended.err


def test_a_prompt_that_does_not_pass_validation(real: Driver, raw: RawClient) -> None:
    graph = chain(counting(0, mode="sideways"))
    del graph["1"]["inputs"]["width"]
    ended = real.follow(graph, "--reporter", "console")
    error = assert_ended(ended, 4, "rejected", "invalid_input", "none")
    assert ended.result["submitted"] == "no"
    told = {(each["node_id"], each["type"]) for each in error["node_errors"]}
    assert told >= {("1", "required_input_missing"), ("2", "value_not_in_list")}
    assert "EmptyImage (node 1): Required input is missing: width" in ended.err
    assert "sideways" in ended.err
    assert not ended.of("run_queued")
    assert idle(raw)


def test_a_model_that_the_server_does_not_have(real: Driver) -> None:
    graph = txt2img()
    graph["4"]["inputs"]["ckpt_name"] = "there is none.safetensors"
    error = assert_ended(real.follow(graph), 4, "rejected", "missing_model", "none")
    (told,) = error["node_errors"]
    assert told["node_id"] == "4"
    assert "there is none.safetensors" in told["details"]


def test_a_node_that_the_server_does_not_have(real: Driver) -> None:
    ended = real.follow(chain(node("NodeOfSomebodyElse")))
    error = assert_ended(ended, 4, "rejected", "missing_node", "none")
    assert "NodeOfSomebodyElse" in str(error)
    assert "NodeOfSomebodyElse" in ended.err


def test_a_workflow_without_outputs(real: Driver) -> None:
    graph = {"1": node("EmptyImage", width=16, height=16, batch_size=1, color=1)}
    error = assert_ended(real.follow(graph), 4, "rejected", "invalid_workflow", "none")
    assert "no outputs" in error["message"].lower()


def test_an_output_that_the_server_drops(real: Driver) -> None:
    graph = chain()
    graph["8"] = node("EmptyImage", width=-4, height=16, batch_size=1, color=1)
    graph["9"] = node("SaveImage", images=["8", 0], filename_prefix="dropped")
    output = real.folder / "kept.png"
    ended = real.follow(graph, "--output", output, "--reporter", "console")
    error = assert_ended(ended, 8, "partial", "outputs_dropped", "finished")
    assert [each["node_id"] for each in error["node_errors"]] == ["8"]
    assert "node_errors" in [event["code"] for event in ended.of("warning")]
    assert output.read_bytes().startswith(b"\x89PNG")
    assert ended.out == f"{output}\n"
    assert "[WARN]" in ended.err


def test_a_node_that_blocks_what_comes_after_it(real: Driver) -> None:
    graph = chain(node("ReportBlock", verbose=True, message="not today"))
    ended = real.follow(graph, "--output", real.folder / "never.png")
    error = assert_ended(ended, 8, "partial", "blocked", "finished")
    assert "not today" in error["message"]
    assert error["node_id"] == "3"
    assert "blocked" in [event["code"] for event in ended.of("warning")]
    assert ended.of("output_saved") == []
    assert not (real.folder / "never.png").exists()


def test_interrupted_by_somebody_else(real: Driver, raw: RawClient) -> None:
    running = real.begin(chain(counting(600, seconds=0.1)), "--reporter", "console")
    running.wait_for_type("node_progress")
    raw.post("/interrupt")
    ended = running.end()
    error = assert_ended(ended, 1, "interrupted", "interrupted", "finished")
    assert ended.result["retryable"] is True
    assert error["node_id"] == "2"
    assert "[ERROR] Interrupted" in ended.err


def test_deleted_by_somebody_else_while_it_waited(real: Driver, raw: RawClient) -> None:
    blocker = raw.submit(chain(node("ReportSilence", seconds=600.0, interruptible=True)))
    running = real.begin(chain(), "--reporter", "console", env={"COMFYREPORT_TIME_SCALE": "0.2"})
    prompt_id = running.wait_for_type("run_queued")["prompt_id"]
    poll(lambda: raw.pending() == [prompt_id], 10, "the prompt in the queue")
    raw.post("/queue", {"delete": [prompt_id]})
    ended = running.end()
    assert_ended(ended, 6, "lost", "deleted", "none")
    assert ended.result["retryable"] is True
    assert not ended.of("run_started")
    assert raw.running() == [blocker]


def test_the_place_in_the_queue(real: Driver, raw: RawClient) -> None:
    blockers = [raw.submit(chain(node("ReportSilence", seconds=600.0, interruptible=True))) for _ in range(2)]
    running = real.begin(chain(), "--reporter", "console", env={"COMFYREPORT_TIME_SCALE": "0.2"})
    running.wait_for(lambda event: event["type"] == "queue_changed" and event.get("position") == 2, "position 2")
    raw.post("/interrupt", {"prompt_id": blockers[0]})
    running.wait_for(lambda event: event["type"] == "queue_changed" and event.get("position") == 1, "position 1")
    raw.post("/interrupt", {"prompt_id": blockers[1]})
    ended = running.end()
    assert ended.code == 0, ended.err
    assert ended.result["queue_seconds"] > 0
    positions = [event["position"] for event in ended.of("queue_changed") if "position" in event]
    assert [position for position in positions if position][-1] == 1
    assert positions == sorted(positions, reverse=True)
    assert "2 before this one" in ended.err


def test_a_time_limit(real: Driver, raw: RawClient) -> None:
    graph = chain(node("ReportSilence", seconds=600.0, interruptible=True))
    ended = real.follow(graph, "--timeout", "2", "--reporter", "console")
    error = assert_ended(ended, 7, "timeout", "time_limit", "running")
    assert "2 s" in error["message"]
    assert raw.running() == [ended.result["prompt_id"]]
    assert f"comfyreport attach {ended.result['prompt_id']}" in ended.err


def test_a_long_silence_is_no_failure(real: Driver) -> None:
    graph = chain(node("ReportSilence", seconds=3.0, interruptible=True))
    ended = real.follow(graph, env={"COMFYREPORT_TIME_SCALE": "0.1"})
    assert ended.code == 0, ended.err
    # A machine that stands still may make one elsewhere.
    beats = [beat for beat in ended.of("heartbeat") if beat.get("node_id") == "2"]
    assert len(beats) > 1
    assert {beat["state"] for beat in beats} == {"running"}


def test_a_file_that_can_not_be_saved(real: Driver) -> None:
    folder = real.folder / "taken"
    running = real.begin(chain(counting(30, seconds=0.1)), "--output", folder / "picture.png")
    running.wait_for_type("node_progress")
    # What was a folder when the run began is a file when it ends.
    folder.rmdir()
    folder.write_text("in the way", encoding="utf-8")
    ended = running.end()
    assert_ended(ended, 8, "partial", "download_failed", "finished")
    assert "download_failed" in [event["code"] for event in ended.of("warning")]
    (line,) = ended.out.splitlines()
    assert line.startswith(real.server + "/view?")
