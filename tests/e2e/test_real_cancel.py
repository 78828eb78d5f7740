"""Ctrl-C and SIGTERM on a real ComfyUI: this prompt is cancelled, alone, and nothing is left hanging."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from tests.e2e.comfyui_server import poll
from tests.e2e.driver import LIMIT, Driver, Ended
from tests.e2e.raw_client import Graph, RawClient, chain, counting, node, txt2img

pytestmark = [pytest.mark.real, pytest.mark.e2e]

AT_ONCE = 5.0
"""Seconds: far more than a second signal takes, far less than any other way out."""


def silent(*, interruptible: bool = True) -> Graph:
    """A prompt that says nothing for ten minutes, as a loader of a large model does for one."""
    return chain(node("ReportSilence", seconds=600.0 if interruptible else 6.0, interruptible=interruptible))


def assert_cancelled(ended: Ended, prompt_state: str = "cancelled") -> dict[str, Any]:
    result = ended.result
    assert (ended.code, result["status"], result["prompt_state"]) == (130, "cancelled", prompt_state), ended.err
    assert result["submitted"] == "yes"
    error: dict[str, Any] = result["error"]
    assert error["code"] == "cancelled"
    assert ended.out == ""
    return error


def was_interrupted(raw: RawClient, prompt_id: str) -> bool:
    """Whether the server's history says that the prompt was interrupted."""
    messages = raw.finished(prompt_id, 30)["status"]["messages"]
    return "execution_interrupted" in [name for name, _ in messages]


def test_while_sampling(real: Driver, raw: RawClient) -> None:
    running = real.begin(txt2img(steps=400, seed=7), "--reporter", "console", "--output", "never.png")
    running.wait_for(lambda event: event.get("step") == 2, "the second step")
    running.signal()
    ended = running.end()
    error = assert_cancelled(ended)
    assert error["node_id"] == "3"
    assert was_interrupted(raw, ended.result["prompt_id"])
    assert raw.running() == []
    assert "[WARN] Cancelled" in ended.err
    assert not (real.folder / "never.png").exists()
    assert not list(real.folder.glob(".never*"))


def test_while_nothing_is_heard(real: Driver, raw: RawClient) -> None:
    running = real.begin(silent())
    running.wait_for_type("node_started", "2")
    running.signal()
    ended = running.end()
    assert_cancelled(ended)
    assert was_interrupted(raw, ended.result["prompt_id"])


def test_while_it_waits_behind_another_prompt_which_goes_on(real: Driver, raw: RawClient) -> None:
    other = raw.submit(chain(counting(600, seconds=0.1)), "somebody else")
    running = real.begin(chain(), "--reporter", "console")
    prompt_id = running.wait_for_type("run_queued")["prompt_id"]
    poll(lambda: raw.pending() == [prompt_id], 10, "the prompt in the queue")
    running.signal()
    ended = running.end()
    assert_cancelled(ended)
    assert not ended.of("run_started")
    assert raw.running() == [other]
    assert raw.pending() == []
    assert raw.history(other) == {}
    assert raw.history(prompt_id) == {}


def test_termination_cancels_too(real: Driver, raw: RawClient) -> None:
    running = real.begin(chain(counting(600, seconds=0.1)), "--reporter", "quiet")
    running.wait_for_type("node_progress")
    running.signal(signal.SIGTERM)
    ended = running.end()
    assert_cancelled(ended)
    assert was_interrupted(raw, ended.result["prompt_id"])


def test_the_second_one_leaves_at_once(real: Driver) -> None:
    running = real.begin(silent(interruptible=False), "--reporter", "console")
    running.wait_for_type("node_started", "2")
    running.signal()
    # The first one alone must not end it, and one that comes together with it is none: wait for time to pass.
    poll(lambda: "cancelling" in running.text("err"), 20, "the first one")
    time.sleep(0.6)
    assert running.process.poll() is None
    began = time.monotonic()
    running.signal()
    ended = running.end()
    assert time.monotonic() - began < AT_ONCE
    assert_cancelled(ended, "unknown")
    assert ended.result["prompt_id"] in ended.err


def test_an_interrupt_that_bites_late_is_waited_for(real: Driver, raw: RawClient) -> None:
    running = real.begin(silent(interruptible=False))
    running.wait_for_type("node_started", "2")
    running.signal()
    ended = running.end()
    assert_cancelled(ended)
    assert was_interrupted(raw, ended.result["prompt_id"])


def test_a_server_that_does_not_confirm_is_not_waited_for(real: Driver) -> None:
    running = real.begin(silent(interruptible=False), env={"COMFYREPORT_TIME_SCALE": "0.1"})
    running.wait_for_type("node_started", "2")
    running.signal()
    ended = running.end()
    assert_cancelled(ended, "unknown")
    assert "cancel_unconfirmed" in [event["code"] for event in ended.of("warning")]


def test_before_anything_is_submitted(real: Driver, raw: RawClient) -> None:
    slow = 'import time\nfrom comfyreport import hookimpl\nprint("loading", flush=True)\ntime.sleep(3)\n'
    real.path("slow_to_load.py", slow)
    running = real.begin(chain(), "-p", "slow_to_load", env={"PYTHONPATH": str(real.folder)})
    poll(lambda: "loading" in running.text("err"), LIMIT, "the plugin")
    running.signal()
    ended = running.end()
    result = ended.result
    assert (ended.code, result["status"], result["submitted"]) == (130, "cancelled", "no")
    assert not ended.of("run_queued")
    assert raw.running() == raw.pending() == []
