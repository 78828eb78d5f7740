"""Silence, lost and deaf sockets: what is filled in, what is said, how long is waited."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport import events as ev
from tests.engine.world import GRAPH, PROMPT, REFUSED, World, code, entry, hangs, outcome

Patch = pytest.MonkeyPatch


def test_the_note_of_a_reconnect_about_a_node_that_has_ended(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.begin()
    world.states(1.0, n4="running")
    world.states(2.0, n4="finished", n3="running")
    world.drop(3.0)
    world.say_of(5.0, "executing", node="4")
    world.states(6.0, n4="finished", n3="finished", n9="running")
    world.end(8.0)
    assert world.play().status == "success"
    assert [event.node.id for event in world.of(ev.NodeStarted)] == ["4", "3", "9"]
    assert [event.node.id for event in world.of(ev.NodeFinished)] == ["4", "3", "9"]


def test_a_cached_output_that_was_missed_is_told_as_cached(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.drop(0.05)
    world.at(0.1, lambda: world.running.append(PROMPT))
    world.states(3.0, n9="finished", n3="running")
    world.at(6.0, lambda: world.finish(cached=("4", "9")))
    world.say(6.0, "execution_success", timestamp=1)
    end = world.play()
    assert end.status == "success"
    assert sorted(end.cached) == ["4", "9"]
    assert end.executed == ("3",)


def test_nodes_that_ran_in_silence_before_a_failure(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.begin()
    failure: dict[str, Any] = {
        "node_id": "9",
        "node_type": "SaveImage",
        "exception_message": "no",
        "exception_type": "OSError",
    }
    world.at(20.0, lambda: world.finish("execution_error", executed=["4", "3"], **failure))
    end = world.play()
    assert (end.status, code(end)) == ("error", "node_error")
    assert end.executed == ("4", "3")
    assert not world.of(ev.NodeStarted)
    assert {(event.source, event.seconds) for event in world.of(ev.NodeFinished)} == {("http", None)}


LAZY = {
    **GRAPH,
    "7": {"class_type": "LoadImage", "inputs": {}},
    "3": {"class_type": "Switch", "inputs": {"a": ["4", 0], "b": ["7", 0]}},
}


def test_a_lazy_input_that_never_ran_is_not_told_where_the_states_were_heard_again(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.begin()
    world.states(1.0, n4="running")
    world.drop(2.0)
    world.states(4.0, n4="finished", n3="running")
    world.states(5.0, n4="finished", n3="finished", n9="running")
    world.states(6.0, n4="finished", n3="finished", n9="finished")
    world.at(6.5, lambda: world.history.update({PROMPT: entry(graph=LAZY)}))
    world.say(6.5, "execution_success", timestamp=1)
    end = world.play()
    assert end.executed == ("4", "3", "9")


# --- the socket after a reconnect


def test_a_quiet_node_behind_a_reconnect_is_no_deafness(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.begin()
    world.states(1.0, n4="running")
    world.drop(2.0)
    world.say_of(2.7, "executing", node="4")
    world.states(6.0, n4="finished", n3="running")
    world.end(8.0)
    assert world.play().status == "success"
    assert world.codes() == []


def test_a_deaf_socket_is_told_and_so_is_its_recovery(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.begin()
    world.states(1.0, n4="running")
    world.drop(2.0)
    world.states(30.0, n4="finished", n3="running")
    world.end(40.0)
    assert world.play().status == "success"
    assert "deaf_socket" in world.codes()
    states = [event.state for event in world.of(ev.ConnectionChanged)]
    assert states[-2:] == ["polling", "restored"]


# --- waiting


def test_waiting_for_a_server_ends_when_it_was_to_and_is_not_silent(monkeypatch: Patch) -> None:
    world = World(monkeypatch, wait_for_server=14.0)
    world.accept = lambda: REFUSED
    end = world.play()
    assert outcome(end) == ("unreachable", "none", "no")
    assert 13.9 < world.now < 14.2
    assert len(world.of(ev.Heartbeat)) == 2


def test_a_stall_says_what_is_known_of_the_server(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.begin()
    world.states(1.0, n4="running")
    world.answers["/queue"] = world.answers[f"/history/{PROMPT}"] = hangs
    world.at(50.0, world.finish)
    world.answers[f"/history/{PROMPT}"] = lambda body: hangs(body) if world.now < 45 else None
    world.interrupt(48.0)
    world.interrupt(49.0)
    world.play()
    (stalled,) = [event for event in world.of(ev.Warning) if event.code == "stalled"]
    assert "still answers" not in stalled.message
    assert "does not answer over HTTP" in stalled.message


@pytest.mark.parametrize(("step", "stalls"), [(1, 0), (11, 0), (2, 1)])
def test_a_bar_whose_pace_explains_the_silence_is_not_stalled(monkeypatch: Patch, step: int, stalls: int) -> None:
    """Of 2,000 steps the server sends each tenth; one that sends them all has stopped where 40 s bring none."""
    world = World(monkeypatch)
    world.running = [PROMPT]
    world.begin()
    world.states(1.0, n4="running")
    for told in {1, step}:
        world.say(1.0 + 4.0 * told, "progress", node="4", value=told, max=2000)
    world.end(1.0 + 4.0 * (step + 10))
    assert world.play().status == "success"
    assert world.codes().count("stalled") == stalls


def test_a_place_in_the_queue_is_no_stall(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.running = ["other"]
    world.begin(200.0)
    world.end(205.0)
    assert world.play().status == "success"
    assert world.codes() == []
    assert len(world.of(ev.Heartbeat)) > 30
