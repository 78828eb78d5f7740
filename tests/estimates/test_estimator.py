"""The whole run's estimate: what is expected, what runs, what this run showed; the fraction and the time left agree."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import pytest
from hypothesis import given, strategies as st

from comfyreport.estimates.expected import Duration
from comfyreport.events import NodeRef
from comfyreport.run.nodes import Nodes
from tests.estimates.runs import TimedRun, duration, expected

SECONDS = st.floats(0.0, 1e6)


def txt2img() -> TimedRun:
    """A run that is known well: 2 s of loading, 1 s of text, 20 steps of half a second, 5 s of decoding."""
    return TimedRun(
        loader=expected(duration(2.0), paced=False),
        text=expected(duration(1.0)),
        sampler=expected(duration(step=0.5, steps=20)),
        decoder=expected(duration(5.0)),
    )


def test_a_known_run_as_it_should_go() -> None:
    run = txt2img()
    run.start("loader", 10.0)
    assert run.left(10.0) == pytest.approx(18.0, abs=0.1)
    assert run.estimate(10.0).basis == "history"
    run.stop("loader", 12.0)
    run.start("text", 12.0)
    run.stop("text", 13.0)
    run.start("sampler", 13.0)
    for step in range(1, 21):
        run.step("sampler", step, 20, 13.0 + step / 2)
        assert run.left(13.0 + step / 2) == pytest.approx(15.0 - step / 2, rel=0.02)
        assert run.fraction(13.0 + step / 2) == pytest.approx((3 + step / 2) / 18, abs=0.01)
    run.stop("sampler", 23.0)
    run.start("decoder", 23.0)
    assert run.left(25.0) == pytest.approx(3.0, rel=0.05)
    assert run.fraction(25.0) == pytest.approx(15 / 18, abs=0.01)


def test_it_counts_down_between_events() -> None:
    run = TimedRun(loader=expected(duration(100.0)), other=expected(duration(20.0)))
    run.start("loader", 0.0)
    told = [run.left(float(at)) for at in range(0, 90, 10)]
    assert told == pytest.approx([120.0 - at for at in range(0, 90, 10)], rel=0.06)


def test_a_node_that_is_overdue_widens_the_range_and_leaps_nowhere() -> None:
    run = TimedRun(loader=expected(duration(10.0)), other=expected(duration(5.0)))
    run.start("loader", 0.0)
    estimates = [run.estimate(at / 10) for at in range(300)]
    for before, after in itertools.pairwise(estimates):
        assert abs(after.seconds - before.seconds) < 0.15
    assert estimates[-1].seconds > 5.0
    assert estimates[-1].high - estimates[-1].low > estimates[90].high - estimates[90].low


def test_the_first_step_of_a_pass_is_no_measure() -> None:
    run = TimedRun(sampler=expected(duration(lead=0.0, step=1.0, steps=10, basis="prior")))
    run.start("sampler", 0.0)
    run.step("sampler", 1, 10, 60.0)
    assert run.nodes.estimate(60.0) is None
    run.step("sampler", 2, 10, 61.0)
    assert run.estimate(61.0).basis == "steps"
    assert run.left(61.0) == pytest.approx(8.0, rel=0.05)


def test_a_server_that_is_twice_as_fast_as_it_was() -> None:
    run = txt2img()
    run.start("sampler", 0.0)
    for step in range(1, 21):
        run.step("sampler", step, 20, step / 4)
    run.stop("sampler", 5.0)
    run.start("decoder", 5.0)
    run.stop("decoder", 7.5)
    # What a disk gives doesn't follow: the loader is expected to take as long as ever, the text half as long.
    assert run.left(7.5) == pytest.approx(2.0 + 0.55, abs=0.1)


def test_cached_nodes_have_no_weight() -> None:
    run = txt2img()
    run.nodes.mark_cached("loader")
    run.nodes.mark_cached("text")
    run.start("sampler", 0.0)
    assert run.left(0.0) == pytest.approx(15.0, abs=0.1)


def test_a_node_is_warm_where_no_model_above_it_is_loaded() -> None:
    cold, warm = duration(lead=30.0, step=1.0, steps=10), duration(step=1.0, steps=10)
    loader = expected(duration(20.0), paced=False)
    run = TimedRun(one=loader, two=loader, sampler=expected(warm, cold, "one", "two"), last=expected(duration(1.0)))
    run.nodes.mark_cached("one")
    run.start("last", 0.0)
    assert run.left(0.0) == pytest.approx(20.0 + 40.0 + 1.0, abs=0.1)
    run.nodes.mark_cached("two")
    assert run.left(0.1) == pytest.approx(10.0 + 0.9, abs=0.1)
    run.start("sampler", 0.1)
    run.stop("sampler", 10.1)
    assert [seen.cold for seen in run.nodes.observations() if seen.node == "sampler"] == [False]


def test_expectations_may_come_while_the_run_goes_on() -> None:
    nodes = Nodes([NodeRef(id=name, class_type="Unheard") for name in ("a", "b", "c")])
    nodes.mark_cached("a")
    running = nodes.start("b", 0.0)
    assert nodes.estimate(1.0) is None
    nodes.expect({name: expected(duration(10.0), None, "a") for name in ("a", "b", "c")})
    estimate = nodes.estimate(1.0)
    assert estimate is not None
    assert estimate.basis == "history"
    assert estimate.seconds == pytest.approx(19.0, abs=0.1)
    nodes.stop(running, 10.0)
    assert nodes.estimate(10.0).seconds == pytest.approx(10.0, abs=0.1)  # type: ignore[union-attr]


def test_the_first_of_a_class_tells_of_the_others() -> None:
    run = TimedRun(**{f"n{number}": expected(duration(0.1, basis="prior")) for number in range(3)})
    nodes = Nodes([NodeRef(id=str(number), class_type="Unheard") for number in range(11)] + [NodeRef(id="bar")])
    nodes.stop(nodes.start("0", 0.0), 10.0)
    bar = nodes.start("bar", 10.0)
    for step in range(1, 11):
        bar.observe("bar", step, 10, 10.0 + step)
    estimate = nodes.estimate(20.0)
    assert estimate is not None
    assert estimate.seconds == pytest.approx(100.0, rel=0.02)
    assert run.nodes.estimate(0.0) is None


def test_passes_that_are_known_are_waited_for() -> None:
    run = TimedRun(tiles=expected(duration(1.0, step=1.0, steps=30, passes=3.0)))
    run.start("tiles", 0.0)
    for step in range(1, 11):
        run.step("tiles", step, 10, float(step))
    assert run.left(10.0) == pytest.approx(21.0, rel=0.03)
    for step in range(1, 11):
        run.step("tiles", step, 10, 10.0 + step)
    assert run.left(20.0) == pytest.approx(11.0, rel=0.05)


@pytest.mark.parametrize(
    ("bases", "told"),
    [
        (("history", "history"), "history"),
        (("history", "similar"), "similar"),
        (("similar", "similar"), "similar"),
        (("history", "prior"), None),
        (("prior", "prior"), None),
    ],
)
def test_the_basis(bases: tuple[Any, Any], told: str | None) -> None:
    first, second = bases
    run = TimedRun(a=expected(duration(10.0, basis=first)), b=expected(duration(10.0, basis=second)))
    run.start("a", 0.0)
    estimate = run.nodes.estimate(0.0)
    assert (None if estimate is None else estimate.basis) == told


def test_nodes_side_by_side_are_not_added_up() -> None:
    run = TimedRun(a=expected(duration(10.0)), b=expected(duration(30.0)), c=expected(duration(5.0)))
    run.start("a", 0.0)
    run.start("b", 0.0)
    assert run.left(0.0) == pytest.approx(35.0, abs=0.1)


def test_what_was_not_seen_counts_as_done() -> None:
    run = txt2img()
    run.nodes.stop(run.nodes.start("sampler", 0.0, start_seen=False), 0.0)
    run.start("decoder", 0.0)
    assert run.fraction(0.0) == pytest.approx(10 / 18, abs=0.01)


def calls_of_a_look(count: int) -> int:
    """How many functions a look at a run of so many nodes calls."""
    run = TimedRun(**{f"n{number}": expected(duration(1.0, basis="similar")) for number in range(count)})
    run.start("n0", 0.0)
    run.step("n0", 1, 10, 0.1)
    calls = 0

    def count_call(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count_call)
    try:
        run.nodes.estimate(0.5)
        run.step("n0", 2, 10, 0.6)
        run.nodes.estimate(0.7)
    finally:
        sys.setprofile(before)
    return calls


def test_a_look_costs_the_same_however_many_nodes_wait() -> None:
    assert calls_of_a_look(3) == calls_of_a_look(1000)


DURATIONS = st.builds(
    Duration,
    lead=SECONDS,
    step=SECONDS,
    steps=st.integers(0, 100),
    tail=SECONDS,
    spread=st.floats(0.0, 3.0),
    basis=st.sampled_from(("history", "similar", "prior")),
    passes=st.integers(1, 5),
)
MOVES = st.lists(
    st.tuples(st.sampled_from(("start", "stop", "step", "cached", "look")), st.integers(0, 4), st.floats(0.0, 100.0)),
    max_size=40,
)


@given(st.lists(DURATIONS, min_size=5, max_size=5), MOVES)
def test_whatever_happens_it_is_told_in_order(durations: list[Duration], moves: list[tuple[str, int, float]]) -> None:
    names = [f"n{number}" for number in range(5)]
    run = TimedRun(**{name: expected(each, None, "n0") for name, each in zip(names, durations, strict=True)})
    now, fraction, running = 0.0, 0.0, set[str]()
    for move, number, later in moves:
        now += later
        name = names[number]
        if move == "start" and name not in running:
            running.add(name)
            run.start(name, now)
        elif move == "stop" and name in running:
            running.discard(name)
            run.stop(name, now)
        elif move == "step" and name in running:
            run.step(name, 1 + later // 10, 20, now)
        elif move == "cached" and name not in running:
            run.nodes.mark_cached(name)
        estimate = run.nodes.estimate(now)
        assert fraction <= run.nodes.fraction <= 0.999
        fraction = run.nodes.fraction
        if estimate is not None:
            assert 0 <= estimate.low <= estimate.seconds <= estimate.high <= 1e9


# --- parts of a loop, samplers that stop early, runs that are followed late


def test_the_turns_of_a_loop_are_waited_for() -> None:
    run = TimedRun(body=expected(duration(6.0, passes=6.0)), decoder=expected(duration(6.0)))
    told = []
    for turn in range(6):
        run.start("body", float(turn))
        told.append(run.left(turn + 0.5))
        run.stop("body", turn + 1.0)
        told.append(run.left(turn + 1.0))
    assert told == pytest.approx([12.0 - at / 2 for at in range(1, 13)], rel=0.06)
    (seen,) = run.nodes.observations()
    assert (seen.tail, seen.steps, seen.passes) == (6.0, 0.0, 6.0)


def test_a_sampler_that_always_stops_early_is_expected_to() -> None:
    run = TimedRun(sampler=expected(duration(step=0.25, steps=16)))
    run.start("sampler", 0.0)
    for step in range(1, 16):
        run.step("sampler", step, 40, step / 4)
    assert run.left(15 / 4) == pytest.approx(0.25, abs=0.05)
    run.step("sampler", 17, 40, 17 / 4)
    assert run.left(17 / 4) == pytest.approx(23 / 4, rel=0.1)


def test_passes_that_nobody_knew_of_widen_the_range() -> None:
    run = TimedRun(tiles=expected(duration(step=1.0, steps=10, basis="prior")))
    run.start("tiles", 0.0)
    for at in range(1, 31):
        run.step("tiles", (at - 1) % 10 + 1, 10, float(at))
    estimate = run.estimate(30.0)
    assert estimate.high > estimate.seconds > 5.0
    assert estimate.high > 20.0


def test_nothing_is_learned_of_what_was_not_seen() -> None:
    run = txt2img()
    run.start("loader", 0.0)
    run.nodes.lose_track()
    run.stop("loader", 50.0)
    run.start("text", 50.0)
    run.stop("text", 51.0)
    assert [seen.node for seen in run.nodes.observations()] == ["text"]


def followed_late() -> TimedRun:
    """A run that is followed from step 12 of its sampler's 20 on; what stands above it was cached, or had run."""
    run = TimedRun(
        loader=expected(duration(2.0), paced=False),
        text=expected(duration(1.0))._replace(above=("loader",)),
        sampler=expected(duration(step=0.5, steps=20))._replace(above=("text", "loader")),
        decoder=expected(duration(5.0))._replace(above=("sampler",)),
    )
    run.start("sampler", 0.0, seen=False)
    for step in (12, 13):
        run.step("sampler", step, 20, (step - 12) / 2)
    return run


