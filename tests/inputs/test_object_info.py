"""What a server declares: asked once, kept for the next, asked anew where a refusal may rest on what is old."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from comfyreport.access.address import parse_address
from comfyreport.errors import UnreachableError, UsageError, WorkflowError
from comfyreport.inputs.info_cache import InfoCache
from comfyreport.inputs.object_info import ObjectInfo, load_object_info, save_json
from comfyreport.net.client import Client
from comfyreport.protocol.statuses import Response
from comfyreport.timing import Timing
from tests.workflow.convert.files import File

SIZE = {"input": {"required": {"width": ["INT", {}]}}}
CHANGED = {"input": {"required": {"a": ["BOOLEAN"], "b": ["INT"]}}}
FILE = File().node(1, "Size", [64]).content()


class Server:
    """Answers a client's questions; `paths` are those that it was asked for."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.classes: Any = {"Size": SIZE}
        self.status = 200
        self.stats: Any = {"system": {"comfyui_version": "1"}}

    def get(self, path: str) -> Response:
        self.paths.append(path)
        return (
            Response(self.status, self.classes, "")
            if path.startswith("/object_info")
            else Response(200, self.stats, "")
        )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server()
    monkeypatch.setattr(Client, "get", lambda client, path: found.get(path))
    return found


@pytest.fixture
def cache(tmp_path: Path) -> InfoCache:
    return InfoCache(tmp_path)


def info(cache: InfoCache | None, *, anew: bool = False) -> ObjectInfo:
    client = Client(parse_address("127.0.0.1"), timing=Timing())
    return ObjectInfo(client, cache, anew=anew)


def test_it_is_asked_once_and_kept_for_the_next(server: Server, cache: InfoCache) -> None:
    first = info(cache)
    assert first.classes() == first.classes() == {"Size": SIZE}
    assert info(cache).classes() == {"Size": SIZE}
    assert server.paths == ["/system_stats", "/object_info", "/system_stats"]
    server.stats = {"system": {"comfyui_version": "2"}}
    info(cache).classes()
    assert server.paths[-2:] == ["/system_stats", "/object_info"]


def test_anew_it_is_asked_whatever_is_kept(server: Server, cache: InfoCache) -> None:
    info(cache).classes()
    server.classes = {"Size": SIZE, "More": SIZE}
    assert info(cache, anew=True).classes() == server.classes
    assert info(cache).classes() == server.classes


@pytest.mark.parametrize("stats", [None, [], {}, {"system": None}, {"system": {"comfyui_version": 5}}])
def test_without_a_version_nothing_is_kept(server: Server, cache: InfoCache, stats: Any) -> None:
    server.stats = stats
    info(cache).classes()
    info(cache).classes()
    assert server.paths.count("/object_info") == 2


def test_without_a_cache_there_is_one_question(server: Server) -> None:
    assert info(None).convert(FILE).prompt["1"]["inputs"] == {"width": 64}
    assert server.paths == ["/object_info"]


@pytest.mark.parametrize("old", [{}, {"Size": CHANGED}, {"Other": SIZE}])
def test_a_refusal_by_what_was_kept_is_looked_at_again(server: Server, cache: InfoCache, old: Any) -> None:
    cache.write("http://127.0.0.1:8188", "1", old)
    assert info(cache).convert(FILE).prompt["1"]["inputs"] == {"width": 64}
    assert server.paths.count("/object_info") == 1


def test_classes_of_other_packages_are_looked_at_again(server: Server, cache: InfoCache) -> None:
    """They change while ComfyUI's version stays."""
    kept = {"Size": {"input": {"required": {"size": ["INT", {}]}}, "python_module": "custom_nodes.pack"}}
    cache.write("http://127.0.0.1:8188", "1", kept)
    assert info(cache).convert(FILE).prompt["1"]["inputs"] == {"width": 64}
    assert server.paths == ["/system_stats", "/object_info/Size", "/system_stats", "/object_info"]
    server.classes = {"Size": {**SIZE, "python_module": "custom_nodes.pack"}}
    info(cache, anew=True).classes()
    server.paths.clear()
    info(cache).convert(FILE)
    assert server.paths == ["/system_stats", "/object_info/Size"]


def test_a_refusal_by_what_the_server_said_stands(server: Server, cache: InfoCache) -> None:
    server.classes = {"Other": SIZE}
    for _ in range(2):
        with pytest.raises(WorkflowError, match="no class Size"):
            info(cache).convert(FILE)
    # The second began with what was kept.
    assert server.paths.count("/object_info") == 2


@pytest.mark.parametrize(("status", "classes"), [(404, None), (500, {}), (200, []), (200, None)])
def test_a_server_that_does_not_tell(server: Server, cache: InfoCache, status: int, classes: Any) -> None:
    server.status, server.classes = status, classes
    with pytest.raises(UnreachableError):
        info(cache).classes()
    assert cache.read("http://127.0.0.1:8188", "1") is None


def test_a_saved_answer_converts(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "info.json"
    save_json("--save-object-info", str(path), json.dumps({"Size": SIZE}))
    assert load_object_info(str(path))(FILE).prompt["1"]["inputs"] == {"width": 64}
    save_json("--save-object-info", str(path), json.dumps({"Size": SIZE, "More": SIZE}))
    assert [each.name for each in path.parent.iterdir()] == ["info.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"a": 1}', "[" * 100_000, '{"1": {"class_type": "A"}}', "\udcff"]
)
def test_a_file_that_is_no_answer(tmp_path: Path, text: str) -> None:
    path = tmp_path / "info.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=r"--object-info .*info\.json") as caught:
        load_object_info(str(path))
    assert "--save-object-info" in caught.value.hint


def test_a_file_that_is_not_there_and_one_that_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read"):
        load_object_info(str(tmp_path / "none.json"))
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "x.json"):
        with pytest.raises(UsageError, match=r"--output .* can't be written"):
            save_json("--output", str(path), "{}")


def test_megabytes_are_read_from_the_cache_in_no_time(cache: InfoCache) -> None:
    classes = {f"Class{number}": {**SIZE, "description": "x" * 2000} for number in range(1000)}
    began = time.monotonic()
    cache.write("s", "1", classes)
    assert cache.read("s", "1") == classes
    assert time.monotonic() - began < 10
