"""A limit for when the run will be done: which estimates it believes, and what meets the cancel on its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import pytest

from comfyreport import events as ev
from comfyreport.engine.options import RunOptions
from comfyreport.engine.polling import Poller
from comfyreport.engine.stopping import Stopping
from comfyreport.estimates.estimator import Estimate
from comfyreport.events import Instant
from comfyreport.net.client import Client
from comfyreport.protocol.statuses import Response
from comfyreport.run.nodes import Nodes
from comfyreport.run.verdict import Cancel
from comfyreport.timers import Timers
from tests.engine.world import PROMPT, World, code, outcome, words

Patch = pytest.MonkeyPatch
LIMIT = 60.0
CANCELS = 2.0
"""When the second look of a run that begins at once is made."""
DONE = ("timeout", "cancelled", "yes")
UNKNOWN = ("timeout", "unknown", "yes")


def rest(low: float, basis: Literal["history", "similar", "steps"] = "history") -> Estimate:
    """An estimate that this much is left at least."""
    return Estimate(low * 1.2, low, low * 1.5, basis)


LATE = rest(100.0)


def limited(
    monkeypatch: Patch, estimate: Callable[[float], Estimate | None] = lambda at: LATE, **options: Any
) -> World:
    """A world with the limit, whose run is estimated so at each moment."""
    monkeypatch.setattr(Nodes, "estimate", lambda nodes, at: estimate(at))
    return World(monkeypatch, max_eta=LIMIT, **options)


def deaf(world: World) -> None:
    """Let the server take an interrupt and do nothing."""
    world.answers["POST /interrupt"] = Response(200, None, "")


# --- which runs it cancels


@pytest.mark.parametrize("basis", ["history", "similar"])
def test_a_run_that_will_not_be_done_in_time_is_cancelled(monkeypatch: Patch, basis: Any) -> None:
    world = limited(monkeypatch, lambda at: rest(100.0, basis))
    world.begin()
    world.states(1.0, n4="running")
    end = world.play()
    assert outcome(end) == DONE
    assert (end.exit_code, code(end), end.retryable) == (7, "time_limit", False)
    assert world.asked("POST", "/interrupt") == [pytest.approx(CANCELS, abs=0.1)]
    assert world.codes() == []
    for text in (
        "the 60 s of --max-eta",
        "there are 100 to 150 s left",
        f"basis: {basis}",
        "raise --max-eta (up to 152",
    ):
        assert text in words(end)


def test_others_are_left_alone(monkeypatch: Patch) -> None:
    world = limited(monkeypatch)
    world.pending = ["other"]
    world.begin()
    assert outcome(world.play()) == DONE
    assert world.pending == ["other"]


def test_an_attach_is_limited_too(monkeypatch: Patch) -> None:
    world = limited(monkeypatch, attach=True)
    world.running = [PROMPT]
    assert outcome(world.play()) == DONE


@pytest.mark.parametrize("estimate", [None, rest(1000.0, "steps"), rest(40.0)])
def test_no_estimate_or_one_of_this_run_alone_cancels_nothing(monkeypatch: Patch, estimate: Estimate | None) -> None:
    world = limited(monkeypatch, lambda at: estimate if at < 15 else None)
    world.begin()
    world.end(200.0)
    assert world.play().status == "success"
    assert not world.asked("POST", "/interrupt")


def test_one_odd_estimate_cancels_nothing(monkeypatch: Patch) -> None:
    world = limited(monkeypatch, lambda at: LATE if round(at) % 2 else rest(1.0))
    world.begin()
    world.end(20.0)
    assert world.play().status == "success"
    assert not world.asked("POST", "/interrupt")


def test_a_run_that_becomes_late_is_cancelled_then(monkeypatch: Patch) -> None:
    world = limited(monkeypatch, lambda at: rest(44.5))
    world.begin()
    assert outcome(world.play()) == DONE
    assert world.asked("POST", "/interrupt") == [pytest.approx(17.0, abs=0.1)], "it is late from 15.5 s on"


def test_the_limit_counts_from_the_beginning_of_the_run(monkeypatch: Patch) -> None:
    world = limited(monkeypatch, lambda at: rest(55.0))
    world.now = 100.0
    world.begin(100.1)
    world.end(103.0)
    assert world.play().status == "success"


def test_what_waits_is_not_cancelled_before_it_runs(monkeypatch: Patch) -> None:
    world = limited(monkeypatch)
    world.running = ["other"]
    world.begin(20.0)
    assert outcome(world.play()) == DONE
    assert 21 < world.now < 23
    assert not world.asked("POST", "/queue")


def test_no_limit_no_cancel(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Nodes, "estimate", lambda nodes, at: LATE)
    world = World(monkeypatch)
    world.begin()
    world.end(20.0)
    assert world.play().status == "success"


# --- what meets the cancel


def test_a_run_that_ends_as_a_success_meanwhile_is_one(monkeypatch: Patch) -> None:
    world = limited(monkeypatch)
    world.begin()

    def interrupt(body: Any) -> Response:
        world.finish()
        return Response(200, None, "")

    world.answers["POST /interrupt"] = interrupt
    assert outcome(world.play()) == ("success", "finished", "yes")


def test_a_success_that_history_tells_late_is_one(monkeypatch: Patch) -> None:
    world = limited(monkeypatch)
    deaf(world)
    world.begin()
    world.say(CANCELS + 0.1, "execution_success", timestamp=1)
    world.at(20.0, world.finish)
    assert outcome(world.play()) == ("success", "finished", "yes")
    assert world.codes() == []


def test_what_is_over_is_not_cancelled(monkeypatch: Patch) -> None:
    world = limited(monkeypatch)
    world.begin()
    world.say(CANCELS - 0.1, "execution_success", timestamp=1)
    world.at(10.0, world.finish)
    assert world.play().status == "success"
    assert not world.asked("POST", "/interrupt")


def test_a_run_that_fails_meanwhile_has_failed(monkeypatch: Patch) -> None:
    world = limited(monkeypatch)
    deaf(world)
    world.begin()
    world.end(CANCELS + 0.1, "execution_error", node_id="3", exception_message="boom", exception_type="E")
    assert outcome(world.play()) == ("error", "finished", "yes")


def test_a_cancel_that_nobody_confirms(monkeypatch: Patch) -> None:
    world = limited(monkeypatch)
    deaf(world)
    world.begin()
    end = world.play()
    assert outcome(end) == UNKNOWN
    assert (end.exit_code, code(end), end.retryable) == (7, "time_limit", False)
    assert world.codes() == ["cancel_unconfirmed"]
    assert "the 60 s of --max-eta" in words(end)
    assert "the server did not confirm within 10 s that the prompt was cancelled: it was told to" in words(end)
    assert "raise --max-eta" in words(end)
    assert words(end).endswith(f"follow it with: comfyreport attach {PROMPT} --server http://server")
    assert world.now == pytest.approx(CANCELS + world.timing.cancel_timeout, abs=0.1)


def test_the_other_time_limit_does_not_overtake_the_cancel(monkeypatch: Patch) -> None:
    world = limited(monkeypatch, timeout=CANCELS + 1)
    deaf(world)
    world.begin()
    world.end(CANCELS + 2, "execution_interrupted", node_id="3", executed=[])
    end = world.play()
    assert outcome(end) == DONE
    assert "--max-eta" in words(end)


def test_the_other_time_limit_holds_for_saving_behind_a_cancel_that_came_too_late(monkeypatch: Patch) -> None:
    world = limited(monkeypatch)
    timers = Timers(lambda: world.now)
    stopping = Stopping(
        world.run,
        cast(Client, world.client),
        timers,
        cast(Poller, None),
        RunOptions(timeout=5.0),
        publish=world.events.extend,
        clock=lambda: Instant(world.now, world.now),
        recorder=None,
    )
    world.now = 1.0
    stopping.begin()
    world.run.outcome.cancel = Cancel("timeout", reason="late")
    for now, exceeded in ((5.9, None), (6.0, 5.0), (7.0, 5.0)):
        world.now = now
        for timer in timers.take_due():
            timer.action()
        assert stopping.exceeded_limit == exceeded
    assert world.run.verdict is None


# --- the user, meanwhile


@pytest.mark.parametrize("kind", ["execution_interrupted", "execution_success"])
def test_a_stop_meanwhile_is_the_users(monkeypatch: Patch, kind: str) -> None:
    world = limited(monkeypatch)
    deaf(world)
    world.begin()
    world.interrupt(CANCELS + 1)
    world.end(CANCELS + 2, kind, node_id="3", executed=[])
    end = world.play()
    assert outcome(end) == ("cancelled", "cancelled" if kind == "execution_interrupted" else "finished", "yes")
    assert (end.exit_code, code(end)) == (130, "cancelled")
    assert "max-eta" not in words(end)
    assert not world.loop.hurry


def test_a_stop_meanwhile_has_all_the_time_that_stops_have(monkeypatch: Patch) -> None:
    world = limited(monkeypatch)
    deaf(world)
    world.begin()
    world.interrupt(CANCELS + 5)
    end = world.play()
    assert outcome(end) == ("cancelled", "unknown", "yes")
    assert world.now == pytest.approx(CANCELS + 5 + world.timing.cancel_timeout, abs=0.1)
    assert "max-eta" not in words(end)


def test_the_second_stop_meanwhile_leaves(monkeypatch: Patch) -> None:
    world = limited(monkeypatch)
    deaf(world)
    world.begin()
    world.interrupt(CANCELS + 1)
    world.interrupt(CANCELS + 2)
    assert outcome(world.play()) == ("cancelled", "unknown", "yes")
    assert world.loop.hurry
    assert world.now < CANCELS + 2.1


def test_leaving_meanwhile_claims_nothing_of_the_prompt(monkeypatch: Patch) -> None:
    world = limited(monkeypatch, on_interrupt="detach")
    deaf(world)
    world.begin()
    world.interrupt(CANCELS + 1)
    end = world.play()
    assert outcome(end) == ("detached", "unknown", "yes")
    assert "whether the prompt was cancelled is not known" in words(end)
    assert not world.loop.hurry


def test_the_limit_comes_too_late_for_a_stop(monkeypatch: Patch) -> None:
    world = limited(monkeypatch)
    deaf(world)
    world.begin()
    world.interrupt(CANCELS - 0.5)
    world.end(CANCELS + 3, "execution_interrupted", node_id="3", executed=[])
    assert outcome(world.play()) == ("cancelled", "cancelled", "yes")
    assert not world.of(ev.Warning)
