"""What a run made and took, in a few lines."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport import events as ev
from comfyreport.events import RunView
from comfyreport.render.summary import MAX_SLOWEST, describe_slowest, describe_work, format_bytes
from comfyreport.text import cell_width
from tests.plugins.events import TXT2IMG, EventBuilder, failed, fully_cached, image, sampling, times, txt2img


def summary(events: list[ev.Event]) -> list[str]:
    run = RunView()
    for event in events:
        run.apply(event)
    return describe_work(run)


def test_a_success() -> None:
    assert summary(txt2img()) == [
        "  Saved: /tmp/sunset.png (123 kB)",
        "  Slowest: KSampler         16.0s  70%  1.2 it/s",
        "           VAE Decode        2.6s  11%",
        "           Load Checkpoint   2.4s  11%",
        "           Positive prompt   1.2s   5%",
    ]


def test_what_stayed_on_the_server() -> None:
    assert summary(fully_cached()) == ["  Made: 1 image, on the server"]


def test_some_nodes_from_the_cache() -> None:
    events = sampling().end(executed=("3",), cached=("4", "5"), node_seconds={"3": 16.0})
    assert summary(events)[-1] == "  Cached: 2 of 3 nodes"


def test_after_a_failure_neither_times_nor_the_cache_are_shown() -> None:
    assert summary(failed()) == []


def test_before_the_end_and_without_a_run_there_is_nothing() -> None:
    assert summary(txt2img()[:-2]) == []
    assert summary(EventBuilder().end("unreachable")) == []


def test_many_files() -> None:
    saved = tuple(image(path=f"made/{number}.png", bytes=10) for number in range(12))
    lines = summary(sampling().end(executed=("3",), outputs=saved))
    assert lines == [*(f"  Saved: made/{number}.png (10 B)" for number in range(5)), "  and 7 more files in made"]


def test_hostile_names() -> None:
    evil = ev.NodeRef(id="\x1b[2J" * 99, class_type="X", title="\x1b[31m\n雪" * 99)
    other = ev.NodeRef(id="2", class_type="X", title=evil.title)
    builder = EventBuilder().begin((evil, other))
    builder.add(ev.RunStarted)
    nodes = tuple(ev.NodeTime(node=node, seconds=2.0, share=0.5) for node in (evil, other))
    events = builder.end(executed=("1",), node_times=nodes, outputs=(image(path="\x1b]0;x\x07"),))
    lines = summary(events)
    assert len(lines) == 3
    assert all(line.isprintable() and cell_width(line) <= 80 for line in lines)


# --- the slowest nodes


def slowest(seconds: dict[str, float], width: int = 80, status: ev.Status = "success", **details: Any) -> list[str]:
    usual = {key: details.pop(key) for key in list(details) if key.startswith("node_")}
    events = sampling().end(status, executed=tuple(seconds), node_times=times(seconds, **usual), **details)
    (end,) = (event for event in events if isinstance(event, ev.RunFinished))
    return describe_slowest(end, width)


LONG = {"4": 2.0, "6": 0.4, "7": 0.1, "3": 16.0, "8": 3.0}


def test_only_what_took_a_twentieth_or_more_the_slowest_first() -> None:
    assert slowest(LONG) == [
        "[INFO] Slowest: KSampler         16.0s  74%  1.2 it/s",
        "                VAE Decode        3.0s  14%",
        "                Load Checkpoint   2.0s   9%",
    ]


def test_beside_the_usual_time_where_it_is_known() -> None:
    assert slowest(LONG, node_3=12.34, node_8=75.0)[:2] == [
        "[INFO] Slowest: KSampler         16.0s  74%  1.2 it/s  usually 12.3s",
        "                VAE Decode        3.0s  14%            usually 1m 15s",
    ]


def test_at_most_five() -> None:
    assert len(slowest({str(number): 2.0 for number in range(3, 10)})) == MAX_SLOWEST


@pytest.mark.parametrize(
    ("seconds", "why"),
    [({"3": 9.0}, "one node"), ({"3": 1.0, "8": 0.9}, "it was short"), ({}, "nothing ran")],
)
def test_nothing_about_a_run_that_has_nothing_to_tell(seconds: dict[str, float], why: str) -> None:
    assert slowest(seconds) == [], why


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("partial", True),
        ("cancelled", True),
        ("timeout", True),
        ("interrupted", True),
        ("error", False),
        ("lost", False),
    ],
)
def test_a_run_that_was_stopped_tells_what_took_long_and_a_failure_tells_that_alone(
    status: ev.Status, told: bool
) -> None:
    assert bool(slowest(LONG, status=status)) == told


def test_cached_nodes_and_those_whose_start_nobody_saw_are_left_out() -> None:
    known = times({"3": 16.0, "8": 3.0})
    others = (ev.NodeTime(node=TXT2IMG[0], seconds=0.0, share=0.0, cached=True), ev.NodeTime(node=TXT2IMG[1]))
    (end,) = (each for each in sampling().end(node_times=(*others, *known)) if isinstance(each, ev.RunFinished))
    assert describe_slowest(end) == [
        "[INFO] Slowest: KSampler    16.0s  84%  1.2 it/s",
        "                VAE Decode   3.0s  16%",
    ]


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (80, "[INFO] Slowest: KSampler         16.0s  74%  1.2 it/s  usually 12.3s"),
        (68, "[INFO] Slowest: KSampler         16.0s  74%  1.2 it/s  usually 12.3s"),
        (63, "[INFO] Slowest: KSampler    16.0s  74%  1.2 it/s  usually 12.3s"),
        (60, "[INFO] Slowest: KSampler         16.0s  74%  usually 12.3s"),
        (50, "[INFO] Slowest: KSampler         16.0s  74%"),
        (34, "[INFO] Slowest: KSampler     16.0s"),
        (1, "[INFO] Slowest: …  16.0s"),
    ],
)
def test_a_narrow_place_is_told_less(width: int, line: str) -> None:
    assert slowest(LONG, width, node_3=12.34)[0] == line


def test_nodes_of_one_title_are_told_apart_where_it_is_narrow_too() -> None:
    twins = tuple(
        ev.NodeTime(node=ev.NodeRef(id=id_, class_type="A", title="A title of many words"), seconds=2.0, share=0.5)
        for id_ in ("17", "23")
    )
    (end,) = (each for each in sampling().end(node_times=twins) if isinstance(each, ev.RunFinished))
    assert describe_slowest(end)[0] == "[INFO] Slowest: A title of many words #17  2.0s  50%"
    assert [line[16:] for line in describe_slowest(end, 42)] == [
        "A title of… #17  2.0s  50%",
        "A title of… #23  2.0s  50%",
    ]


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1234, "1.2 kB"), (99_449, "99.4 kB"), (123_456, "123 kB"),
     (999_600, "1.0 MB"), (5e9, "5.0 GB"), (5e12, "5000 GB")],
)  # fmt: skip
def test_sizes(size: float, shown: str) -> None:
    assert format_bytes(size) == shown
