"""Running workflows from Python, against a simulated server: results, reporters as objects, threads, interrupts."""

from __future__ import annotations

import _thread
import gc
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from comfyreport import (
    Event,
    ProgressTracker,
    ReporterError,
    RunFinished,
    run_generation,
    wait_for_completion,
)
from comfyreport.simulator import Simulator
from comfyreport.timing import Timing
from tests.collecting import Collector
from tests.packages import Packages
from tests.workflow.media import png

pytestmark = pytest.mark.slow

WORKFLOW = Path(__file__).parents[1] / "workflows" / "sd15-txt2img.json"
LIMIT = 60.0


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"{what} didn't happen"
        time.sleep(0.01)


@pytest.fixture
def server() -> Iterator[str]:
    with Simulator(speed=50) as simulator:
        yield simulator.url


@pytest.fixture
def slow() -> Iterator[str]:
    """A server whose runs take seconds."""
    with Simulator(speed=1) as simulator:
        yield simulator.url


@pytest.fixture(autouse=True)
def _no_thread_or_socket_is_left() -> Iterator[None]:
    """No thread and no socket outlives a run; an unclosed one is a ResourceWarning, and that an error."""
    before = {thread.ident for thread in threading.enumerate()}
    yield
    left: list[threading.Thread] = []

    def gone() -> bool:
        left[:] = [
            thread
            for thread in threading.enumerate()
            if thread.ident not in before and thread.name.startswith("comfyreport")
        ]
        return not left

    until(gone, f"the end of {left}")
    gc.collect()


def get(url: str) -> Any:
    with requests.Session() as http:
        http.trust_env = False
        return http.get(url, timeout=LIMIT).json()


def submit(url: str, client_id: str) -> str:
    body = {"prompt": json.loads(WORKFLOW.read_text(encoding="utf-8")), "client_id": client_id}
    with requests.Session() as http:
        http.trust_env = False
        return str(http.post(f"{url}/prompt", json=body, timeout=LIMIT).json()["prompt_id"])


# --- run_generation


def test_reporters_as_objects(server: str, tmp_path: Path) -> None:
    collector, other = Collector(), Collector()
    result = run_generation(
        WORKFLOW, prompt="a kite", output=tmp_path / "kite.png", server=server, reporters=[collector, other]
    )
    assert isinstance(result, RunFinished)
    assert (result.status, result.exit_code) == ("success", 0)
    assert (tmp_path / "kite.png").read_bytes().startswith(b"\x89PNG")
    assert collector.types[0] == "stream_started"
    assert collector.types[-2:] == ["run_finished", "stream_finished"]
    assert collector.events[-2] is result
    assert collector.types == other.types
    assert (collector.closed, other.closed) == (1, 1)
    assert len(collector.threads) == 1
    assert threading.current_thread().name not in collector.threads
    _, _, graph, extra, _ = get(f"{server}/history/{result.prompt_id}")[str(result.prompt_id)]["prompt"]
    assert "a kite" in [node["inputs"].get("text") for node in graph.values()]
    (queued,) = [event for event in collector.events if event.type == "run_queued"]
    assert queued.client_id == extra["client_id"]


def test_names_and_objects_together(server: str, tmp_path: Path) -> None:
    collector = Collector()
    path = tmp_path / "run.jsonl"
    result = run_generation(WORKFLOW, server=server, reporters=[f"jsonl={path},rate=0", collector])
    assert result.status == "success"
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["type"] for line in lines] == collector.types
    assert collector.events[0].reporters == ("jsonl", "Collector")


def test_files_for_loaders(server: str, tmp_path: Path) -> None:
    """As a flag has them, as a path, and by node; a name with a `=` is a path's own where it is one."""
    (tmp_path / "a=b.png").write_bytes(png({"x": "1"}))
    (tmp_path / "c.png").write_bytes(png({"x": "2"}))
    graph: dict[str, Any] = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }
    given: list[Any] = [tmp_path / "a=b.png", {"1": tmp_path / "c.png"}, f"LoadImage={tmp_path}/c.png"]
    for image, name in zip(given, ("a=b.png", "c.png", "c.png"), strict=True):
        result = run_generation(graph, image=image, server=server, quiet=True)
        assert result.status == "success"
        asked = get(f"{server}/history/{result.prompt_id}")[result.prompt_id]["prompt"][2]
        assert asked["1"]["inputs"]["image"] == name
    assert graph["1"]["inputs"]["image"] == "x.png"


