"""Events in words: what console, quiet and file log write."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport import events as ev
from comfyreport.render.formats import format_seconds, format_steps, percentage
from comfyreport.render.wording import (
    color_tag,
    describe_event,
    describe_node_time,
    describe_result,
    describe_waiting,
)
from tests.events.test_schema import build
from tests.plugins.events import DECODER, PROMPT_ID, SAMPLER, SAVER, EventBuilder, image

CUSTOM = ev.NodeRef(id="1", class_type="samplercustomadvanced")


def finished(status: ev.Status, error: ev.ErrorInfo | None = None, **details: Any) -> ev.RunFinished:
    builder = EventBuilder()
    builder.prompt_id = PROMPT_ID
    details = {"seconds": 8.9, "submitted": "yes", **details}
    code = ev.EXIT_CODES[status]
    return builder.add(ev.RunFinished, status=status, exit_code=code, error=error, **details)


def described(cls: type[ev.Event], **details: Any) -> list[str]:
    return describe_event(cls(seq=1, time=0.0, elapsed=0.0, **details))


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("cls", ev.EVENT_CLASSES, ids=lambda cls: cls.__name__)
def test_every_event_has_words(cls: type[ev.Event], full: bool) -> None:
    first, *more = describe_event(build(cls, full=full))
    assert first.startswith(("[INFO] ", "[PROGRESS] ", "[OK] ", "[WARN] ", "[ERROR] "))
    assert all(line.startswith("  ") for line in more)
    assert not any(line != line.rstrip() or "\n" in line for line in (first, *more))


@pytest.mark.parametrize(
    ("cls", "details", "line"),
    [
        (ev.ConnectionChanged, {"state": "connected"}, "[INFO] Connected to progress stream"),
        (ev.ConnectionChanged, {"state": "lost", "detail": "closed by peer"}, "[WARN] Connection lost: closed by peer"),
        (ev.ConnectionChanged, {"state": "restored"}, "[INFO] Connection restored"),
        (ev.ConnectionChanged, {"state": "polling"}, "[WARN] No live progress, asking by HTTP"),
        (ev.RunStarted, {}, "[INFO] Generation started"),
        (ev.NodeStarted, {"node": SAVER}, "[INFO] Node: Save Image"),
        (ev.NodeFinished, {"node": SAVER, "seconds": 1.24}, "[INFO] Done: Save Image in 1.2s"),
        (ev.NodeText, {"node": SAVER, "text": "a\nb\x1b[2J "}, "[INFO] Save Image: a\\nb\\x1b[2J"),
        (ev.QueueChanged, {"position": 2, "remaining": 3}, "[INFO] Waiting in the queue: 2 before this one"),
        (ev.QueueChanged, {"remaining": 1}, "[INFO] 1 prompt in the queue"),
        (ev.OutputSaved, {"output": image(path="/tmp/a\x07b.png")}, "[INFO] Saved: /tmp/a\\x07b.png"),
        (ev.Warning, {"code": "stalled", "message": "nothing heard"}, "[WARN] nothing heard"),
        (ev.Warning, {"code": "", "message": "no", "node": DECODER}, "[WARN] VAE Decode (VAEDecode, node 8): no"),
        (ev.Warning, {"code": "blocked", "message": "VAE Decode: no", "node": DECODER}, "[WARN] VAE Decode: no"),
        (ev.Warning, {"code": "no_outputs", "message": ""}, "[WARN] the run made no outputs"),
        (
            ev.Heartbeat,
            {"silent_seconds": 30.4, "state": "queued"},
            "[INFO] Still waiting in the queue, nothing heard for 30s",
        ),
        (ev.Heartbeat, {"silent_seconds": 31.0}, "[INFO] Still waiting for the server, nothing heard for 31s"),
        (
            ev.Heartbeat,
            {"silent_seconds": 31.0, "state": "running", "node": DECODER, "node_seconds": 95.0},
            "[INFO] Still running: VAE Decode for 1m 35s, nothing heard for 31s",
        ),
        (
            ev.Heartbeat,
            {
                "silent_seconds": 31.0, "state": "running", "node": DECODER, "node_seconds": 95.0,
                "run_eta_seconds": 130.0, "run_eta_low": 120.0, "run_eta_high": 145.0,
            },
            "[INFO] Still running: VAE Decode for 1m 35s, nothing heard for 31s, about 2m 15s left",
        ),
    ],
)  # fmt: skip
def test_lines(cls: type[ev.Event], details: dict[str, Any], line: str) -> None:
    assert described(cls, **details) == [line]


def test_an_unknown_event_is_described_by_its_type() -> None:
    assert describe_event(ev.Event(seq=1, time=0.0, elapsed=0.0)) == ["[INFO] Event"]


@pytest.mark.parametrize(
    ("node", "step", "maximum", "eta", "number", "line"),
    [
        (SAMPLER, 5, 20, 12.0, 1, "Sampling: 5/20 steps (25%) - ETA: 12s"),
        (SAMPLER, 20.0, 20.0, 0.0, 1, "Sampling: 20/20 steps (100%) - ETA: 0s"),
        (CUSTOM, 1, 3, 90.0, 2, "Sampling (pass 2): 1/3 steps (33%) - ETA: 1m 30s"),
        (DECODER, 2.4e-07, 1.0, 3600.0, 1, "VAE Decode: 0/1 steps (0%) - ETA: 1h 00m"),
        (ev.NodeRef(id="12"), 1, 2, float("nan"), 1, "12: 1/2 steps (50%) - ETA: ?"),
    ],
)  # fmt: skip
def test_progress(node: ev.NodeRef, step: float, maximum: float, eta: float, number: int, line: str) -> None:
    details = {"step": step, "max_steps": maximum, "eta_seconds": eta, "pass_number": number}
    assert described(ev.NodeProgress, node=node, **details) == [f"[PROGRESS] {line}"]


def test_success() -> None:
    assert describe_result(finished("success", seconds=23.4)) == ["[OK] Generation complete in 23.4s"]


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({"usual_seconds": 22.14}, " (usually 22.1s)"),
        ({"usual_seconds": 22.14, "queue_seconds": 0.2}, " (usually 22.1s)"),
        ({"usual_seconds": 22.14, "queue_seconds": 3.0}, " (20.4s without the queue, usually 22.1s)"),
        ({"usual_seconds": 22.14, "cached": ("3",)}, " (0 executed, 1 cached: same inputs as before)"),
    ],
)
def test_a_success_beside_the_usual_time(details: dict[str, Any], words: str) -> None:
    assert describe_result(finished("success", seconds=23.4, **details)) == [
        f"[OK] Generation complete in 23.4s{words}"
    ]


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({}, "not seen from its start"),
        ({"seconds": 0.0, "share": 0.0, "cached": True}, "cached"),
        ({"seconds": 0.0, "cached": True, "usual_seconds": 9.0}, "cached, usually 9.0s"),
        ({"seconds": 12.3, "share": 0.556, "steps_per_second": 8.1}, "12.3s (56%), 8.1 it/s"),
        ({"seconds": 12.3, "steps_per_second": 0.4, "usual_seconds": 99.0}, "12.3s, 2.5 s/it, usually 1m 39s"),
    ],
)
def test_what_a_node_took(details: dict[str, Any], words: str) -> None:
    assert describe_node_time(ev.NodeTime(node=DECODER, **details)) == f"VAE Decode (VAEDecode, node 8): {words}"


def test_what_a_hostile_node_took_is_one_harmless_line() -> None:
    node = ev.NodeRef(id="\x1b[2J", class_type="\n" * 999, title="\x1b[31m" * 999)
    line = describe_node_time(ev.NodeTime(node=node, seconds=1.0))
    assert line.isprintable()
    assert len(line) < 300


def test_fully_cached() -> None:
    event = finished("success", seconds=0.1, cached=tuple("12345678"))
    assert describe_result(event) == [
        "[OK] Generation complete in 0.1s (0 executed, 8 cached: same inputs as before)"
    ]  # fmt: skip
    assert describe_result(finished("success", cached=("1",), executed=("2",)))[0].endswith("in 8.9s")


def test_a_node_error_has_where_what_and_the_next_step() -> None:
    error = ev.ErrorInfo(
        code="out_of_memory",
        message="CUDA out of memory.\nTried to allocate 2 GiB\n\n",
        node=DECODER,
        exception_type="torch.OutOfMemoryError",
        traceback=("  File a.py, line 1\n    x()\n", "", *(f"  line {number}\n" for number in range(20))),
    )
    assert describe_result(finished("error", error)) == [
        "[ERROR] Generation failed after 8.9s in VAE Decode (VAEDecode, node 8): "
        "torch.OutOfMemoryError: CUDA out of memory.",
        "  Tried to allocate 2 GiB",
        *(f"      line {number}" for number in range(16, 20)),
        "  Hint: try a smaller size or batch, or start ComfyUI with --lowvram",
    ]  # fmt: skip


def test_a_traceback_begins_with_a_place() -> None:
    frames = tuple(f'  File "{name}.py", line 1, in f\n    call_hook()\n    ^^^~~^^\n' for name in "abc")
    error = ev.ErrorInfo(code="node_error", message="x", traceback=("    cut()\n", *frames, "    more()\n"))
    assert describe_result(finished("error", error))[1:-1] == [
        '      File "c.py", line 1, in f', "        call_hook()", "        more()",
    ]  # fmt: skip


def test_a_refused_workflow_has_a_line_for_each_node_error() -> None:
    refused = ev.NodeError(
        node=SAMPLER, type="value_not_in_list", message="Value not in list", details="sampler_name: 'x'"
    )
    error = ev.ErrorInfo(code="invalid_input", message="Prompt outputs failed validation", node_errors=(refused,) * 23)
    lines = describe_result(finished("rejected", error))
    assert lines[0] == "[ERROR] Workflow rejected: Prompt outputs failed validation"
    assert lines[1] == "  KSampler (node 3): Value not in list: sampler_name: 'x'"
    assert lines[21] == "  and 3 more"
    assert lines[22].startswith("  Hint: ")
    assert len(lines) == 23


@pytest.mark.parametrize(
    ("status", "code", "message", "first"),
    [
        ("interrupted", "interrupted", "", "[ERROR] Interrupted after 8.9s"),
        ("usage", "workflow", "x.json is empty", "[ERROR] x.json is empty"),
        ("usage", "reporter", "", "[ERROR] a reporter that was asked for can't be had in that form"),
        ("unreachable", "refused", "nothing listens", "[ERROR] ComfyUI is unreachable: nothing listens"),
        ("lost", "server_gone", "", "[ERROR] Lost after 8.9s: the server stopped answering"),
        ("timeout", "time_limit", "5 s were asked for", "[ERROR] Stopped following after 8.9s: 5 s were asked for"),
        ("partial", "download_failed", "disk full", "[ERROR] Incomplete after 8.9s: disk full"),
        ("cancelled", "cancelled", "cancelled by the user", "[WARN] Cancelled by the user after 8.9s"),
        ("detached", "detached", "", "[WARN] Left before the end after 8.9s"),
        ("internal", "internal", "KeyError: 'x'", "[ERROR] Internal error: KeyError: 'x'"),
        ("error", "node_error", "unknown", "[ERROR] Generation failed after 8.9s: unknown"),
    ],
)
def test_each_outcome(status: ev.Status, code: str, message: str, first: str) -> None:
    lines = describe_result(finished(status, ev.ErrorInfo(code=code, message=message)))
    assert lines[0] == first
    assert lines[-1].startswith("  Hint: ") or status == "cancelled"


@pytest.mark.parametrize("status", [status for status in ev.EXIT_CODES if status != "success"])
def test_an_outcome_without_an_error_has_a_line_too(status: ev.Status) -> None:
    first = describe_result(finished(status))[0]
    assert first.startswith(("[ERROR] ", "[WARN] "))
    assert len(first) > len("[ERROR] ")


def test_a_prompt_that_goes_on_is_named() -> None:
    lines = describe_result(finished("detached", prompt_state="running"))
    assert f"  The prompt {PROMPT_ID} goes on on the server" in lines
    assert lines[-1] == f"  Hint: follow it with: comfyreport attach {PROMPT_ID}"
    assert len(describe_result(finished("cancelled", prompt_state="cancelled"))) == 1
    assert describe_result(finished("timeout", prompt_state="cancelled"))[1] == "  The prompt was cancelled"


def test_nothing_of_the_server_reaches_a_terminal_raw() -> None:
    evil = "\x1b]0;x\x07\n\u202e"
    ref = ev.NodeRef(id=evil, class_type=evil, title=evil * 2)
    error = ev.ErrorInfo(
        code="node_error", message=evil, hint=evil, node=ref, exception_type=evil, traceback=(evil,),
        node_errors=(ev.NodeError(node=ref, type=evil, message=evil, details=evil),),
    )  # fmt: skip
    for status in ev.EXIT_CODES:
        for line in describe_result(finished(status, error, prompt_state="running")):  # type: ignore[arg-type]
            assert line.isprintable()


def test_long_messages_are_cut() -> None:
    error = ev.ErrorInfo(code="node_error", message="x" * 10_000 + "\ny" * 50)
    lines = describe_result(finished("error", error))
    assert max(map(len, lines)) < 600
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("seconds", "decimals", "text"),
    [
        (0.0, 1, "0.0s"), (1.24, 1, "1.2s"), (59.94, 1, "59.9s"), (59.96, 1, "1m 00s"), (59.6, 0, "1m 00s"),
        (125.4, 1, "2m 05s"), (3599.7, 1, "1h 00m"), (3725.0, 0, "1h 02m"), (273_600.0, 0, "3d 04h"), (-1.0, 0, "0s"),
        (float("inf"), 0, "?"), (float("nan"), 1, "?"), (1e300, 0, None),
    ],
)  # fmt: skip
def test_format_seconds(seconds: float, decimals: int, text: str | None) -> None:
    shown = format_seconds(seconds, decimals)
    assert shown == text or text is None


@pytest.mark.parametrize(
    ("step", "maximum", "text"),
    [
        (5, 20, "5/20"), (5.0, 20.0, "5/20"), (2.4e-07, 1.0, "0/1"), (0.25, 1.0, "0.25/1"), (0.333333, 1.0, "0.33/1"),
        (2.5, 20.5, "2.5/20.5"), (12.34, 1234.5, "12/1234"), (2.5e-7, 5e-7, "2.5e-07/5e-07"),
        (1e20, 1e21, "1e+20/1e+21"), (0.5, float("inf"), "0.5/inf"),
    ],
)  # fmt: skip
def test_format_steps(step: float, maximum: float, text: str) -> None:
    assert format_steps(step, maximum) == text


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (5, 20, 25), (0.29, 1.0, 29), (0.999, 1.0, 99), (21, 20, 100), (-1, 20, 0), (1, 0, 0), (1e308, 1e-308, 100),
        (float("nan"), 1, 0), (1, float("nan"), 0), (1, float("inf"), 0), (float("inf"), float("inf"), 100),
    ],
)  # fmt: skip
def test_percentage(part: float, whole: float, expected: int) -> None:
    assert percentage(part, whole) == expected


def test_waiting() -> None:
    assert [describe_waiting(place) for place in (None, 0, -1, 1)] == [
        *["Waiting in the queue"] * 3,
        "Waiting in the queue: 1 before this one",
    ]


def test_color_tag() -> None:
    assert color_tag("[OK] Done [OK]") == "\x1b[32m[OK]\x1b[0m Done [OK]"
    assert color_tag("  File [OK]") == "  File [OK]"
    assert color_tag("[OTHER] x") == "[OTHER] x"


@pytest.mark.parametrize("submitted", ["yes", "no"])
def test_braces_in_an_error_s_own_hint_are_its_own(submitted: str) -> None:
    error = ev.ErrorInfo(code="usage", message="there is no field {x}", hint="fields are {prompt_id}, {seed}")
    assert (
        describe_result(finished("usage", error, submitted=submitted))[-1] == "  Hint: fields are {prompt_id}, {seed}"
    )
