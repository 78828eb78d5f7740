"""A stop in a world of its own: what is told of the prompt is so, however the stop meets it and the requests fall."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations_with_replacement
from typing import Any

import pytest

from comfyreport import events as ev
from comfyreport.engine.sources import CallKind
from comfyreport.net.frames import Skipped
from comfyreport.protocol.statuses import Response
from tests.engine.world import PROMPT, World, outcome

Patch = pytest.MonkeyPatch
HISTORY = f"/history/{PROMPT}"
NOTHING = Response(200, {}, "")
LOOKS = 5.2
"""When the first look of a silent run leaves."""
LATE = ("cancelled", "finished", "yes")
DONE = ("cancelled", "cancelled", "yes")
UNKNOWN = ("cancelled", "unknown", "yes")


def idle(world: World, at: float) -> None:
    """Let nothing run on the server from then on."""

    def clear() -> None:
        world.running = []

    world.at(at, clear)


def silently(world: World, begins: float, ends: float, known: float) -> None:
    """Let the prompt run without a word on the socket; history has it a while after the queue has it no more."""

    def begin() -> None:
        world.pending.remove(PROMPT)
        world.running = [PROMPT]

    world.at(begins, begin)
    idle(world, ends)
    world.at(known, world.finish)


# --- it has run to its end


@pytest.mark.parametrize("known", [LOOKS + 0.004, LOOKS + 0.1, LOOKS + 1])
def test_a_look_from_before_the_stop_does_not_confirm_it(monkeypatch: Patch, known: float) -> None:
    world = World(monkeypatch)
    silently(world, 0.1, LOOKS - 0.1, known)
    # The look is on its way when the user stops.
    world.interrupt(LOOKS + 0.005)
    end = world.play()
    assert outcome(end) == LATE
    assert end.executed == ("4", "3", "9")
    assert world.asked("GET", HISTORY)[0] == pytest.approx(LOOKS)


def test_between_its_two_requests_the_prompt_may_go_into_history(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    silently(world, 0.1, 60.0, 60.0)

    def history(body: Any) -> Response | None:
        if not world.history:
            world.finish()
            return NOTHING
        return None

    world.answers[HISTORY] = history
    world.interrupt(LOOKS + 0.005)
    assert outcome(world.play()) == LATE
    assert not world.asked("POST", "/interrupt")


@pytest.mark.parametrize("heard", [False, True])
def test_a_stop_between_the_end_and_history(monkeypatch: Patch, heard: bool) -> None:
    world = World(monkeypatch)
    silently(world, 0.1, 2.0, 3.4)
    if heard:
        world.say(0.1, "execution_start", timestamp=1)
        world.say(2.0, "execution_success", timestamp=1)
    world.interrupt(2.005)
    assert outcome(world.play()) == LATE


@pytest.mark.parametrize("heard", [[], ["execution_success"], ["execution_success", "executing"]])
def test_an_end_that_history_never_tells_is_not_known(monkeypatch: Patch, heard: list[str]) -> None:
    world = World(monkeypatch)
    world.answers[HISTORY] = NOTHING
    silently(world, 0.1, 2.0, 2.0)
    world.say(0.1, "execution_start", timestamp=1)
    for kind in heard:
        world.say(2.0, kind, **({"node": None} if kind == "executing" else {}))
    world.interrupt(2.005)
    assert outcome(world.play()) == UNKNOWN
    assert world.now < 2 + world.timing.cancel_timeout + 0.1


def test_that_it_was_seen_to_run_is_known_though_the_socket_told_nothing(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.answers[HISTORY] = NOTHING
    silently(world, 0.1, 60.0, 60.0)

    def interrupt(body: Any) -> Response:
        world.running.clear()
        return Response(200, None, "")

    world.answers["POST /interrupt"] = interrupt
    world.interrupt(2.0)
    assert outcome(world.play()) == UNKNOWN
    assert len(world.of(ev.RunStarted)) == 1


def test_an_answer_that_was_slow_tells_of_an_earlier_moment(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    silently(world, 0.1, LOOKS - 0.1, LOOKS + 1)
    # Two answers come from before it was known, the second one when a prompt that is nowhere would be gone.
    latencies = {CallKind.LOOK: iter((2.0,)), CallKind.CANCEL: iter((0.01, 3.0))}
    world.latency = lambda kind: next(latencies.get(kind, iter(())), 0.01)
    world.interrupt(LOOKS + 0.005)
    assert outcome(world.play()) == LATE


# --- it waits


@pytest.mark.parametrize("attach", [False, True])
@pytest.mark.parametrize("at", [0.0, 3.0])
def test_a_prompt_that_waits_behind_another_is_cancelled_at_once(monkeypatch: Patch, attach: bool, at: float) -> None:
    world = World(monkeypatch, attach=attach)
    world.running = ["other"]
    if attach:
        world.pending = [PROMPT]
    # As soon as it may be there.
    world.interrupt(at or 0.03)
    assert outcome(world.play()) == DONE
    assert world.pending == []
    assert world.now < (at or 0.03) + 0.1
    assert world.codes() == []


def test_a_confirmation_at_the_last_moment_is_one(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.running = ["other"]
    world.latency = lambda kind: world.timing.cancel_timeout if kind is CallKind.CANCEL else 0.01
    world.interrupt(2.0)
    assert outcome(world.play()) == DONE
    assert world.now == 2 + world.timing.cancel_timeout
    assert world.codes() == []


def other_id(world: World, answered: float, look: float) -> None:
    """Let the server take the prompt under an id of its own when it answers then; a look takes so long."""
    world.running = ["other"]
    world.answers["POST /prompt"] = Response(200, {"prompt_id": "given", "number": 1, "node_errors": {}}, "")
    world.at(answered, lambda: world.pending.append("given"))
    world.latency = lambda kind: answered if kind is CallKind.SUBMIT else look


def test_a_look_for_an_id_that_the_server_did_not_take_confirms_nothing(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    other_id(world, 3.0, 0.5)
    world.interrupt(2.8)
    assert outcome(world.play()) == DONE
    assert world.pending == []


def test_a_look_for_an_id_that_the_server_did_not_take_finds_nobody_absent(monkeypatch: Patch) -> None:
    world = World(monkeypatch, on_interrupt="detach")
    other_id(world, LOOKS + 1, 2.0)
    world.interrupt(LOOKS + 2.1)
    assert outcome(world.play()) == ("detached", "pending", "yes")


def test_a_deletion_is_certain_though_history_cant_be_read(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.running = ["other"]
    world.answers[HISTORY] = Response(500, None, "500 Internal Server Error")
    world.interrupt(3.0)
    assert outcome(world.play()) == DONE


def test_a_deletion_by_a_server_that_has_just_been_seen_to_know_the_prompt(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.running = ["other"]
    # The connection broke, and the look that would show that the server was not restarted hangs.
    world.drop(2.0)
    world.latency = lambda kind: 60.0 if kind is CallKind.LOOK else 0.01

    def delete(body: Any) -> None:
        world.running = []

    world.answers["POST /queue"] = delete
    world.interrupt(2.1)
    assert outcome(world.play()) == DONE
    assert 2.1 + world.timing.handover < world.now < 2.1 + 2 * world.timing.handover, "the other one ended meanwhile"


@pytest.mark.parametrize(("running", "pending"), [(["other"], []), ([], []), ([], ["other"])])
def test_a_deletion_that_came_too_late_is_none(monkeypatch: Patch, running: list[str], pending: list[str]) -> None:
    """The server takes the prompt from the queue, to run it, a moment before the deletion comes."""
    world = World(monkeypatch)
    world.running, world.pending = running, pending

    def delete(body: Any) -> Response:
        world.running, world.pending = [], []
        world.at(world.now + 0.5, lambda: world.running.append(PROMPT))
        return Response(200, None, "")

    world.answers["POST /queue"] = delete
    world.interrupt(3.0)
    assert outcome(world.play()) == DONE
    assert world.asked("POST", "/interrupt"), "not before it was interrupted"
    assert world.history


def test_a_refused_deletion_is_none(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.running = ["other"]
    world.answers["POST /queue"] = Response(403, None, "no")
    world.interrupt(3.0)
    end = world.play()
    assert outcome(end) == UNKNOWN
    assert world.codes() == ["cancel_unconfirmed"]


def test_a_queue_that_was_lost_with_its_server_was_not_cancelled(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.running = ["other"]

    def restart() -> None:
        world.running, world.pending = [], []

    world.at(2.0, restart)
    world.drop(2.0)
    world.interrupt(2.1)
    assert outcome(world.play()) == UNKNOWN


def test_a_prompt_that_is_seen_again_was_not_gone(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.running = ["other"]
    # A look finds it nowhere; the queue, read for its place, has it; and the next look finds it nowhere once more.
    world.say_of(4.0, "status", status={"exec_info": {"queue_remaining": 2}})
    world.at(5.0, lambda: Skipped(10**8))

    def away() -> None:
        world.pending = []

    def back() -> None:
        world.pending = [PROMPT]

    for at in (4.99, 6.4):
        world.at(at, away)
        world.at(at + 0.3, back)
    world.begin(20.0)
    world.end(21.0)
    assert world.play().status == "success"
    assert any(6 <= at < 6.1 for at in world.asked("GET", "/queue"))
    assert any(6.4 < at < 6.7 for at in world.asked("GET", HISTORY))


# --- whatever happens between any two requests


class Life:
    """A prompt that goes on from stage to stage, each time before a certain request is answered, without a word.

    The server has one worker and no lock: on its way a prompt may be nowhere, twice, for less than the hand-over gap.
    """

    STAGES = ("waits", "next", "handed over", "runs", "ended", "known")

    def __init__(self, world: World, moves: tuple[int, ...], since: float) -> None:
        self.world = world
        self.stage = 0
        self.deleted = False
        self._moves = moves
        self._since = since
        self._count = 0
        self._entered = 0.0
        self._show()
        for path in ("GET /queue", "GET " + HISTORY, "POST /queue", "POST /interrupt"):
            world.answers[path] = self._before

    @property
    def fate(self) -> str:
        """What became of it."""
        if self.deleted:
            return "deleted"
        messages = self.world.history.get(PROMPT, {}).get("status", {}).get("messages", [])
        return str(messages[-1][0]) if messages else self.STAGES[self.stage]

    def _before(self, body: Any) -> None:
        if self.world.now >= self._since:
            while self.stage < 5 and (self._moves[self.stage] <= self._count or self._must_move()):
                self._move()
            self._count += 1
        if body is not None and "delete" in body and self.stage < 2:
            self.deleted = True

    def _must_move(self) -> bool:
        nowhere = self.STAGES[self.stage] in ("handed over", "ended")
        return nowhere and self.world.now > self._entered + 0.45 * self.world.timing.handover

    def _move(self) -> None:
        if self.deleted or self.world.history:
            self.stage = 5
            return
        self.stage += 1
        self._entered = self.world.now
        self._show()

    def _show(self) -> None:
        stage, world = self.STAGES[self.stage], self.world
        behind = ["behind"] if self.stage < 4 else []
        world.pending = [PROMPT, *behind] if self.stage < 2 else behind
        world.running = {"waits": ["other"], "runs": [PROMPT], "ended": ["behind"], "known": ["behind"]}.get(stage, [])
        if stage == "known":
            world.finish()


def lives() -> Iterator[tuple[int, ...]]:
    return combinations_with_replacement((0, 1, 2, 3, 4, 5, 6, 99), 5)


TRUE = {
    "cancelled": ("deleted", "execution_interrupted"),
    "finished": ("execution_success",),
    "unknown": (*Life.STAGES, "deleted", "execution_interrupted", "execution_success"),
}


@pytest.mark.parametrize("stop", [3.0, LOOKS + 0.005], ids=["nothing on its way", "a look on its way"])
def test_no_stop_is_told_as_what_it_was_not(monkeypatch: Patch, stop: float) -> None:
    for moves in lives():
        world = World(monkeypatch)
        life = Life(world, moves, 2.9)
        world.answers["POST /prompt"] = Response(200, {"prompt_id": PROMPT, "number": 1, "node_errors": {}}, "")
        world.interrupt(stop)
        end = world.play()
        assert end.status == "cancelled", moves
        assert life.fate in TRUE[end.prompt_state], (moves, end.error)
        assert end.prompt_state != "unknown", (moves, end.error)
        assert world.now < stop + 4, moves


# --- the user leaves without a cancel


def wishes(kind: str) -> dict[str, Any]:
    return {"timeout": 2.005} if kind == "timeout" else {"on_interrupt": "detach"}


@pytest.mark.parametrize("kind", ["timeout", "detached"])
@pytest.mark.parametrize(("heard", "state"), [("execution_success", "finished"), ("executing", "unknown")])
def test_leaving_between_the_end_and_history(monkeypatch: Patch, kind: str, heard: str, state: str) -> None:
    world = World(monkeypatch, **wishes(kind))
    world.begin()
    idle(world, 2.0)
    world.say(2.0, heard, **({"node": None} if heard == "executing" else {}))
    if kind == "detached":
        world.interrupt(2.005)
    end = world.play()
    assert outcome(end) == (kind, state, "yes")
    assert end.error is not None
    assert "goes on" not in end.error.message
    assert f"comfyreport attach {PROMPT}" in end.error.hint


def test_leaving_when_nobody_has_the_prompt(monkeypatch: Patch) -> None:
    world = World(monkeypatch, on_interrupt="detach")
    silently(world, 0.1, 4.9, 6.0)
    world.interrupt(5.5)
    assert outcome(world.play()) == ("detached", "unknown", "yes")


# --- in which way


@pytest.mark.parametrize("has_jobs", [False, True])
def test_the_interrupt_of_a_run_that_is_heard_leaves_at_once(monkeypatch: Patch, has_jobs: bool) -> None:
    world = World(monkeypatch)
    world.has_jobs = has_jobs
    world.begin()
    for tenth in range(2, 100):
        world.say(tenth / 10, "progress", node="3", value=tenth, max=1000)
    world.interrupt(5.0)
    assert outcome(world.play()) == DONE
    first = next((method, path) for at, method, path in world.requests if at >= 5.0)
    assert first == ("POST", f"/api/jobs/{PROMPT}/cancel")
    second = [path for at, method, path in world.requests if at >= 5.0 and method == "POST"][1:]
    assert second == ([] if has_jobs else ["/interrupt"])


def test_with_jobs_neither_queue_nor_graphs_are_fetched(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.has_jobs = True
    world.running = ["other"]
    world.interrupt(30.0)
    assert outcome(world.play()) == DONE
    assert not world.asked("GET", "/queue")
    assert not world.asked("POST", "/queue")
    assert world.pending == []
    assert world.of(ev.RunQueued)[0].position in (None, 1)


def test_a_proxy_in_the_servers_place_does_not_tell_that_it_has_no_jobs(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.has_jobs = True
    world.running = ["other"]
    bad = Response(502, None, "Bad gateway")
    for path in ("/api/jobs?status=pending,in_progress", "/queue", HISTORY):
        world.answers[path] = bad
    world.at(12.0, world.answers.clear)
    world.begin(20.0)
    idle(world, 20.0)
    world.at(20.0, lambda: world.running.append(PROMPT))
    world.end(40.0)
    assert world.play().status == "success"
    assert not [at for at in world.asked("GET", "/queue") if at > 12.0]
