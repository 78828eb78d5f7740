"""The answer to the submission: what is believed, and what is looked for where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport import events as ev
from comfyreport.engine.sources import CallKind
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


ODD = [408, 499, 500, 520, 521, 522, 524, 530, 200, 206, 400, 403, 404, 999]


@pytest.mark.parametrize("status", ODD)
def test_what_is_no_word_of_comfyui_is_looked_into(monkeypatch: Patch, status: int) -> None:
    world = World(monkeypatch)

    def post(body: Any) -> Response:
        world.pending.append(PROMPT)
        return Response(status, None, "<html>", is_html=True)

    world.answers["POST /prompt"] = post
    world.begin(2.0)
    world.end(10.0)
    assert outcome(world.play()) == ("success", "finished", "yes")
    assert world.codes() == ["answer_lost"]


@pytest.mark.parametrize("status", ODD)
def test_and_where_the_server_has_it_nowhere_that_is_told(monkeypatch: Patch, status: int) -> None:
    world = World(monkeypatch)
    world.answers["POST /prompt"] = Response(status, None, "<html>")
    end = world.play()
    maybe_lost = status in (408, 499, 524)
    assert end.status == ("lost" if maybe_lost else "rejected" if status == 500 else "unreachable")
    assert end.submitted == ("unknown" if maybe_lost else "no")
    assert world.asked("GET", "/queue")
    assert world.now < 10


@pytest.mark.parametrize("status", [400, 402, 403, 413, 422, 429])
def test_a_refusal_in_comfyuis_own_form_is_one_with_its_words(monkeypatch: Patch, status: int) -> None:
    world = World(monkeypatch)
    error = {"type": "QUEUE_LIMIT", "message": "the queue is full", "details": "10 of 10", "extra_info": {}}
    world.answers["POST /prompt"] = Response(status, {"error": error, "node_errors": {}}, "{}")
    end = world.play()
    assert outcome(end) == ("rejected", "none", "no")
    assert "the queue is full (10 of 10)" in words(end)
    assert not world.asked("GET", "/queue")


@pytest.mark.parametrize("status", [302, 401, 405, 407])
def test_what_keeps_everything_out_is_final(monkeypatch: Patch, status: int) -> None:
    world = World(monkeypatch)
    world.answers["POST /prompt"] = Response(status, None, "<html>")
    assert outcome(world.play()) == ("unreachable", "none", "no")
    assert not world.asked("GET", "/queue")


@pytest.mark.parametrize("status", [403, 404])
def test_where_looking_is_refused_too_it_is_soon_over(monkeypatch: Patch, status: int) -> None:
    world = World(monkeypatch)
    no = Response(status, None, "<html>")
    for path in ("POST /prompt", "/queue", f"/history/{PROMPT}"):
        world.answers[path] = no
    assert outcome(world.play()) == ("unreachable", "unknown", "unknown")
    assert world.now < 8


def test_a_workflow_that_is_sent_slowly_is_waited_for_and_says_how_far_it_is(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    seconds = 5 * world.timing.lost_after
    world.latency = lambda kind: seconds if kind is CallKind.SUBMIT else 0.01
    world.answers["/queue"] = Response(200, {"queue_running": [], "queue_pending": []}, "")

    def sending(client: object) -> tuple[int, int] | None:
        return (int(world.now * 1000), int(seconds * 1000)) if world.now < seconds else None

    monkeypatch.setattr(type(world.client), "upload", property(sending))
    world.at(seconds, world.answers.clear)
    world.begin(seconds + 1)
    world.end(seconds + 10)
    assert world.play().status == "success"
    beats = [(beat.sent_bytes, beat.total_bytes) for beat in world.of(ev.Heartbeat)]
    told = [sent for sent, total in beats if total == int(seconds * 1000)]
    assert len(told) > 20
    assert told == sorted(told)
    assert "stalled" not in world.codes()


def test_an_error_of_the_server_without_any_frame_is_a_refusal(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.answers["POST /prompt"] = ERROR
    assert outcome(world.play()) == ("rejected", "none", "no")
