"""Escape sequences and characters that turn the direction of text: none of them reaches a terminal or a log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.hostile.running import assert_printable, follow, on_terminal
from tests.hostile.server import BEGIN, END, Frame, Hostile, Raw, Reply, frame, history, message, own, picture

EVIL = (
    "\x1b[2J\x1b[31mred\x1b]0;title\x07\x1b]8;;http://evil.invalid\x1b\\ \x9b31m \x00\x08\x0b\x7f "
    "\u202eright to left\u202c \u2066isolate\u2069 \u200b\u2028\u2029\ufeff \U000e0041 \ud800 \r\nnext"
)
GRAPH: dict[str, Any] = {
    "1": {"class_type": "EmptyImage", "inputs": {}, "_meta": {"title": EVIL}},
    "2": {"class_type": "K" + EVIL, "inputs": {"image": ["1", 0]}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}},
}
TOLD: tuple[Frame, ...] = (
    *BEGIN[:3],
    own("executing", node=EVIL, display_node=EVIL),
    own("progress", node=EVIL, value=1, max=3),
    own("executing", node="2", display_node="2"),
    own("progress", node="2", value=1, max=3),
    b"\0\0\0\x03\0\0\0\x012" + EVIL.encode("utf-8", "replace"),
    message(EVIL, prompt_id="ID"),
    own("executed", node="2", output={EVIL: [EVIL, {EVIL: EVIL}], "images": [picture(EVIL, EVIL, EVIL)]}),
    own("progress", node="2", value=EVIL, max=3),
    own("execution_error", node_id="2", exception_type="ExecutionBlocked", exception_message=EVIL, traceback=[EVIL]),
)
RAISED = {
    "prompt_id": "ID", "node_id": "2", "node_type": EVIL, "exception_type": EVIL, "exception_message": EVIL,
    "traceback": [EVIL, EVIL], "executed": [EVIL],
}  # fmt: skip


def failed(prompt_id: str) -> Any:
    return history(prompt_id, {}, status="error", messages=[["execution_error", RAISED]], graph=GRAPH)


def made(prompt_id: str) -> Any:
    outputs = {"3": {"images": [picture(EVIL, EVIL, EVIL)], "text": [EVIL], EVIL: [EVIL]}, EVIL: {"text": EVIL}}
    return history(prompt_id, outputs, graph=GRAPH)


def refuse(prompt_id: str) -> Reply:
    error = {"type": EVIL, "message": EVIL, "details": EVIL}
    return Reply(
        {"error": error, "node_errors": {EVIL: {"errors": [error] * 3, "class_type": EVIL}, "2": {"errors": [error]}}},
        status=400,
    )


def drop(prompt_id: str) -> Any:
    error = {"type": EVIL, "message": EVIL, "details": EVIL}
    return {"prompt_id": EVIL, "node_errors": {"2": {"errors": [error], "class_type": EVIL}}}


# So that the answer to the submission is there first.
LATER = (0.5, *BEGIN, *END)
CASES: dict[str, dict[str, Any]] = {
    "success": {"frames": (*TOLD, *END), "history": made},
    "error": {"frames": (*TOLD, message("execution_error", **RAISED), END[1]), "history": failed},
    "refused": {"frames": LATER, "post": refuse},
    "failed": {
        "frames": LATER,
        "post": lambda prompt_id: Reply(EVIL.encode("utf-8", "replace"), status=500),
        "history": lambda prompt_id: {},
        "queue": lambda prompt_id: {"queue_running": [], "queue_pending": []},
    },
    "redirected": {"frames": LATER, "post": lambda prompt_id: Reply(b"", 302, {"Location": "http://x/\x1b[31m\u202e"})},
    "dropped": {"post": drop, "history": lambda prompt_id: {EVIL: made(prompt_id)[prompt_id]}},
}


@pytest.mark.parametrize("case", CASES)
def test_all_reporters(tmp_path: Path, case: str) -> None:
    with Hostile(**CASES[case]) as server:
        told = follow(server, tmp_path, output=f"{tmp_path}/made/", workflow=GRAPH)
    assert told.result.status == ("partial" if case == "success" else told.result.status)
    assert_printable((tmp_path / "events.jsonl").read_text(encoding="utf-8"))


@pytest.mark.e2e
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("reporter", ["console", "quiet", "jsonl", "filelog=run.log"])
def test_a_terminal(tmp_path: Path, case: str, reporter: str) -> None:
    with Hostile(**CASES[case]) as server:
        code, shown = on_terminal(server, tmp_path, "--reporter", reporter)
    assert code in (1, 3, 4, 6, 8)
    assert_printable(shown)
    if reporter == "filelog=run.log":
        assert_printable((tmp_path / "run.log").read_text())


@pytest.mark.e2e
def test_the_paths_and_urls_on_stdout(tmp_path: Path) -> None:
    for arguments in ((), ("--output", f"{tmp_path}/made/")):
        with Hostile(history=made) as server:
            code, shown = on_terminal(server, tmp_path, "--reporter", "quiet", *arguments)
        assert code == 0
        assert_printable(shown)
        assert shown.strip()


def test_what_is_no_unicode(tmp_path: Path) -> None:
    bad = [b'{"type": "executing", "data": {"node": "\xff\xfe", "prompt_id": "x"}}', b"\xc3\x28", b"\xed\xa0\x80"]
    with Hostile(frames=(*BEGIN, *(text(each) for each in bad), *END)) as server:
        assert follow(server, tmp_path).result.status == "success"


def text(data: bytes) -> Raw:
    """A text frame of any bytes."""
    return Raw(frame(data, opcode=1))
