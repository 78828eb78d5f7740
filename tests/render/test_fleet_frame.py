"""The frame of many runs, and how they ended, in words."""

from __future__ import annotations

import re

import pytest

from comfyreport import describe_fleet, describe_progress, describe_running, events as ev, fleet_frame
from comfyreport.text import cell_width
from tests.plugins.many import ONE, many_short, moved, side_by_side
from tests.render.test_fleet import fleet_of


def frame(until: float, width: int = 80, height: int = 24, servers: int = 4, *, unicode: bool = True) -> list[str]:
    fleet = fleet_of(many_short(24, servers, failing=[2]), until)
    return fleet_frame(fleet, until, width, height, unicode=unicode, color=False)


def test_a_line_for_each_server_and_one_for_all() -> None:
    assert frame(2.45, servers=3) == [
        "10.0.0.1:8188  run 7  ██████░░░░░░░░░░░░░░  33%  KSampler 2/3",
        "10.0.0.2:8188  run 8  ██████░░░░░░░░░░░░░░  33%  KSampler 2/3",
        "10.0.0.3:8188  run 9  ██████░░░░░░░░░░░░░░  33%  KSampler 2/3",
        "6/24 runs, 1 failed, about 5s left [2s]",
    ]


def test_the_estimate_of_a_run_is_told_where_it_has_one() -> None:
    events = side_by_side([("txt2img", ONE, 0.0)], total=3)
    steps = [event for event in events if isinstance(event, ev.NodeProgress)]
    fleet = fleet_of(events, until=steps[9].elapsed)
    (line, last) = fleet_frame(fleet, steps[9].elapsed, 80, 24, unicode=True, color=False)
    assert re.fullmatch(r"10\.0\.0\.1:8188  run 1  █+░+  +\d+%  KSampler 10/20  ETA \d+s", line)
    assert last.startswith("0/3 runs, about ")


def test_ascii() -> None:
    assert frame(2.45, unicode=False, servers=1)[0] == "10.0.0.1:8188  run 3  [#####-------------]  33%  KSampler 2/3"


@pytest.mark.parametrize("width", [1, 5, 20, 34, 40, 48, 60, 80, 200])
@pytest.mark.parametrize("height", [1, 3, 5, 24])
def test_no_frame_is_larger_than_the_terminal(width: int, height: int) -> None:
    for until in (0.0, 0.15, 0.45, 0.95, 2.45, 99.0):
        lines = frame(until, width, height, servers=9)
        assert 1 <= len(lines) <= max(1, height - 2)
        assert all(cell_width(line) <= max(1, width - 1) for line in lines)


def test_a_narrow_terminal_has_what_matters_most() -> None:
    assert frame(2.45, width=55, servers=1)[0] == "10.0.0.1:8188  run 3  ███░░░░░░░  33%  KSampler 2/3"
    assert frame(2.45, width=42, servers=1)[0] == "10.0.0.1:8188  run 3   33%  KSampler 2/3"
    assert frame(2.45, width=30, servers=1)[0] == "10.0.0.1:8188  run 3   33%"
    assert frame(2.45, width=24, servers=1)[0] == "10.0.0.1:…  run 3   33%"


def test_servers_that_there_is_no_room_for_are_counted() -> None:
    *lines, last = frame(0.45, height=6, servers=9)
    assert len(lines) == 3
    assert last == "0/24 runs, 6 more servers [0s]"


def test_colour_is_around_the_bars() -> None:
    fleet = fleet_of(many_short(4), 0.35)
    colored = fleet_frame(fleet, 0.35, 80, 24, unicode=True, color=True)
    plain = fleet_frame(fleet, 0.35, 80, 24, unicode=True, color=False)
    assert [line.count("\x1b[36m") for line in colored] == [1, 1, 1, 1, 0]
    assert [re.sub(r"\x1b\[\d*m", "", line) for line in colored] == plain


def test_a_server_without_a_run_has_no_line() -> None:
    lines = fleet_frame(fleet_of(moved(), 0.5), 0.5, 80, 24, unicode=True, color=False)
    assert [line.split()[0] for line in lines] == ["10.0.0.1:8188", "0/2"]


def test_a_second_run_on_a_server_is_counted() -> None:
    told = [event for event in many_short(2, servers=1) if event.run_index == 1 or isinstance(event, ev.RunQueued)]
    queued = [event for event in many_short(2, servers=1) if isinstance(event, ev.RunQueued)][1]
    fleet = fleet_of([*told[:3], queued, *told[3:4]])
    (line, _) = fleet_frame(fleet, 0.2, 80, 24, unicode=True, color=False)
    assert line.endswith("  +1")


def test_progress_in_words() -> None:
    fleet = fleet_of(many_short(24, 6), 1.45)
    assert describe_progress(fleet, 1.45) == "6/24 runs, about 2s left"
    assert describe_running(fleet, 1.45) == (
        "6/24 runs, about 2s left: run 7 33%, run 8 33%, run 9 33%, run 10 33%, 2 more"
    )


def test_how_all_ended() -> None:
    assert describe_fleet(fleet_of(many_short(8))) == ["[OK] 8 runs complete in 1.9s"]
    assert describe_fleet(fleet_of(many_short(8, failing=[3]))) == [
        "[ERROR] 7 of 8 runs complete, 1 failed in 1.9s",
        "  Run 3 (seed=3): Generation failed after 0.8s in KSampler (node 3): broken at 3",
    ]


def test_runs_that_never_began_are_told() -> None:
    cut = [event for event in many_short(8) if event.run_index is None or event.run_index < 4]
    assert describe_fleet(fleet_of(cut)) == ["[WARN] 3 of 8 runs complete, 5 not made in 1.9s"]


def test_of_many_failures_twenty_are_named() -> None:
    lines = describe_fleet(fleet_of(many_short(100, failing=range(1, 61))))
    assert len(lines) == 22
    assert lines[-1] == "  and 40 more"


def test_a_server_s_text_is_text() -> None:
    evil = "\x1b[31mevil\u202e\n"
    node = ev.NodeRef(id="1", class_type=evil, title=evil)
    common = {"seq": 1, "time": 0.0, "elapsed": 0.0, "run_index": 1}
    for_views = [
        ev.StreamStarted(seq=1, time=0.0, elapsed=0.0, runs_total=2),
        ev.RunQueued(server=f"http://{evil}", **common),  # type: ignore[arg-type]
        ev.RunStarted(**common),  # type: ignore[arg-type]
        ev.NodeStarted(node=node, **common),  # type: ignore[arg-type]
    ]
    fleet = fleet_of(for_views)
    error = ev.ErrorInfo(code="node_error", message=evil)
    inputs = (ev.InputValue(node=node, name=evil, value=evil),)
    end = ev.RunFinished(status="error", exit_code=1, error=error, inputs=inputs, **common)  # type: ignore[arg-type]
    lines = fleet_frame(fleet, 0.0, 120, 24, unicode=True, color=False) + describe_fleet(fleet_of([*for_views, end]))
    assert len(lines) == 4
    assert not any(character in line for line in lines for character in "\x1b\u202e\n")
