"""What a run did over time, from its events: spans, speeds, notes, previews; bounded whatever comes."""

from __future__ import annotations

import itertools

import pytest

from comfyreport import Histories, NodeRow, RunHistory, events as ev, run_origin
from comfyreport.events import RunView
from comfyreport.recording.shipped import recordings, stream_of
from tests.plugins.events import (
    ALL_STEPS,
    DECODER,
    LOADER,
    SAMPLER,
    EventBuilder,
    deliver,
    failed,
    fully_cached,
    progress,
    sampling,
    txt2img,
)


def history_of(events: list[ev.Event]) -> tuple[RunHistory, list[NodeRow]]:
    history, run = RunHistory(), RunView()
    for event in events:
        run.apply(event)
        history.apply(event)
    return history, history.rows(run)


def preview(builder: EventBuilder, size: int, node: ev.NodeRef | None = SAMPLER) -> ev.NodePreview:
    return builder.add(ev.NodePreview, node=node, media_type="image/jpeg", image=bytes(size))


def test_rows_of_a_run() -> None:
    _, rows = history_of(txt2img(ALL_STEPS))
    assert [row.node.ref.id for row in rows] == ["4", "5", "6", "7", "3", "8", "9"]
    sampler = rows[4]
    # In seconds of the run, which was started at 0.12 s.
    assert [(round(span.start, 2), round(span.end, 2), span.finished) for span in sampler.spans] == [
        (3.88, 19.88, True)
    ]
    assert sampler.time.share == pytest.approx(16 / 22.81)
    assert len(sampler.rates) == 19
    assert all(rate.steps_per_second == pytest.approx(1.25) for rate in sampler.rates)
    assert not rows[0].rates


def test_cached_nodes_come_last_and_have_no_span() -> None:
    _, rows = history_of(fully_cached())
    assert {row.node.state for row in rows} == {"cached"}
    assert all(row.spans == () and row.time.seconds is None for row in rows)


def test_what_is_open_at_the_end_is_closed_there_and_not_finished() -> None:
    _, rows = history_of(failed())
    assert [span.finished for row in rows for span in row.spans] == [True, True, True, True, False]
    assert rows[-1].spans[0].end == pytest.approx(9.0 - 0.12)


@pytest.mark.parametrize("name", recordings())
def test_recordings(name: str) -> None:
    history, rows = history_of(list(stream_of(name)))
    assert all(0 <= span.start <= span.end for row in rows for span in row.spans)
    assert all(rate.steps_per_second >= 0 and rate.end > rate.start for row in rows for rate in row.rates)
    starts = [row.spans[0].start for row in rows if row.spans]
    assert starts == sorted(starts)
    assert len(history.nodes) <= len(rows)


def test_nodes_that_nobody_timed_have_the_seconds_of_their_spans() -> None:
    builder = EventBuilder().begin().node(LOADER, 2.0, 1)
    _, rows = history_of(builder.end())
    assert rows[0].time.seconds == pytest.approx(2.0)


def test_speeds_go_over_no_pass_and_no_restart() -> None:
    builder = sampling(())
    for number in (1, 2):
        for step in (1, 2, 3):
            builder.at(builder.now + number)
            builder.step(SAMPLER, step, 3, step, pass_number=number)
    builder.add(ev.NodeFinished, node=SAMPLER)
    builder.at(30.0).add(ev.NodeStarted, node=SAMPLER, **progress(4, 7))
    for step in (5, 1, 3):
        builder.at(builder.now + 1).step(SAMPLER, step, 9, step)
    history, _ = history_of(builder.end())
    assert [rate.steps_per_second for rate in history.nodes["3"].rates(0.0)] == [1, 1, 0.5, 0.5, 2]
    assert len(history.nodes["3"].rates(2.0)) == 3


def test_thousands_of_steps_are_made_coarser() -> None:
    builder = sampling(())
    for step in range(1, 10_001):
        builder.at(4 + step / 10).step(SAMPLER, step, 10_000, step / 10)
    history, rows = history_of(builder.end())
    speeds = history.nodes["3"].rates(0.0)
    assert 250 < len(speeds) <= 512
    assert all(rate.steps_per_second == pytest.approx(10) for rate in speeds)
    assert speeds[-1].end - speeds[0].start > 950
    assert len(rows[-1].rates) <= 61


def test_thousands_of_spans_are_joined() -> None:
    builder = EventBuilder().begin()
    for _ in range(5001):
        builder.node(SAMPLER, 0.5, 1)
    history, _ = history_of(builder.end())
    spans = history.nodes["3"].spans
    assert 30 < len(spans) <= 64
    assert spans[0].start == 0.1
    assert spans[-1].end == pytest.approx(0.1 + 5001 * 0.5)
    assert all(span.finished for span in spans)


def test_some_previews_and_the_newest_are_kept() -> None:
    builder = sampling(())
    shown = [preview(builder, 10 + number) for number in range(1000)]
    history, _ = history_of(builder.end())
    kept = history.nodes["3"].previews
    assert 6 <= len(kept) <= 12
    assert (kept[0], kept[-1]) == (shown[0], shown[-1])
    gaps = {later.seq - earlier.seq for earlier, later in itertools.pairwise(kept[:-1])}
    assert len(gaps) == 1


def test_few_previews_are_all_kept() -> None:
    builder = sampling(())
    shown = [preview(builder, 10) for _ in range(5)]
    history, _ = history_of(builder.end())
    assert history.nodes["3"].previews == tuple(shown)


def test_previews_are_bounded_in_bytes_and_nodes() -> None:
    builder = EventBuilder().begin()
    for number in range(200):
        for _ in range(3):
            preview(builder, 900_000, ev.NodeRef(id=str(number)))
    preview(builder, 70_000_000, ev.NodeRef(id="0"))
    preview(builder, 10, None)
    history, _ = history_of(builder.end())
    assert len(history.nodes) == 64
    assert sum(len(each.image) for node in history.nodes.values() for each in node.previews) <= 2 * 64_000_000
    assert all(node.previews for node in history.nodes.values())


def test_notes() -> None:
    builder = sampling()
    builder.add(ev.Warning, code="stalled", message="nothing\x1b heard", node=DECODER)
    builder.add(ev.ConnectionChanged, state="lost", detail="reset")
    history, _ = history_of(builder.end())
    assert [note.text for note in history.notes] == [
        "VAE Decode (VAEDecode, node 8): nothing\\x1b heard",
        "Connection lost: reset",
    ]
    for _ in range(1000):
        builder.add(ev.Warning, code="stalled", message="again")
    assert len(history_of(builder.events)[0].notes) == 200


def test_the_origin_of_a_run() -> None:
    run = RunView()
    assert run_origin(run) == 0.0
    for event, origin in zip(txt2img(), (0.0, 0.0, 0.1, 0.12), strict=False):
        run.apply(event)
        assert run_origin(run) == origin


def test_hooks_keep_a_history_of_each_run() -> None:
    class Keeper(Histories):
        pass

    keeper = Keeper()
    events = sampling().events
    deliver(keeper, events)
    history = keeper.history(events[-1])
    assert set(history.nodes) == {"4", "5", "6", "7", "3"}
    end = EventBuilder().end()[0]
    assert keeper.history(end) is history
    assert keeper.history(end).nodes == {}
