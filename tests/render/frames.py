"""Runs in each state that the console draws, and the frame that it draws of one."""

from __future__ import annotations

from comfyreport import describe_time_left, events as ev
from comfyreport.events import RunView
from comfyreport.render.run_frame import run_frame
from tests.plugins.events import (
    DECODER,
    LOADER,
    REQUIRED_STEPS,
    SAMPLER,
    SAVER,
    EventBuilder,
    progress,
    sampling,
)


def fold(builder: EventBuilder) -> RunView:
    run = RunView()
    for event in builder.events:
        run.apply(event)
    return run


def lines(
    builder: EventBuilder,
    width: int = 80,
    height: int = 24,
    *,
    after: float = 0.0,
    unicode: bool = False,
    color: bool = False,
) -> list[str]:
    run, elapsed = fold(builder), builder.now + after
    left = describe_time_left(run.eta_at(elapsed))
    return run_frame(run, elapsed, width, height, left=left, unicode=unicode, color=color)


def connecting() -> EventBuilder:
    return EventBuilder()


def submitting() -> EventBuilder:
    builder = EventBuilder()
    builder.add(ev.ConnectionChanged, "client", state="connected")
    return builder


def queued() -> EventBuilder:
    return EventBuilder().begin(position=2).at(12.1)


def starting() -> EventBuilder:
    builder = EventBuilder().begin()
    builder.add(ev.RunStarted)
    return builder


def loading() -> EventBuilder:
    builder = starting()
    builder.at(1.0).add(ev.NodeStarted, node=LOADER, **progress(0, 7))
    return builder.at(10.0)


def half() -> EventBuilder:
    return sampling(REQUIRED_STEPS[:3])


def whole_run() -> EventBuilder:
    builder = half()
    details = {**progress(4.5, 7), "run_eta_seconds": 15.0, "run_eta_low": 12.0, "run_eta_high": 20.0}
    builder.add(ev.Heartbeat, "client", node=SAMPLER, state="running", **details)
    return builder


def parallel() -> EventBuilder:
    builder = half()
    for ref in (SAVER, DECODER):
        builder.add(ev.NodeStarted, node=ref, **progress(4.5, 7))
    return builder


def lost() -> EventBuilder:
    builder = half()
    builder.add(ev.ConnectionChanged, "client", state="lost", detail="reset")
    return builder


def talking() -> EventBuilder:
    builder = loading()
    builder.add(ev.NodeText, node=LOADER, text="shard 3 of 5\n")
    return builder


def finishing() -> EventBuilder:
    builder = sampling()
    builder.add(ev.NodeFinished, node=SAMPLER, seconds=16.0, **progress(7, 7))
    return builder


def hires() -> EventBuilder:
    builder = half()
    builder.step(SAMPLER, 2, 10, 5.0, pass_number=2, **progress(4.8, 7))
    return builder
