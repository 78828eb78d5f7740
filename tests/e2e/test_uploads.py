"""The installed command with files as inputs, and with a picture as its workflow."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from comfyreport.simulator import Simulator
from tests.e2e.driver import LIMIT, Driver
from tests.hostile.server import Hostile, Reply
from tests.workflow import media
from tests.workflow.media import EDITOR, GRAPH, png

pytestmark = pytest.mark.e2e

LOAD = {
    "10": {"class_type": "LoadImage", "inputs": {"image": "theirs.png"}, "_meta": {"title": "Person"}},
    "11": {"class_type": "LoadImageMask", "inputs": {"image": "theirs.png", "channel": "red"}},
    "12": {"class_type": "SaveImage", "inputs": {"images": ["10", 0], "mask": ["11", 0], "filename_prefix": "x"}},
}


@pytest.fixture
def simulated(driver: Driver) -> Iterator[Driver]:
    with Simulator(speed=50) as simulator:
        driver.server = simulator.url
        yield driver


def got(driver: Driver, path: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(f"{driver.server}{path}", timeout=10)


def submitted(driver: Driver) -> Any:
    """The body's parts of the prompt that the server took last."""
    return list(got(driver, "/history").json().values())[-1]["prompt"]


def there(driver: Driver, name: str) -> bytes | None:
    """The content of a file in the server's input folder."""
    answer = got(driver, f"/view?filename={name}&type=input")
    return answer.content if answer.status_code == 200 else None


def test_files_for_two_nodes(simulated: Driver) -> None:
    image, mask = png({"x": "image"}), png({"x": "mask"})
    simulated.path("a=1.png", image)
    simulated.path("m.png", mask)
    ended = simulated.follow(LOAD, "--image", "Person=a=1.png", "--mask", "m.png")
    assert ended.code == 0, ended.err
    graph = submitted(simulated)[2]
    assert [graph[each]["inputs"]["image"] for each in ("10", "11")] == ["a=1.png", "m.png"]
    assert (there(simulated, "a=1.png"), there(simulated, "m.png")) == (image, mask)


def test_a_name_that_is_taken_there_and_the_same_once_more(simulated: Driver) -> None:
    for content, name in ((png({"x": "1"}), "a.png"), (png({"x": "2"}), "a (1).png"), (png({"x": "1"}), "a.png")):
        simulated.path("a.png", content)
        ended = simulated.follow(LOAD, "--image", "10=a.png", "--mask", "a.png")
        assert ended.code == 0, ended.err
        graph = submitted(simulated)[2]
        assert [graph[each]["inputs"]["image"] for each in ("10", "11")] == [name, name]
        assert there(simulated, name) == content


def test_a_path_in_the_workflow(simulated: Driver) -> None:
    simulated.path("here.png", png())
    graph = {**LOAD, "10": {"class_type": "LoadImage", "inputs": {"image": str(simulated.folder / "here.png")}}}
    ended = simulated.follow(graph)
    assert ended.code == 0, ended.err
    assert [submitted(simulated)[2][each]["inputs"]["image"] for each in ("10", "11")] == ["here.png", "theirs.png"]
    assert there(simulated, "here.png") == png()


def test_a_recording_has_no_bytes_of_the_file_and_plays(simulated: Driver) -> None:
    simulated.path("a.png", png({"x": "y" * 100_000}))
    ended = simulated.follow(LOAD, "--image", "a.png", "--record", "run.rec")
    assert ended.code == 0, ended.err
    records = [json.loads(line) for line in (simulated.folder / "run.rec").read_text().splitlines()]
    (request,) = [each["request"] for each in records if each.get("path") == "/upload/image" and each["dir"] == "out"]
    size = (simulated.folder / "a.png").stat().st_size
    fields = {"type": "input", "subfolder": "", "overwrite": "false"}
    assert request == {**fields, "image": {"filename": "a.png", "bytes": size}}
    replayed = simulated.run("replay", "run.rec", "--speed", "0")
    assert replayed.code == 0
    kinds = [event["type"] for event in ended.events if event["type"] != "heartbeat"]
    assert [event["type"] for event in replayed.events] == kinds
    assert replayed.result["outputs"] == ended.result["outputs"]


@pytest.mark.parametrize("kind", ["png", "webp", "mp4", "opus"])
def test_what_comfyui_made_is_a_workflow(simulated: Driver, kind: str) -> None:
    made: dict[str, Callable[[], bytes]] = {
        "png": png,
        "webp": lambda: media.exif("webp"),
        "mp4": lambda: media.video("mp4"),
        "opus": lambda: media.sound("opus"),
    }
    simulated.path(f"made.{kind}", made[kind]())
    ended = simulated.run("--workflow", f"made.{kind}")
    assert ended.code == 0, ended.err
    _, _, graph, extra = submitted(simulated)[:4]
    assert {key: {**node, "_meta": {}} for key, node in graph.items()} == {
        key: {**node, "_meta": {}} for key, node in GRAPH.items()
    }
    assert extra["extra_pnginfo"] == {"workflow": EDITOR}


