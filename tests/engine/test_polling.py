"""How often is asked over HTTP, and servers that answer, but not with what is needed."""

from __future__ import annotations

import itertools

import pytest

from comfyreport import events as ev
from comfyreport.errors import UnreachableError
from comfyreport.net.frames import Skipped
from comfyreport.protocol.statuses import Response
from comfyreport.timing import Timing
from tests.engine.world import AUTH, ERROR, PROMPT, World, code, words

Patch = pytest.MonkeyPatch


# --- how often is asked


def test_sockets_that_close_at_once(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.begin()
    for number in range(2000):
        world.drop(1.0 + number * 0.05)
    world.at(100.0, world.finish)
    assert world.play().status == "success"
    assert world.most_in_a_minute() <= 60
    assert len(world.attempts) < 25
    assert world.now < 115


def test_messages_behind_the_end_while_history_is_late(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.begin()
    world.say(1.0, "execution_success", timestamp=1)
    for number in range(400):
        world.states(1.0 + number * 0.025, n3="running")
    world.at(11.0, world.finish)
    assert world.play().status == "success"
    assert world.most_in_a_minute() <= 60
    assert world.now < 16


def test_an_end_that_was_none(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.begin()
    world.say(1.0, "executing", node=None)
    for number in range(1200):
        world.states(1.0 + number * 0.05, n3="running")
    world.end(61.0)
    assert world.play().status == "success"
    assert len(world.requests) < 12, "once the queue has shown it running, the socket is enough again"


def test_many_messages_that_are_too_large(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.begin()
    for number in range(600):
        world.at(1.0 + number * 0.1, lambda: Skipped(10**8))
    world.end(62.0)
    assert world.play().status == "success"
    assert world.most_in_a_minute() <= 60
    assert len(world.of(ev.Warning)) <= 4


def test_polling_grows_to_ten_seconds_in_silence(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.begin()
    world.end(200.0)
    assert world.play().status == "success"
    looks = [at for at in world.asked("GET", "/history") if 50 < at < 199]
    gaps = [later - earlier for earlier, later in itertools.pairwise(looks)]
    assert min(gaps) > 7
    assert max(gaps) <= 10.1
    beats = [event.elapsed for event in world.of(ev.Heartbeat)]
    assert all(4.9 < later - earlier < 5.3 for earlier, later in itertools.pairwise(beats))


def test_a_queue_that_moves_behind_this_prompt(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.running = ["other"]
    for number in range(700):
        world.say_of(1.0 + number * 0.1, "status", status={"exec_info": {"queue_remaining": 2 + number % 50}})
    world.begin(72.0)
    world.end(80.0)
    assert world.play().status == "success"
    assert world.most_in_a_minute() <= 60
    told = world.of(ev.QueueChanged)
    assert len(told) < 80, "of seven hundred messages"
    assert {event.position for event in told if 6 < event.elapsed < 72} == {1}


# --- servers that answer, but not with what is needed


def test_a_server_that_wants_credentials_in_mid_run(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.begin()
    world.drop(2.0)

    def closed() -> None:
        world.accept = lambda: UnreachableError("http://server wants credentials (HTTP 401)", code="auth")
        world.answers["/queue"] = world.answers[f"/history/{PROMPT}"] = AUTH

    world.at(1.0, closed)
    end = world.play()
    assert (end.status, code(end)) == ("lost", "auth")
    assert "HTTP 401" in words(end)
    assert Timing().lost_after < world.now < Timing().lost_after + 10


@pytest.mark.parametrize("failing", [("/queue",), ("/queue", "/api/jobs?status=pending,in_progress")])
def test_a_server_whose_history_and_queue_fail_behind_the_end(monkeypatch: Patch, failing: tuple[str, ...]) -> None:
    """Where the newer route fails too, it isn't known whether there is one, and each look is a request more."""
    world = World(monkeypatch)
    world.begin()
    for path in (f"/history/{PROMPT}", *failing):
        world.answers[path] = ERROR
    world.say(5.0, "execution_success", timestamp=1)
    end = world.play()
    assert (end.status, code(end)) == ("lost", "no_history")
    assert "HTTP 500" in words(end)
    assert world.now < 5 + Timing().lost_after + 10
    assert world.most_in_a_minute() <= 60


@pytest.mark.parametrize("status", [403, 404, 500, 503, 521])
def test_a_proxy_that_answers_for_the_server_for_a_while_ends_nothing(monkeypatch: Patch, status: int) -> None:
    world = World(monkeypatch, remote=True)
    world.begin()
    world.drop(2.0)
    bad = Response(status, None, "<html>")

    def away() -> None:
        world.answers["/queue"] = world.answers[f"/history/{PROMPT}"] = bad
        world.accept = lambda: bad.as_error("http://server")

    def back() -> None:
        world.answers.clear()
        world.accept = lambda: None

    world.at(1.9, away)
    world.at(50.0, back)
    world.end(58.0)
    end = world.play()
    assert (end.status, end.prompt_state) == ("success", "finished")


def test_frames_behind_a_success_that_lead_nowhere_keep_no_run_open(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.begin()
    world.say(5.0, "execution_success", timestamp=1)
    world.answers[f"/history/{PROMPT}"] = Response(200, {}, "")
    for second in range(6, 300):
        world.say(float(second), "progress", node="3", value=second, max=1000)
    end = world.play()
    assert (end.status, code(end)) == ("lost", "no_history")
    assert "succeeded" in words(end)
    assert world.now < 5 + 2 * Timing().lost_after + 1


@pytest.mark.parametrize("where", ["running", "pending", "history"])
def test_while_this_process_sleeps_nobody_is_silent(monkeypatch: Patch, where: str) -> None:
    """A closed laptop, or Ctrl-Z: the clock went on, and nothing was heard meanwhile."""
    world = World(monkeypatch, remote=True)
    if where != "pending":
        world.begin()
    world.drop(2.0)
    slept = 3 * Timing().lost_after

    def sleep() -> None:
        world.now += slept
        if where == "history":
            world.finish()

    world.at(4.0, sleep)
    if where != "history":
        world.begin(slept + 5)
        world.end(slept + 20)
    assert world.play().status == "success"
    assert not {"stalled", "cancel_unconfirmed"} & set(world.codes())


def test_a_proxy_without_a_server_behind_it_is_waited_for(monkeypatch: Patch) -> None:
    world = World(monkeypatch, remote=True)
    world.begin()
    world.drop(2.0)
    bad = Response(502, None, "Bad gateway")

    def away() -> None:
        world.accept = lambda: UnreachableError("HTTP 502", code="not_comfyui", retryable=True)
        world.answers["/queue"] = world.answers[f"/history/{PROMPT}"] = bad

    world.at(1.9, away)
    end = world.play()
    assert (end.status, code(end)) == ("lost", "server_gone")
    assert 60 < world.now < 66


def test_deleted_long_after_a_dropped_connection(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.running = ["other"]
    world.drop(2.0)
    for number in range(30):
        world.say_of(3.0 + number, "status", status={"exec_info": {"queue_remaining": 2}})
    world.at(20.0, world.pending.clear)
    end = world.play()
    assert (end.status, code(end), end.prompt_state) == ("lost", "deleted", "none")
