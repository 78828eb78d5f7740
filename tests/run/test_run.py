"""Run: other prompts, early messages, its end, and what it never does."""

from __future__ import annotations

from comfyreport import events as ev
from comfyreport.events import Instant
from comfyreport.protocol import responses
from comfyreport.run import Run
from comfyreport.run.verdict import Verdict
from tests.playing import (
    ACCEPTED,
    PROMPT,
    RunFeeder,
    executing,
    history,
    progress,
    queue,
    start,
    states,
    text,
)


def test_messages_of_another_prompt_change_nothing() -> None:
    feeder = start("3")
    frames = [frame.replace(f'"{PROMPT}"', '"other"') for frame in (executing("3"), progress("3", 1, 2), states())]
    frames += [text(kind, prompt_id="other", nodes=["3"]) for kind in ("execution_cached", "execution_error")]
    assert feeder.feed(1.0, *frames, executing(None, prompt_id="other")) == []
    assert not feeder.run.ending


def test_early_messages_are_kept_only_to_a_limit() -> None:
    feeder = RunFeeder("3")
    feeder.feed(1.0, *[executing(str(number), prompt_id="given") for number in range(5000)])
    feeder.feed(2.0, responses.Accepted("given"))
    assert len(feeder.events) < 2100
    assert feeder.feed(3.0, executing("4000", prompt_id="given")) != []


def test_events_bear_no_id_before_the_post_leaves() -> None:
    run = Run(PROMPT)
    [before] = run.emit(ev.ConnectionChanged, Instant(0.0, 0.0), state="connected")
    run.sent = True
    [after] = run.emit(ev.ConnectionChanged, Instant(0.0, 0.0), state="lost")
    assert (before.prompt_id, after.prompt_id) == (None, PROMPT)


def test_there_are_no_events_once_there_is_a_verdict() -> None:
    feeder = start("3")
    feeder.feed(1.0, executing("3"), history())
    assert feeder.feed(2.0, executing("3"), progress("3", 1, 2), ACCEPTED, queue(running=PROMPT), history()) == []
    feeder.finish(3.0)
    assert feeder.run.finish(Instant(0.0, 4.0)) == []
    assert feeder.run.emit(ev.Warning, Instant(0.0, 4.0), code="stalled", message="m") == []
    assert feeder.feed(5.0, executing("3")) == []


def test_a_run_without_a_verdict_says_so() -> None:
    end = start("3").finish(1.0)
    assert (end.status, end.exit_code, end.error and end.error.code) == ("internal", 70, "internal")


def test_the_first_verdict_stands() -> None:
    run = Run(PROMPT)
    run.conclude(Verdict("timeout"))
    run.conclude(Verdict("lost"))
    assert run.verdict == Verdict("timeout")


def test_the_times_of_the_end() -> None:
    feeder = RunFeeder("3", "8")
    feeder.feed(2.0, ACCEPTED)
    feeder.feed(5.0, text("execution_start", prompt_id=PROMPT), states(("3", "running")), executing("3"))
    feeder.feed(9.0, states(("3", "finished"), ("8", "running")), executing("8"))
    feeder.feed(10.0, history())
    end = feeder.finish(12.0)
    assert (end.queue_seconds, end.seconds, end.node_seconds) == (3.0, 10.0, {"3": 4.0, "8": 1.0})