def test_a_file_for_a_loader_that_can_not_be_used(server: str, tmp_path: Path) -> None:
    result = run_generation(WORKFLOW, mask=tmp_path / "nowhere.png", server=server, quiet=True)
    assert (result.status, result.exit_code, result.submitted) == ("usage", 2, "no")
    assert result.error is not None
    assert "nowhere.png doesn't exist" in result.error.message


def test_a_picture_as_the_workflow(server: str, tmp_path: Path) -> None:
    (tmp_path / "made.png").write_bytes(png())
    assert run_generation(tmp_path / "made.png", server=server, quiet=True).status == "success"


def test_a_workflow_as_an_object(server: str) -> None:
    graph = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    before = json.dumps(graph)
    assert run_generation(graph, prompt="a kite", server=server, reporters=[]).status == "success"
    assert json.dumps(graph) == before


def test_no_reporters_at_all(server: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_generation(WORKFLOW, server=server, reporters=[]).status == "success"
    assert capfd.readouterr() == ("", "")


def test_in_another_thread(server: str) -> None:
    results: list[RunFinished] = []
    collectors = [Collector() for _ in range(3)]

    def work(collector: Collector) -> None:
        results.append(run_generation(WORKFLOW, server=server, reporters=[collector]))

    threads = [threading.Thread(target=work, args=(collector,)) for collector in collectors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert [result.status for result in results] == ["success"] * 3
    assert len({result.prompt_id for result in results}) == 3
    assert all(collector.types[-1] == "stream_finished" for collector in collectors)


@pytest.mark.parametrize(
    ("workflow", "options", "status"),
    [
        ("nowhere.json", {}, "usage"),
        ({}, {}, "usage"),
        ({"1": object()}, {}, "usage"),
        (WORKFLOW, {"server": "ftp://nowhere"}, "usage"),
        (WORKFLOW, {"server": "127.0.0.1:1"}, "unreachable"),
        (WORKFLOW, {"output": "/dev/null/x.png"}, "usage"),
        (WORKFLOW, {"record": "/dev/null/x.rec"}, "usage"),
        ({"1": {"class_type": "NotInstalled", "inputs": {}}}, {}, "rejected"),
        ({"1": {"class_type": "ProbeRaise", "inputs": {}}, "2": {"class_type": "SaveImage", "inputs": {
            "images": ["1", 0], "filename_prefix": "x"}}}, {}, "error"),
    ],
)  # fmt: skip
def test_a_run_that_fails_raises_nothing(server: str, workflow: Any, options: dict[str, Any], status: str) -> None:
    collector = Collector()
    result = run_generation(workflow, **{"server": server, "reporters": [collector], **options})
    assert result.status == status
    assert result.error is not None
    assert collector.types.count("run_finished") == 1
    assert collector.types[-1] == "stream_finished"
    assert collector.closed == 1


@pytest.mark.parametrize("reporters", ["console", ["consol"], [Collector], ["jsonl=/dev/null/x"], [object(), 3, None]])
def test_reporters_that_cannot_be_loaded_are_an_error(reporters: Any) -> None:
    with pytest.raises(ReporterError):
        run_generation(WORKFLOW, server="127.0.0.1:1", reporters=reporters)


def test_a_time_limit(slow: str) -> None:
    result = run_generation(WORKFLOW, server=slow, reporters=[], timeout=1.0)
    assert (result.status, result.prompt_state) == ("timeout", "running")


def test_a_reporter_that_raises_does_not_hurt_the_run(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    def act(event: Event) -> None:
        raise ValueError("by design")

    collector = Collector()
    result = run_generation(WORKFLOW, server=server, reporters=[Collector(act), collector])
    assert result.status == "success"
    assert collector.events[-1].exit_code == 5
    assert "Collector: comfyreport_event raised ValueError: by design" in collector.events[-1].reporter_failures[0]
    assert "by design" in capsys.readouterr().err


@pytest.mark.parametrize("reporters", [None, ["console"], [Collector(lambda event: event.nothing)]])
def test_a_program_without_a_stderr(server: str, monkeypatch: pytest.MonkeyPatch, reporters: Any) -> None:
    monkeypatch.setattr("sys.stderr", None)
    assert run_generation(WORKFLOW, server=server, reporters=reporters).status == "success"


def test_file_descriptors_and_signals_are_left_alone(server: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    identity = [os.fstat(number).st_ino for number in range(3)]

    def act(event: Event) -> None:
        os.write(1, b".")

    assert run_generation(WORKFLOW, server=server, reporters=[Collector(act)]).status == "success"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert [os.fstat(number).st_ino for number in range(3)] == identity
    assert set(capfd.readouterr().out) == {"."}


def test_a_keyboard_interrupt_cancels_and_is_raised_again(slow: str) -> None:
    def act(event: Any) -> None:
        if event.type == "node_progress" and event.step == 2:
            _thread.interrupt_main()

    collector = Collector(act)
    with pytest.raises(KeyboardInterrupt):
        run_generation(WORKFLOW, server=slow, reporters=[collector])
    (end,) = [event for event in collector.events if event.type == "run_finished"]
    assert (end.status, end.prompt_state) == ("cancelled", "cancelled")
    assert collector.types[-1] == "stream_finished"
    assert collector.closed == 1
    queue = get(f"{slow}/queue")
    assert (queue["queue_running"], queue["queue_pending"]) == ([], [])


def test_a_keyboard_interrupt_before_anything_is_submitted() -> None:
    collector = Collector(lambda event: _thread.interrupt_main() if event.type == "stream_started" else None)

    class Slow(dict[str, Any]):
        """A workflow that takes its time to be read."""

        def items(self) -> Any:
            until(lambda: "stream_started" in collector.types, "the first event")
            time.sleep(LIMIT)
            return super().items()

    workflow = Slow({"1": {"class_type": "SaveImage", "inputs": {}}})
    with pytest.raises(KeyboardInterrupt):
        run_generation(workflow, server="127.0.0.1:1", reporters=[collector])
    (end,) = [event for event in collector.events if event.type == "run_finished"]
    assert (end.status, end.submitted) == ("cancelled", "no")
    assert collector.types[-1] == "stream_finished"


def test_a_keyboard_interrupt_while_reporters_are_loaded(packages: Packages) -> None:
    packages.add("stuck", "import _thread, time\ndef stuck():\n    _thread.interrupt_main()\n    time.sleep(1e6)")
    before, behind = Collector(), Collector()
    with pytest.raises(KeyboardInterrupt):
        run_generation(WORKFLOW, server="127.0.0.1:1", reporters=[before, "stuck", behind])
    for collector in (before, behind):
        assert collector.types == ["stream_started", "run_finished", "stream_finished"]
        assert (collector.events[1].status, collector.events[1].submitted) == ("cancelled", "no")
        assert collector.closed == 1


# --- wait_for_completion


def test_a_prompt_that_runs(server: str) -> None:
    collector = Collector()
    client_id = uuid.uuid4().hex
    prompt_id = submit(server, client_id)
    result = wait_for_completion(prompt_id, server=server, client_id=client_id, reporters=[collector])
    assert (result.status, result.prompt_id) == ("success", prompt_id)
    assert collector.events[0].command == "attach"
    assert collector.types.count("run_queued") == 1


def test_a_prompt_that_has_ended(server: str) -> None:
    prompt_id = submit(server, "somebody")
    until(lambda: bool(get(f"{server}/history/{prompt_id}")), "the end of the prompt")
    result = wait_for_completion(prompt_id, server=server, reporters=[])
    assert result.status == "success"
    assert len(result.outputs) == 1


def test_its_outputs_are_saved(server: str, tmp_path: Path) -> None:
    prompt_id = submit(server, "somebody")
    wanted: dict[str, Any] = {"output": f"{tmp_path}/{{prompt_id}}", "overwrite": True, "sidecar": True}
    result = wait_for_completion(prompt_id, server=server, include_temp=True, reporters=[], **wanted)
    assert [output.path for output in result.outputs] == [str(tmp_path / f"{prompt_id}.png")]
    assert json.loads((tmp_path / f"{prompt_id}.png.json").read_text())["command"] is None


def test_a_prompt_that_nobody_knows(server: str) -> None:
    result = wait_for_completion("nothing", server=server, reporters=[], timing=Timing().scaled(0.1))
    assert result.status == "lost"
    assert result.error is not None
    assert result.error.message


# --- ProgressTracker


def test_iterating_with_the_prompt_s_id_set_later(server: str) -> None:
    tracker = ProgressTracker(server, quiet=True).start()
    assert tracker.connected.wait(LIMIT)
    tracker.prompt_id = submit(server, tracker.client_id)
    events = list(tracker)
    assert (events[0].type, events[-1].type) == ("stream_started", "stream_finished")
    steps = [event.step for event in events if event.type == "node_progress"]
    # Of those that came before the prompt's id was known, all but the newest may be left out.
    assert steps == sorted(set(steps))
    assert steps[-1] == 20
    assert list(tracker) == []
    result = tracker.wait(LIMIT)
    assert result is not None
    assert (result.status, result.prompt_id) == ("success", tracker.prompt_id)


def test_a_tracker_saves_what_is_made_while_it_follows(server: str, tmp_path: Path) -> None:
    tracker = ProgressTracker(server, quiet=True, output=tmp_path / "made.png", sidecar=True).start()
    tracker.prompt_id = submit(server, tracker.client_id)
    result = tracker.wait(LIMIT)
    assert result is not None
    assert [output.path for output in result.outputs] == [str(tmp_path / "made.png")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.png", "made.png.json"]


def test_events_before_the_prompt_id_is_set_have_their_nodes(server: str) -> None:
    tracker = ProgressTracker(server, quiet=True).start()
    assert tracker.connected.wait(LIMIT)
    prompt_id = submit(server, tracker.client_id)
    until(lambda: bool(get(f"{server}/history/{prompt_id}")), "the end of the prompt")
    tracker.prompt_id = prompt_id
    events: list[Any] = list(tracker)
    (queued,) = [event for event in events if event.type == "run_queued"]
    assert len(queued.nodes) == 7
    assert "KSampler" in [event.node.title for event in events if event.type == "node_finished"]


def test_stopping_lets_the_prompt_go_on(slow: str) -> None:
    with ProgressTracker(slow, quiet=True) as tracker:
        assert tracker.connected.wait(LIMIT)
        tracker.prompt_id = submit(slow, tracker.client_id)
        for event in tracker:
            if event.type == "node_progress":
                break
    assert tracker.result is not None
    assert (tracker.result.status, tracker.result.prompt_state) == ("detached", "running")
    assert [entry[1] for entry in get(f"{slow}/queue")["queue_running"]] == [tracker.prompt_id]


def test_stopping_before_the_prompt_is_known(server: str) -> None:
    tracker = ProgressTracker(server, quiet=True).start()
    tracker.stop()
    result = tracker.wait(LIMIT)
    assert result is not None
    assert result.status == "detached"
    assert [event.type for event in tracker][-1] == "stream_finished"


def test_waiting_for_a_moment_only(slow: str) -> None:
    tracker = ProgressTracker(slow, submit(slow, "me"), "me", quiet=True)
    assert tracker.wait(0.2) is None
    tracker.stop()
    assert tracker.result is not None


def test_a_tracker_for_an_address_that_is_none() -> None:
    tracker = ProgressTracker("ftp://nowhere", "some prompt", quiet=True)
    types = [event.type for event in tracker]
    assert types == ["stream_started", "run_finished", "stream_finished"]
    assert tracker.result is not None
    assert tracker.result.status == "usage"
