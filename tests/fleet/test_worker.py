"""A worker beside a simulated server: the run is made, its outputs get to where they should, and none is made twice."""

from __future__ import annotations

import platform
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from comfyreport import run_generation
from comfyreport.access.credentials import Access
from comfyreport.fleet.assignment import Assignment, Note, Outcome
from comfyreport.fleet.packing import assign
from comfyreport.fleet.worker import perform
from comfyreport.inputs.local_files import Given
from comfyreport.jobs.job import Job
from comfyreport.simulator import Fault, Simulator
from comfyreport.timing import Timing
from comfyreport.workflow.settings import Settings
from tests.fleet.test_telling import Noted
from tests.workflow.media import png

pytestmark = pytest.mark.slow

WORKFLOWS = Path(__file__).parents[2] / "workflows"
TIMING = Timing().scaled(0.05)
LIMIT = 20.0


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """The server beside the worker, as its environment names it."""
    with Simulator(speed=50) as simulator:
        simulator.play()
        monkeypatch.setenv("COMFYREPORT_SERVER", simulator.url)
        yield simulator


def assignment(note: Note | None = None, workflow: str = "sd15-txt2img.json", **fields: Any) -> Assignment:
    job = Job(workflow=WORKFLOWS / workflow, learn=False, **fields)
    return assign(job, 3, command="c", timing=TIMING, note=note)


def events(channel: Noted) -> list[Any]:
    return [event for message in channel.messages for event in message.events]


def submissions(simulator: Simulator) -> int:
    return sum(each.method == "POST" and each.path == "/prompt" for each in simulator.play().requests)


def test_a_run_is_made_on_the_server_that_the_environment_names(simulator: Simulator) -> None:
    channel = Noted()
    outcome = perform(assignment(settings=Settings(seed=7)), channel, "gpu1")
    result = outcome.result
    assert (result.status, result.seed, result.server, result.run_index) == ("success", 7, simulator.url, 3)
    assert (outcome.files, outcome.messages, outcome.told) == ((), (), len(channel.messages))
    types = [event.type for event in events(channel)]
    assert types[:2] == ["connection_changed", "run_queued"]
    assert "run_finished" not in types
    assert {event.run_index for event in events(channel)} == {3}
    # Where it is was told, and kept, before anything was submitted.
    (note,) = channel.kept
    assert channel.messages[0].note == note
    assert note is not None
    assert (note.server, note.prompt_id, note.worker) == (simulator.url, result.prompt_id, "gpu1")


def test_outputs_are_sent_back(simulator: Simulator) -> None:
    channel = Noted()
    outcome = perform(assignment(output="made/{seed}.{ext}"), channel, "gpu1")
    ((position, data),) = outcome.files
    assert (position, data[:4]) == (0, b"\x89PNG")
    (output,) = outcome.result.outputs
    # Where it lies is for the command to say.
    assert (output.path, outcome.result.status) == (None, "success")
    assert "output_saved" not in [event.type for event in events(channel)]


