"""A body that is made once the server is reached: files are uploaded meanwhile, and nothing is submitted yet."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport import events as ev
from comfyreport.engine.sources import CallKind
from comfyreport.errors import UsageError
from tests.engine.world import BROKEN, GRAPH, PROMPT, World, outcome, words

Patch = pytest.MonkeyPatch
BODY = {"prompt": GRAPH, "client_id": "me", "prompt_id": PROMPT}


def preparing(monkeypatch: Patch, seconds: float = 0.01, **options: Any) -> World:
    """A world in which making the body takes a while."""
    world = World(monkeypatch, **options)
    world.latency = lambda kind: seconds if kind is CallKind.PREPARE else 0.01
    world.prepare = lambda: BODY
    return world


def raises(error: Exception) -> Any:
    def make() -> Any:
        raise error

    return make


def test_the_body_that_was_made_is_submitted(monkeypatch: Patch) -> None:
    world = preparing(monkeypatch)
    bodies: list[Any] = []
    world.answers["POST /prompt"] = bodies.append
    world.begin()
    world.end(5.0)
    assert outcome(world.play()) == ("success", "finished", "yes")
    assert bodies == [BODY]
    assert not world.cut


def test_what_can_not_be_used_ends_the_run_before_anything_is_submitted(monkeypatch: Patch) -> None:
    world = preparing(monkeypatch)
    world.prepare = raises(UsageError("no such node"))
    with pytest.raises(UsageError, match="no such node"):
        world.play()
    assert not world.run.sent
    assert world.requests == []


def test_a_server_that_does_not_take_a_file_is_unreachable(monkeypatch: Patch) -> None:
    """Even where it was sent: that was no prompt."""
    world = preparing(monkeypatch)
    world.prepare = raises(BROKEN)
    end = world.play()
    assert outcome(end) == ("unreachable", "none", "no")
    assert end.retryable
    assert "the connection broke" in words(end)
    assert world.asked("POST", "/prompt") == []


def test_a_stop_meanwhile_submits_nothing_and_ends_the_upload(monkeypatch: Patch) -> None:
    world = preparing(monkeypatch, 100.0)
    world.interrupt(5.0)
    assert outcome(world.play()) == ("cancelled", "none", "no")
    assert world.now < 6
    assert world.requests == []
    assert world.cut


def test_the_time_limit_holds_meanwhile(monkeypatch: Patch) -> None:
    world = preparing(monkeypatch, 100.0, timeout=20.0)
    end = world.play()
    assert outcome(end) == ("timeout", "none", "no")
    assert end.retryable
    assert world.cut


def test_an_upload_that_takes_long_is_waited_for_and_says_how_far_it_is(monkeypatch: Patch) -> None:
    world = preparing(monkeypatch, 400.0)
    monkeypatch.setattr(
        type(world.client), "upload", property(lambda client: (int(world.now), 400) if world.now < 400 else None)
    )
    world.begin(401.0)
    world.end(410.0)
    assert world.play().status == "success"
    told = [beat.sent_bytes for beat in world.of(ev.Heartbeat) if beat.total_bytes == 400]
    assert len(told) > 20
    assert told == sorted(told)
    assert world.codes() == []


def test_a_socket_that_breaks_meanwhile_is_opened_anew(monkeypatch: Patch) -> None:
    world = preparing(monkeypatch, 20.0)
    world.drop(5.0)
    world.begin(22.0)
    world.end(25.0)
    assert outcome(world.play()) == ("success", "finished", "yes")
    assert len(world.attempts) == 2
