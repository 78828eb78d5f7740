"""A job on its way to a worker: whole, without secrets to be seen, and no larger than it may be."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from comfyreport.access.credentials import Access
from comfyreport.errors import UsageError
from comfyreport.fleet import packing
from comfyreport.fleet.assignment import Assignment, Note, SentFile
from comfyreport.inputs.local_files import Given
from comfyreport.jobs.job import Job
from comfyreport.timing import Timing
from comfyreport.workflow.files import Workflow
from comfyreport.workflow.graph import Target
from comfyreport.workflow.settings import Settings
from tests.workflow.media import png

SECRET = "not-a-real-token"
GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}},
    "3": {"class_type": "KSampler", "inputs": {"seed": 1, "latent_image": ["1", 0]}},
}


def assigned(tmp_path: Path, **fields: Any) -> Assignment:
    job = Job(**{"workflow": GRAPH, "server": "http://127.0.0.1:1", "folder": str(tmp_path), **fields})
    note = Note("http://gpu1:8188", "p", "c")
    made = packing.assign(job, 3, command="c", timing=Timing(), note=note)
    copy: Assignment = pickle.loads(pickle.dumps(made))
    assert copy == made
    return copy


def picture(path: Path, color: int = 0) -> bytes:
    data = png({"color": str(color)})
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return data


def test_all_of_it_can_travel_and_nothing_of_it_is_shown(tmp_path: Path) -> None:
    access = Access(token=SECRET, headers=MappingProxyType({"X-Key": SECRET}), extra_data={"api_key": SECRET})
    made = assigned(tmp_path, access=access, workflow=MappingProxyType(GRAPH))
    assert (made.index, made.note) == (3, Note("http://gpu1:8188", "p", "c"))
    assert made.job.access is not None
    assert made.job.access.headers == {"X-Key": SECRET}
    assert SECRET not in repr(made) + str((made,))


def test_what_is_set_is_set_before_it_travels(tmp_path: Path) -> None:
    def prepare(workflow: Workflow) -> Workflow:
        return replace(workflow, rebuilt=True)

    made = assigned(tmp_path, settings=Settings(seed="random"), prepare=prepare)
    loaded = made.job.loaded
    assert loaded is not None
    # The same in each attempt.
    assert loaded.graph["3"]["inputs"]["seed"] == loaded.settings[Target("3", "seed")].value != 1
    assert loaded.rebuilt
    assert (made.job.settings, made.job.prepare) == (Settings(), None)


def test_files_for_loaders_go_along(tmp_path: Path) -> None:
    data = picture(tmp_path / "photo.png")
    made = assigned(tmp_path, files=(Given("image", "", "photo.png", "photo.png"),))
    assert made.files == (SentFile("0/photo.png", data),)
    assert made.job.files == (Given("image", "1", "0/photo.png", "0/photo.png"),)
    assert made.size == len(data)


def test_a_path_in_the_workflow_goes_along_under_its_name(tmp_path: Path) -> None:
    data = picture(tmp_path / "in" / "photo.png")
    graph = {**GRAPH, "1": {"class_type": "LoadImage", "inputs": {"image": "in/photo.png"}}}
    made = assigned(tmp_path, workflow=graph)
    assert (made.files, made.job.files) == ((SentFile("in/photo.png", data),), ())


@pytest.mark.parametrize("name", ["{folder}/photo.png", "../{parent}/photo.png"])
def test_a_path_that_leads_elsewhere_is_given_to_its_node(tmp_path: Path, name: str) -> None:
    data = picture(tmp_path / "photo.png")
    path = name.format(folder=tmp_path, parent=tmp_path.name)
    made = assigned(tmp_path, settings=Settings(inputs={"1.image": path}))
    assert made.files == (SentFile("0/photo.png", data),)
    assert made.job.files == (Given("image", "1", "0/photo.png", "0/photo.png"),)
    # Nothing sets it twice.
    assert made.job.loaded is not None
    assert made.job.loaded.settings == {}


def test_files_that_are_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MOST_BYTES", 10)
    picture(tmp_path / "photo.png")
    with pytest.raises(UsageError, match=r"photo\.png is too large to travel") as caught:
        assigned(tmp_path, files=(Given("image", "", "photo.png", "photo.png"),))
    assert "--set NODE.INPUT=NAME" in caught.value.hint


@pytest.mark.parametrize("fields", [{"sidecar": True, "output": "x/"}, {"record": "run.recording"}])
def test_what_needs_the_server_beside_the_command_is_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="can't be had where an engine makes the runs"):
        assigned(tmp_path, **fields)


def test_certificates_are_named_as_they_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Access, "tls", lambda self: None)
    made = assigned(tmp_path, access=Access(cacert="ca.pem", client_cert="own.pem,own.key"))
    access = made.job.access
    assert access is not None
    assert access.cacert == str(tmp_path / "ca.pem")
    assert access.client_cert == f"{tmp_path / 'own.pem'},{tmp_path / 'own.key'}"
