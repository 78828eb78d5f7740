"""Streams of many runs side by side, made of recorded and of made-up ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from comfyreport import events as ev
from comfyreport.testing import stream_of
from tests.plugins.events import EPOCH, SAMPLER, SAVER, progress

ONE, TWO = "http://10.0.0.1:8188", "http://10.0.0.2:8188"
NODES = (SAMPLER, SAVER)


def side_by_side(runs: Iterable[tuple[str, str, float]], total: int | None = None) -> list[ev.Event]:
    """Recorded runs in one stream, each given as recording, server and the second at which it begins."""
    told: list[ev.Event] = []
    for index, (name, server, begin) in enumerate(runs, 1):
        for event in list(stream_of(name))[1:-1]:
            told.append(placed(event, index, server, begin))
    last = max(event.run_index or 0 for event in told)
    return whole(sorted(told, key=lambda event: event.elapsed), last if total is None else total)


def placed(event: ev.Event, index: int, server: str, begin: float) -> ev.Event:
    """*event* as one of that run, on that server, later by *begin* seconds."""
    event = replace(event, run_index=index, elapsed=event.elapsed + begin)
    if isinstance(event, (ev.RunQueued, ev.RunFinished)):
        return replace(event, server=server)
    return event


def whole(told: list[ev.Event], total: int) -> list[ev.Event]:
    """A stream of *told* events, numbered and timed."""
    ends = [event for event in told if isinstance(event, ev.RunFinished)]
    failed = [end for end in ends if end.exit_code]
    start = ev.StreamStarted(seq=1, time=EPOCH, elapsed=0.0, comfyreport="0.1.0", server=ONE, runs_total=total)
    status, code = (failed[0].status, failed[0].exit_code) if failed else ("success", 0)
    numbered = [
        replace(event, seq=number, time=round(EPOCH + event.elapsed, 6)) for number, event in enumerate(told, 2)
    ]
    last = ev.StreamFinished(
        seq=len(told) + 2, time=EPOCH, elapsed=told[-1].elapsed, status=status, exit_code=code, runs=len(ends),
        failed=len(failed),
    )  # fmt: skip
    return [start, *numbered, last]


def short_run(index: int, server: str, begin: float, *, failing: bool = False) -> Iterator[ev.Event]:
    """A run of a second: three steps, a saved node, a warning now and then."""

    def made(cls: Callable[..., ev.Event], seconds: float, /, **details: Any) -> ev.Event:
        details = {"prompt_id": f"{index:08x}", "source": "ws", "run_index": index, **details}
        return cls(seq=0, time=EPOCH, elapsed=round(begin + seconds, 6), **details)

    yield made(ev.ConnectionChanged, 0.0, state="connected")
    yield made(ev.RunQueued, 0.1, nodes=NODES, server=server, position=0)
    yield made(ev.RunStarted, 0.2)
    yield made(ev.NodeStarted, 0.2, node=SAMPLER, **progress(0, 2))
    for step in (1, 2, 3):
        more = progress(step / 3, 2)
        yield made(ev.NodeProgress, 0.2 + step / 10, step=step, max_steps=3, eta_seconds=0.0, node=SAMPLER, **more)
    if index % 10 == 0:
        yield made(ev.Warning, 0.6, code="stalled", message="nothing heard")
    inputs = (ev.InputValue(node=SAMPLER, name="seed", value=index),)
    end = {"seconds": 0.9, "queue_seconds": 0.1, "inputs": inputs, "server": server}
    if failing:
        error = ev.ErrorInfo(code="node_error", message=f"broken at {index}", node=SAMPLER)
        yield made(ev.RunFinished, 0.9, status="error", exit_code=1, error=error, **end)
        return
    yield made(ev.NodeFinished, 0.6, node=SAMPLER, seconds=0.4, **progress(1, 2))
    yield made(ev.NodeCached, 0.7, node=SAVER, **progress(1, 1))
    end |= {"executed": ("3",), "cached": ("9",), "node_seconds": {"3": 0.4}}
    yield made(ev.RunFinished, 0.9, status="success", exit_code=0, **end)


def many_short(count: int, servers: int = 4, failing: Iterable[int] = ()) -> list[ev.Event]:
    """So many runs of a second, one after the other on each server, all servers side by side."""
    bad = set(failing)
    told = [
        event
        for index in range(1, count + 1)
        for event in short_run(
            index,
            f"http://10.0.0.{(index - 1) % servers + 1}:8188",
            (index - 1) // servers + 0.01 * ((index - 1) % servers),
            failing=index in bad,
        )
    ]
    return whole(sorted(told, key=lambda event: event.elapsed), count)


def moved() -> list[ev.Event]:
    """A run that is lost on one server in mid-run, and made on another, beside a run there."""
    before = [event for event in short_run(1, TWO, 0.0) if event.elapsed <= 0.4]
    move = ev.Warning(
        seq=0, time=EPOCH, elapsed=0.5, run_index=1, prompt_id="00000001", code="run_moved", message="lost there"
    )
    told = [*before, move, *short_run(1, ONE, 2.0), *short_run(2, ONE, 0.2)]
    return whole(sorted(told, key=lambda event: event.elapsed), 2)
