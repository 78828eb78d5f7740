"""What is expected of nodes: by themselves, by their like at another size, by their class, by their kind."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from comfyreport.estimates.priors import prior
from comfyreport.learning.expecting import expectations
from comfyreport.learning.features import Features
from comfyreport.learning.observed import Observed

SAMPLER = Features("KSampler", "e1", "l1", 512.0 * 512, 20.0, frozenset({"ckpt"}))
DECODER = Features("VAEDecode", "e2", "l2", 512.0 * 512, 0.0, frozenset())
LOADER = Features("CheckpointLoaderSimple", "e3", "l3", 0.0, 0.0, frozenset({"ckpt"}))


def seen(features: Features, **parts: float) -> Observed:
    """What was seen of a node, warm."""
    times = {"lead": 0.0, "step": 0.0, "steps": 0.0, "tail": 0.0, **parts}
    return Observed(features.class_type, features.exact, features.like, features.units, False, **times)


def test_a_node_that_has_run() -> None:
    times = {"lead": 0.5, "step": 1.0, "steps": 20.0, "tail": 0.25}
    expected = expectations({"n": SAMPLER}, [seen(SAMPLER, **times)])["n"]
    assert expected.warm == (0.5, 1.0, 20.0, 0.25, expected.warm.spread, "history", 1.0)
    assert expected.loaders == {"ckpt"}
    assert expected.paced


def test_one_odd_run_changes_little() -> None:
    rows = [seen(DECODER, tail=tail) for tail in (10.0, 10.2, 95.0, 9.9, 10.1)]
    odd, even = (expectations({"n": DECODER}, each)["n"].warm for each in (rows, rows[:2]))
    assert odd.tail == 10.1
    assert odd.spread < 1.2 * even.spread


def test_the_newest_tell_most() -> None:
    rows = [seen(DECODER, tail=5.0)] * 3 + [seen(DECODER, tail=10.0)] * 5
    assert expectations({"n": DECODER}, rows)["n"].warm.tail == 5.0


def test_cold_and_warm_are_apart() -> None:
    rows = [
        seen(SAMPLER, step=1.0, steps=20.0),
        seen(SAMPLER, lead=30.0, step=1.0, steps=20.0)._replace(cold=True),
    ]
    expected = expectations({"n": SAMPLER}, rows)["n"]
    assert (expected.cold.seconds, expected.warm.seconds) == (50.0, 20.0)
    only_cold = expectations({"n": SAMPLER}, rows[1:])["n"]
    assert only_cold.cold.seconds == 50.0
    assert 20.0 <= only_cold.warm.seconds < 25.0
    assert only_cold.warm.spread > only_cold.cold.spread


def test_of_two_runs_the_quicker_one_counts() -> None:
    rows = [seen(DECODER, tail=tail) for tail in (95.0, 10.0)]
    assert expectations({"n": DECODER}, rows)["n"].warm.tail == 10.0


def test_the_second_of_its_kind_tells_what_the_first_takes_warm() -> None:
    first = DECODER._replace(exact="first")
    rows = [seen(each, tail=tail)._replace(cold=True) for each, tail in ((DECODER, 0.5), (first, 30.0))]
    expected = expectations({"n": first}, rows)["n"]
    assert expected.cold.tail == 30.0
    assert expected.warm.tail < 0.6


def test_another_size_and_other_steps() -> None:
    larger = SAMPLER._replace(exact="other", units=4 * SAMPLER.units, steps=10.0)
    expected = expectations({"n": larger}, [seen(SAMPLER, lead=3.0, step=1.0, steps=20.0)])["n"].warm
    assert (expected.lead, expected.step, expected.steps, expected.basis) == (3.0, 4.0, 10.0, "similar")
    assert expected.spread > expectations({"n": SAMPLER}, [seen(SAMPLER, step=1.0, steps=20.0)])["n"].warm.spread


def test_two_sizes_tell_what_is_fixed() -> None:
    rows = [seen(DECODER._replace(exact=str(size), units=size), tail=2.0 + size) for size in (1.0, 3.0)]
    asked = {str(size): DECODER._replace(exact="new", units=size) for size in (2.0, 5.0)}
    expected = expectations(asked, rows)
    assert [expected[key].warm.tail for key in asked] == pytest.approx([4.0, 7.0])


def test_sizes_that_contradict_each_other_make_nothing_negative() -> None:
    falling = [seen(DECODER._replace(exact=str(size), units=size), tail=10.0 - size) for size in (1.0, 3.0)]
    steep = [seen(DECODER._replace(exact=str(size), units=size), tail=size**3) for size in (1.0, 3.0)]
    for rows in (falling, steep):
        assert expectations({"n": DECODER._replace(exact="new", units=0.1)}, rows)["n"].warm.tail > 0


def test_a_loader_doesnt_grow_with_a_size() -> None:
    loader = LOADER._replace(units=100.0)
    other = loader._replace(exact="other", units=1000.0)
    expected = expectations({"n": other}, [seen(loader, tail=7.0)])["n"]
    assert expected.warm.tail == 7.0
    assert not expected.paced


def test_another_model_is_a_guess() -> None:
    other = SAMPLER._replace(exact="other", like="other")
    guess = expectations({"n": other}, [seen(SAMPLER, step=1.0, steps=20.0)])["n"].warm
    assert (guess.seconds, guess.basis) == (20.0, "prior")
    alike = SAMPLER._replace(exact="other")
    assert guess.spread > expectations({"n": alike}, [seen(SAMPLER, step=1.0, steps=20.0)])["n"].warm.spread


def test_what_was_never_seen_is_scaled_to_the_server() -> None:
    step = prior("KSampler", units=SAMPLER.units).step
    slow = [seen(SAMPLER, step=3 * step, steps=20.0)]
    assert expectations({"n": DECODER}, slow)["n"].warm.seconds == pytest.approx(
        3 * prior("VAEDecode", units=DECODER.units).seconds
    )
    assert expectations({"n": DECODER}, [])["n"].warm == prior("VAEDecode", units=DECODER.units)


NUMBERS = st.floats(0.0, 1e12)
ROWS = st.builds(
    Observed,
    class_type=st.just("KSampler"),
    exact=st.sampled_from(("e1", "x")),
    like=st.sampled_from(("l1", "x")),
    units=NUMBERS,
    cold=st.booleans(),
    lead=NUMBERS,
    step=NUMBERS,
    steps=NUMBERS,
    tail=NUMBERS,
    passes=st.floats(1.0, 1e6),
)


@given(st.lists(ROWS, max_size=12), NUMBERS)
def test_whatever_was_seen_numbers_come_out(rows: list[Observed], units: float) -> None:
    expected = expectations({"n": SAMPLER._replace(units=units)}, rows)["n"]
    for duration in (expected.cold, expected.warm):
        assert all(math.isfinite(number) and number >= 0 for number in duration[:5])
        assert duration.passes >= 1
