"""Thinning: fewer lines, none lost that matters, in the order of `seq`."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from comfyreport import events as ev
from comfyreport.render.throttle import Thinner
from tests.plugins.events import LOADER, SAMPLER, TXT2IMG, EventBuilder, progress
from tests.plugins.many import many_short, moved


def thinned(events: list[ev.Event], rate: float) -> list[ev.Event]:
    thinner = Thinner(rate)
    return [each for event in events for each in thinner.feed(event)] + thinner.flush()


def bar(times: list[float], maximum: int = 1000) -> EventBuilder:
    builder = EventBuilder()
    builder.add(ev.NodeStarted, node=SAMPLER, **progress(0, 7))
    for step, time in enumerate(times, 1):
        builder.at(time).step(SAMPLER, step, maximum, 1.0)
    return builder


def steps(events: list[ev.Event]) -> list[float]:
    return [event.step for event in events if isinstance(event, ev.NodeProgress)]


def test_ten_a_second() -> None:
    builder = bar([number / 100 for number in range(100)])
    assert steps(thinned(builder.events, 10)) == [1, 11, 21, 31, 41, 51, 61, 71, 81, 91, 100]


def test_zero_is_all() -> None:
    builder = bar([0.0] * 50)
    assert thinned(builder.events, 0) == builder.events


def test_the_last_step_is_written_at_once() -> None:
    thinner = Thinner(1)
    builder = bar([1.0, 1.1, 1.2], maximum=3)
    written = [thinner.feed(event) for event in builder.events]
    assert [len(each) for each in written] == [1, 1, 0, 1]
    assert steps(written[3]) == [3]


def test_a_held_step_is_written_before_its_node_ends() -> None:
    builder = bar([1.0, 1.1, 1.2])
    builder.at(1.3).add(ev.NodeFinished, node=SAMPLER, **progress(1, 7))
    written = thinned(builder.events, 1)
    assert steps(written) == [1, 3]
    assert isinstance(written[-1], ev.NodeFinished)


def test_a_held_step_is_written_before_the_next_pass() -> None:
    builder = bar([1.0, 1.1, 1.2])
    builder.at(1.3).step(SAMPLER, 1, 1000, 1.0, pass_number=2)
    builder.at(1.4).step(SAMPLER, 2, 1000, 1.0, pass_number=2)
    builder.at(1.5).step(SAMPLER, 1, 50, 1.0, pass_number=2)
    assert steps(thinned(builder.events, 1)) == [1, 3, 1, 2, 1]


def test_a_tick_writes_a_held_step() -> None:
    thinner = Thinner(10)
    for event in bar([1.0, 1.05]).events:
        thinner.feed(event)
    assert thinner.tick(1.09) == []
    assert steps(thinner.tick(1.1)) == [2]
    assert thinner.tick(9.0) == []


def test_any_other_event_writes_a_held_step_first() -> None:
    builder = bar([1.0, 1.05])
    builder.add(ev.NodeText, node=LOADER, text="loading")
    assert [event.seq for event in thinned(builder.events, 10)] == [1, 2, 3, 4]


def test_nodes_of_an_expansion_have_bars_of_their_own() -> None:
    inner = [ev.NodeRef(id="10", raw_id=f"10.0.0.{number}") for number in range(2)]
    builder = EventBuilder()
    for step in (1, 2):
        for ref in inner:
            builder.step(ref, step, 9, 1.0)
    assert len(thinned(builder.events, 10)) == 4


def test_previews_are_thinned_too() -> None:
    builder = EventBuilder()
    for number in range(100):
        builder.at(number / 100)
        builder.step(SAMPLER, number + 1, 1000, 1.0)
        builder.add(ev.NodePreview, node=SAMPLER, media_type="image/jpeg", image=b"", index=number)
    written = thinned(builder.events, 10)
    assert sum(isinstance(event, ev.NodePreview) for event in written) <= 12
    assert len(steps(written)) <= 12


def test_a_node_that_starts_again_begins_a_pass() -> None:
    builder = bar([1.0])
    builder.at(1.01).add(ev.NodeFinished, node=SAMPLER, **progress(1, 7))
    builder.add(ev.NodeStarted, node=SAMPLER, **progress(1, 7))
    builder.at(1.02).step(SAMPLER, 1, 1000, 1.0)
    thinner = Thinner(1)
    assert steps([each for event in builder.events for each in thinner.feed(event)]) == [1, 1]


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["progress", "progress", "progress", "pass", "finish", "text", "tick", "preview"]),
        st.sampled_from(TXT2IMG[:3]),
        st.sampled_from([0.0, 0.01, 0.04, 0.1, 0.3]),
    ),
    max_size=60,
)


def interleave(moves: list[tuple[str, ev.NodeRef, float]], rate: float) -> tuple[list[ev.Event], list[ev.Event]]:
    """All events and those that were written, for any interleaving of nodes, passes, other events and ticks."""
    builder, thinner, written = EventBuilder(), Thinner(rate), list[ev.Event]()
    counts = {ref.id: (1, 0) for ref in TXT2IMG}
    for move, ref, pause in moves:
        builder.at(builder.now + pause)
        number, step = counts[ref.id]
        if move == "tick":
            written += thinner.tick(builder.now)
            continue
        if move == "progress" and step < 5:
            counts[ref.id] = (number, step + 1)
            builder.step(ref, step + 1, 5, 1.0, pass_number=number)
        elif move == "pass":
            counts[ref.id] = (number + 1, 1)
            builder.step(ref, 1, 5, 1.0, pass_number=number + 1)
        elif move == "finish":
            counts[ref.id] = (1, 0)
            builder.add(ev.NodeFinished, node=ref)
        elif move == "preview":
            builder.add(ev.NodePreview, node=ref, media_type="image/png", image=b"")
        else:
            builder.add(ev.NodeText, node=ref, text="…")
        written += thinner.feed(builder.events[-1])
    return builder.events, written + thinner.flush()


@settings(deadline=None)
@given(MOVES, st.sampled_from([0.5, 5.0, 10.0, 0.0]))
def test_any_interleaving(moves: list[tuple[str, ev.NodeRef, float]], rate: float) -> None:
    events, written = interleave(moves, rate)
    assert all(before.seq < after.seq for before, after in pairwise(written))
    thinnable = (ev.NodeProgress, ev.NodePreview)
    assert [event for event in events if not isinstance(event, thinnable)] == [
        event for event in written if not isinstance(event, thinnable)
    ]
    # The newest progress of each pass is written, unless a later event of the node made it outdated.
    last: dict[tuple[str, int], ev.Event] = {}
    needed: list[ev.Event] = []
    for event in events:
        if isinstance(event, ev.NodeProgress):
            last[event.node.id, event.pass_number] = event
        elif isinstance(event, ev.NodeFinished):
            needed += [each for key, each in last.items() if key[0] == event.node.id]
            last = {key: each for key, each in last.items() if key[0] != event.node.id}
    assert {event.seq for event in [*needed, *last.values()]} <= {event.seq for event in written}
    if rate == 0:
        assert events == written


@settings(deadline=None)
@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=200), st.sampled_from([1.0, 3.0, 10.0]))
def test_a_node_alone_keeps_the_rate(pauses: list[float], rate: float) -> None:
    times = [sum(pauses[: index + 1]) for index in range(len(pauses))]
    written = [event for event in thinned(bar(times).events, rate) if isinstance(event, ev.NodeProgress)]
    # The first one is free, and the one that is flushed at the end.
    for before, after in pairwise(written[:-1]):
        assert after.elapsed - before.elapsed >= 1 / rate - 1e-5


@pytest.mark.parametrize("rate", [1e-9, 1e9])
def test_extreme_rates(rate: float) -> None:
    builder = bar([float(number) for number in range(10)])
    assert steps(thinned(builder.events, rate)) == ([1, 10] if rate < 1 else list(range(1, 11)))


# --- several runs


def test_each_run_has_bars_of_its_own() -> None:
    events = many_short(6, servers=3)
    written = thinned(events, 0.1)
    assert [event for event in written if not isinstance(event, ev.NodeProgress)] == [
        event for event in events if not isinstance(event, ev.NodeProgress)
    ]
    for index in range(1, 7):
        own = [event for event in written if event.run_index == index]
        assert steps(own)[0] == 1
        assert steps(own)[-1] == 3
    assert all(later.seq > earlier.seq for earlier, later in pairwise(written))


def test_a_run_that_begins_anew_has_a_first_step_again() -> None:
    written = thinned(moved(), 0.1)
    assert steps([event for event in written if event.run_index == 1]) == [1, 2, 1, 3]


def test_what_is_kept_of_runs_is_freed() -> None:
    thinner = Thinner(1)
    for event in many_short(500, servers=3):
        thinner.feed(event)
    assert (len(thinner._passes), len(thinner._held)) == (0, 0)
