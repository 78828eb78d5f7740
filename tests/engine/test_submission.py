"""The answer to the submission: what is believed, and what is looked for where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport import events as ev
from comfyreport.protocol.statuses import Response
from tests.engine.world import AUTH, ERROR, PROMPT, World, outcome, words

Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_that_answers_the_submission_with_an_error_may_have_passed_it_on(
    monkeypatch: Patch, status: int
) -> None:
    world = World(monkeypatch)

    def post(body: Any) -> Response:
        world.pending.append(PROMPT)
        return Response(status, None, "Bad gateway")

    world.answers["POST /prompt"] = post
    world.begin(2.0)
    world.end(10.0)
    assert outcome(world.play()) == ("success", "finished", "yes")
    assert world.codes() == ["answer_lost"]
    assert f"HTTP {status}" in world.of(ev.Warning)[0].message


def test_a_workflow_that_is_too_large_for_a_proxy(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.answers["POST /prompt"] = Response(413, None, "too large")
    end = world.play()
    assert outcome(end) == ("unreachable", "none", "no")
    assert not end.retryable
    assert "size" in words(end)
    assert "no ComfyUI" not in words(end)


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_proxy_that_found_no_server_for_it(monkeypatch: Patch, status: int) -> None:
    world = World(monkeypatch)
    world.answers["POST /prompt"] = Response(status, None, "Bad gateway")
    end = world.play()
    assert outcome(end) == ("unreachable", "none", "no")
    assert end.retryable
    assert f"HTTP {status}" in words(end)
    assert world.now < 5


@pytest.mark.parametrize("answer", [ERROR, Response(404, None, "?"), AUTH])
def test_an_odd_answer_is_not_believed_against_frames_of_the_run(monkeypatch: Patch, answer: Response) -> None:
    world = World(monkeypatch)

    def post(body: Any) -> Response:
        world.running.append(PROMPT)
        return answer

    world.answers["POST /prompt"] = post
    world.say(0.015, "execution_start", timestamp=1)
    world.end(10.0)
    assert outcome(world.play()) == ("success", "finished", "yes")


def test_an_error_of_the_server_without_any_frame_is_a_refusal(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.answers["POST /prompt"] = ERROR
    assert outcome(world.play()) == ("rejected", "none", "no")
