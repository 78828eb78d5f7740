"""Which run goes to which server, and what follows from its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from comfyreport import events as ev
from comfyreport.batch.scheduler import WINDOW, Item, ServerLoad, Waiting, after, choose, keeps_failing


def server(name: str, *, own: int = 0, others: int = 0, model: str = "", usable: bool = True) -> ServerLoad:
    return ServerLoad(name, own=own, others=others, model=model, usable=usable)


def waiting(*models: str) -> Waiting:
    return Waiting(Item(index, model) for index, model in enumerate(models, 1))


def assigned(servers: list[ServerLoad], runs: Waiting) -> list[tuple[str, int]]:
    """All that is begun at once, as the batch does it."""
    found: list[tuple[str, int]] = []
    while (chosen := choose(servers, runs)) is not None:
        load, item = chosen
        load.own += 1
        load.model = item.model
        found.append((load.name, item.index))
    return found


def test_each_server_is_given_one_before_any_is_given_a_second() -> None:
    assert assigned([server("a"), server("b")], waiting(*["m"] * 9)) == [("a", 1), ("b", 2), ("a", 3), ("b", 4)]


def test_a_server_that_cannot_be_used_is_given_none() -> None:
    assert assigned([server("a", usable=False), server("b")], waiting(*["m"] * 9)) == [("b", 1), ("b", 2)]
    retired = server("a")
    retired.retired = True
    assert assigned([retired], waiting("m")) == []


def test_where_others_wait_one_run_is_kept_and_the_free_server_comes_first() -> None:
    assert assigned([server("busy", others=1), server("free")], waiting(*["m"] * 9)) == [
        ("free", 1), ("free", 2), ("busy", 3),
    ]  # fmt: skip


def test_no_run_waits_behind_many_others_where_another_server_is_sooner_free() -> None:
    assert assigned([server("busy", others=10), server("free")], waiting(*["m"] * 9)) == [("free", 1), ("free", 2)]


def test_a_server_with_the_queue_of_others_is_used_where_there_is_no_other() -> None:
    assert assigned([server("busy", others=10)], waiting("m", "m")) == [("busy", 1)]


def test_runs_of_one_model_stay_together() -> None:
    found = assigned([server("a"), server("b")], waiting("x", "y", "x", "y"))
    assert found == [("a", 1), ("b", 2), ("a", 3), ("b", 4)]
    found = assigned([server("a", model="y"), server("b", model="x")], waiting("x", "y", "x", "y"))
    assert found == [("a", 2), ("b", 1), ("a", 4), ("b", 3)]


def test_a_server_is_not_idle_for_the_sake_of_a_model() -> None:
    assert assigned([server("a", model="x"), server("b", model="y")], waiting("x", "x", "x", "x")) == [
        ("a", 1), ("b", 2), ("a", 3), ("b", 4),
    ]  # fmt: skip


def test_a_model_that_another_server_works_with_is_left_to_it() -> None:
    assert assigned([server("a", model="z"), server("b", own=1, model="x")], waiting("x", "y")) == [("a", 2), ("b", 1)]


def test_no_run_waits_for_ever_behind_those_of_another_model() -> None:
    one, runs = server("a", model="y"), waiting("x", *["y"] * (3 * WINDOW))
    order = []
    for _ in range(2 * WINDOW):
        chosen = choose([one], runs)
        assert chosen is not None
        order.append(chosen[1].index)
    assert order.index(1) == WINDOW


def test_of_very_many_only_the_first_are_held() -> None:
    drawn: list[int] = []

    def items() -> Iterator[Item]:
        for index in range(1, 100_001):
            drawn.append(index)
            yield Item(index, "m")

    runs = Waiting(items())
    assert runs.first() == Item(1, "m")
    assert len(drawn) == WINDOW


def test_what_is_begun_again_comes_first_and_elsewhere() -> None:
    runs = waiting("m")
    runs.put_back(Item(7, "m", frozenset({"a"})))
    assert assigned([server("a"), server("b", own=1)], runs) == [("a", 1), ("b", 7)]


def test_one_that_all_servers_have_tried_may_go_to_any() -> None:
    runs = Waiting(iter(()))
    runs.put_back(Item(7, "m", frozenset({"a"})))
    assert assigned([server("a")], runs) == [("a", 7)]


def ended(status: str, code: str = "", submitted: str = "yes") -> ev.RunFinished:
    error = ev.ErrorInfo(code=code, message="m") if code else None
    return ev.RunFinished(
        seq=1, time=0.0, elapsed=0.0, status=status, exit_code=int(status != "success"), error=error,  # type: ignore[arg-type]
        submitted=submitted,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize("status", ["success", "error", "partial", "timeout", "cancelled", "usage", "interrupted"])
def test_what_came_to_an_end_of_its_own_stays_so(status: str) -> None:
    assert not after(ended(status, "node_error"), adopted=False, attempts=1, retries=2, others=1).again


def test_a_lost_run_is_begun_as_often_as_was_asked_for() -> None:
    lost = ended("lost", "server_gone")
    found = [after(lost, adopted=False, attempts=each, retries=2, others=1).again for each in (1, 2, 3)]
    assert found == [True, True, False]
    assert not after(lost, adopted=False, attempts=1, retries=0, others=1).again


def test_a_server_that_died_is_set_aside_and_may_have_the_prompt_still() -> None:
    found = after(ended("lost", "server_gone"), adopted=False, attempts=1, retries=2, others=0)
    assert (found.aside, found.unsure) == (True, True)
    found = after(ended("lost", "server_restarted"), adopted=False, attempts=1, retries=2, others=0)
    assert (found.aside, found.unsure) == (True, False)
    found = after(ended("lost", "prompt_vanished"), adopted=False, attempts=1, retries=2, others=0)
    assert (found.again, found.aside, found.unsure) == (True, False, False)


def test_what_somebody_has_deleted_is_not_begun_again() -> None:
    assert not after(ended("lost", "deleted"), adopted=False, attempts=1, retries=2, others=1).again


def test_a_server_that_was_not_reached_costs_no_attempt() -> None:
    found = after(ended("unreachable", "refused", "no"), adopted=False, attempts=9, retries=2, others=0)
    assert (found.again, found.aside) == (True, True)


def test_what_an_earlier_command_has_begun_and_is_gone_costs_no_attempt() -> None:
    found = after(ended("lost", "prompt_vanished"), adopted=True, attempts=0, retries=0, others=0)
    assert (found.again, found.aside) == (True, False)


def test_what_can_never_be_submitted_where_the_server_answers_ends() -> None:
    refused = ended("unreachable", "auth", "no")
    assert [after(refused, attempts=1, retries=2, others=0, unreached=each).again for each in (1, 3, 4)] == [
        True, True, False,
    ]  # fmt: skip


def test_a_login_says_nothing_of_what_an_earlier_command_has_submitted() -> None:
    found = after(ended("unreachable", "auth", "unknown"), attempts=0, retries=2, others=1, adopted=True)
    assert (found.again, found.unsure) == (False, True)


def test_an_interrupt_that_we_wanted_is_no_end() -> None:
    interrupted = ended("interrupted", "interrupted")
    assert after(interrupted, attempts=0, retries=0, others=0, adopted=True, stopped=True).again
    assert not after(interrupted, attempts=0, retries=0, others=0, adopted=True).again


def test_what_one_server_refuses_another_may_take() -> None:
    refused = ended("rejected", "missing_model")
    assert after(refused, adopted=False, attempts=1, retries=2, others=1).elsewhere
    assert not after(refused, adopted=False, attempts=1, retries=2, others=0).again
    assert not after(ended("rejected", "invalid_workflow"), adopted=False, attempts=1, retries=2, others=1).again


def test_a_server_keeps_failing_only_where_others_do_better() -> None:
    bad, good = server("bad"), server("good")
    bad.failed = 3
    assert not keeps_failing(bad, [bad, good])
    good.succeeded = 1
    assert keeps_failing(bad, [bad, good])
    bad.failed = 2
    assert not keeps_failing(bad, [bad, good])
