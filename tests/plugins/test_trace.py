"""The trace: a file that viewers of Chrome's trace events take, with what went on when on tracks of its own."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from comfyreport_trace import trace

from comfyreport import events as ev
from comfyreport.testing import FakeStream, conforms, play, recordings
from comfyreport.testing.conformance import DiskFullStream
from comfyreport.testing.samples import hostile_values, many_nodes, sample_streams
from tests.plugins.events import (
    DECODER,
    EPOCH,
    LOADER,
    SAMPLER,
    SAVER,
    EventBuilder,
    deliver,
    failed,
    fully_cached,
    image,
    progress,
    txt2img,
)
from tests.plugins.trace_format import TraceFile, overlap


def traced(events: list[ev.Event]) -> TraceFile:
    out = FakeStream()
    deliver(trace(out), events)
    return TraceFile(out.text)


def test_conforms() -> None:
    conforms(trace)


@pytest.mark.parametrize("name", recordings())
def test_recordings(name: str) -> None:
    file = TraceFile(play(trace, name))
    assert len(file.slices["run"]) == 1
    assert file.slices["connection"]
    ends = {e["ts"] + e["dur"] for e in file.slices["run"]}
    assert all(e["ts"] + e["dur"] <= max(ends) for track in file.slices.values() for e in track)


@pytest.mark.parametrize(("title", "events"), list(sample_streams()), ids=lambda it: it if isinstance(it, str) else "")
def test_samples(title: str, events: list[ev.Event]) -> None:
    assert traced(events).about["comfyreport"] == "9.9.9"


def test_a_run() -> None:
    file = traced(txt2img())
    assert file.about == {"comfyreport": "0.1.0", "server": "http://127.0.0.1:8188", "begun": EPOCH}
    assert list(file.processes.values()) == ["run"]
    assert file.names("run") == ["success"]
    assert file.names("queue") == ["position 0"]
    assert file.names("connection") == ["connected"]
    assert file.names("nodes", "node")[0] == "Load Checkpoint"
    assert file.names("nodes", "node")[4:] == ["KSampler", "VAE Decode", "Save Image"]
    assert file.names("nodes", "step") == ["1/20", "5/20", "10/20", "15/20", "20/20"]
    (sampler,) = (e for e in file.of("node") if e["name"] == "KSampler")
    assert (sampler["ts"], sampler["dur"]) == (4_000_000, 16_000_000)
    assert sampler["args"] == {"node_id": "3", "class_type": "KSampler", "outputs": 0}
    assert [e["name"] for e in file.instants["outputs"]] == ["ComfyUI_00001_.png"]


def test_steps_follow_on_each_other_within_their_node() -> None:
    steps = traced(txt2img()).of("step")
    assert steps[0]["ts"] == 4_000_000
    assert all(first["ts"] + first["dur"] == then["ts"] for first, then in itertools.pairwise(steps))
    assert steps[-1]["ts"] + steps[-1]["dur"] == 20_000_000


def test_counters() -> None:
    file = traced(txt2img())
    assert [value for _, value in file.counters["steps a second"]] == [1.0, 1.25, 1.25, 1.25, 1.25]
    done = [value for _, value in file.counters["done %"]]
    assert done == sorted(done)


def test_the_queue() -> None:
    file = TraceFile(play(trace, "queue"))
    assert file.names("queue") == ["in the queue", "position 2", "position 1"]
    assert max(value for _, value in file.counters["prompts in the queue"]) >= 2
    queued = file.slices["queue"]
    assert all(first["ts"] + first["dur"] == then["ts"] for first, then in itertools.pairwise(queued))


def test_nodes_side_by_side_have_tracks_of_their_own() -> None:
    file = TraceFile(play(trace, "parallel"))
    assert overlap(file.of("node"))
    lanes = [track for track in file.slices if track.startswith("nodes")]
    assert lanes == ["nodes", "nodes 2", "nodes 3"]
    assert len(file.counters["steps a second 2"]) > 1


def test_hundreds_of_nodes_side_by_side() -> None:
    file = traced(many_nodes(400))
    assert len(file.of("node")) == 400
    assert len([track for track in file.slices if track.startswith("nodes")]) == 400


def test_tracks_are_used_again() -> None:
    file = TraceFile(play(trace, "many"))
    assert len(file.of("node")) >= 200
    assert [track for track in file.slices if track.startswith("nodes")] == ["nodes"]


def test_cached_nodes_take_no_time() -> None:
    file = traced(fully_cached())
    assert len(file.instants["cached nodes"]) == 7
    assert file.of("node") == []


def test_downloads_are_beside_each_other_on_tracks_of_their_own() -> None:
    builder = EventBuilder().begin()
    for index in (0, 1, 2):
        builder.at(1.0).add(ev.OutputReady, output=replace(image(), index=index))
    for index, at in ((1, 2.0), (0, 3.0), (2, 3.0)):
        builder.at(at).add(ev.OutputSaved, output=replace(image(bytes=7, path="a.png"), index=index))
    builder.at(4.0).add(ev.OutputReady, output=replace(image(), index=3))
    builder.at(5.0).add(ev.OutputSaved, output=replace(image(bytes=7, path="b.png"), index=3))
    builder.at(6.0).add(ev.Heartbeat, received_bytes=1000)
    file = traced(builder.end())
    downloads = {track: len(slices) for track, slices in file.slices.items() if track.startswith("downloads")}
    assert downloads == {"downloads": 2, "downloads 2": 1, "downloads 3": 1}
    assert file.of("download")[0]["args"]["bytes"] == 7
    assert file.counters["bytes fetched"] == [(6.0, 1000)]


def test_an_output_that_isnt_fetched_is_there_all_the_same() -> None:
    file = traced(fully_cached())
    assert file.of("download") == []
    assert [e["args"]["cached"] for e in file.instants["outputs"]] == [True]


def test_what_still_runs_at_the_end_ends_with_the_run() -> None:
    file = traced(failed())
    (sampler,) = (e for e in file.of("node") if e["name"] == "KSampler")
    assert sampler["args"]["told_end"] is False
    assert sampler["ts"] + sampler["dur"] == 9_000_000
    (run,) = file.slices["run"]
    assert run["name"] == "error"
    assert "cannot be multiplied" in run["args"]["error"]


@pytest.mark.parametrize(("name", "status"), [("interrupted", "interrupted"), ("lost", "lost"), ("deleted", "success")])
def test_other_ends(name: str, status: str) -> None:
    assert TraceFile(play(trace, name)).names("run") == [status]


def test_a_lost_connection() -> None:
    states = TraceFile(play(trace, "reconnect")).names("connection")
    assert states[:2] == ["connected", "lost"]
    assert {"restored", "polling"} & set(states)


def test_a_node_whose_beginning_nobody_saw() -> None:
    builder = EventBuilder().begin()
    builder.at(2.0).step(SAMPLER, 5, 20, 1.0, **progress(3, 7))
    builder.at(3.0).add(ev.NodeFinished, node=SAMPLER, **progress(4, 7))
    builder.at(4.0).add(ev.NodeFinished, node=DECODER, **progress(5, 7))
    nodes = traced(builder.end()).of("node")
    assert [(e["name"], e["ts"], e["dur"]) for e in nodes] == [
        ("KSampler", 2_000_000, 1_000_000),
        ("VAE Decode", 4_000_000, 0),
    ]
    assert all(e["args"]["told_begin"] is False for e in nodes)


def test_a_node_that_begins_again_ends_before() -> None:
    builder = EventBuilder().begin()
    for at in (1.0, 2.0):
        builder.at(at).add(ev.NodeStarted, node=SAMPLER, **progress(0, 7))
    file = traced(builder.at(3.0).end())
    assert [e["ts"] for e in file.of("node")] == [1_000_000, 2_000_000]


def test_texts_and_warnings() -> None:
    builder = EventBuilder().begin()
    builder.add(ev.NodeText, node=LOADER, text="before it began")
    builder.add(ev.NodeStarted, node=SAVER, **progress(0, 7))
    builder.add(ev.NodeText, node=SAVER, text="saving")
    builder.add(ev.Warning, code="stalled", message="nothing heard", node=SAVER)
    file = traced(builder.end())
    assert [e["name"] for e in file.instants["run"]] == ["before it began", "warning: stalled"]
    assert [e["name"] for e in file.instants["nodes"]] == ["saving"]


def test_several_runs_are_processes_of_their_own() -> None:
    first = [replace(event, run_index=1) for event in txt2img()[:-1]]
    second = [replace(event, run_index=2, elapsed=event.elapsed + 1) for event in txt2img()]
    events = sorted([*first, *second], key=lambda event: event.elapsed)
    file = traced(events)
    assert sorted(set(file.processes.values())) == ["run 1", "run 2"]
    assert len(file.slices["run 1: nodes"]) == len(file.slices["run 2: nodes"])


def test_text_of_a_server_is_text() -> None:
    out = FakeStream()
    deliver(trace(out), hostile_values())
    assert out.text.isascii()
    assert max(len(e["name"]) for e in TraceFile(out.text).events) <= 140


def test_it_is_whole_where_nothing_happened() -> None:
    out = FakeStream()
    deliver(trace(out), [])
    assert TraceFile(out.text).events == []


def test_a_full_disk_is_raised() -> None:
    with pytest.raises(OSError, match="No space left"):
        deliver(trace(DiskFullStream()), txt2img())
