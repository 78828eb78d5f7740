"""The delivery of many runs in one stream: which run a hook is given, ticks, merging."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfyreport import events as ev
from comfyreport.events import RunView
from comfyreport.reporting.event_queue import merge
from comfyreport.reporting.hookspecs import hookimpl
from tests.plugins.events import SAMPLER, progress
from tests.plugins.many import ONE, TWO, many_short, moved, side_by_side
from tests.reporting.deliveries import EVENT, HookCall, play, session_of, spy

TICK = "comfyreport_tick"


class Seen:
    """Notes what run each hook is given."""

    def __init__(self) -> None:
        self.told: list[tuple[ev.Event, int | None, str, float]] = []
        self.ends: list[tuple[int | None, str, object, tuple[str, ...]]] = []

    @hookimpl
    def comfyreport_event(self, event: ev.AnyEvent, run: RunView) -> None:
        self.told.append((event, run.run_index, run.status, run.elapsed))

    @hookimpl
    def comfyreport_run_finished(self, event: ev.RunFinished, run: RunView) -> None:
        self.ends.append((run.run_index, run.status, run.result, tuple(run.nodes)))


def test_each_hook_is_given_the_run_of_its_event() -> None:
    seen = Seen()
    events = side_by_side([("txt2img", ONE, 0.0), ("node-error", TWO, 0.2), ("cached", ONE, 1.0)])
    play(seen, events=events)
    assert [event for event, *_ in seen.told] == events
    assert all(index == event.run_index for event, index, *_ in seen.told if event.run_index is not None)
    assert all(elapsed == event.elapsed for event, _, _, elapsed in seen.told)
    at_end = [(index, status) for event, index, status, _ in seen.told if isinstance(event, ev.RunFinished)]
    assert sorted(at_end) == [(1, "success"), (2, "error"), (3, "success")], "the general hook sees the end, too"


def test_the_run_of_an_end_is_whole() -> None:
    seen = Seen()
    events = many_short(30, servers=3, failing=[4])
    play(seen, events=events)
    ends = [event for event in events if isinstance(event, ev.RunFinished)]
    assert seen.ends == [(end.run_index, end.status, end, ("3", "9")) for end in ends]


def test_events_of_no_run_come_with_the_one_told_last_or_an_empty_one() -> None:
    seen = Seen()
    events = moved()
    back = ev.Warning(seq=2, time=0.0, elapsed=0.0, code="server_back", message="it is back")
    play(seen, events=[events[0], back, *events[1:8], back, *events[8:]])
    told = [(index, status) for event, index, status, _ in seen.told if event is back]
    assert told == [(None, "waiting"), (events[7].run_index, told[1][1])]
    assert seen.told[-1][1] == events[-2].run_index


def test_ticks_are_given_the_run_told_last_of_those_that_are_open() -> None:
    given: list[int | None] = []

    class Ticking:
        @hookimpl
        def comfyreport_tick(self, run: RunView) -> None:
            given.append(run.run_index)

    session = session_of(Ticking())
    told = many_short(2, servers=2)
    end = next(at for at, event in enumerate(told) if isinstance(event, ev.RunFinished))
    session.delivery.publish(told[: end + 1])
    session.until(lambda: len(given) >= 3)
    session.delivery.publish(told[end + 1 :])
    session.finish()
    assert told[end].run_index == 1
    assert set(given[-3:]) == {2}, "the first has ended"


def test_there_are_no_ticks_while_no_run_is_open() -> None:
    hook_calls: list[HookCall] = []
    session = session_of(spy("a", hook_calls, {TICK, EVENT}))
    told = many_short(4, servers=2)[:-1]
    session.delivery.publish(told)
    session.until(lambda: any(call.about is told[-1] for call in hook_calls))
    assert session.delivery.views.newest_open is None
    assert session.delivery._tick_timeout() is None
    session.finish()
    assert hook_calls[-1].hook == EVENT


def step(run: int | None, number: int, **details: Any) -> ev.NodeProgress:
    return ev.NodeProgress(
        seq=number, time=0.0, elapsed=float(number), run_index=run, step=number, max_steps=99, eta_seconds=0.0,
        **{"node": SAMPLER, **progress(0, 2), **details},
    )  # fmt: skip


def test_progress_of_one_run_yields_to_no_other_run_s() -> None:
    told = [step(run, number) for number in range(1, 6) for run in (1, 2, None)]
    assert list(merge(told)) == told[-3:]


def test_the_end_of_a_node_keeps_the_last_step_of_its_own_run_alone() -> None:
    done = ev.NodeFinished(seq=9, time=0.0, elapsed=9.0, run_index=1, node=SAMPLER)
    later = [step(run, 20) for run in (1, 2)]
    told = [step(1, 1), step(1, 2), step(2, 3), done, *later]
    assert list(merge(told)) == [step(1, 2), done, *later]


def test_bars_of_one_node_are_still_told_apart() -> None:
    raw = replace(SAMPLER, raw_id="3.0.1")
    told = [step(1, 1), step(1, 2, node=raw), step(1, 3, pass_number=2), step(1, 4, node=raw), step(1, 5)]
    assert list(merge(told)) == [told[2], told[3], told[4]]
