"""The console where it only adds lines: files, pipes, CI."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from comfyreport_console import console

from comfyreport import events as ev
from comfyreport.events import RunView
from comfyreport.reporting.streams import Stream
from tests.plugins.events import (
    ALL_STEPS,
    DECODER,
    LOADER,
    REQUIRED_STEPS,
    SAMPLER,
    SAVER,
    EventBuilder,
    call_hook,
    deliver,
    failed,
    fully_cached,
    progress,
    sampling,
    txt2img,
)
from tests.plugins.terminal import Plain, Terminal


def lines(events: list[ev.Event], nodes: Literal["slow", "all"] = "all") -> list[str]:
    out = Plain()
    deliver(console(out, nodes=nodes), events)
    assert "\r" not in out.text
    assert "\x1b" not in out.text
    return out.text.splitlines()


def run_lines(builder: EventBuilder) -> list[str]:
    """The lines after that of the connection."""
    return lines(builder.events)[1:]


SLOWEST = [
    "[INFO] Slowest: KSampler         16.0s  70%  1.2 it/s",
    "                VAE Decode        2.6s  11%",
    "                Load Checkpoint   2.4s  11%",
    "                Positive prompt   1.2s   5%",
]


def test_the_requirements_run() -> None:
    assert lines(txt2img(REQUIRED_STEPS)) == [
        "[INFO] Connected to progress stream",
        "[INFO] Generation started",
        "[INFO] Node: Load Checkpoint",
        "[INFO] Done: Load Checkpoint in 2.4s",
        "[INFO] Node: Empty Latent Image",
        "[INFO] Done: Empty Latent Image in 0.0s",
        "[INFO] Node: Positive prompt",
        "[INFO] Done: Positive prompt in 1.2s",
        "[INFO] Node: Negative prompt",
        "[INFO] Done: Negative prompt in 0.2s",
        "[INFO] Node: KSampler",
        "[PROGRESS] Sampling: 1/20 steps (5%) - ETA: 19s",
        "[PROGRESS] Sampling: 5/20 steps (25%) - ETA: 12s",
        "[PROGRESS] Sampling: 10/20 steps (50%) - ETA: 8s",
        "[PROGRESS] Sampling: 15/20 steps (75%) - ETA: 4s",
        "[PROGRESS] Sampling: 20/20 steps (100%) - ETA: 0s",
        "[INFO] Done: KSampler in 16.0s",
        "[INFO] Node: VAE Decode",
        "[INFO] Done: VAE Decode in 2.6s",
        "[INFO] Node: Save Image",
        "[INFO] Done: Save Image in 0.4s",
        "[INFO] Saved: /tmp/sunset.png",
        *SLOWEST,
        "[OK] Generation complete in 23.4s",
    ]


def test_quick_nodes_are_counted() -> None:
    told = lines(txt2img(REQUIRED_STEPS), "slow")
    assert [line for line in told if "PROGRESS" not in line] == [
        "[INFO] Connected to progress stream",
        "[INFO] Generation started",
        "[INFO] Node: Load Checkpoint",
        "[INFO] Done: Load Checkpoint in 2.4s",
        "[INFO] Node: Positive prompt",
        "[INFO] Done: Positive prompt in 1.2s",
        "[INFO] Node: KSampler",
        "[INFO] Done: KSampler in 16.0s",
        "[INFO] Node: VAE Decode",
        "[INFO] Done: VAE Decode in 2.6s",
        "[INFO] Saved: /tmp/sunset.png",
        "[INFO] 3 quick nodes done",
        *SLOWEST,
        "[OK] Generation complete in 23.4s",
    ]


def test_a_quick_node_with_steps_is_told() -> None:
    builder = EventBuilder().begin()
    builder.add(ev.NodeStarted, node=SAMPLER, **progress(0, 1))
    builder.step(SAMPLER, 1, 1, 0.1, **progress(1, 1))
    builder.add(ev.NodeFinished, node=SAMPLER, seconds=0.1, **progress(1, 1))
    assert [line.split()[0] + line.split()[1] for line in lines(builder.events, "slow")[1:]] == [
        "[INFO]Node:",
        "[PROGRESS]Sampling:",
        "[INFO]Done:",
    ]


def test_many_quick_nodes_are_a_line_every_five_seconds() -> None:
    builder = EventBuilder().begin()
    for number in range(1, 121):
        builder.at(number / 10).node(ev.NodeRef(id=str(number), title="N"), 0.1, number, 1000)
    told = lines(builder.events, "slow")[1:]
    assert len(told) == 2
    assert all(line.startswith("[INFO] ") and line.endswith(" quick nodes done") for line in told)


def test_a_slow_node_is_told_while_it_runs() -> None:
    out = Plain()
    reporter, run = console(out), RunView()
    builder = EventBuilder().begin()
    event = builder.at(1.0).add(ev.NodeStarted, node=LOADER, **progress(0, 1))
    call_hook(reporter, "node_started", event=event, run=run)
    for elapsed, told in ((1.5, False), (2.0, True), (2.5, True)):
        call_hook(reporter, "tick", elapsed=elapsed, run=run)
        assert (out.text.count("[INFO] Node: Load Checkpoint") == 1) == told


def test_a_fully_cached_run() -> None:
    assert lines(fully_cached())[2:] == [
        "[INFO] 7 nodes cached",
        "[OK] Generation complete in 0.1s (0 executed, 7 cached: same inputs as before)",
    ]


def test_one_cached_node() -> None:
    builder = EventBuilder().begin()
    builder.add(ev.NodeCached, node=LOADER, **progress(0, 6))
    builder.node(SAVER, 1.0, 1)
    assert run_lines(builder)[0] == "[INFO] 1 node cached"


def test_a_failed_run() -> None:
    assert lines(failed())[-4:] == [
        "[ERROR] Generation failed after 8.9s in KSampler (node 3): RuntimeError: "
        "mat1 and mat2 shapes cannot be multiplied (77x768 and 4096x320)",
        '      File "/comfy/nodes.py", line 1559, in sample',
        "        return common_ksampler(model)",
        "  Hint: the text encoder doesn't fit the model",
    ]


def bars(times: list[float], maximum: float, **details: int) -> EventBuilder:
    builder = EventBuilder().begin()
    for step, time in enumerate(times, 1):
        builder.at(time).step(DECODER, step, maximum, 1.0, **details)
    return builder


def test_quick_progress_is_a_line_for_each_five_per_cent() -> None:
    written = run_lines(bars([1 + step / 1000 for step in range(1, 1001)], 1000))
    assert len(written) == 21
    assert written[0].startswith("[PROGRESS] VAE Decode: 1/1000 steps (0%)")
    assert written[1].startswith("[PROGRESS] VAE Decode: 51/1000 steps (5%)")
    assert written[-1].startswith("[PROGRESS] VAE Decode: 1000/1000 steps (100%)")


def test_slow_progress_is_a_line_every_five_seconds() -> None:
    written = run_lines(bars([float(step) for step in range(1, 32)], 10_000))
    assert [line.split()[3] for line in written] == [f"{step}/10000" for step in range(1, 32, 5)]


def test_all_of_twenty_steps() -> None:
    written = [line for line in lines(txt2img(ALL_STEPS)) if line.startswith("[PROGRESS]")]
    assert len(written) == 20


def test_first_and_last_of_each_pass() -> None:
    builder = EventBuilder().begin()
    for number in (1, 2):
        for step in range(1, 1001):
            builder.at(builder.now + 1e-5).step(SAMPLER, step, 1000, 1.0, pass_number=number)
    written = run_lines(builder)
    assert sum(" 1/1000 " in line for line in written) == 2
    assert sum(" 1000/1000 " in line for line in written) == 2
    assert written[21].startswith("[PROGRESS] Sampling (pass 2): 1/1000")


def test_a_node_that_starts_again_has_a_first_step_again() -> None:
    builder = EventBuilder().begin()
    for _ in range(2):
        builder.add(ev.NodeStarted, node=SAMPLER, **progress(0, 7))
        builder.step(SAMPLER, 1, 1000, 1.0)
        builder.add(ev.NodeFinished, node=SAMPLER, **progress(1, 7))
    assert sum(line.startswith("[PROGRESS]") for line in run_lines(builder)) == 2


def test_the_place_in_the_queue_is_written_when_it_changes() -> None:
    builder = EventBuilder().begin(position=3)
    for position, remaining in ((3, 4), (3, 5), (2, 4), (2, 4), (1, 3), (0, 2), (None, 2)):
        builder.at(builder.now + 1).add(ev.QueueChanged, position=position, remaining=remaining)
    builder.add(ev.RunStarted)
    builder.add(ev.QueueChanged, position=0, remaining=7)
    assert run_lines(builder) == [
        "[INFO] Waiting in the queue: 3 before this one",
        "[INFO] Waiting in the queue: 2 before this one",
        "[INFO] Waiting in the queue: 1 before this one",
        "[INFO] Generation started",
    ]


def test_heartbeats_are_written_every_thirty_seconds() -> None:
    builder = sampling(())
    started = builder.now
    for seconds in range(5, 101, 5):
        builder.at(started + seconds).add(
            ev.Heartbeat, "client", node=SAMPLER, silent_seconds=float(seconds), node_seconds=float(seconds),
            state="running", **progress(4, 7),
        )  # fmt: skip
    written = [line for line in run_lines(builder) if "Still" in line]
    assert written == [
        f"[INFO] Still running: KSampler for {span}, nothing heard for {span}" for span in ("30s", "1m 00s", "1m 30s")
    ]


def test_a_nodes_text_is_written_every_few_seconds() -> None:
    builder = EventBuilder().begin()
    for second in range(12):
        builder.at(float(second)).add(ev.NodeText, node=SAVER, text=f"upload {second}")
    builder.at(20.0).add(ev.NodeText, node=SAVER, text="  \n")
    assert run_lines(builder) == [f"[INFO] Save Image: upload {second}" for second in (0, 5, 10)]


def test_warnings_and_the_connection() -> None:
    builder = EventBuilder().begin()
    builder.add(ev.Warning, code="stalled", message="nothing heard\x1b[2J")
    builder.add(ev.ConnectionChanged, "client", state="lost", detail="reset by peer")
    builder.add(ev.ConnectionChanged, "client", state="restored")
    assert run_lines(builder) == [
        "[WARN] nothing heard\\x1b[2J",
        "[WARN] Connection lost: reset by peer",
        "[INFO] Connection restored",
    ]


def test_titles_cant_move_the_cursor() -> None:
    evil = ev.NodeRef(id="1", class_type="X", title="\x1b]0;owned\x07\r\n[OK] Generation complete\u202e")
    builder = EventBuilder().begin()
    builder.node(evil, 1.0, 1)
    assert run_lines(builder)[0] == "[INFO] Node: \\x1b]0;owned\\x07\\r\\n[OK] Generation complete\\u202e"
    assert len(run_lines(builder)) == 2


@pytest.mark.parametrize("status", list(ev.EXIT_CODES))
def test_every_end_has_a_line(status: ev.Status) -> None:
    written = lines(EventBuilder().begin().end(status))
    tags = {"success": "[OK] ", "cancelled": "[WARN] ", "detached": "[WARN] "}
    assert written[1].startswith(tags.get(status, "[ERROR] "))


def test_two_runs_share_nothing() -> None:
    out = Plain()
    reporter = console(out)
    for _ in range(2):
        deliver(reporter, bars([1.0], 1000).end())
    assert out.text.count("[PROGRESS]") == 2


def test_colour_without_redraw() -> None:
    out = Plain(color="always")
    deliver(console(out), txt2img())
    assert "\x1b[34m[INFO]\x1b[0m Generation started\n" in out.text
    assert out.text.endswith("\x1b[32m[OK]\x1b[0m Generation complete in 23.4s\n")
    assert "\r" not in out.text


def test_plain_on_a_terminal_when_asked() -> None:
    out = Terminal()
    deliver(console(out, plain=True), txt2img())
    assert "".join(out.writes).splitlines() == lines(txt2img(), "slow")


def test_a_node_title_that_the_encoding_lacks() -> None:
    out = Plain(encoding="cp1252")
    builder = EventBuilder().begin()
    builder.node(ev.NodeRef(id="1", title="雪 é"), 1.0, 1)
    deliver(console(out), builder.events)
    assert "[INFO] Node: ? é" in out.text


def test_to_a_file(tmp_path: Path) -> None:
    deliver(console(Stream.to_path(tmp_path / "run.txt")), txt2img())
    assert (tmp_path / "run.txt").read_text(encoding="utf-8").splitlines() == lines(txt2img(), "slow")