def test_outputs_that_are_too_large_to_be_sent_back(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYREPORT_SEND_BACK", "10")
    channel = Noted()
    outcome = perform(assignment(output="made/"), channel, "gpu1")
    error = outcome.result.error
    assert error is not None
    assert (outcome.result.status, error.code, outcome.files) == ("partial", "download_failed", ())
    assert "COMFYREPORT_OUTPUT" in error.hint
    assert [event.code for event in events(channel) if event.type == "warning"] == ["output_too_large"]


def test_outputs_are_saved_in_a_shared_folder(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYREPORT_OUTPUT", str(tmp_path))
    channel = Noted()
    outcome = perform(assignment(output="made/{seed}.{ext}", settings=Settings(seed=7)), channel, "gpu1")
    assert [output.path for output in outcome.result.outputs] == [str(tmp_path / "made" / "7.png")]
    assert (tmp_path / "made" / "7.png").stat().st_size
    assert (outcome.files, [each.type for each in events(channel)].count("output_saved")) == ((), 1)


def test_files_that_came_along_are_uploaded(simulator: Simulator, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(png({}))
    given = (Given("image", "", str(tmp_path / "photo.png"), "photo.png"),)
    outcome = perform(assignment(workflow="img2img.json", files=given), Noted(), "gpu1")
    assert outcome.result.status == "success"
    assert sum(each.path == "/upload/image" for each in simulator.play().requests) == 1


def test_a_worker_has_a_token_of_its_own_where_the_command_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Access | None] = []

    def note_access(context: Any, job: Job, **more: Any) -> Any:
        seen.append(job.access)
        context.fail(KeyboardInterrupt())
        return context.results[-1]

    monkeypatch.setenv("COMFYREPORT_TOKEN", "of-the-worker")
    monkeypatch.setattr("comfyreport.fleet.worker.run_job", note_access)
    for access in (Access(), Access(token="of-the-command")):
        perform(assignment(access=access), Noted(), "gpu1")
    assert [each.token for each in seen if each] == ["of-the-worker", "of-the-command"]


# --- a second attempt


def noted(simulator: Simulator, prompt_id: str | None, **fields: str) -> Note:
    return Note(simulator.url, prompt_id or str(uuid.uuid4()), "c", "gpu0", fields.get("host", platform.node()))


def looked_for(channel: Noted, outcome: Outcome) -> str:
    """What was told of the attempt before, which comes first."""
    first = events(channel)[0]
    assert (first.type, first.state) == ("connection_changed", "lost")
    return str(first.detail)


def test_a_prompt_that_is_over_is_found_in_history_and_not_submitted_again(simulator: Simulator) -> None:
    before = run_generation(WORKFLOWS / "sd15-txt2img.json", seed=7, reporters=[], server=simulator.url)
    channel = Noted()
    channel.kept = [noted(simulator, before.prompt_id)]
    outcome = perform(assignment(settings=Settings(seed=7), output="made/"), channel, "gpu1")
    result = outcome.result
    assert (result.status, result.prompt_id, result.seed) == ("success", before.prompt_id, 7)
    assert [each.name for each in result.inputs or ()] == ["seed"]
    assert result.workflow == str(WORKFLOWS / "sd15-txt2img.json")
    assert len(outcome.files) == 1
    assert looked_for(channel, outcome) == f"worker gpu0 died; its prompt is looked for on {simulator.url}"
    assert submissions(simulator) == 1


def test_a_prompt_that_still_runs_is_followed_to_its_end(simulator: Simulator) -> None:
    paused = simulator.pause_at("5")
    first, second = Noted(), Noted()
    dies = threading.Thread(target=perform, args=(assignment(), first, "gpu0"), daemon=True)
    dies.start()
    assert paused.reached.wait(LIMIT)
    second.kept = first.kept[-1:]
    done: list[Outcome] = []
    comes = threading.Thread(target=lambda: done.append(perform(assignment(), second, "gpu1")), daemon=True)
    comes.start()
    while not second.messages:
        comes.join(0.01)
    paused.release()
    comes.join(LIMIT)
    dies.join(LIMIT)
    assert done[0].result.status == "success"
    assert submissions(simulator) == 1


def test_a_prompt_that_is_nowhere_is_submitted(simulator: Simulator) -> None:
    channel = Noted()
    outcome = perform(assignment(noted(simulator, None)), channel, "gpu1")
    assert outcome.result.status == "success"
    assert looked_for(channel, outcome)
    assert submissions(simulator) == 1


def test_a_prompt_on_a_server_that_is_gone_is_submitted_to_ones_own(simulator: Simulator) -> None:
    channel = Noted()
    note = replace(noted(simulator, None), server="http://127.0.0.1:9")
    assert perform(assignment(note), channel, "gpu1").result.status == "success"
    assert submissions(simulator) == 1


@pytest.mark.parametrize("changes", [{"host": "another-machine"}, {"server": "sim"}, {"server": ""}])
def test_what_cant_be_looked_for_from_here_is_submitted(simulator: Simulator, changes: dict[str, str]) -> None:
    channel = Noted()
    note = replace(noted(simulator, None), **changes)
    outcome = perform(assignment(note), channel, "gpu1")
    assert outcome.result.status == "success"
    assert "can not be looked for from here" in looked_for(channel, outcome)


def test_the_id_that_the_server_gives_is_the_one_to_look_for(simulator: Simulator) -> None:
    simulator.play(Fault("other_id", "post"))
    paused = simulator.pause_at("5")
    channel = Noted()
    thread = threading.Thread(target=perform, args=(assignment(), channel, "gpu1"), daemon=True)
    thread.start()
    assert paused.reached.wait(LIMIT)
    while len(channel.kept) < 2 and thread.is_alive():
        thread.join(0.01)
    paused.release()
    thread.join(LIMIT)
    queued = next(event for event in events(channel) if event.type == "run_queued")
    assert channel.kept[0] is not None
    assert channel.kept[1] == replace(channel.kept[0], prompt_id=queued.prompt_id) != channel.kept[0]
    assert channel.kept[1] in [message.note for message in channel.messages]


# --- what goes wrong


def test_a_server_that_isnt_there_leaves_nothing_to_look_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYREPORT_SERVER", "http://127.0.0.1:9")
    channel = Noted()
    result = perform(assignment(), channel, "gpu1").result
    assert (result.status, result.retryable, channel.kept[-1]) == ("unreachable", True, None)


def test_another_version_makes_no_run(simulator: Simulator) -> None:
    outcome = perform(replace(assignment(), comfyreport="0.0.1"), Noted(), "gpu1")
    error = outcome.result.error
    assert error is not None
    assert (outcome.result.status, error.code, submissions(simulator)) == ("unreachable", "engine", 0)
    assert "the command has 0.0.1" in error.message


def test_nothing_is_submitted_where_no_note_can_be_kept(simulator: Simulator) -> None:
    channel = Noted()
    channel.broken = True
    outcome = perform(assignment(), channel, "gpu1")
    error = outcome.result.error
    assert error is not None
    assert (outcome.result.status, error.code, submissions(simulator)) == ("unreachable", "engine", 0)


def test_a_run_that_is_cut_before_it_begins(simulator: Simulator) -> None:
    channel = Noted()
    channel.stopping = "waiting"
    result = perform(assignment(), channel, "gpu1").result
    assert (result.status, result.submitted, submissions(simulator)) == ("cancelled", "no", 0)


@pytest.mark.parametrize(("stop", "status"), [("all", "cancelled"), ("waiting", "success")])
def test_a_stop_cancels_what_runs_and_a_failure_elsewhere_doesnt(simulator: Simulator, stop: Any, status: str) -> None:
    paused = simulator.pause_at("5")
    channel = Noted()
    done: list[Outcome] = []
    thread = threading.Thread(target=lambda: done.append(perform(assignment(), channel, "gpu1")), daemon=True)
    thread.start()
    assert paused.reached.wait(LIMIT)
    channel.stopping = stop
    heard = channel.looks + 2
    while channel.looks < heard and thread.is_alive():
        thread.join(0.01)
    paused.release()
    thread.join(LIMIT)
    assert done[0].result.status == status
