"""The progress tracker as it was first asked for; runs under pytest and by itself:

    python3 tests/test_websocket_progress.py

It covers the tracker's initialisation, its events, quiet mode, JSON output, and `wait_for_completion()`. The
only server is a simulated one on 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import threading
import traceback
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    # By itself, this file sees its own folder alone.
    sys.path.insert(0, str(ROOT))

import comfyreport_console  # noqa: E402
import comfyreport_jsonl  # noqa: E402

from comfyreport import NodeProgress, RunFinished  # noqa: E402
from comfyreport.recording.player import Recording  # noqa: E402
from comfyreport.simulator import Simulator  # noqa: E402
from comfyreport.testing import play  # noqa: E402
from generate import ProgressTracker, run_generation, wait_for_completion  # noqa: E402

WORKFLOW = ROOT / "workflows" / "sd15-txt2img.json"
LIMIT = 60.0
PROMPT_ID = "b7c0d1ce-0000-4000-8000-000000000001"
GRAPH = {str(number): {"class_type": "Loader", "inputs": {}} for number in range(4, 9)} | {
    "3": {"class_type": "KSampler", "inputs": {}},
    "9": {"class_type": "SaveImage", "inputs": {}},
}
CACHED = ["4", "5", "6", "7", "8"]

# Step, and seconds since the sampler began; then what the requirement says of them.
STEPS = ((1, 1.0), (5, 4.0), (10, 8.0), (15, 12.0), (20, 16.0))
REQUIRED_LINES = """\
[PROGRESS] Sampling: 1/20 steps (5%) - ETA: 19s
[PROGRESS] Sampling: 5/20 steps (25%) - ETA: 12s
[PROGRESS] Sampling: 10/20 steps (50%) - ETA: 8s
[PROGRESS] Sampling: 15/20 steps (75%) - ETA: 4s
[PROGRESS] Sampling: 20/20 steps (100%) - ETA: 0s
""".splitlines()
REQUIRED_JSON = """\
{"step": 1, "max_steps": 20, "eta_seconds": 19.0, "node": "KSampler"}
{"step": 5, "max_steps": 20, "eta_seconds": 12.0, "node": "KSampler"}
{"step": 10, "max_steps": 20, "eta_seconds": 8.0, "node": "KSampler"}
{"step": 15, "max_steps": 20, "eta_seconds": 4.0, "node": "KSampler"}
{"step": 20, "max_steps": 20, "eta_seconds": 0.0, "node": "KSampler"}
""".splitlines()


# --- a session made of the six messages of the requirement's table


def message(t: float, kind: str, **data: Any) -> Mapping[str, Any]:
    text = json.dumps({"type": kind, "data": {"prompt_id": PROMPT_ID, **data}})
    return {"t": t, "dir": "in", "kind": "ws-text", "sock": "A", "text": text}


def call(t: float, method: str, path: str, request: Any, response: Any) -> list[Mapping[str, Any]]:
    common = {"t": t, "kind": "http", "method": method, "path": path}
    return [{**common, "dir": "out", "request": request}, {**common, "dir": "in", "status": 200, "response": response}]


def session() -> Recording:
    """A run of 23.4 s in which the sampler begins at 5.0 s."""
    image = {"images": [{"filename": "sunset_00001_.png", "subfolder": "", "type": "output"}]}
    request = {"prompt": GRAPH, "client_id": "me", "prompt_id": PROMPT_ID}
    history = {PROMPT_ID: {"outputs": {"9": image}, "status": {"status_str": "success", "messages": []}}}
    return Recording(
        (
            {"t": 0.0, "dir": "out", "kind": "ws-open", "sock": "A", "path": "/ws?clientId=me"},
            *call(0.0, "POST", "/prompt", request, {"prompt_id": PROMPT_ID, "number": 1, "node_errors": {}}),
            message(0.0, "execution_start"),
            message(0.0, "execution_cached", nodes=CACHED),
            message(5.0, "executing", node="3"),
            *(message(5.0 + seconds, "progress", node="3", value=step, max=20) for step, seconds in STEPS),
            message(21.0, "executing", node="9"),
            message(23.4, "executed", node="9", output=image),
            message(23.4, "execution_complete"),
            *call(23.4, "GET", f"/history/{PROMPT_ID}", None, history),
        )
    )


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The address of a simulated ComfyUI."""
    with Simulator(speed=50) as simulator:
        yield simulator.url


