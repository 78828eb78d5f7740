"""How long a run still takes, in words."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from comfyreport import events as ev
from comfyreport.events import RunView, TimeLeft
from comfyreport.render.countdown import Countdown, describe_time_left
from tests.plugins.events import EventBuilder, progress


@pytest.mark.parametrize(
    ("left", "words"),
    [
        ((8.2, 7.6, 9.1), "about 8s left"),
        ((8.0, 6.0, 11.0), "6s to 11s left"),
        ((8.0, 6.9, 10.2), "about 8s left"),
        ((0.3, 0.0, 0.9), "about 1s left"),
        ((2.0, 0.5, 9.0), "up to 9s left"),
        ((0.0, 0.0, 2.0), "about 1s left"),
        ((0.0, 0.0, 5.1), "up to 6s left"),
        ((0.0, 0.0, 0.0), ""),
        ((47.0, 44.0, 52.0), "about 45s left"),
        ((63.0, 58.0, 71.0), "about 1m 05s left"),
        ((58.0, 50.0, 61.0), "about 1m left"),
        ((150.0, 100.0, 200.0), "1m 30s to 3m 30s left"),
        ((780.0, 700.0, 800.0), "about 13m left"),
        ((3700.0, 3650.0, 3900.0), "about 1h left"),
        ((8000.0, 4000.0, 90000.0), "1h 05m to 1d 01h left"),
        ((math.nan, 1.0, 2.0), ""),
        ((1.0, 1.0, math.inf), ""),
        ((5.0, -3.0, 9.0), "up to 9s left"),
    ],
)
def test_words(left: tuple[float, float, float], words: str) -> None:
    assert describe_time_left(TimeLeft(*left)) == words


def test_nothing_without_an_estimate() -> None:
    assert describe_time_left(None) == ""


@given(st.tuples(st.floats(), st.floats(), st.floats()))
def test_any_numbers_have_words(left: tuple[float, float, float]) -> None:
    words = describe_time_left(TimeLeft(*left))
    assert not words or words.endswith(" left")
    assert "-" not in words


def told(seconds: float, at: float) -> RunView:
    run = RunView()
    builder = EventBuilder().begin().at(at)
    builder.add(ev.Heartbeat, "client", state="running", run_eta_seconds=seconds, **progress(0, 7))
    for event in builder.events:
        run.apply(event)
    return run


def test_the_words_stay_for_a_second() -> None:
    countdown, run = Countdown(), told(10.0, at=5.0)
    shown = [countdown.words(run, 5.0 + tenth / 10) for tenth in range(31)]
    assert shown == ["about 10s left"] * 10 + ["about 9s left"] * 10 + ["about 8s left"] * 10 + ["about 7s left"]


def test_a_tick_that_comes_a_moment_early_counts() -> None:
    countdown, run = Countdown(), told(10.0, at=5.0)
    assert countdown.words(run, 5.0) == "about 10s left"
    assert countdown.words(run, 5.9995) == "about 9s left"


def test_there_are_words_at_once_when_an_estimate_comes_and_none_when_it_goes() -> None:
    countdown = Countdown()
    assert countdown.words(RunView(), 5.0) == ""
    assert countdown.words(told(10.0, at=5.0), 5.1) == "about 10s left"
    assert countdown.words(RunView(), 5.2) == ""


def test_a_clock_that_begins_anew_holds_nothing_back() -> None:
    countdown = Countdown()
    assert countdown.words(told(10.0, at=5.0), 5.0) == "about 10s left"
    assert countdown.words(told(7.0, at=1.0), 1.0) == "about 7s left"
