"""RunView: the state that a run's events add up to."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from itertools import pairwise
from typing import Any

import pytest

from comfyreport import events as ev
from comfyreport.events import RunView
from tests.plugins.events import (
    DECODER,
    LOADER,
    PROMPT_ID,
    SAMPLER,
    SERVER,
    TXT2IMG,
    EventBuilder,
    failed,
    fully_cached,
    image,
    progress,
    sampling,
    txt2img,
)


def view_of(events: list[ev.Event]) -> RunView:
    run = RunView()
    for event in events:
        run.apply(event)
    return run


def test_before_any_event() -> None:
    run = RunView()
    assert (run.status, run.nodes, run.active, run.fraction, run.result) == ("waiting", {}, (), 0.0, None)
    assert run.run_seconds == 0.0


def test_queued() -> None:
    run = view_of(EventBuilder().begin(position=3).events)
    assert (run.status, run.position, run.prompt_id, run.server) == ("queued", 3, PROMPT_ID, SERVER)
    assert list(run.nodes) == [ref.id for ref in TXT2IMG]
    assert {node.state for node in run.nodes.values()} == {"waiting"}
    assert (run.total, run.connection) == (7, "connected")


def test_a_place_in_the_queue() -> None:
    builder = EventBuilder().begin(position=3)
    builder.at(5.0).add(ev.QueueChanged, position=1, remaining=2)
    run = view_of(builder.events)
    assert (run.position, run.remaining) == (1, 2)
    builder.at(6.0).add(ev.RunStarted)
    assert view_of(builder.events).position == 0


def test_in_the_middle_of_a_run() -> None:
    run = view_of(sampling().events[:-2])
    assert [node.title for node in run.active] == ["KSampler"]
    node = run.nodes["3"]
    assert (node.state, node.started, node.step, node.max_steps, node.eta_seconds) == ("running", 4.0, 10, 20, 8.0)
    assert (run.status, run.done, run.total, run.fraction) == ("running", 4, 7, 4.5 / 7)
    assert run.timings == {"4": 2.4, "5": 0.01, "6": 1.2, "7": 0.2}
    assert run.run_seconds == pytest.approx(11.9)


def test_a_success() -> None:
    run = view_of(txt2img())
    assert (run.status, run.fraction, run.active) == ("success", 1.0, ())
    assert [output.path for output in run.outputs] == ["/tmp/sunset.png"]
    assert run.result is not None
    assert {node.state for node in run.nodes.values()} == {"finished"}


def test_a_saved_output_takes_the_place_of_the_known_one() -> None:
    run = view_of([event for event in txt2img() if not isinstance(event, ev.RunFinished)])
    assert [(output.index, output.path) for output in run.outputs] == [(0, "/tmp/sunset.png")]


def test_a_failure_leaves_no_node_active() -> None:
    run = view_of(failed())
    assert (run.status, run.active) == ("error", ())
    assert run.fraction < 1


def test_cached_nodes() -> None:
    run = view_of(fully_cached())
    assert run.cached == tuple(ref.id for ref in TXT2IMG)
    assert run.fraction == 1.0


def test_a_node_that_runs_again_begins_anew_and_adds_up() -> None:
    builder = EventBuilder().begin()
    builder.at(1.0).add(ev.NodeStarted, node=SAMPLER, **progress(0, 7))
    builder.at(2.0).step(SAMPLER, 3, 4, 1.0, pass_number=2)
    builder.at(2.5).add(ev.NodeText, node=SAMPLER, text="decoding")
    assert view_of(builder.events).nodes["3"].text == "decoding"
    builder.at(3.0).add(ev.NodeFinished, node=SAMPLER, seconds=2.0, **progress(1, 7))
    builder.at(4.0).add(ev.NodeStarted, node=SAMPLER, **progress(1, 7))
    node = view_of(builder.events).nodes["3"]
    assert (node.step, node.pass_number, node.text, node.seconds, node.started) == (None, 1, "", 2.0, 4.0)
    builder.node(SAMPLER, 1.5, 2)
    assert view_of(builder.events).nodes["3"].seconds == 3.5


def test_nodes_side_by_side_are_active_in_the_order_of_their_start() -> None:
    builder = EventBuilder().begin()
    for ref in (DECODER, LOADER):
        builder.add(ev.NodeStarted, node=ref, **progress(0, 7))
    assert [node.ref.id for node in view_of(builder.events).active] == ["8", "4"]


def test_a_node_that_the_manifest_lacks_is_added_by_its_first_event() -> None:
    builder = EventBuilder().begin(nodes=())
    builder.add(ev.NodeStarted, node=ev.NodeRef(id="77"), **progress(0, 1))
    assert [node.title for node in view_of(builder.events).active] == ["77"]


def test_silence_ends_with_the_servers_next_message() -> None:
    builder = EventBuilder().begin()
    builder.at(31.0).add(ev.Heartbeat, "client", silent_seconds=30.0, state="running")
    assert view_of(builder.events).silent_seconds == 30.0
    builder.at(32.0).add(ev.Warning, "client", code="stalled", message="nothing heard")
    assert view_of(builder.events).silent_seconds == 30.0
    builder.at(33.0).add(ev.NodeStarted, node=SAMPLER, **progress(0, 7))
    assert view_of(builder.events).silent_seconds == 0.0


def test_the_fraction_of_a_run_never_falls() -> None:
    run = RunView()
    fractions = [0.0]
    for event in txt2img():
        run.apply(event)
        fractions.append(run.fraction)
    assert all(before <= after for before, after in pairwise(fractions))


# --- the time that is left


def estimated(at: float = 10.0, **details: float) -> EventBuilder:
    builder = sampling().at(at)
    builder.add(ev.Heartbeat, "client", state="running", **details, **progress(4.5, 7))
    return builder


def test_the_time_left_counts_down_from_where_it_was_told() -> None:
    run = view_of(estimated(30.0, run_eta_seconds=15.0, run_eta_low=12.0, run_eta_high=20.0).events)
    assert run.eta_at(30.0) == (15.0, 12.0, 20.0)
    assert run.eta_at(33.5) == (11.5, 8.5, 16.5)
    assert run.eta_at(44.0) == (1.0, 0.0, 6.0)
    assert run.eta_at(99.0) == (0.0, 0.0, 0.0)
    assert run.eta_at(29.0) == (15.0, 12.0, 20.0), "a tick may have an older time than the event"


def test_events_without_progress_leave_the_estimate_as_it_is() -> None:
    builder = estimated(30.0, run_eta_seconds=15.0)
    builder.at(34.0).add(ev.NodeText, node=SAMPLER, text="loading")
    builder.at(35.0).add(ev.Warning, "client", code="stalled", message="nothing heard")
    run = view_of(builder.events)
    assert (run.run_eta_seconds, run.eta_at(35.0)) == (15.0, (10.0, 10.0, 10.0))


def test_the_next_estimate_takes_its_place_and_none_is_one_too() -> None:
    builder = estimated(30.0, run_eta_seconds=15.0)
    builder.at(34.0).step(SAMPLER, 11, 20, 9.0, run_eta_seconds=20.0, eta_basis="steps")
    assert view_of(builder.events).eta_at(36.0) == (18.0, 18.0, 18.0)
    assert view_of(builder.events).eta_basis == "steps"
    builder.at(35.0).step(SAMPLER, 12, 20, 10.0)
    assert view_of(builder.events).eta_at(36.0) is None


def test_without_an_estimate_and_after_the_end_nothing_is_left() -> None:
    assert RunView().eta_at(1.0) is None
    assert view_of(sampling().events).eta_at(1.0) is None
    assert view_of(estimated(30.0, run_eta_seconds=15.0).end("cancelled")).eta_at(30.0) is None


def test_unknown_events_only_move_the_clock() -> None:
    run = view_of([ev.Event(seq=1, time=0.0, elapsed=9.0)])
    assert (run.elapsed, run.status) == (9.0, "waiting")


def test_outputs_of_two_nodes_with_one_index_stay_two() -> None:
    builder = EventBuilder().begin()
    other = ev.Output(node=DECODER, index=0, kind="text", value="x")
    for output in (image(), other):
        builder.add(ev.OutputReady, "http", output=output)
    builder.add(ev.OutputSaved, "client", output=image(path="/tmp/a.png"))
    assert [output.path for output in view_of(builder.events).outputs] == ["/tmp/a.png", None]


def assert_read_only(run: RunView) -> None:
    for name in vars(RunView()):
        with pytest.raises(AttributeError, match="read-only"):
            setattr(run, name, "changed")
        with pytest.raises(AttributeError, match="read-only"):
            delattr(run, name)
    for name in ("nodes", "active", "cached", "timings", "outputs", "run_seconds", "anything"):
        with pytest.raises(AttributeError):
            setattr(run, name, "changed")


def test_reporters_can_change_nothing_of_it() -> None:
    run = view_of(txt2img())
    before = (dict(run.nodes), run.outputs, dict(run.timings))
    assert_read_only(run)
    node = run.nodes["3"]
    for field in dataclasses.fields(node):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(node, field.name, None)
    mappings: list[Any] = [run.nodes, run.timings]
    for mapping in mappings:
        with pytest.raises(TypeError):
            mapping["3"] = node
        with pytest.raises(AttributeError):
            mapping.clear()
    assert before == (dict(run.nodes), run.outputs, dict(run.timings))


def test_it_can_be_copied() -> None:
    run = view_of(txt2img())
    same = pickle.loads(pickle.dumps(run))
    assert (same.status, dict(same.nodes), same.outputs) == (run.status, dict(run.nodes), run.outputs)
    assert copy.deepcopy(run).done == run.done
    assert_read_only(same)


def test_very_many_outputs_are_put_together_once() -> None:
    builder = EventBuilder().begin()
    run = view_of(builder.events)
    outputs = [dataclasses.replace(image(), index=number) for number in range(1000)]
    for output in outputs:
        run.apply(builder.add(ev.OutputReady, "http", output=output))
    assert run.outputs == tuple(outputs)
    assert run.outputs is run.outputs
    run.apply(builder.add(ev.OutputSaved, "client", output=dataclasses.replace(outputs[7], path="/tmp/7.png")))
    assert [output.path for output in run.outputs][6:9] == [None, "/tmp/7.png", None]