def submit(url: str, tracker_id: str) -> str:
    """Submit the workflow as that client; the prompt's id."""
    body = {"prompt": json.loads(WORKFLOW.read_text(encoding="utf-8")), "client_id": tracker_id}
    with requests.Session() as http:
        http.trust_env = False
        answer = http.post(f"{url}/prompt", json=body, timeout=LIMIT)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["prompt_id"])


@contextlib.contextmanager
def captured() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """What is written to stdout and stderr meanwhile."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err


# --- initialisation


def test_a_tracker_is_made_without_touching_the_network() -> None:
    before = threading.active_count()
    tracker = ProgressTracker("http://127.0.0.1:9", "some prompt", "some client")
    assert (tracker.server, tracker.prompt_id, tracker.client_id) == (
        "http://127.0.0.1:9",
        "some prompt",
        "some client",
    )
    assert (tracker.quiet, tracker.json_progress, tracker.result) == (False, False, None)
    assert not tracker.connected.is_set()
    assert threading.active_count() == before


def test_a_tracker_makes_up_a_client_id_of_its_own() -> None:
    first, second = ProgressTracker(), ProgressTracker()
    assert uuid.UUID(first.client_id) != uuid.UUID(second.client_id)
    assert first.prompt_id is None


def test_a_tracker_connects_in_the_background() -> None:
    with server() as url, ProgressTracker(url, quiet=True) as tracker:
        assert tracker.connected.wait(LIMIT)
        tracker.prompt_id = submit(url, tracker.client_id)
        result = tracker.wait(LIMIT)
        assert result is not None
        assert result.status == "success"


def test_a_tracker_without_a_server_ends_and_raises_nothing() -> None:
    tracker = ProgressTracker("http://127.0.0.1:1", "some prompt", quiet=True)
    with captured():
        result = tracker.wait(LIMIT)
    assert result is not None
    assert (result.status, result.submitted) == ("unreachable", "no")


# --- events


def test_each_event_of_the_table_is_shown() -> None:
    lines = play(comfyreport_console.console, session()).splitlines()
    assert lines[0] == "[INFO] Connected to progress stream"
    assert lines[1] == "[INFO] Generation started"
    assert lines[2] == "[INFO] 5 nodes cached"
    assert lines[3] == "[INFO] Node: KSampler"
    assert lines[-4] == "[INFO] Done: SaveImage in 2.4s"
    # What took longest comes behind all that the requirement names, but for the last line.
    assert [line.split()[-3:] for line in lines[-3:-1]] == [["87%", "1.2", "it/s"], ["SaveImage", "2.4s", "13%"]]
    assert lines[-1] == "[OK] Generation complete in 23.4s"


def test_the_progress_lines_are_those_of_the_requirement() -> None:
    lines = play(comfyreport_console.console, session()).splitlines()
    assert [line for line in lines if line.startswith("[PROGRESS]")] == REQUIRED_LINES


def test_messages_of_other_prompts_are_not_shown() -> None:
    recording = session()
    strange = {**message(6.0, "progress", node="3", value=3, max=4, prompt_id="another")}
    records = [*recording.records[:7], strange, *recording.records[7:]]
    assert play(comfyreport_console.console, Recording(tuple(records))) == play(comfyreport_console.console, recording)


def test_the_events_of_a_run_can_be_iterated() -> None:
    with server() as url:
        tracker = ProgressTracker(url, quiet=True).start()
        assert tracker.connected.wait(LIMIT)
        tracker.prompt_id = submit(url, tracker.client_id)
        events = list(tracker)
    types = [event.type for event in events]
    assert (types[0], types[-2:]) == ("stream_started", ["run_finished", "stream_finished"])
    for expected in ("run_started", "node_started", "node_progress", "node_finished", "output_ready"):
        assert expected in types
    steps = [event.step for event in events if isinstance(event, NodeProgress)]
    # Of those that came before the prompt's id was known, all but the newest may be left out.
    assert steps == sorted(set(steps))
    assert steps[-1] == 20


# --- quiet mode


def test_quiet_mode_says_nothing_of_a_success() -> None:
    with server() as url, captured() as (out, err):
        result = run_generation(WORKFLOW, server=url, quiet=True)
    assert result.status == "success"
    assert (out.getvalue(), err.getvalue()) == ("", "")


def test_quiet_mode_tells_errors() -> None:
    with captured() as (out, err):
        result = run_generation(WORKFLOW, server="http://127.0.0.1:1", quiet=True)
    assert result.status == "unreachable"
    assert out.getvalue() == ""
    assert err.getvalue().startswith("[ERROR] ")
    assert "Hint: " in err.getvalue()


def test_without_quiet_mode_progress_goes_to_stderr() -> None:
    with server() as url, captured() as (out, err):
        assert run_generation(WORKFLOW, server=url).status == "success"
    assert out.getvalue() == ""
    assert "[PROGRESS] Sampling: 20/20 steps (100%) - ETA: 0s\n" in err.getvalue()


# --- JSON output


def test_the_json_lines_are_those_of_the_requirement() -> None:
    lines = play(comfyreport_jsonl.jsonl, session()).splitlines()
    events = [json.loads(line) for line in lines]
    steps = [event for event in events if "step" in event]
    assert len(steps) == len(REQUIRED_JSON)
    for event, required in zip(steps, map(json.loads, REQUIRED_JSON), strict=True):
        assert {key: event[key] for key in required} == required
        assert list(event)[:4] == list(required)
        assert isinstance(event["eta_seconds"], float)


def test_each_json_line_can_be_parsed_by_itself() -> None:
    with server() as url, captured() as (out, err):
        assert run_generation(WORKFLOW, server=url, json_progress=True).status == "success"
    assert err.getvalue() == ""
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    steps = [event for event in events if "step" in event]
    assert {event["type"] for event in steps} == {"node_progress"}
    assert (steps[-1]["step"], steps[-1]["max_steps"], steps[-1]["eta_seconds"]) == (20, 20, 0)
    assert events[-1]["type"] == "stream_finished"


# --- integration with wait_for_completion()


def wait(url: str, **options: Any) -> tuple[RunFinished, str, str]:
    client_id = uuid.uuid4().hex
    prompt_id = submit(url, client_id)
    with captured() as (out, err):
        result = wait_for_completion(prompt_id, server=url, client_id=client_id, **options)
    assert result.prompt_id == prompt_id
    return result, out.getvalue(), err.getvalue()


def test_wait_for_completion_tells_the_end() -> None:
    with server() as url:
        result, out, err = wait(url)
        assert result.status == "success"
        (output,) = result.outputs
        assert output.url is not None
        with requests.Session() as http:
            http.trust_env = False
            assert http.get(output.url, timeout=LIMIT).content.startswith(b"\x89PNG")
    assert out == ""
    assert err.splitlines()[0] == "[INFO] Connected to progress stream"
    assert err.splitlines()[-1].startswith("[OK] Generation complete in ")


def test_wait_for_completion_in_quiet_mode() -> None:
    with server() as url:
        result, out, err = wait(url, quiet=True)
    assert (result.status, out, err) == ("success", "", "")


def test_wait_for_completion_with_json_progress() -> None:
    with server() as url:
        result, out, err = wait(url, json_progress=True)
    assert (result.status, err) == ("success", "")
    events = [json.loads(line) for line in out.splitlines()]
    (end,) = [event for event in events if event["type"] == "run_finished"]
    assert (end["status"], end["prompt_id"]) == ("success", result.prompt_id)


def main() -> int:
    """Run all tests and print a summary; the exit code."""
    for name in ("COMFYREPORT_REPORTER", "COMFYREPORT_PLUGINS", "COMFYREPORT_SERVER"):
        os.environ.pop(name, None)
    tests = {name: value for name, value in globals().items() if name.startswith("test_")}
    failed = 0
    for name, test in tests.items():
        try:
            test()
        except Exception:  # noqa: BLE001  a failed test must not end the others
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}")
        else:
            print(f"passed  {name}")
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
