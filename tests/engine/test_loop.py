"""The loop in a world of its own: an ordinary run, at full scale and without waiting."""

from __future__ import annotations

import pytest

from tests.engine.world import World, outcome

Patch = pytest.MonkeyPatch


def test_an_ordinary_run(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.begin()
    world.states(1.0, n4="running")
    world.states(2.0, n4="finished", n3="running")
    world.states(5.0, n4="finished", n3="finished", n9="running")
    world.end(8.0)
    assert outcome(world.play()) == ("success", "finished", "yes")
    assert world.now < 9
    assert [path for _, _, path in world.requests] == ["/prompt", "/history/mine"]
