"""Following a prompt that was submitted by somebody else."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport import events as ev
from comfyreport.protocol.statuses import Response
from tests.engine.world import PROMPT, World, code, entry, words

Patch = pytest.MonkeyPatch


def test_a_finished_prompt_has_the_times_that_history_tells(monkeypatch: Patch) -> None:
    world = World(monkeypatch, attach=True)
    world.history[PROMPT] = entry(created=990_000, cached=("4",))
    end = world.play()
    assert (end.status, end.seconds, end.queue_seconds) == ("success", 33.456, 10.0)
    assert end.cached == ("4",)
    assert end.executed == ("3", "9")
    assert dict(end.node_seconds) == {}
    assert [event.seconds for event in world.of(ev.NodeFinished)] == [None, None]


@pytest.mark.parametrize("odd", [{}, {"started": "x"}, {"ended": 10}, {"started": 10**400}, {"created": None}])
def test_odd_times_in_history(monkeypatch: Patch, odd: dict[str, Any]) -> None:
    world = World(monkeypatch, attach=True)
    world.history[PROMPT] = entry(**odd)
    end = world.play()
    assert end.status == "success"
    assert 0 <= end.seconds < 100


def test_taking_over_a_waiting_prompt_tells_nothing_of_its_neighbour(monkeypatch: Patch) -> None:
    world = World(monkeypatch, attach=True, take_over=True)
    world.running, world.pending = ["other"], [PROMPT]
    # What ComfyUI says to a client whose prompt runs when it connects: it is the other one.
    world.say_of(0.2, "executing", node="3")
    world.begin(20.0)
    world.end(25.0)
    assert world.play().status == "success"
    assert world.of(ev.RunStarted)[0].elapsed >= 20
    assert {event.state for event in world.of(ev.Heartbeat)} == {"queued"}


def test_taking_over_what_has_finished_opens_no_socket(monkeypatch: Patch) -> None:
    world = World(monkeypatch, attach=True, take_over=True)
    world.history[PROMPT] = entry()
    assert world.play().status == "success"
    assert world.attempts == []


def test_taking_over_goes_on_trying_to_learn_the_client(monkeypatch: Patch) -> None:
    world = World(monkeypatch, attach=True, take_over=True)
    world.running = [PROMPT]
    world.clients[PROMPT] = "the tab"
    world.answers["/queue"] = lambda body: Response(503, None, "") if world.now < 2 else None
    world.answers[f"/history/{PROMPT}"] = lambda body: Response(503, None, "") if world.now < 2 else None
    world.at(6.0, world.finish)
    assert world.play().status == "success"
    assert world.loop._sources.client_id == "the tab"
    assert world.attempts
    assert world.attempts[0] > 2
    states = [event.state for event in world.of(ev.ConnectionChanged)]
    assert states[0] == "connected"


def test_an_id_that_nobody_knows(monkeypatch: Patch) -> None:
    world = World(monkeypatch, attach=True)
    end = world.play()
    assert (end.status, code(end)) == ("lost", "prompt_vanished")
    assert "check the id" in words(end)


def test_a_healthy_attach_is_quiet_by_nature(monkeypatch: Patch) -> None:
    """Its socket hears of the queue alone: no stall, no deafness; and it looks at once where that gets shorter."""
    world = World(monkeypatch, attach=True)
    world.running, world.clients = [PROMPT], {PROMPT: "the browser"}
    status = {"status": {"exec_info": {"queue_remaining": 1}}}
    world.say_of(0.1, "status", **status)
    world.at(200.0, world.finish)
    world.say_of(200.1, "status", status={"exec_info": {"queue_remaining": 0}})
    end = world.play()
    assert end.status == "success"
    assert world.codes() == []
    assert world.now < 200.5
    # Nobody saw when they began.
    assert not world.of(ev.NodeStarted)
    assert {event.seconds for event in world.of(ev.NodeFinished)} == {None}
    assert len(world.of(ev.NodeFinished)) == len(end.executed) == 3


def test_what_ran_before_a_take_over_comes_before_what_is_seen_live(monkeypatch: Patch) -> None:
    world = World(monkeypatch, attach=True, take_over=True)
    world.running = [PROMPT]
    world.states(1.0, n3="running", n4="finished")
    world.say(2.0, "progress", node="3", value=1, max=20)
    world.end(10.0)
    assert world.play().status == "success"
    told = [
        (type(event).__name__, event.node.id)
        for event in world.events
        if isinstance(event, (ev.NodeStarted, ev.NodeFinished))
    ]
    assert told[:2] == [("NodeFinished", "4"), ("NodeStarted", "3")]
    assert ("NodeStarted", "4") not in told
