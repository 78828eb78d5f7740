"""What a run made and took, in a few lines."""

from __future__ import annotations

import pytest

from comfyreport import events as ev
from comfyreport.events import RunView
from comfyreport.render.summary import describe_work, format_bytes
from tests.plugins.events import EventBuilder, failed, fully_cached, image, sampling, txt2img


def summary(events: list[ev.Event]) -> list[str]:
    run = RunView()
    for event in events:
        run.apply(event)
    return describe_work(run)


def test_a_success() -> None:
    assert summary(txt2img()) == [
        "  Saved: /tmp/sunset.png (123 kB)",
        "  Slowest: KSampler 16.0s (68%), VAE Decode 2.6s, Load Checkpoint 2.4s",
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
    evil = ev.NodeRef(id="1", class_type="X", title="\x1b[31m\n")
    builder = EventBuilder().begin((evil,))
    builder.add(ev.RunStarted)
    lines = summary(builder.end(executed=("1",), node_seconds={"1": 2.0}, outputs=(image(path="\x1b]0;x\x07"),)))
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1234, "1.2 kB"), (99_449, "99.4 kB"), (123_456, "123 kB"),
     (999_600, "1.0 MB"), (5e9, "5.0 GB"), (5e12, "5000 GB")],
)  # fmt: skip
def test_sizes(size: float, shown: str) -> None:
    assert format_bytes(size) == shown
