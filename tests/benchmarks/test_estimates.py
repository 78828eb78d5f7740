"""The benchmark of estimates: what it plays, what it measures, and the targets that estimates have to reach."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from comfyreport import events as ev
from comfyreport.events.jsonlines import to_dict
from tests.benchmarks.estimates import invented, series
from tests.benchmarks.estimates.baselines import Baselines, Guesses, Smoothed
from tests.benchmarks.estimates.figures import Figures, Pair, mean, measure, pooled_inside
from tests.benchmarks.estimates.memory import nothing, remembering
from tests.benchmarks.estimates.playing import SILENCE, Line, Played, graph_of, measured, play, read
from tests.benchmarks.estimates.tables import table, verdicts
from tests.benchmarks.estimates.targets import TARGETS, Target, judged
from tests.playing import RunFeeder, executing, play as play_records, progress, start, states
from tests.recordings import timings

ROOT = Path(__file__).resolve().parents[2]
NO_GUESSES = Guesses(None, None, None, 0.0)


# --- what is played


def test_the_recordings_are_those_of_the_index_and_small() -> None:
    files = sorted(timings.HERE.glob("*.jsonl.gz"))
    assert {path.name.split(".")[0] for path in files} == {entry.name for entry in timings.entries()}
    assert sum(path.stat().st_size for path in files) < 1_500_000


def test_each_series_begins_cold_and_groups_come_in_their_order() -> None:
    for _, entries in itertools.groupby(timings.entries(), key=lambda entry: entry.series):
        groups = [entry.group for entry in entries]
        assert groups[:3] == ["first", "repeat", "warm"]
        assert groups == sorted(groups, key=timings.GROUPS.index)


@pytest.mark.parametrize("entry", timings.entries(), ids=lambda entry: entry.name)
def test_a_recording_is_a_whole_run_and_tells_nothing_of_the_machine(entry: timings.Entry) -> None:
    recording = entry.load()
    assert recording.server == "http://127.0.0.1:8188"
    text = "\n".join(map(str, recording.records))
    assert not re.search(r"/(?:opt|home|root|tmp|work|usr|Users)/|127\.0\.0\.1:(?!8188)|localhost", text)
    assert not [record for record in recording.records if record["kind"] == "ws-binary"]
    played = play(recording, None)
    assert set(graph_of(recording)) >= set(played.node_seconds) >= {"3", "8", "9"}
    # The sampler and the decoder are both of weight.
    assert 8 < played.seconds < 60
    assert 0.1 < played.node_seconds["8"] / played.seconds < 0.6
    assert played.node_seconds["3"] > 2


@pytest.mark.slow
def test_invented_runs_take_as_long_as_they_say() -> None:
    results = {result.case.name: result for result in series.run(invented.cases(), nothing)}
    assert len(results) == len(invented.cases())
    assert results["video of 20 minutes #1"].played.seconds == pytest.approx(1_200, rel=0.1)
    assert results["loads of 3 minutes #1"].played.node_seconds["4"] == pytest.approx(150, rel=0.2)
    warm, faster = (results[f"twice as fast #{number}"].played.seconds for number in (4, 5))
    assert faster == pytest.approx(warm / 2, rel=0.15)
    for count in invented.COUNTS:
        name = f"{count:,} node{'s' if count > 1 else ''} #1"
        assert len(results[name].played.node_seconds) == count


def test_silences_have_the_heartbeats_of_the_loop() -> None:
    (case,) = [each for each in invented.cases() if each.name == "loads of 3 minutes #1"]
    load = 150.0
    before_the_end = [line.elapsed for line in play(case.recording, None).lines if line.elapsed < load / 2]
    assert before_the_end[1:] == pytest.approx([SILENCE * number for number in range(1, len(before_the_end))], abs=0.1)


def test_events_of_a_stream_tell_the_same() -> None:
    events = play_records(invented.cases()[0].recording.records)
    read_again = [read(json.loads(json.dumps(to_dict(event)))) for event in events]
    told = measured(event for event in read_again if event is not None)
    assert told == measured(events)
    assert told.lines[-1].fraction > 0


# --- what others tell


def observed(baselines: Baselines, events: list[ev.Event]) -> None:
    for event in events:
        baselines.observe(event)


def sampler_of_two_nodes() -> tuple[RunFeeder, Baselines]:
    """A run of two nodes, the first of which is at step 2 of 8 behind 4 seconds."""
    feeder, baselines = start("1", "2"), Baselines()
    feeder.feed(0.0, states(("1", "running")), executing("1"))
    feeder.feed(2.0, progress("1", 1, 8))
    feeder.feed(4.0, progress("1", 2, 8))
    observed(baselines, feeder.events)
    return feeder, baselines


def test_the_requirements_formula_and_the_counted_part() -> None:
    feeder, baselines = sampler_of_two_nodes()
    assert baselines.guesses(4.0) == pytest.approx(Guesses(12.0, 28.0, 28.0, 0.125))
    # Between two steps the formulas' elapsed time goes on.
    assert baselines.guesses(5.0)[:2] == (15.0, 35.0)
    observed(baselines, feeder.feed(16.0, states(("1", "finished"), ("2", "running")), executing("2")))
    formula, by_part, _, counted = baselines.guesses(18.0)
    assert (formula, by_part, counted) == (0.0, 18.0, 0.5)


def test_nothing_done_is_no_basis() -> None:
    assert Baselines().guesses(3.0) == Guesses(0.0, None, None, 0.0)


def test_tqdms_smoothing_follows_the_latest_rate() -> None:
    smoothed = Smoothed()
    for at, done in ((0.0, 0.0), (1.0, 0.1), (2.0, 0.2)):
        smoothed.observe(at, done)
    assert smoothed.remaining(0.2) == pytest.approx(8.0)
    smoothed.observe(6.0, 0.3)
    # 0.3 of the newest, the rest by 0.3 of the one before and so on.
    seconds = 0.3 * 4 + 0.7 * (0.3 * 1 + 0.7 * 0.3 * 1)
    done = 0.3 * 0.1 + 0.7 * (0.3 * 0.1 + 0.7 * 0.3 * 0.1)
    assert smoothed.remaining(0.3) == pytest.approx(0.7 * seconds / done)
    # It looks ten times a second at most.
    smoothed.observe(6.05, 0.9)
    assert smoothed.remaining(0.3) == pytest.approx(0.7 * seconds / done)


# --- what is measured


def line(elapsed: float, fraction: float, remaining: float | None, guesses: Guesses = NO_GUESSES) -> Line:
    low, high = (None, None) if remaining is None else (remaining - 1, remaining + 1)
    return Line(elapsed, fraction, remaining, low, high, None, guesses)


def figures(*lines: Line, seconds: float = 10.0) -> Figures:
    return measure(Played(list(lines), seconds, {}, []))


def test_figures_are_parts_of_the_whole_time() -> None:
    found = figures(line(0.0, 0.1, None), line(4.0, 0.4, 8.0), line(5.0, 0.7, 5.5), line(11.0, 0.9, 3.0))
    assert (found.lines, found.told) == (3, 2)
    assert found.off == pytest.approx((2.0 + 0.5) / 2 / 10)
    assert found.inside == 0.5
    assert found.fraction == pytest.approx((0.1 + 0.0 + 0.2) / 3)
    assert found.counted == pytest.approx(0.9 / 3)


def test_a_baseline_is_compared_over_the_lines_where_both_tell() -> None:
    found = figures(
        line(2.0, 0.0, None, Guesses(1.0, 1.0, 1.0, 0.0)),
        line(4.0, 0.0, 8.0, Guesses(3.0, None, 6.0, 0.0)),
        line(5.0, 0.0, 5.0, Guesses(0.0, 5.0, 7.0, 0.0)),
    )
    expected = (Pair(0.4, 0.1), Pair(0.0, 0.0), Pair(0.1, 0.1))
    assert all(pair == pytest.approx(other) for pair, other in zip(found.baselines, expected, strict=True))


def test_means_leave_out_what_is_not_known() -> None:
    silent, two = figures(line(1.0, 0.1, None)), figures(line(4.0, 0.4, 8.0), line(5.0, 0.5, 5.0))
    one = figures(line(5.0, 0.5, 9.0))
    together = mean([silent, two, one])
    assert (together.lines, together.told) == (4, 3)
    assert together.off == pytest.approx((0.1 + 0.4) / 2)
    assert together.inside == pooled_inside([two, one]) == pytest.approx(1 / 3)
    assert together.baselines == (None, None, None)
    assert mean([silent]).off is None


def test_targets_judge_their_group() -> None:
    good = Figures(9, 9, 0.05, 0.8, 0.04, 0.2, (Pair(0.1, 0.05), None, Pair(0.3, 0.05)))
    groups = {"first": good, "repeat": good, "warm": good}
    assert all(reached for _, reached in judged(groups))
    assert {target for target, _ in judged(groups)} == set(TARGETS)
    assert not list(judged({"similar": good}))
    bad = Figures(9, 9, 0.2, 0.95, 0.25, 0.2, (Pair(0.1, 0.2), None, None))
    assert not any(reached for _, reached in judged({"first": bad, "repeat": bad, "warm": bad}))
    told = verdicts({"first": good, "warm": bad})
    assert told.splitlines()[0] == "reached  first: remaining time: never worse than the best baseline"
    assert told.splitlines()[-1] == "MISSED   warm: fraction: at most 5 points off"


# --- the estimates themselves


@pytest.fixture(scope="module")
def learned() -> list[series.Result]:
    """The recorded runs, each with what was learned before it."""
    return series.run(series.recorded(), remembering)


def test_every_line_tells_a_usable_estimate(learned: list[series.Result]) -> None:
    for result in learned:
        fractions = [each.fraction for each in result.played.lines]
        assert fractions == sorted(fractions)
        for each in result.played.lines:
            if each.remaining is not None and each.low is not None and each.high is not None:
                assert 0 <= each.low <= each.remaining <= each.high
        assert result.figures.told > result.figures.lines / 3


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: f"{target.group}, {target.what}")
def test_the_targets_are_reached(learned: list[series.Result], target: Target) -> None:
    groups = series.grouped(learned)
    assert target.reached(groups[target.group]), table(learned, groups)


@pytest.mark.e2e
def test_it_prints_all_runs_the_means_and_the_targets() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.estimates"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for case in (*series.recorded(), *invented.cases()):
        assert re.search(rf"^{re.escape(case.name)} +{case.group} ", done.stdout, re.MULTILINE), case.name
    for group in series.GROUPS:
        assert f"mean of                   {group}" in done.stdout
    assert len(re.findall(r"^(?:reached|MISSED ) ", done.stdout, re.MULTILINE)) == len(TARGETS)
