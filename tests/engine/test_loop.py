"""The loop in a world of its own: what the user sees, which requests are made, at full scale and without waiting."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from comfyreport import events as ev
from comfyreport.errors import UnreachableError
from comfyreport.net.client import Response
from comfyreport.net.frames import Skipped
from tests.engine.world import BROKEN, GRAPH, PROMPT, REFUSED, World, entry, hangs

Patch = pytest.MonkeyPatch
AUTH = Response(401, None, "no")
ERROR = Response(500, None, "500 Internal Server Error")


def outcome(end: ev.RunFinished) -> tuple[str, str, str]:
    return end.status, end.prompt_state, end.submitted


def code(end: ev.RunFinished) -> str:
    return end.error.code if end.error is not None else ""


def words(end: ev.RunFinished) -> str:
    return "" if end.error is None else f"{end.error.message} | {end.error.hint}"


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


# --- the answer to the submission


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


# --- Ctrl-C


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
    assert "comfyreport attach 'x; touch y' --server" in words(world.play())


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
    assert world.now < 14


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


# --- attach


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
    assert world.now < 22


def test_a_server_whose_history_and_queue_fail_behind_the_end(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.begin()
    world.answers["/queue"] = world.answers[f"/history/{PROMPT}"] = ERROR
    world.say(5.0, "execution_success", timestamp=1)
    end = world.play()
    assert (end.status, code(end)) == ("lost", "no_history")
    assert "HTTP 500" in words(end)
    assert world.now < 25


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


# --- what nobody heard is filled in


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
    assert {event.source for event in world.of(ev.NodeStarted)} == {"http"}


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


def test_a_place_in_the_queue_is_no_stall(monkeypatch: Patch) -> None:
    world = World(monkeypatch)
    world.running = ["other"]
    world.begin(200.0)
    world.end(205.0)
    assert world.play().status == "success"
    assert world.codes() == []
    assert len(world.of(ev.Heartbeat)) > 30
