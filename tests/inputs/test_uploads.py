"""Uploading: once for the same bytes, what the workflow then names, and what a server may answer."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from comfyreport.errors import UnreachableError, UsageError
from comfyreport.inputs.finishing import finish
from comfyreport.inputs.local_files import Given
from comfyreport.inputs.uploads import Uploads, plan_uploads
from comfyreport.net.client import Client
from comfyreport.protocol.downloads import FilePlace
from comfyreport.protocol.statuses import Response, file_error
from comfyreport.protocol.uploads import Body
from comfyreport.timing import Timing
from comfyreport.workflow.convert import EditorNode
from comfyreport.workflow.files import Workflow, from_mapping
from tests.systems import needs_posix
from tests.workflow.media import png

SAVE = {"class_type": "SaveImage", "inputs": {"a": ["1", 0], "b": ["2", 0], "c": ["3", 0]}}


def workflow(*classes: str, **inputs: Any) -> Workflow:
    """Loaders "1", "2", … of these classes, and what saves."""
    graph = {
        str(number): {"class_type": each, "inputs": {"image": f"{number}.png", **inputs}}
        for number, each in enumerate(classes, 1)
    }
    return from_mapping({**graph, "9": SAVE})


class Server:
    """In the place of a client: a server that has the files `there`, and answers uploads with `answer`."""

    def __init__(self) -> None:
        self.uploaded: list[tuple[str, bytes]] = []
        self.asked: list[str] = []
        self.there: set[tuple[str, str]] = set()
        self.view_error: UnreachableError = file_error(404)
        self.info: dict[str, Any] = {}
        self.answer: Any = None

    @property
    def client(self) -> Client:
        address = SimpleNamespace(base="http://server")
        return cast(
            Client,
            SimpleNamespace(address=address, timing=Timing(), post=self._post, get=self._get, download=self._download),
        )

    def _post(self, path: str, body: Body, *, timeout: float) -> Response:
        assert path == "/upload/image"
        data = b"".join(body)
        assert len(data) == body.size == body.sent == int(body.headers["Content-Length"])
        boundary = body.headers["Content-Type"].partition("boundary=")[2].encode()
        parts = data.split(b"--" + boundary)
        assert (parts[0], parts[-1]) == (b"", b"--\r\n")
        heads = [part.partition(b"\r\n\r\n") for part in parts[1:-1]]
        fields = {re.findall(rb'name="([^"]*)"', head)[0]: value[:-2] for head, _, value in heads}
        assert {key: fields[key] for key in (b"type", b"subfolder", b"overwrite")} == {
            b"type": b"input",
            b"subfolder": b"",
            b"overwrite": b"false",
        }
        name = re.findall(r'filename="([^"]*)"', heads[-1][0].decode())[0]
        self.uploaded.append((name, fields[b"image"]))
        if isinstance(self.answer, Response):
            return self.answer
        if isinstance(self.answer, Exception):
            raise self.answer
        return Response(200, self.answer or {"name": f"of-server-{name}", "subfolder": "", "type": "input"}, "")

    def _get(self, path: str) -> Response:
        self.asked.append(path)
        return Response(200, self.info, "")

    @contextlib.contextmanager
    def _download(self, place: FilePlace) -> Iterator[None]:
        self.asked.append(f"{place.folder}:{place.subfolder}/{place.filename}")
        if (place.subfolder, place.filename) not in self.there:
            raise self.view_error
        yield


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(png({"x": "a"}))
    (tmp_path / "b.png").write_bytes(png({"x": "b"}))
    (tmp_path / "same.png").write_bytes(png({"x": "a"}))
    return tmp_path


def given(name: str, node: str = "") -> Given:
    return Given("image", node, name, name)


def values(found: Workflow) -> list[Any]:
    return [node["inputs"]["image"] for node in list(found.graph.values())[:-1]]


def test_a_file_is_uploaded_and_named_as_the_server_has_it(server: Server, folder: Path) -> None:
    before = workflow("LoadImage")
    uploads = plan_uploads(before, [given("a.png")], str(folder))
    assert server.uploaded == []
    assert values(finish(server.client, before, uploads)) == ["of-server-a.png"]
    assert server.uploaded == [("a.png", png({"x": "a"}))]
    assert values(before) == ["1.png"]


def test_the_same_bytes_are_uploaded_once(server: Server, folder: Path) -> None:
    files = [given("a.png", "1"), given("same.png", "2"), given("b.png", "3")]
    start = workflow(*["LoadImage"] * 3)
    done = finish(server.client, start, plan_uploads(start, files, str(folder)))
    assert values(done) == ["of-server-a.png", "of-server-a.png", "of-server-b.png"]
    assert [name for name, _ in server.uploaded] == ["a.png", "b.png"]


def test_a_file_in_a_subfolder_of_the_server(server: Server, folder: Path) -> None:
    server.answer = {"name": "a.png", "subfolder": "today", "type": "input"}
    start = workflow("LoadImage")
    assert values(finish(server.client, start, plan_uploads(start, [given("a.png")], str(folder)))) == ["today/a.png"]


@needs_posix("names with quotes and backslashes")
def test_a_name_that_not_every_system_has(server: Server, folder: Path) -> None:
    (folder / 'q"\\ü.png').write_bytes(png())
    start = workflow("LoadImage")
    finish(server.client, start, plan_uploads(start, [given('q"\\ü.png')], str(folder)))
    assert server.uploaded[0][0] == "ü.png"


def test_two_files_for_one_node(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"node 1 takes one file, and is given a\.png and b\.png"):
        plan_uploads(workflow("LoadImage"), [given("a.png"), given("b.png", "1")], str(folder))


# Paths that stand in the workflow


def test_a_loader_in_a_subgraph_by_the_node_that_shows_it(folder: Path) -> None:
    start = workflow("LoadImage")
    start = replace(start, editor_nodes=(EditorNode("7", "Picture", {"image": (("1", "image"),)}),))
    ((loader, _),) = plan_uploads(start, [given("a.png", "Picture")], str(folder)).placed
    assert (loader.node, loader.name) == ("1", "image")


def test_a_path_in_the_workflow_is_uploaded_where_the_server_has_none(server: Server, folder: Path) -> None:
    start = workflow("LoadImage", image="a.png")
    uploads = plan_uploads(start, [], str(folder))
    assert values(finish(server.client, start, uploads)) == ["of-server-a.png"]
    assert server.asked == ["input:/a.png"]
    server.there.add(("", "a.png"))
    assert values(finish(server.client, start, uploads)) == ["a.png"]
    assert len(server.uploaded) == 1


def test_an_absolute_path_is_no_name_for_a_server(server: Server, folder: Path) -> None:
    start = workflow("LoadImage", image=str(folder / "a.png"))
    assert values(finish(server.client, start, plan_uploads(start, [], str(folder)))) == ["of-server-a.png"]
    assert server.asked == []


def test_a_name_that_is_no_file_here_is_the_servers(server: Server, folder: Path) -> None:
    assert not plan_uploads(workflow("LoadImage", image="theirs.png"), [], str(folder))
    assert finish(server.client, workflow("LoadImage"), Uploads()).graph == workflow("LoadImage").graph


def test_what_leads_to_no_output_is_not_uploaded(folder: Path) -> None:
    start = from_mapping({"7": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}, "9": SAVE})
    assert not plan_uploads(start, [], str(folder))


def test_a_flag_beats_the_path_in_the_workflow(server: Server, folder: Path) -> None:
    start = workflow("LoadImage", image="a.png")
    done = finish(server.client, start, plan_uploads(start, [given("b.png")], str(folder)))
    assert values(done) == ["of-server-b.png"]
    assert server.asked == []


def test_a_server_that_can_not_say_whether_it_has_a_file(server: Server, folder: Path) -> None:
    server.view_error = file_error(503)
    start = workflow("LoadImage", image="a.png")
    with pytest.raises(UnreachableError):
        finish(server.client, start, plan_uploads(start, [], str(folder)))
    assert server.uploaded == []


# Loaders that the server knows


def test_the_server_is_asked_what_loads(server: Server, folder: Path) -> None:
    start = workflow("Portrait")
    server.info = {"Portrait": {"input": {"required": {"image": [["1.png"], {"image_upload": True}]}}}}
    uploads = plan_uploads(start, [given("a.png")], str(folder))
    assert values(finish(server.client, start, uploads)) == ["of-server-a.png"]
    assert server.asked == ["/object_info/Portrait"]


@pytest.mark.parametrize("node", ["", "1"])
def test_where_nothing_loads_it_nothing_is_sent(server: Server, folder: Path, node: str) -> None:
    start = workflow("Portrait")
    with pytest.raises(UsageError, match="--image: no"):
        finish(server.client, start, plan_uploads(start, [given("a.png", node)], str(folder)))
    assert server.uploaded == []


# What the server answers


@pytest.mark.parametrize(
    ("answer", "code", "text", "hint"),
    [
        (Response(413, None, "too large"), "server_error", "takes no request of this size", "--max-upload-size"),
        (Response(400, None, ""), "server_error", "the server refuses it (HTTP 400)", "rename"),
        (Response(401, None, ""), "auth", "wants credentials", "COMFYREPORT_TOKEN"),
        (Response(403, None, ""), "auth", "forbids it", "Origin"),
        (Response(404, None, ""), "server_error", "takes no uploads", "prefix"),
        (Response(500, None, ""), "not_comfyui", "HTTP 500", "check the server"),
        (Response(503, None, ""), "not_comfyui", "HTTP 503", "try again"),
        (Response(200, None, "<html>", is_html=True), "auth", "login page", "credentials"),
        (Response(200, {"name": 3}, ""), "not_comfyui", "HTTP 200", "--server"),
        (Response(200, {"name": ""}, ""), "not_comfyui", "HTTP 200", "--server"),
        (Response(200, {"name": "x" * 5000}, ""), "not_comfyui", "HTTP 200", "--server"),
        (UnreachableError("it broke", hint="try again"), "refused", "it broke", "try again"),
    ],
)
def test_an_upload_that_is_refused(server: Server, folder: Path, answer: Any, code: str, text: str, hint: str) -> None:
    server.answer = answer
    start = workflow("LoadImage")
    with pytest.raises(UnreachableError) as caught:
        finish(server.client, start, plan_uploads(start, [given("a.png")], str(folder)))
    assert caught.value.message.startswith("a.png was not uploaded: ")
    assert text in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.code == code


def test_a_file_that_has_gone_meanwhile(server: Server, folder: Path) -> None:
    start = workflow("LoadImage")
    uploads = plan_uploads(start, [given("a.png")], str(folder))
    (folder / "a.png").unlink()
    with pytest.raises(UsageError, match=r"a\.png can't be read any more"):
        finish(server.client, start, uploads)


def test_a_file_that_becomes_shorter_meanwhile(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = workflow("LoadImage")
    uploads = plan_uploads(start, [given("a.png")], str(folder))
    size = (folder / "a.png").stat().st_size
    monkeypatch.setattr("os.fstat", lambda number: SimpleNamespace(st_size=size + 1))
    with pytest.raises(UsageError, match=r"a\.png became shorter"):
        finish(server.client, start, uploads)


def test_a_large_file_is_read_as_it_is_sent() -> None:
    from comfyreport.protocol.uploads import upload_body

    size = 10_000_000
    turns: list[int] = []
    body = upload_body(io.BytesIO(bytes(size)), size, "a.png", {})
    body.on_turn = lambda: turns.append(body.sent)
    assert max(map(len, body)) < 100_000
    assert turns == sorted(turns)
    assert (len(turns) > 100, turns[-1]) == (True, body.size)
    assert body.shown == {"image": {"filename": "a.png", "bytes": size}}
