"""Merging: what is left out changes nothing but how many events there are."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from comfyreport import events as ev
from comfyreport.events import RunView
from comfyreport.protocol import decode
from comfyreport.protocol.merging import merge_messages
from comfyreport.protocol.messages import Executing, Message, PreviewFrame, ProgressMessage, ProgressState
from comfyreport.recording.player import Player, Recording
from tests import recordings
from tests.playing import ACCEPTED, PROMPT, RunFeeder, executing, one_prompt, progress, short, single_prompts, states

PROMPTS = list(single_prompts())


def decoded(*frames: str) -> list[Message]:
    return [decode.decode(frame) for frame in frames]


def merged(*frames: str) -> list[Message]:
    return merge_messages(decoded(*frames))


def bars(*steps: tuple[float, float], node: str = "3") -> list[str]:
    return [progress(node, value, maximum) for value, maximum in steps]


def kept(*steps: tuple[float, float]) -> list[tuple[float, float]]:
    return [
        (message.value, message.maximum) for message in merged(*bars(*steps)) if isinstance(message, ProgressMessage)
    ]


def run_up(last: int) -> list[tuple[float, float]]:
    return [(step, last) for step in range(1, last + 1)]


# --- each rule by itself


def test_the_first_and_the_last_step_of_a_pass_stay() -> None:
    """Without the first, a pass that began behind a full bar could not be told from the one before."""
    assert kept(*run_up(20)) == [(1, 20), (20, 20)]
    assert kept(*run_up(5), *run_up(5)) == [(1, 5), (5, 5), (1, 5), (5, 5)]
    assert kept(*run_up(5), *run_up(3)) == [(1, 5), (5, 5), (1, 3), (3, 3)]
    assert kept((1, 2), (2, 4), (3, 6)) == [(1, 2), (2, 4), (3, 6)]


def test_steps_of_several_nodes_dont_yield_to_each_other() -> None:
    frames = [*bars((1, 9), (2, 9), (3, 9)), *bars((4, 9), (5, 9), (6, 9), node="4")]
    mixed = [frame for pair in zip(frames[:3], frames[3:], strict=True) for frame in pair]
    assert len(merged(*mixed)) == 4


def test_steps_that_are_no_progress_yield_to_any_later_one() -> None:
    assert kept((5, 5), (0, 5), (7, 5), (1, 5), (2, 5), (5, 5)) == [(5, 5), (1, 5), (5, 5)]
    assert kept((0, 0), (0, 0), (0, 0)) == [(0, 0)]


def test_the_beginning_of_a_node_ends_a_series() -> None:
    frames = [*bars(*run_up(9)), executing("8"), *bars(*run_up(9))]
    assert len(merged(*frames)) == 5


def test_what_only_shows_that_a_node_runs_stays_before_a_begin() -> None:
    frames = [progress("3", 0, 5), executing("8"), progress("3", 1, 5)]
    assert merged(*frames) == decoded(*frames)


def test_states_yield_to_newer_ones_but_the_first_stays() -> None:
    """The first shows that this server sends them."""
    frames = [states(("1", "running")), states(("1", "finished")), states(("1", "finished"), ("2", "running"))]
    assert merged(*frames) == decoded(frames[0], frames[2])


@pytest.mark.parametrize(
    "later",
    [
        [states(("a@6", "finished"), ("b@6", "running"))],
        [states(("a@6", "finished"), ("b@6", "running")), states(("a@6", "finished"), ("b@6", "finished"))],
        [states(("a@6", "finished"), ("b@6", "finished"))],
        [states(("a@6", "running"))],
    ],
)
def test_a_state_stays_where_its_node_runs_again_later(later: list[str]) -> None:
    frames = [states(), states(("a@6", "running")), states(("a@6", "finished")), *later]
    assert decode.decode(frames[2]) in merged(*frames)


def test_an_expanded_node_whose_parts_follow_each_other_may_yield() -> None:
    frames = [
        states(("2", "running")),
        states(("2", "running"), ("2.1@2", "running")),
        states(("2", "running"), ("2.1@2", "finished")),
        states(("2", "running"), ("2.1@2", "finished"), ("2.2@2", "running")),
        states(("2", "finished"), ("2.1@2", "finished"), ("2.2@2", "finished")),
    ]
    assert merged(*frames) == decoded(frames[0], frames[-1])


def test_states_of_two_prompts_are_apart() -> None:
    ours, other = states(("1", "running")), states(("1", "running")).replace(f'"{PROMPT}"', '"other"')
    assert len(merged(ours, other, ours, other)) == 4


def test_previews_yield_to_newer_ones_of_their_node() -> None:
    previews = [PreviewFrame(b"%d" % number, "image/jpeg", "p", node) for number in range(3) for node in ("3", None)]
    assert merge_messages(previews) == previews[-2:]


def test_nothing_else_yields() -> None:
    frames = [executing("1"), executing("1"), executing(None), "junk", "junk", '{"type": "x", "data": {}}'] * 2
    assert merged(*frames) == decoded(*frames)
    assert merge_messages([]) == []


def test_a_flood_of_states_is_merged_in_time_that_grows_with_it() -> None:
    """Of 500 nodes each state names all that began: the comparison must not look at every entry of every one."""
    entry = {"state": "finished", "display_node_id": "x", "value": 1}
    nodes: dict[str, Any] = {}
    flood = []
    for number in range(1000):
        nodes = {**nodes, str(number): {**entry, "display_node_id": str(number)}}
        flood.append(ProgressState("p", nodes))
    reads = 0

    class Counted(dict[str, Any]):
        def get(self, *args: Any) -> Any:
            nonlocal reads
            reads += 1
            return super().get(*args)

    counted = [ProgressState("p", {key: Counted(value) for key, value in each.nodes.items()}) for each in flood[::50]]
    assert len(merge_messages(counted)) == 2
    assert reads < 50_000


# --- real traffic


@functools.cache
def traffic(name: str, number: int) -> tuple[tuple[Message, ...], Any]:
    """The messages of one prompt's own sockets, and its history if it is there."""
    player = Player(Recording(tuple(one_prompt(recordings.load(name), number))))
    messages: list[Message] = []
    history = None
    feed = player.run.feed

    def spy(message: Any, at: Any) -> list[ev.Event]:
        nonlocal history
        if type(message).__module__ == ProgressMessage.__module__:
            messages.append(message)
        elif type(message).__name__ == "History":
            history = message._replace(prompt_id=PROMPT)
        return feed(message, at)

    player.run.feed = spy  # type: ignore[method-assign]
    for _ in player.events():
        pass
    prompt_id = player.run.prompt_id
    return tuple(renamed(each) if getattr(each, "prompt_id", None) == prompt_id else each for each in messages), history


