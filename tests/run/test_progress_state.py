"""A run makes the same events of `progress_state` messages that were decoded in part as of whole ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from comfyreport import events as ev
from comfyreport.events import Instant
from comfyreport.protocol.decode import decode_text
from comfyreport.protocol.messages import Message, ProgressState
from comfyreport.run import Run, progress_state
from comfyreport.run.progress_state import ProgressStateDecoder
from tests.benchmarks.loads import PROMPT, chain

NAMES = ["1", "2", "3", "30", "2.0.0.a", '"', "é", "value"]


@pytest.fixture(autouse=True)
def skip_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """No message is too short and no node too few to be skipped."""
    monkeypatch.setattr(progress_state, "WORTHWHILE_BYTES", 0)
    monkeypatch.setattr(progress_state, "WORTHWHILE_NODES", 1)


def message(kind: str, **data: Any) -> bytes:
    return json.dumps({"type": kind, "data": {"prompt_id": "p", **data}}).encode()


def entry(name: str, state: Any, value: float) -> dict[str, Any]:
    return {"value": value, "max": 4, "state": state, "node_id": name, "prompt_id": "p", "display_node_id": name[:1]}


def feed(
    frames: list[bytes], make_decode: Callable[[Run], Callable[[bytes], Message]]
) -> tuple[list[ev.Event], list[Message]]:
    """The events that a run makes of text frames, and the messages that it was fed."""
    run = Run("p", [ev.NodeRef(id=name) for name in NAMES])
    run.sent = True
    decode, events, read = make_decode(run), list[ev.Event](), list[Message]()
    for number, frame in enumerate(frames):
        read.append(decode(frame))
        events += run.feed(read[-1], Instant(float(number), float(number)))
    return events, read


def whole(_: Run) -> Callable[[bytes], Message]:
    return decode_text


def in_part(run: Run) -> Callable[[bytes], Message]:
    return ProgressStateDecoder(run).decode


@pytest.mark.slow
def test_values_too_deep_to_be_compared_are_parsed() -> None:
    deep = "[" * 1000 + "]" * 1000
    nodes = {str(number): {**entry(str(number), "finished", 4), "more": "DEEP"} for number in range(40)}
    frames = [message("progress_state", nodes=dict(list(nodes.items())[:count])) for count in (30, 35, 40)]
    frames = [data.replace(b'"DEEP"', deep.encode()) for data in frames]
    assert feed(frames, in_part)[0] == feed(frames, whole)[0]


def check(frames: list[bytes]) -> int:
    """Both ways give the same events; how many entries needed no parsing."""
    expected, full = feed(frames, whole)
    events, thin = feed(frames, in_part)
    assert events == expected
    return sum(
        len(one.nodes) - len(other.nodes)
        for one, other in zip(full, thin, strict=True)
        if isinstance(one, ProgressState) and isinstance(other, ProgressState)
    )


def growing(changes: list[tuple[str, Any, float]]) -> Iterator[bytes]:
    """Messages as a server sends them: each repeats all nodes of the one before, with one change."""
    nodes: dict[str, Any] = {}
    for name, state, value in changes:
        nodes[name] = entry(name, state, value)
        yield message("progress_state", nodes=nodes)


CHANGES = st.tuples(st.sampled_from(NAMES), st.sampled_from(["running", "finished", "pending", 7, None]), st.just(0.5))
OTHERS = st.one_of(
    st.builds(lambda node: message("executing", node=node), st.sampled_from([*NAMES, None])),
    st.builds(
        lambda node, value: message("progress", node=node, value=value, max=4), st.sampled_from(NAMES), st.just(2)
    ),
    st.just(b'{"type": "progress_state", "data": {"prompt_id": "other", "nodes": {"1": {"state": "finished"}}}}'),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(CHANGES, max_size=25), st.lists(st.tuples(st.integers(0, 25), OTHERS), max_size=8))
def test_any_states_give_the_same_events(
    changes: list[tuple[str, Any, float]], others: list[tuple[int, bytes]]
) -> None:
    frames = list(growing(changes))
    for place, other in others:
        frames.insert(min(place, len(frames)), other)
    check(frames)


@settings(max_examples=200, deadline=None)
@given(st.lists(CHANGES, max_size=12), st.data())
def test_corrupted_states_give_the_same_events(changes: list[tuple[str, Any, float]], data: st.DataObject) -> None:
    frames = list(growing(changes))
    for index in range(1, len(frames)):
        if data.draw(st.booleans()):
            end = data.draw(st.integers(0, len(frames[index])))
            piece = data.draw(st.sampled_from([b"", b", ", b"}", b'"2": {', b'"state": "running"', b'"nodes": {']))
            frames[index] = frames[index][:end] + piece + frames[index][end + data.draw(st.integers(0, 9)) :]
    check(frames)


@pytest.mark.parametrize("head", ['{"type": "progress_state", "data": {"nodes": {NODES}, "prompt_id": "p"}}'])
def test_states_in_another_order_are_read_whole(head: str) -> None:
    ended = [json.dumps({str(n): entry(str(n), "finished", 4)})[1:-1] for n in range(5)]
    running = json.dumps({"9": entry("9", "running", 1)})[1:-1]
    frames = [head.replace("NODES", ", ".join([*ended[:count], running])).encode() for count in range(5)]
    assert check(frames * 2) == 0


def test_a_node_that_runs_again_is_decoded_again() -> None:
    nodes = {name: entry(name, "finished", 4) for name in "123"} | {"4": entry("4", "running", 1)}
    state = message("progress_state", nodes=nodes)
    cached = message("execution_cached", nodes=[])
    frames = [cached, state, state, state, message("executing", node="2"), state, state]
    assert check(frames) > 0
    events, _ = feed(frames, in_part)
    ends = [event.node.id for event in events if isinstance(event, ev.NodeFinished)]
    assert ends.count("2") == 2


@pytest.mark.slow
def test_a_large_run_is_hardly_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    frames = [str(line).replace(PROMPT, "p").encode() for line in chain(300).messages()]
    _, read = feed(frames, whole)
    everything = sum(len(each.nodes) for each in read if isinstance(each, ProgressState))
    assert check(frames) > 0.8 * everything
