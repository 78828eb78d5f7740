"""The delivery: who is told what, in which order; ticks; merging; the end. What goes wrong: `test_isolation*.py`."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from comfyreport import events as ev
from comfyreport.events import RunView
from comfyreport.reporting.event_queue import MERGE_ABOVE, PORTION, EventQueue, merge
from comfyreport.reporting.hookspecs import hookimpl
from comfyreport.timing import Timing
from tests.plugins.events import LOADER, SAMPLER, EventBuilder, progress
from tests.reporting.deliveries import (
    CLOSE,
    EVENT,
    QUICK,
    HookCall,
    delivery_threads,
    gate,
    many_steps,
    one_of_each,
    play,
    session_of,
    spy,
)

TICK = "comfyreport_tick"


def hooks_and_events(hook_calls: list[HookCall], name: str = "a") -> list[tuple[str, object]]:
    return [(call.hook, call.about) for call in hook_calls if call.name == name and call.hook != TICK]


def steps_of(hook_calls: list[HookCall], name: str = "a") -> list[float]:
    return [call.about.step for call in hook_calls if call.name == name and call.hook == "comfyreport_node_progress"]


# --- order


def test_each_event_comes_to_the_general_hook_and_then_to_its_own() -> None:
    hook_calls: list[HookCall] = []
    events = one_of_each()
    play(spy("a", hook_calls), events=events)
    wanted = [(f"comfyreport_{name}", event) for event in events for name in ("event", event.type)]  # type: ignore[attr-defined]
    assert hooks_and_events(hook_calls) == [*wanted, ("comfyreport_close", None)]


def test_all_reporters_get_an_event_before_the_next_one() -> None:
    hook_calls: list[HookCall] = []
    events = one_of_each()
    hooks = {"comfyreport_event"}
    play(*(spy(name, hook_calls, hooks) for name in "abc"), events=events)
    assert [(call.name, call.about.seq) for call in hook_calls] == [
        (name, event.seq) for event in events for name in "abc"
    ]


def test_only_the_arguments_that_were_named_are_passed() -> None:
    calls: list[tuple[object, ...]] = []

    class Picky:
        @hookimpl
        def comfyreport_event(self) -> None:
            calls.append(())

        @hookimpl
        def comfyreport_run_finished(self, run: RunView) -> None:
            calls.append((run.status,))

        @hookimpl
        def comfyreport_stream_finished(self, run: RunView, event: ev.StreamFinished) -> None:
            calls.append((run.status, event.type))

        @hookimpl
        def comfyreport_warning(self, event: ev.Warning, surprise: str = "none") -> None:
            calls.append((event.code, surprise))

    events = one_of_each()
    play(Picky(), events=events)
    assert [call for call in calls if call] == [("stalled", "none"), ("success",), ("success", "stream_finished")]
    assert calls.count(()) == len(events)


def test_the_view_matches_the_event_being_told() -> None:
    events = one_of_each()
    seen: list[tuple[object, ...]] = []

    def state(run: RunView) -> tuple[object, ...]:
        nodes = [(key, node.state, node.step, node.text) for key, node in run.nodes.items()]
        return (run.status, run.elapsed, run.fraction, run.done, run.total, run.position, run.outputs, nodes)

    class Watcher:
        @hookimpl
        def comfyreport_event(self, event: ev.AnyEvent, run: RunView) -> None:
            seen.append(state(run))

    play(Watcher(), events=events)
    view, wanted = RunView(), []
    for event in events:
        view.apply(event)
        wanted.append(state(view))
    assert seen == wanted


def test_hooks_are_called_on_one_thread_that_is_not_the_publishers() -> None:
    threads: set[threading.Thread] = set()
    play(spy("a", [], act=lambda hook, about: threads.add(threading.current_thread())), events=one_of_each())
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_events_may_be_published_one_by_one_or_not_at_all() -> None:
    hook_calls: list[HookCall] = []
    session = session_of(spy("a", hook_calls))
    events = one_of_each()
    session.delivery.publish([])
    for event in events:
        session.delivery.publish([event])
    session.finish()
    assert [about for hook, about in hooks_and_events(hook_calls) if hook == "comfyreport_event"] == events


def test_an_event_type_is_wanted_as_long_as_a_living_reporter_has_its_hook() -> None:
    session = session_of(spy("a", [], {"comfyreport_node_preview"}), spy("b", [], {"comfyreport_event"}))
    assert session.delivery.wants("node_preview")
    assert not session.delivery.wants("node_text")
    session.reporters[0].failure = "gone"
    assert not session.delivery.wants("node_preview")
    session.finish()


def test_every_call_is_traced() -> None:
    session = play(spy("a", [], {EVENT, CLOSE}), events=one_of_each())
    assert [hook for _, hook, _ in session.traced] == [EVENT] * len(one_of_each()) + [CLOSE]
    assert all(name == "a" and seconds >= 0 for name, _, seconds in session.traced)


# --- the end


def test_reporters_that_carry_the_stream_are_closed_after_the_others() -> None:
    hook_calls: list[HookCall] = []
    only_event = {"comfyreport_event", "comfyreport_close"}
    only_end = {"comfyreport_stream_finished", "comfyreport_close"}
    others = {"comfyreport_run_finished", "comfyreport_close"}
    session = session_of(
        spy("event", hook_calls, only_event), spy("end", hook_calls, only_end), spy("others", hook_calls, others)
    )
    *events, last = one_of_each()
    session.delivery.publish(events)
    session.finish(everybody=False)
    assert [call.name for call in hook_calls if call.hook == "comfyreport_close"] == ["others"]
    session.delivery.publish([last])
    session.finish()
    assert [call.name for call in hook_calls if call.hook == "comfyreport_close"] == ["others", "event", "end"]
    assert [call.name for call in hook_calls if call.about is last] == ["event", "end"]


def test_close_is_called_once_and_nothing_after_it() -> None:
    hook_calls: list[HookCall] = []
    session = session_of(spy("a", hook_calls, {"comfyreport_close", "comfyreport_run_finished", TICK}))
    session.delivery.publish(one_of_each())
    session.finish(everybody=False)
    session.delivery.publish(one_of_each())
    session.finish()
    assert hook_calls[-1].hook == "comfyreport_close"
    assert [call.hook for call in hook_calls].count("comfyreport_close") == 1


def test_no_thread_is_left() -> None:
    before = set(delivery_threads())
    play(spy("a", []), events=one_of_each())
    assert set(delivery_threads()) == before


def test_without_reporters() -> None:
    before = set(delivery_threads())
    assert play(events=one_of_each()).delivery.failures() == ()
    assert set(delivery_threads()) == before


def test_the_user_is_in_a_hurry() -> None:
    hook_calls: list[HookCall] = []
    with gate() as opened:
        session = session_of(spy("stuck", [], act=lambda hook, about: opened.wait()), spy("a", hook_calls))
        session.delivery.publish(one_of_each())
        assert not session.delivery.close(everybody=True, hurry=lambda: True)
    assert hooks_and_events(hook_calls)[-1] == ("comfyreport_close", None)


# --- ticks


def test_ticks_come_from_the_first_event_to_the_end_of_the_run_and_not_too_often() -> None:
    hook_calls: list[HookCall] = []
    session = session_of(spy("a", hook_calls, {TICK, "comfyreport_event"}), spy("b", [], {"comfyreport_event"}))
    events = one_of_each()
    during, after = events[:-2], events[-2:]
    assert isinstance(after[0], ev.RunFinished)

    def ticks() -> list[float]:
        return [call.about for call in hook_calls if call.hook == TICK]

    pause = threading.Event()
    pause.wait(10 * QUICK.tick)
    assert ticks() == []
    session.delivery.publish(during)
    session.until(lambda: len(ticks()) >= 5)
    session.delivery.publish(after)
    session.until(lambda: hook_calls[-1].about is after[-1])
    count = len(ticks())
    pause.wait(10 * QUICK.tick)
    session.finish()
    assert len(ticks()) == count
    assert all(later - earlier >= QUICK.tick for earlier, later in itertools.pairwise(ticks()))


def test_a_flood_of_events_does_not_hasten_or_stop_the_ticks() -> None:
    hook_calls: list[HookCall] = []
    session = session_of(spy("a", hook_calls, {TICK}), timing=replace(QUICK, tick=0.02))
    builder = many_steps(2)
    session.delivery.publish(builder.events)

    def flooded() -> bool:
        session.delivery.publish(builder.events[-1:])
        return len(hook_calls) >= 5

    session.until(flooded)
    session.finish()
    assert all(later.about - earlier.about >= 0.02 for earlier, later in itertools.pairwise(hook_calls))


def test_there_are_at_most_ten_ticks_a_second() -> None:
    assert Timing().tick == 0.1


def test_ticks_have_the_time_of_the_stream() -> None:
    hook_calls: list[HookCall] = []
    session = session_of(spy("a", hook_calls, {TICK}))
    session.delivery._clock = lambda: 1234.5
    session.delivery.publish(many_steps(1).events)
    session.until(lambda: hook_calls)
    session.finish()
    assert hook_calls == [HookCall("a", TICK, 1234.5, "running")]


# --- merging


def test_nothing_is_merged_up_to_a_thousand() -> None:
    hook_calls: list[HookCall] = []
    # The order to close waits too.
    events = many_steps(MERGE_ABOVE - 8).events
    assert len(events) == MERGE_ABOVE - 1
    with gate() as opened:
        session = session_of(
            spy("slow", [], {"comfyreport_stream_started"}, lambda *_: opened.wait()), spy("a", hook_calls)
        )
        for event in events:
            session.delivery.publish([event])
        opened.set()
        session.finish()
    assert [about for hook, about in hooks_and_events(hook_calls) if hook == "comfyreport_event"] == events


def test_a_backlog_is_merged_and_loses_nothing_else() -> None:
    hook_calls: list[HookCall] = []
    builder = many_steps(3000)
    builder.step(SAMPLER, 1, 5, 1.0, pass_number=2, **progress(1.5, 2))
    builder.step(SAMPLER, 2, 5, 2.0, pass_number=2, **progress(1.6, 2))
    builder.add(ev.NodeFinished, node=SAMPLER, seconds=9.0, **progress(2, 2))
    events = builder.end()
    started = threading.Event()
    with gate() as opened:

        def act(hook: str, about: object) -> None:
            started.set()
            opened.wait()

        patient = replace(QUICK, hook_limit=20.0, close_limit=20.0)
        session = session_of(spy("slow", [], {"comfyreport_stream_started"}, act), spy("a", hook_calls), timing=patient)
        session.delivery.publish(events[:1])
        session.until(started.is_set)
        for event in events[1:]:
            session.delivery.publish([event])
        opened.set()
        session.finish()
    steps = steps_of(hook_calls)
    assert len(steps) < MERGE_ABOVE
    assert 3000 in steps
    assert steps[-1] == 2
    others = [event for event in events if not isinstance(event, ev.NodeProgress)]
    assert [
        about
        for hook, about in hooks_and_events(hook_calls)
        if hook == "comfyreport_event" and not isinstance(about, ev.NodeProgress)
    ] == others


def test_merging_is_tried_again_only_when_much_more_waits() -> None:
    queue = EventQueue(backpressure=0.0)
    builder = EventBuilder().begin()
    for number in range(3 * MERGE_ABOVE):
        queue.put([builder.add(ev.NodeText, node=SAMPLER, text=str(number))])
    assert queue._merge_above >= 2 * MERGE_ABOVE
    assert sum(len(queue.take(0.0)) for _ in range(3 * MERGE_ABOVE)) == 3 * MERGE_ABOVE
    assert queue._merge_above == MERGE_ABOVE
    assert not queue.take(0)


def test_very_many_events_at_once_wait_for_the_delivery() -> None:
    queue, taken = EventQueue(backpressure=5.0), list[ev.Event]()
    builder = EventBuilder().begin()
    events = [builder.add(ev.NodeText, node=SAMPLER, text=str(number)) for number in range(10 * MERGE_ABOVE)]
    most = 0

    def take() -> None:
        nonlocal most
        while len(taken) < len(events):
            most = max(most, len(queue._items))
            taken.extend(queue.take(1.0))

    thread = threading.Thread(target=take)
    thread.start()
    queue.put(events)
    thread.join()
    assert taken == events
    assert most <= MERGE_ABOVE + PORTION


KINDS = st.sampled_from(["progress", "progress", "progress", "started", "finished", "text", "next pass"])


@given(st.lists(st.tuples(KINDS, st.sampled_from([LOADER, SAMPLER, replace(SAMPLER, raw_id="3.0.1")])), max_size=40))
def test_merged_progress_is_repeated_by_a_later_one(plan: list[tuple[str, ev.NodeRef]]) -> None:
    builder, passes = EventBuilder(), dict.fromkeys((None, "3.0.1"), 1)
    for kind, ref in plan:
        if kind == "progress":
            builder.step(ref, 1, 2, 1.0, pass_number=passes[ref.raw_id])
        elif kind == "started":
            builder.add(ev.NodeStarted, node=ref)
        elif kind == "finished":
            builder.add(ev.NodeFinished, node=ref)
        elif kind == "text":
            builder.add(ev.NodeText, node=ref, text="x")
        else:
            passes[ref.raw_id] += 1
    kept = merge(builder.events)
    assert [event.seq for event in kept] == sorted(event.seq for event in kept)
    for position, event in enumerate(builder.events):
        if event in kept:
            continue
        assert isinstance(event, ev.NodeProgress)
        for later in builder.events[position + 1 :]:
            assert not (isinstance(later, (ev.NodeStarted, ev.NodeFinished)) and later.node.id == event.node.id)
            if isinstance(later, ev.NodeProgress) and (later.node, later.pass_number) == (
                event.node,
                event.pass_number,
            ):
                break
        else:
            pytest.fail("nothing later says it again")
