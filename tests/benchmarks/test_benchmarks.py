"""The benchmarks: their loads have the form of real traffic, and their short form does what the long one does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests import recordings
from tests.benchmarks.blast import frame
from tests.benchmarks.cases import CASES
from tests.benchmarks.loads import PROMPT, Load, Message, chain, flood, plateau, recording
from tests.benchmarks.profiling import kind_of
from tests.benchmarks.table import compared, markdown

ROOT = Path(__file__).resolve().parents[2]
LOADS = {"chain": chain(3), "chain with steps": chain(3, 2), "plateau": plateau(4, 3), "flood": flood(3)}
SHORT_LIMIT = 120


def shape(value: Any) -> str:
    """The keys of a message in their order, and the types of their values; where keys are ids, the values alone."""
    if isinstance(value, dict) and all(key.replace(".", "").isdigit() for key in value):
        return f"{{{', '.join(sorted(set(map(shape, value.values()))))}}}"
    if isinstance(value, dict):
        inside = ", ".join(f"{key}: {shape(inner)}" for key, inner in value.items())
        return f"{{{inside}}}"
    if isinstance(value, list):
        return f"[{', '.join(sorted(set(map(shape, value))))}]"
    return type(value).__name__


def parts(message: dict[str, Any]) -> set[str]:
    """The shapes of one message: each state of a node is one of its own."""
    kind, data = message["type"], message["data"]
    if kind != "progress_state":
        return {f"{kind}: {shape(data)}"}
    states = {f"state: {shape(state)}" for state in data["nodes"].values()}
    return {f"{kind}: {list(data)}", *states}


def parsed(messages: Iterable[Message]) -> list[dict[str, Any]]:
    return [json.loads(message) for message in messages if isinstance(message, str)]


@pytest.fixture(scope="module")
def real() -> set[str]:
    """The shapes of everything that real servers sent as text."""
    found: set[str] = set()
    for name in recordings.names():
        for record in recordings.load(name):
            if record["dir"] == "in" and record["kind"] == "ws-text":
                found |= parts(json.loads(record["text"]))
    return found


def courses(messages: list[dict[str, Any]]) -> tuple[list[str], set[tuple[str, ...]], list[str]]:
    """The kinds of messages: before the nodes, of each node (pairs of state and progress as one), behind the nodes."""
    kinds = [message["type"] for message in messages]
    first, last = kinds.index("progress_state"), kinds.index("execution_success")
    starts = [index - 1 for index in range(first, last) if kinds[index] == "executing"]
    nodes = set()
    for start, end in zip(starts, [*starts[1:], last], strict=True):
        course: list[str] = []
        for kind in kinds[start:end]:
            if kind == "progress" and course[-1:] == ["progress_state"]:
                course[-1] = "step"
            else:
                course.append(kind)
            if course[-2:] == ["step", "step"]:
                course.pop()
        nodes.add(tuple(course))
    return kinds[:first], nodes, kinds[last:]


@pytest.mark.parametrize("name", LOADS)
def test_each_message_has_the_keys_and_types_of_real_ones(name: str, real: set[str]) -> None:
    made = set().union(*map(parts, parsed(LOADS[name].messages())))
    assert made <= real


@pytest.mark.parametrize("name", ["chain", "chain with steps", "plateau"])
def test_the_messages_of_a_node_and_of_a_run_come_in_the_real_order(name: str) -> None:
    begun, nodes, ended = courses(parsed(LOADS[name].messages()))
    known = [courses(parsed(recording(each).messages())) for each in ("a2_no_previews", "h_no_progress")]
    assert all((begun, ended) == (real_begun, real_ended) for real_begun, _, real_ended in known)
    assert nodes <= known[0][1] | known[1][1]


def test_a_large_graph_has_the_size_of_a_real_one() -> None:
    # PROTOCOL, section 3: 500 nodes gave 49.9 MB of states, the last one with 99,668 characters.
    messages = [message for message in chain(500).messages() if isinstance(message, str)]
    states = [message for message in messages if '"progress_state"' in message]
    assert len(messages) == 1_508
    assert len(states) == 1_000
    assert sum(map(len, states)) == pytest.approx(49.9e6, rel=0.1)


def test_a_recording_is_played_with_all_its_messages_and_another_prompt_id() -> None:
    played: Load = recording("n_preview_metadata")
    messages = list(played.messages())
    assert sum(isinstance(message, bytes) for message in messages) == 8
    assert played.outputs
    own = [message for message in parsed(messages) if "prompt_id" in message["data"]]
    assert {message["data"]["prompt_id"] for message in own} == {PROMPT}


@pytest.mark.parametrize(("length", "head"), [(125, b"\x81\x7d"), (126, b"\x81\x7e\x00\x7e"), (65536, b"\x81\x7f")])
def test_frames_tell_their_length(length: int, head: bytes) -> None:
    assert frame("a" * length).startswith(head)
    assert frame(b"a" * length)[:1] == b"\x82"


def test_a_row_tells_a_missed_target() -> None:
    rows = [compared("slow", 2.0, 1.0, 1.5), compared("quick", 0.001, 0.001, 1.5), compared("told", 3.0, 1.0, None)]
    assert markdown(rows).splitlines()[2:] == [
        "| slow | 2.00 s | 1.00 s | 2.00 | at most 1.5 **missed** |",
        "| quick | 1.0 ms | 1.0 ms | 1.00 | at most 1.5 |",
        "| told | 3.00 s | 1.00 s | 3.00 |  |",
    ]


@pytest.mark.parametrize(
    ("filename", "line", "importing", "kind"),
    [
        ("/x/comfyreport/protocol/decode.py", "return orjson.loads(data)", False, "parse"),
        ("/x/comfyreport/net/websocket.py", "return raw.recv(most)", False, "socket"),
        ("/x/site-packages/urllib3/connection.py", "pass", False, "socket"),
        ("/x/comfyreport/protocol/decode.py", "import orjson", True, "imports"),
        ("/x/plugins/comfyreport_jsonl.py", "pass", False, "ours"),
        ("/x/lib/json.py", "pass", False, "other libraries"),
    ],
)
def test_a_profile_knows_kinds_of_work(filename: str, line: str, importing: bool, kind: str) -> None:
    assert kind_of(filename, line, importing) == kind


def benchmarks(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=SHORT_LIMIT, check=False)


@pytest.mark.e2e
def test_the_short_form_runs_each_case_and_each_client_does_its_work() -> None:
    done = benchmarks("--short")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.split() == [word for name in CASES for word in (name, "…")]
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert not [row for row in rows if "**failed**" in row]
    assert len(rows) == 2 + 16
    assert "2,000 lines" in done.stdout


@pytest.mark.e2e
def test_a_profile_names_functions_and_kinds_of_work() -> None:
    done = benchmarks("--profile", "steps")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"imports", "start of Python"} <= {line.partition("%")[2].strip() for line in done.stdout.splitlines()}
