"""A real ComfyUI that dies, stands still or comes again in the middle of a run."""

from __future__ import annotations

import os
import time

import pytest

from tests.e2e.comfyui_server import ComfyUI
from tests.e2e.conftest import ComfyUIFactory
from tests.e2e.driver import Driver, Ended, Running
from tests.e2e.raw_client import RawClient, chain, counting, txt2img

pytestmark = [pytest.mark.real, pytest.mark.e2e]

FREEZE_SECONDS = float(os.environ.get("COMFYREPORT_FREEZE_SECONDS") or 8)
LOST_AFTER = 10.0
SLACK = 15.0
"""Seconds: what a busy machine may add to a time limit."""


@pytest.fixture
def server(comfyui_factory: ComfyUIFactory, driver: Driver) -> ComfyUI:
    """A server of the test's own, at which the driver points."""
    started = comfyui_factory(checkpoint=True)
    driver.server = started.url
    return started


def sampling(driver: Driver, *arguments: str) -> Running:
    """A run that has told of two steps of many."""
    running = driver.begin(txt2img(steps=400), "--reporter", "console", *arguments)
    running.wait_for(lambda event: event.get("step") == 2, "the second step")
    return running


def assert_lost(ended: Ended, code: str) -> None:
    result = ended.result
    assert (ended.code, result["status"], result["submitted"]) == (6, "lost", "yes"), ended.err
    assert result["error"]["code"] == code
    assert result["retryable"]
    assert [event["state"] for event in ended.of("connection_changed")][:2] == ["connected", "lost"]


def test_killed_while_sampling(server: ComfyUI, driver: Driver) -> None:
    running = sampling(driver, "--lost-after", f"{LOST_AFTER:g}")
    began = time.monotonic()
    server.kill()
    ended = running.end()
    assert LOST_AFTER - 1 < time.monotonic() - began < LOST_AFTER + SLACK
    assert_lost(ended, "server_gone")
    message = ended.result["error"]["message"]
    assert "last seen in KSampler at " in message
    assert "/400" in message
    assert "KSampler" in ended.err


def test_restarted_while_sampling(server: ComfyUI, driver: Driver) -> None:
    running = sampling(driver, "--lost-after", "120")
    server.restart()
    began = time.monotonic()
    ended = running.end()
    assert time.monotonic() - began < 20 + SLACK
    assert_lost(ended, "server_restarted")


def test_frozen_for_a_while(server: ComfyUI, driver: Driver) -> None:
    running = driver.begin(chain(counting(30, seconds=0.1)), "--stall-warn", f"{FREEZE_SECONDS / 2:g}")
    running.wait_for(lambda event: event.get("step") == 5, "the fifth step")
    server.freeze()
    time.sleep(FREEZE_SECONDS)
    server.thaw()
    ended = running.end()
    assert (ended.code, ended.result["status"]) == (0, "success"), ended.err
    assert ended.of("heartbeat")
    assert "stalled" in [event["code"] for event in ended.of("warning")]
    assert [event["state"] for event in ended.of("connection_changed")] == ["connected"]
    assert ended.of("node_progress")[-1]["step"] == 30


def test_interrupted_by_the_user_while_decoding(server: ComfyUI, driver: Driver) -> None:
    running = driver.begin(txt2img(size=256, steps=2))
    running.wait_for_type("node_started", "8")
    running.signal()
    ended = running.end()
    result = ended.result
    assert (ended.code, result["status"]) == (130, "cancelled"), ended.err
    if result["prompt_state"] == "cancelled":
        with RawClient(server.url) as raw:
            messages = raw.finished(result["prompt_id"])["status"]["messages"]
        assert "execution_interrupted" in [name for name, _ in messages]
    else:
        # Nothing can be interrupted in the middle of a decoding, which may last longer than anybody waits.
        assert "cancel_unconfirmed" in [event["code"] for event in ended.of("warning")]