def renamed(message: Any) -> Message:
    """The message as one of the prompt that the tests follow."""
    ours: Message = message._replace(prompt_id=PROMPT)
    return ours


def fed(batches: Sequence[Sequence[Message]], history: Any) -> RunFeeder:
    feeder = RunFeeder(*[str(number) for number in range(1, 12)])
    feeder.feed(0.0, ACCEPTED)
    for number, batch in enumerate(batches, 1):
        feeder.feed(float(number), *batch)
    if history is not None:
        feeder.feed(1000.0, history)
    return feeder


def summary(feeder: RunFeeder) -> dict[str, Any]:
    """What merging must not change. Estimates are none of that: they rest on the steps that were heard."""
    turns: dict[str, list[str]] = {}
    last: dict[tuple[str, int, int], tuple[float, float]] = {}
    rest: list[Any] = []
    for event in feeder.events:
        if isinstance(event, (ev.NodeStarted, ev.NodeFinished)):
            turns.setdefault(event.node.id, []).append(event.type)
            if isinstance(event, ev.NodeFinished):
                rest.append((event.node.id, event.outputs))
        elif isinstance(event, ev.NodeProgress):
            begun = turns[event.node.id].count("node_started")
            last[event.node.id, begun, event.pass_number] = (event.step, event.max_steps)
        elif not isinstance(event, ev.QueueChanged):
            rest.append((short(event), getattr(event, "text", ""), getattr(event, "output", None)))
    view = RunView()
    for event in feeder.events:
        view.apply(event)
    shown = {key: (node.state, node.step, node.max_steps, node.pass_number) for key, node in view.nodes.items()}
    return {
        "turns": turns,
        "last": last,
        "rest": sorted(rest, key=str),
        "view": (view.status, view.done, view.total, shown, view.outputs),
        "executed": list(feeder.run.nodes.executed),
        "outcome": feeder.run.outcome,
    }


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PROMPTS), st.lists(st.integers(1, 400), max_size=4))
def test_merged_traffic_gives_the_same_run(prompt: tuple[str, int], cuts: list[int]) -> None:
    messages, history = traffic(*prompt)
    edges = [0, *sorted(min(cut, len(messages)) for cut in cuts), len(messages)]
    batches = [messages[begin:end] for begin, end in pairwise(edges)]
    merged_batches = [merge_messages(batch) for batch in batches]
    assert summary(fed(merged_batches, history)) == summary(fed(batches, history))
    for whole, thin in zip(batches, merged_batches, strict=True):
        assert merge_messages(thin) == thin
        rest = iter(whole)
        assert all(any(each is other for other in rest) for each in thin), "the order changed"


def test_merging_leaves_out_most_progress() -> None:
    for name in ("a2_no_previews", "m_reconnect", "x_progress_kinds"):
        messages, _ = traffic(name, 0)
        thin = merge_messages(messages)
        many = (ProgressState, ProgressMessage)
        assert sum(isinstance(each, many) for each in thin) * 4 < sum(isinstance(each, many) for each in messages)
        assert [each for each in thin if isinstance(each, Executing)] == [
            each for each in messages if isinstance(each, Executing)
        ]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), max_size=40), st.integers(0, 40))
def test_passes_of_any_bar_are_the_same(steps: list[tuple[int, int]], cut: int) -> None:
    messages = decoded(states(("3", "running")), executing("3"), *bars(*steps))
    batches = [messages[:cut], messages[cut:]]
    assert summary(fed([merge_messages(batch) for batch in batches], None)) == summary(fed(batches, None))