def test_a_video_where_nothing_is_installed_that_reads_it(simulated: Driver) -> None:
    simulated.path("av.py", "raise ModuleNotFoundError(name=__name__)")
    simulated.path("made.mp4", media.video("mp4"))
    ended = simulated.run("--workflow", "made.mp4", "--reporter", "console", env={"PYTHONPATH": str(simulated.folder)})
    assert ended.code == 2
    assert "made.mp4 is a file in the MP4 format" in ended.err
    assert 'pip install "comfyreport[media]"' in ended.err
    assert "Traceback" not in ended.err


def test_a_picture_on_stdin_that_is_the_input_too(simulated: Driver) -> None:
    path = simulated.path("made.png", png({"prompt": json.dumps(LOAD)}))
    with path.open("rb") as stdin:
        ended = simulated.run("--workflow", "-", "--image", "made.png", stdin=stdin)
    assert ended.code == 0, ended.err
    assert simulated.run("--workflow", "made.png", "--image", "made.png").code == 0
    assert submitted(simulated)[2]["10"]["inputs"]["image"] == "made.png"


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "missing": (("--image", "nowhere.png"), "nowhere.png doesn't exist"),
    "missing, for a node": (("--image", "10=nowhere.png"), "nowhere.png doesn't exist (10=nowhere.png)"),
    "missing on Windows": (("--image", r"C:\nowhere.png"), r"C:\nowhere.png doesn't exist"),
    "nothing": (("--image", "10="), "10= names no file"),
    "a folder": (("--image", "."), "is a folder"),
    "empty": (("--mask", "empty.png"), "empty.png is empty"),
    "no picture": (("--mask", "workflow.txt"), "workflow.txt is no picture"),
    "no video": (("--video", "workflow.txt"), "workflow.txt is no video"),
    "no such node": (("--image", "99=a.png"), "the workflow has no node '99'"),
    "no loader": (("--image", "12=a.png"), "node 12 (SaveImage) loads no image file"),
    "no loader at all": (("--audio", "a.mp3"), "no node of the workflow that leads to an output loads"),
    "two for one": (("--image", "a.png", "--image", "Person=b.png"), "node 10 takes one file"),
    "an output over it": (("--image", "a.png", "--output", "a.png"), "a.png"),
    "a picture without a workflow": (("--workflow", "a.png"), "a.png is a PNG picture that holds no workflow"),
    "the editor's alone, empty": (("--workflow", "editor.png"), "editor.png has no nodes that run"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_can_not_be_used(simulated: Driver, name: str) -> None:
    flags, text = BAD[name]
    simulated.path("a.png", png({"x": "a"}))
    simulated.path("b.png", png({"x": "b"}))
    simulated.path("a.mp3", media.sound("mp3"))
    simulated.path("empty.png", b"")
    simulated.path("workflow.txt", "text")
    simulated.path("editor.png", png({"workflow": '{"nodes": []}'}))
    given = flags if "--workflow" in flags else ("--workflow", str(simulated.path("w.json", LOAD)), *flags)
    ended = simulated.run(*given, "--reporter", "console")
    assert ended.code == 2, ended.err
    assert text in ended.err
    assert ended.err.count("  Hint: ") == 1
    assert "Traceback" not in ended.err
    assert (ended.result["status"], ended.result["submitted"]) == ("usage", "no")
    assert got(simulated, "/history").json() == {}
    assert there(simulated, "a.png") is None
    assert (simulated.folder / "a.png").read_bytes() == png({"x": "a"})


def test_a_ctrl_c_while_a_file_is_sent_submits_nothing(driver: Driver) -> None:
    arrived, released = threading.Event(), threading.Event()

    def upload(name: str) -> Reply:
        arrived.set()
        released.wait(LIMIT)
        return Reply({"name": name, "subfolder": "", "type": "input"})

    driver.path("a.png", png())
    with Hostile(upload=upload) as server:
        driver.server = server.url
        running = driver.begin(LOAD, "--image", "a.png")
        assert arrived.wait(LIMIT)
        running.signal()
        ended = running.end()
        released.set()
        assert ended.code == 130
        assert (ended.result["status"], ended.result["submitted"]) == ("cancelled", "no")
        assert server.body is None


def test_several_loaders_are_listed(simulated: Driver) -> None:
    graph = {**LOAD, "11": {"class_type": "LoadImage", "inputs": {"image": "theirs.png"}}}
    simulated.path("a.png", png())
    ended = simulated.follow(graph, "--image", "a.png", "--reporter", "console")
    assert ended.code == 2
    assert '10 (LoadImage "Person"), 11 (LoadImage)' in ended.err
    assert "--image 10=FILE" in ended.err
