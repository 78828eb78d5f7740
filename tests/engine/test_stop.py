"""Stops, time limits and leaving: what is done to the prompt, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport.protocol.statuses import Response
from comfyreport.shell import quote
from tests.engine.world import BROKEN, ERROR, PROMPT, REFUSED, World, hangs, outcome, words

Patch = pytest.MonkeyPatch


def take_silently(world: World) -> None:
    """Let the server take the prompt and never answer its submission."""

    def post(body: Any) -> Any:
        world.running.append(PROMPT)
        return hangs(body)

    world.answers["POST /prompt"] = post


@pytest.mark.parametrize("attach", [False, True])
def test_detaching_before_anything_was_answered_cancels_nothing(monkeypatch: Patch, attach: bool) -> None:
    world = World(monkeypatch, attach=attach, on_interrupt="detach")
    world.answers["POST /prompt"] = world.answers[f"/history/{PROMPT}"] = hangs
    world.interrupt(1.0)
    end = world.play()
    assert outcome(end) == ("detached", "unknown", "unknown")
    assert f"comfyreport attach {PROMPT}" in words(end)
    assert not world.asked("POST", "/interrupt")
    assert world.now < 1.5


def test_a_deletion_of_ours_whose_answer_was_lost_is_a_cancel(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.running = ["other"]

    def delete(body: Any) -> Any:
        world.pending.remove(PROMPT)
        return BROKEN

    world.answers["POST /queue"] = delete
    world.interrupt(3.0)
    assert outcome(world.play()) == ("cancelled", "cancelled", "yes")
    assert world.now < 7


def test_a_prompt_that_somebody_deletes_while_we_cancel_is_cancelled(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.running = ["other"]
    world.answers["/queue"] = lambda body: BROKEN if world.now < 4 else None

    def delete() -> None:
        world.pending.remove(PROMPT)

    world.at(3.5, delete)
    world.interrupt(3.0)
    assert outcome(world.play()) == ("cancelled", "cancelled", "yes")


def test_a_run_that_shows_before_the_answer_is_cancelled_at_once(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    take_silently(world)
    world.say(0.5, "execution_start", timestamp=1)
    world.interrupt(2.0)
    assert outcome(world.play()) == ("cancelled", "cancelled", "yes")
    assert world.asked("POST", "/interrupt")[0] < 2.1


def test_a_submission_without_answer_and_frames_is_looked_for_at_once(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    take_silently(world)
    world.interrupt(2.0)
    assert outcome(world.play()) == ("cancelled", "cancelled", "yes")
    assert world.now < 3


def test_a_time_limit_does_not_overtake_a_cancel(monkeypatch: Patch) -> None:
    world = World(monkeypatch, timeout=5.0)
    world.begin()
    world.answers["POST /interrupt"] = Response(200, None, "")
    world.interrupt(2.5)
    world.end(9.0, "execution_interrupted", node_id="3", executed=[])
    assert outcome(world.play()) == ("cancelled", "cancelled", "yes")


@pytest.mark.parametrize(
    ("path", "answer", "said"),
    [
        ("POST /interrupt", Response(403, None, ""), "the server refused to interrupt it (HTTP 403)"),
        ("POST /interrupt", Response(200, None, ""), "it was told to interrupt it"),
        ("GET /queue", ERROR, "it was told to interrupt it"),
    ],
)
def test_what_was_done_to_cancel_is_said(monkeypatch: Patch, path: str, answer: Response, said: str) -> None:
    world = World(monkeypatch)
    world.begin()
    world.states(1.0, n4="running")
    if not path.startswith("POST"):
        world.answers["POST /interrupt"] = Response(200, None, "")
    world.answers[path] = answer
    world.interrupt(2.0)
    end = world.play()
    assert outcome(end) == ("cancelled", "unknown", "yes")
    assert said in words(end)
    assert world.codes() == ["cancel_unconfirmed"]
    assert 11.9 < world.now < 12.5


def test_where_the_prompt_is_not_known_nothing_was_sent_and_that_is_said(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.answers["/queue"] = world.answers[f"/history/{PROMPT}"] = ERROR
    world.interrupt(2.0)
    end = world.play()
    assert end.status == "cancelled"
    assert "the server doesn't tell where it is (HTTP 500), so nothing was sent to it" in words(end)
    assert not world.asked("POST", "/interrupt")


@pytest.mark.parametrize(("kind", "options"), [("interrupt", {}), ("timeout", {"timeout": 2.0})])
def test_an_attach_that_never_reached_the_server_claims_nothing(
    monkeypatch: Patch, kind: str, options: dict[str, Any]
) -> None:
    world = World(monkeypatch, attach=True, wait_for_server=60.0, **options)
    world.accept = lambda: REFUSED
    if kind == "interrupt":
        world.interrupt(2.0)
    end = world.play()
    assert end.status == ("cancelled" if kind == "interrupt" else "timeout")
    assert outcome(end)[1:] == ("unknown", "unknown")
    assert f"comfyreport attach {PROMPT}" in words(end)


def test_an_attach_to_no_server_claims_nothing(monkeypatch: Patch) -> None:
    world = World(monkeypatch, attach=True)
    world.accept = lambda: REFUSED
    assert outcome(world.play()) == ("unreachable", "unknown", "unknown")


def test_what_to_type_to_come_back(monkeypatch: Patch) -> None:
    world = World(monkeypatch, timeout=3.0)
    world.begin()
    end = world.play()
    assert outcome(end) == ("timeout", "running", "yes")
    assert not end.retryable, "the prompt goes on: trying again would run it twice"
    assert words(end).endswith("follow it with: comfyreport attach mine --server http://server")


def test_an_id_of_the_servers_choice_is_no_command(monkeypatch: Patch) -> None:
    world = World(monkeypatch, timeout=3.0)
    world.answers["POST /prompt"] = Response(200, {"prompt_id": "x; touch y", "number": 1, "node_errors": {}}, "")
    world.answers["/queue"] = Response(200, {"queue_running": [[1, "x; touch y", {}, {}, []]], "queue_pending": []}, "")
    assert f"comfyreport attach {quote('x; touch y')} --server" in words(world.play())