def test_of_a_run_that_is_followed_late_what_stands_above_is_over() -> None:
    run = followed_late()
    assert run.left(0.5) == pytest.approx(3.5 + 5.0, rel=0.03)
    # Of the sampler the steps before are known to have taken their time.
    assert run.fraction(0.5) == pytest.approx(6.5 / 15.0, abs=0.02)
    for step in range(14, 21):
        run.step("sampler", step, 20, (step - 12) / 2)
    before = run.fraction(4.0)
    run.stop("sampler", 4.0)
    assert run.fraction(4.0) == pytest.approx(before, abs=0.03)
    assert run.nodes.observations() == []


def test_the_pace_of_a_node_that_is_followed_late_counts() -> None:
    run = TimedRun(
        sampler=expected(duration(step=1.0, steps=20, basis="prior")), decoder=expected(duration(5.0, basis="prior"))
    )
    run.start("sampler", 0.0, seen=False)
    for step in range(10, 21):
        run.step("sampler", step, 20, (step - 10) / 10)
    before = run.left(1.0)
    run.stop("sampler", 1.0)
    assert run.left(1.0) == pytest.approx(before, rel=0.1)


def test_small_nodes_beside_a_very_long_one_leave_no_less_than_nothing() -> None:
    run = TimedRun(
        long=expected(duration(1e7, spread=1.0)), **{f"n{number}": expected(duration(1e-9)) for number in range(50)}
    )
    run.start("long", 0.0)
    run.stop("long", 1.0)
    for number in range(49):
        run.start(f"n{number}", 1.0 + number)
        run.stop(f"n{number}", 1.5 + number)
        estimate = run.nodes.estimate(1.5 + number)
        assert estimate is not None
        assert 0 <= estimate.low <= estimate.seconds <= estimate.high
