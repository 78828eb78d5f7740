"""Files of the editor with the installed command: run, set, looked at, converted; what can't be is told its node."""

from __future__ import annotations

import gzip
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from comfyreport import run_generation
from comfyreport.simulator import Simulator
from tests.e2e.driver import Driver
from tests.e2e.installation import ROOT
from tests.workflow.convert.files import HOST, File, Link, pairs, server as declared
from tests.workflow.media import png, video

pytestmark = pytest.mark.e2e

EDITOR_FILE = ROOT / "tests" / "data" / "workflow" / "editor.ui.json"
EDITOR = json.loads(EDITOR_FILE.read_text(encoding="utf-8"))
PAIR = pairs()["hm_13_subgraph_nested"]
NOWHERE = "http://127.0.0.1:1"


class Asked:
    """How often the server was asked for its classes, and what they are; a test may change them."""

    def __init__(self) -> None:
        self.count = 0
        self.classes = declared()

    def __call__(self, present: object) -> dict[str, Any]:
        self.count += 1
        return dict(self.classes)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The simulated server declares what a real one does."""
    found = Asked()
    monkeypatch.setattr("comfyreport.simulator.server.object_info", found)
    return found


@pytest.fixture
def simulated(driver: Driver, asked: Asked) -> Iterator[Driver]:
    with Simulator(speed=200) as simulator:
        driver.server = simulator.url
        yield driver


def submitted(driver: Driver) -> list[tuple[Any, Any]]:
    """The prompts that the server took, each with its extra data."""
    with requests.Session() as session:
        session.trust_env = False
        entries = session.get(f"{driver.server}/history", timeout=10).json().values()
    return [(entry["prompt"][2], entry["prompt"][3]) for entry in entries]


def canvas() -> File:
    """A picture whose size is a subgraph's, and whose batch is a primitive's."""
    inner = File().node(
        1, "EmptyImage", [64, 32, 1, 0], inputs={"width": None}, widgets=("width",), types="INT", outputs="IMAGE"
    )
    file = File().subgraph(inner, {"size": ("INT", [Link(1, 0)])}, {"image": ("IMAGE", Link(1))})
    file.node(5, HOST, [128], inputs={"size": None}, widgets=("size",), types="INT", title="Canvas", outputs="IMAGE")
    return file.node(9, "SaveImage", ["x"], inputs={"images": Link(5)}, types="IMAGE", title="Keep", outputs="")


# --- runs


@pytest.mark.parametrize("name", ["file", "stdin", "png", "mp4", "python"])
def test_it_runs(simulated: Driver, name: str) -> None:
    ui = PAIR["ui"]
    path = simulated.path("w.json", ui)
    if name == "python":
        assert run_generation(ui, server=simulated.server, quiet=True, learn=False).status == "success"
    elif name == "stdin":
        with path.open("rb") as stdin:
            assert simulated.run("--workflow", "-", stdin=stdin).code == 0
    else:
        make: dict[str, Callable[[dict[str, str]], bytes]] = {"png": png, "mp4": lambda texts: video("mp4", texts)}
        if name in make:
            path.write_bytes(make[name]({"workflow": json.dumps(ui)}))
        ended = simulated.run("--workflow", path)
        assert ended.code == 0, ended.err
        assert [event for event in ended.of("warning") if event["code"] == "not_submitted"] == []
    ((graph, extra),) = submitted(simulated)
    assert graph == PAIR["api"]
    assert extra["extra_pnginfo"] == {"workflow": ui}


def test_what_the_editor_shows_is_set(simulated: Driver) -> None:
    path = simulated.path("w.json", canvas().content())
    words = ("--set", "Canvas.size=256", "--set", "1.height=48", "--set", "Keep.filename_prefix=y")
    ended = simulated.run("--workflow", path, *words)
    assert ended.code == 0, ended.err
    ((graph, _),) = submitted(simulated)
    assert (graph["5:1"]["inputs"]["width"], graph["5:1"]["inputs"]["height"]) == (256, 48)
    assert graph["9"]["inputs"]["filename_prefix"] == "y"
    set_there = {(each["node_id"], each["name"]): each["value"] for each in ended.result["inputs"]}
    assert set_there == {("5:1", "width"): 256, ("5:1", "height"): 48, ("9", "filename_prefix"): "y"}


def test_the_short_flags(simulated: Driver) -> None:
    words = ("--prompt", "a stone jar", "--seed", "7", "--size", "64x32", "--dry-run")
    ended = simulated.run("--workflow", EDITOR_FILE, *words, stream=False)
    assert ended.code == 0, ended.err
    body = json.loads(ended.out)
    graph = body["prompt"]
    assert graph["2"]["inputs"]["text"] == "a stone jar"
    assert (graph["5"]["inputs"]["seed"], graph["4"]["inputs"]["width"]) == (7, 64)
    assert body["extra_data"]["extra_pnginfo"]["workflow"] == EDITOR
    assert submitted(simulated) == []


def test_it_is_not_recorded_and_the_recording_plays(simulated: Driver) -> None:
    ended = simulated.run("--workflow", simulated.path("w.json", canvas().content()), "--record", "run.recording")
    assert ended.code == 0, ended.err
    text = simulated.path("run.recording").read_text(encoding="utf-8")
    assert "/object_info" not in text
    assert "/system_stats" not in text
    again = simulated.run("replay", "run.recording", "--speed", "0")
    assert (again.code, again.result["status"]) == (0, "success")


def test_a_plugin_prepares_what_was_converted(simulated: Driver) -> None:
    simulated.path(
        "halves.py",
        "from comfyreport import hookimpl\n\n\n@hookimpl\ndef comfyreport_prepare(workflow, options):\n"
        "    workflow['5:1']['inputs']['width'] //= 2\n",
    )
    path = simulated.path("w.json", canvas().content())
    ended = simulated.run("--workflow", path, "-p", "halves", env={"PYTHONPATH": os.fspath(simulated.folder)})
    assert ended.code == 0, ended.err
    assert submitted(simulated)[0][0]["5:1"]["inputs"]["width"] == 64


def test_the_simulator_runs_what_it_knows(driver: Driver) -> None:
    ended = driver.run("--workflow", EDITOR_FILE, "--server", "sim", env={"COMFYREPORT_SIM_SPEED": "200"})
    assert ended.code == 0, ended.err


def test_the_simulator_says_what_to_do_where_it_does_not(driver: Driver) -> None:
    path = driver.path("w.json", File().node(4, "LatentUpscale", ["nearest-exact", 64, 64, "disabled"]).content())
    for more in ((), ("--dry-run",)):
        ended = driver.run("--workflow", path, "--server", "sim", "--reporter", "console", *more, stream=False)
        assert ended.code == 2, ended.err
        assert "node 4 (LatentUpscale)" in ended.err
        assert "comfyreport convert FILE" in ended.err


# --- the server that isn't there, or isn't yet


def test_without_a_server(driver: Driver) -> None:
    ended = driver.run("--workflow", EDITOR_FILE, "--server", NOWHERE)
    assert (ended.code, ended.result["status"], ended.result["submitted"]) == (3, "unreachable", "no")
    assert "nothing listens at" in ended.result["error"]["message"]
    assert "editor's format" in ended.result["error"]["message"]
    for command in ("inspect", "convert"):
        done = driver.run(command, EDITOR_FILE, "--server", NOWHERE, stream=False)
        assert done.code == 3, done.err
        assert "editor's format" in done.err


def test_a_server_is_waited_for(driver: Driver, asked: Asked) -> None:
    with Simulator(speed=200) as simulator:
        port = int(simulator.url.rpartition(":")[2])
    running = driver.start(
        "--workflow", driver.path("w.json", canvas().content()), "--wait-for-server", "60", "--server",
        f"http://127.0.0.1:{port}",
    )  # fmt: skip
    time.sleep(2)
    with Simulator(port=port, speed=200):
        ended = running.end()
    assert ended.code == 0, ended.err


def test_ctrl_c_while_it_is_waited_for(driver: Driver) -> None:
    running = driver.start("--workflow", EDITOR_FILE, "--wait-for-server", "600", "--server", NOWHERE)
    running.wait_for_type("stream_started")
    time.sleep(1)
    running.signal(signal.SIGINT)
    ended = running.end(30)
    assert (ended.code, ended.result["status"], ended.result["submitted"]) == (130, "cancelled", "no")


# --- what is kept


def test_the_classes_are_kept_and_asked_for_again_where_they_do_not_fit(simulated: Driver, asked: Asked) -> None:
    cache = simulated.path("cache")
    env = {"COMFYREPORT_CACHE": os.fspath(cache)}
    path = simulated.path("w.json", canvas().content())

    def run() -> int:
        return simulated.run("--workflow", path, env=env, stream=False).code

    assert (run(), asked.count) == (0, 1)
    assert (run(), asked.count) == (0, 1)
    assert simulated.run("convert", path, env=env, stream=False).code == 0
    assert asked.count == 1
    assert simulated.run("inspect", path, env=env, stream=False).code == 0
    assert asked.count == 2
    (kept,) = (cache / "object_info").iterdir()
    # What is old lacks a class.
    content = json.loads(gzip.decompress(kept.read_bytes()))
    del content["object_info"]["EmptyImage"]
    kept.write_bytes(gzip.compress(json.dumps(content).encode()))
    assert (run(), asked.count) == (0, 3)
    kept.write_bytes(b"broken")
    assert (run(), asked.count) == (0, 4)
    assert (run(), asked.count) == (0, 4)


# --- convert and inspect


def test_convert(simulated: Driver, tmp_path: Path) -> None:
    path = simulated.path("w.json", PAIR["ui"])
    done = simulated.run("convert", path, stream=False)
    assert (done.code, json.loads(done.out)) == (0, PAIR["api"])
    done = simulated.run("convert", path, "-o", "deep/er/api.json", stream=False)
    assert (done.code, done.out) == (0, "deep/er/api.json\n")
    written = simulated.folder / "deep" / "er" / "api.json"
    assert json.loads(written.read_text(encoding="utf-8")) == PAIR["api"]
    # As --output has it: the file that was named is replaced.
    written.write_text("old", encoding="utf-8")
    assert simulated.run("convert", path, "-o", written, stream=False).code == 0
    assert simulated.run("--workflow", written).code == 0
    with path.open("rb") as stdin:
        assert json.loads(simulated.run("convert", "-", stdin=stdin, stream=False).out) == PAIR["api"]


def test_convert_offline(simulated: Driver, asked: Asked) -> None:
    done = simulated.run("inspect", "--save-object-info", "kept/info.json", stream=False)
    assert (done.code, done.out) == (0, "kept/info.json\n")
    kept = json.loads((simulated.folder / "kept" / "info.json").read_text(encoding="utf-8"))
    assert (kept.keys(), kept["KSampler"]) == (asked.classes.keys(), asked.classes["KSampler"])
    path = simulated.path("w.json", PAIR["ui"])
    words = ("--object-info", "kept/info.json", "--server", NOWHERE)
    done = simulated.run("convert", path, *words, stream=False)
    assert (done.code, json.loads(done.out)) == (0, PAIR["api"])
    done = simulated.run("inspect", path, "--save-object-info", "info.json", stream=False)
    assert done.code == 0
    assert "problems" in done.out
    assert simulated.path("info.json").exists()


BAD: dict[str, tuple[tuple[str, ...], int, str]] = {
    "API format": (("convert", "api.json"), 2, "api.json is in API format already"),
    "over itself": (("convert", "w.json", "-o", "w.json"), 2, "both use"),
    "over the classes": (("convert", "w.json", "-o", "i.json", "--object-info", "i.json"), 2, "both use"),
    "into a folder": (("convert", "w.json", "-o", "."), 2, "--output . can't be written"),
    "into nothing": (("convert", "w.json", "-o", ""), 2, "the name of the file is empty"),
    "no classes": (("convert", "w.json", "--object-info", "api.json"), 2, "isn't what a server answers"),
    "no such classes": (("convert", "w.json", "--object-info", "none.json"), 2, "can't be read"),
    "no file": (("convert", "none.json"), 2, "none.json doesn't exist"),
    "no name": (("convert",), 2, "required: FILE"),
    "nothing to inspect": (("inspect",), 2, "required: WORKFLOW"),
    "classes of nobody": (("inspect", "--save-object-info", "x.json", "--server", NOWHERE), 3, "nothing listens"),
    "classes of the simulator": (("inspect", "--save-object-info", "x.json", "--server", "sim"), 2, "simulator"),
    "classes over the workflow": (("inspect", "w.json", "--save-object-info", "w.json"), 2, "both use"),
    "both on stdout": (("inspect", "w.json", "--save-object-info", "-"), 2, "both use stdout"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_can_not_be_done(simulated: Driver, name: str) -> None:
    words, code, text = BAD[name]
    before = {"w.json": json.dumps(EDITOR), "api.json": json.dumps(PAIR["api"]), "i.json": json.dumps(declared())}
    for file, content in before.items():
        simulated.path(file, content)
    done = simulated.run(*words, stream=False)
    assert done.code == code, done.err
    assert text in done.err
    assert done.err.count("  Hint: ") == 1
    assert done.out == ""
    assert {file: simulated.path(file).read_text(encoding="utf-8") for file in before} == before
    assert not simulated.path("x.json").exists()


def test_inspect_shows_what_the_editor_does(simulated: Driver) -> None:
    path = simulated.path("w.json", canvas().content())
    done = simulated.run("inspect", path, stream=False)
    assert done.code == 0, done.err
    assert '  5 "Canvas"\n    size sets 5:1.width (EmptyImage): 128\n' in done.out
    (node,) = json.loads(simulated.run("inspect", path, "--json", stream=False).out)["editor_nodes"]
    assert (node["node_id"], node["title"]) == ("5", "Canvas")
    assert [place["node_id"] for place in node["sets"]["size"]] == ["5:1"]


# --- what can't be converted

HOSTILE = "\x1b[31mgone\r\n\u202e{prompt_id}" + "x" * 500


def _cycle() -> Any:
    inner = File().node(1, HOST, title="Again").content()
    return {**File().node(7, HOST, title="Outer").content(), "definitions": {"subgraphs": [{**inner, "id": HOST}]}}


def _nowhere() -> Any:
    content = File().node(9, "VAEDecode", inputs={"samples": Link(1)}, title="Last").content()
    return {**content, "links": []}


def _two_of_an_id() -> Any:
    file = canvas().content()
    file["nodes"].append({"id": "5:1", "type": "EmptyImage", "title": "Twin", "widgets_values": [8, 8, 1, 0]})
    return file


def _missing_subgraph() -> Any:
    return {**canvas().content(), "definitions": {}}


def _two_definitions() -> Any:
    file = canvas().content()
    file["definitions"]["subgraphs"].append({**file["definitions"]["subgraphs"][0], "name": "Other", "nodes": []})
    return file


def _opening_without_end() -> Any:
    levels = [{"id": f"{level}x", "nodes": [{"id": node, "type": f"{level + 1}x"} for node in range(10)], "links": []}
              for level in range(40)]  # fmt: skip
    levels.append({"id": "40x", "nodes": [{"id": 1, "type": "EmptyImage"}], "links": []})
    return {"nodes": [{"id": 1, "type": "0x"}], "links": [], "definitions": {"subgraphs": levels}}


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a cycle of subgraphs": (_cycle, '"Again"'),
    "a link to nowhere": (_nowhere, 'node 9 ("Last", VAEDecode)'),
    "a missing class": (lambda: File().node(4, "KSamplr", title="Mine").content(), 'node 4 ("Mine", KSamplr)'),
    "a list of the wrong length": (
        lambda: File().node(3, "KSampler", [1, "euler", 20], title="Sampler").content(), 'node 3 ("Sampler", KSampler)',
    ),
    "two nodes of an id": (_two_of_an_id, "two nodes have the id 5:1"),
    "a subgraph that isn't there": (_missing_subgraph, 'node 5 ("Canvas", 11111111-2222'),
    "two subgraphs of an id": (_two_definitions, 'the subgraph "Other"'),
    "subgraphs that open without end": (_opening_without_end, "its subgraphs open into more than 100000 nodes"),
    "braces without end": (
        lambda: File().node(6, "CLIPTextEncode", ["{" * 100_000], title="Text").content(), 'node 6 ("Text", CLIP',
    ),
    "a hostile title": (lambda: File().node(3, HOSTILE, title=HOSTILE).content(), "node 3 ("),
}  # fmt: skip


HOSTILE_CLASSES: dict[str, Any] = {
    "no object": "x",
    "nothing": None,
    "an order of numbers": {"input": {"required": {"width": ["INT", {}]}}, "input_order": {"required": 5}},
    "an order of lists": {"input": {"required": {"width": ["INT", {}]}}, "input_order": {"required": [[1]]}},
    "a widget of no kind": {"input": {"required": {"width": ["INT", {"widgetType": ["x"]}]}}},
    "choices of a number": {"input": {"required": {"width": ["COMFY_DYNAMICCOMBO_V3", {"options": 5}]}}},
}


@pytest.mark.parametrize("name", HOSTILE_CLASSES)
def test_whatever_a_server_declares_no_fault_is_told(simulated: Driver, asked: Asked, name: str) -> None:
    asked.classes = {"EmptyImage": HOSTILE_CLASSES[name]}
    path = simulated.path("w.json", File().node(1, "EmptyImage", [64]).content())
    done = simulated.run("convert", path, stream=False)
    assert done.code in (0, 2), done.err
    assert done.code == 0 or "node 1 (EmptyImage)" in done.err
    assert "near is" not in done.err


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_node(simulated: Driver, name: str) -> None:
    make, place = REFUSED[name]
    path = simulated.path("bad.json", make())
    ended = simulated.run("--workflow", path, "--reporter", "console")
    assert (ended.code, ended.result["status"], ended.result["submitted"]) == (2, "usage", "no")
    assert (ended.result["error"]["code"], ended.of("run_queued")) == ("workflow", [])
    for done in (ended, simulated.run("convert", path, stream=False), simulated.run("inspect", path, stream=False)):
        assert done.code == 2, done.err
        assert place in done.err
        assert done.err.count("  Hint: ") == 1
        assert "\x1b" not in done.err
        assert "\u202e" not in done.err
        assert done.out == ""
    assert submitted(simulated) == []
