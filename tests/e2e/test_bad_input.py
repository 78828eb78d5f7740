"""Everything that a user can get wrong before a run: a cause, a next step, the right exit code, nothing submitted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

from comfyreport.simulator import Simulator
from tests.e2e.driver import Driver, Ended
from tests.e2e.installation import ROOT

pytestmark = pytest.mark.e2e

GOOD = ROOT / "workflows" / "sd15-txt2img.json"
IMAGE = {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1}}
SAVE = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}
EDITOR = {"nodes": [{"id": 1, "type": "NoSuchNode"}], "links": [], "version": 0.4}
DEEP = "[" * 100_000 + "]" * 100_000
EXPORT = "Export (API)"


class Watched(NamedTuple):
    """A server that would take prompts, and a count of those that it took."""

    url: str

    def taken(self) -> int:
        with requests.Session() as session:
            session.trust_env = False
            queue = session.get(f"{self.url}/queue", timeout=10).json()
            history = session.get(f"{self.url}/history", timeout=10).json()
        return len(queue["queue_running"]) + len(queue["queue_pending"]) + len(history)


@pytest.fixture(scope="module")
def server() -> Iterator[Watched]:
    with Simulator(speed=50) as simulator:
        yield Watched(simulator.url)


@pytest.fixture
def bad(driver: Driver, server: Watched) -> Driver:
    driver.server = server.url
    return driver


def check_told(ended: Ended, code: int, *texts: str) -> None:
    """One line for the cause, a next step, no traceback; the texts stand in it."""
    assert ended.code == code, ended.err
    lines = ended.err.splitlines()
    causes = [line for line in lines if "[ERROR] " in line or line.startswith("comfyreport: error: ")]
    assert len(causes) == 1, ended.err
    hints = [line for line in lines if line.startswith("  Hint: ")]
    assert len(hints) == 1, ended.err
    assert "Traceback" not in ended.err
    for text in texts:
        assert text in ended.err, ended.err
    assert ended.out == ""


def check_stream(ended: Ended, status: str, error: str) -> None:
    """The stream, which was checked to be whole, has nothing of a run that was submitted."""
    result = ended.result
    assert (result["status"], result["submitted"], result["prompt_state"]) == (status, "no", "none")
    assert result["error"]["code"] == error
    assert "prompt_id" not in result
    assert not ended.of("run_queued")


# What is in the file, and what is told of it.
WORKFLOWS: dict[str, tuple[object, tuple[str, ...]]] = {
    "empty": ("", ("is empty", EXPORT)),
    "blank": (" \n\t ", ("is empty",)),
    "no JSON": ("a sunset over mountains", ("isn't JSON", "line 1")),
    "cut off": ('{"1": {"class_type": "EmptyImage", "inp', ("isn't JSON",)),
    "of the editor, with an unknown node": (EDITOR, ("node 1", "no class NoSuchNode", EXPORT)),
    "of the editor, posted": ({"prompt": EDITOR}, ("node 1", "no class NoSuchNode", EXPORT)),
    "a list": ([IMAGE], ("no object of nodes", "list")),
    "a text": ('"text"', ("no object of nodes",)),
    "null": ("null", ("no object of nodes", "null")),
    "a number": ("3", ("no object of nodes",)),
    "no nodes": ({}, ("no nodes",)),
    "a node that is no object": ({"1": "EmptyImage"}, ("node 1", "isn't an object")),
    "a node without a class": ({"1": {"inputs": {}}}, ("node 1", "no class_type")),
    "a node with a list of inputs": ({"1": {"class_type": "EmptyImage", "inputs": []}}, ("node 1", "inputs")),
    "a picture": (b"\x89PNG\r\n\x1a\n\xff\xfe", ("PNG picture", "cut off")),
    "no text": (b"\x00\xff\xfe", ("isn't UTF-8",)),
    "nested without end": (DEEP, ("nested too deep",)),
    "a huge number": ('{"1": ' + "9" * 5000 + "}", ("digits",)),
}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_that_can_not_be_used(bad: Driver, server: Watched, name: str) -> None:
    content, texts = WORKFLOWS[name]
    before = server.taken()
    ended = bad.run("--workflow", bad.path("bad.json", content), "--reporter", "console")
    check_told(ended, 2, "bad.json", *texts)
    check_stream(ended, "usage", "workflow")
    assert server.taken() == before


def test_a_workflow_that_is_not_there(bad: Driver) -> None:
    ended = bad.run("--workflow", "nowhere.json", "--reporter", "console")
    check_told(ended, 2, "nowhere.json doesn't exist")
    check_stream(ended, "usage", "workflow")


def test_a_workflow_without_a_name(bad: Driver) -> None:
    """As from a shell's variable that isn't set."""
    ended = bad.run("--workflow", "", "--reporter", "console")
    check_told(ended, 2, "the workflow's name is empty")


def test_nothing_can_be_followed_on_a_server_for_one_command(bad: Driver) -> None:
    ended = bad.run("attach", "x", "--server", "sim", "--reporter", "console")
    check_told(ended, 2, "has no prompt to follow", "comfyreport simulate")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_why_an_output_was_not_saved_is_told_to_quiet_users_too(bad: Driver) -> None:
    ended = bad.run("--workflow", GOOD, "--output", "/dev/full", "--quiet")
    assert (ended.code, ended.result["error"]["code"]) == (8, "download_failed")
    assert "(No space left on device)" in ended.err


def test_a_workflow_that_is_a_folder(bad: Driver) -> None:
    ended = bad.run("--workflow", bad.folder, "--reporter", "console")
    check_told(ended, 2, "is a folder")
    check_stream(ended, "usage", "workflow")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_workflow_that_may_not_be_read(bad: Driver) -> None:
    path = bad.path("secret.json", {"1": IMAGE})
    path.chmod(0)
    check_told(bad.run("--workflow", path, "--reporter", "console"), 2, "may not be read")


def test_a_workflow_without_outputs_is_the_server_s_to_refuse(bad: Driver, server: Watched) -> None:
    before = server.taken()
    ended = bad.follow({"1": IMAGE}, "--reporter", "console")
    check_told(ended, 4, "no outputs")
    result = ended.result
    assert (result["status"], result["submitted"]) == ("rejected", "no")
    assert server.taken() == before


def test_a_link_to_nowhere(bad: Driver, server: Watched) -> None:
    before = server.taken()
    ended = bad.follow({"9": {**SAVE, "inputs": {"images": ["77", 0]}}}, "--reporter", "console")
    check_told(ended, 4, "a link leads to node 77, which the workflow doesn't have")
    assert server.taken() == before


# Arguments besides a good workflow, what is told, and the error's code (empty: the stream is not asked for).
ARGUMENTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "a reporter that is misspelt": (("--reporter", "consol"), ("no reporter 'consol'", "did you mean console"), "r"),
    "a reporter like no other": (("--reporter", "zzz"), ("no reporter 'zzz'", "console, filelog, "), "r"),
    "a reporter without a name": (("--reporter", ""), ("no reporter ''",), "r"),
    "an option that is misspelt": (("--reporter", "jsonl=a.jsonl,detial=nodes"), ("detial", "detail"), "r"),
    "an option that is none": (("--reporter", "jsonl,colour=red"), ("colour", "detail"), "r"),
    "an option of another type": (("--reporter", "jsonl=a.jsonl,rate=fast"), ("rate", "'fast'", "number"), "r"),
    "an option with another value": (("--reporter", "jsonl=a.jsonl,detail=all"), ("detail", "summary"), "r"),
    "an option out of range": (("--reporter", "jsonl=a.jsonl,rate=-1"), ("rate",), "r"),
    "an option twice": (("--reporter", "jsonl=a,rate=1,rate=2"), ("twice",), "r"),
    "a destination that is missing": (("--reporter", "filelog"), ("filelog needs a destination",), "r"),
    "a destination that is empty": (("--reporter", "jsonl="), ("destination is empty",), "r"),
    "a destination that is a folder": (("--reporter", "jsonl=/"), ("can't write to /",), "r"),
    "a destination below a file": (("--reporter", "jsonl=/dev/null/x.jsonl"), ("can't write",), "r"),
    "a log below a file": (("--reporter", "filelog=/dev/null/x.log"), ("can't write",), "r"),
    "one destination twice": (("--reporter", "jsonl=a", "--reporter", "jsonl=./a"), ("both write to",), "r"),
    "stderr twice": (("--reporter", "jsonl=stderr"), ("console and jsonl both write to stderr",), "r"),
    "a plugin that is not there": (("-p", "no_such_plugin"), ("no_such_plugin", "ModuleNotFoundError"), "r"),
    "a plugin that can't be loaded": (("-p", "broken_plugin"), ("broken_plugin", "ZeroDivisionError"), "r"),
    "a plugin that leaves": (("-p", "leaving_plugin"), ("leaving_plugin",), "r"),
    "a plugin with a misspelt hook": (("-p", "misspelt_plugin"), ("comfyreport_run_finished",), "r"),
    "a plugin with an unmarked hook": (("-p", "unmarked_plugin"), ("@hookimpl",), "r"),
    "an output below a file": (("--output", "/dev/null/x.png"), ("--output", "/dev/null/x.png"), "usage"),
    "a recording below a file": (("--record", "/dev/null/x.rec"), ("/dev/null/x.rec",), "usage"),
    "a flag that is none": (("--workflw", "x"), ("unrecognized arguments: --workflw",), "usage"),
    "an abbreviated flag": (("--promp", "x"), ("unrecognized arguments: --promp",), "usage"),
    "a limit that is no number": (("--timeout", "soon"), ("--timeout", "soon"), "usage"),
    "a limit of nothing": (("--timeout", "0"), ("--timeout",), "usage"),
    "an estimate's limit of nothing": (("--max-eta", "0"), ("--max-eta",), "usage"),
    "a limit without end": (("--timeout", "nan"), ("--timeout",), "usage"),
    "a colour that is none": (("--color", "sometimes"), ("--color", "auto"), "usage"),
    "another scheme": (("--server", "ftp://127.0.0.1"), ("ftp://",), "usage"),
    "no host": (("--server", "http://:8188"), ("no host",), "usage"),
    "a port that is no number": (("--server", "127.0.0.1:comfy"), ("port is no number",), "usage"),
    "a port out of range": (("--server", "127.0.0.1:99999"), ("port",), "usage"),
    "a broken address": (("--server", "http://[::1"), ("--server",), "usage"),
    "an address of blanks": (("--server", "   "), ("--server",), "usage"),
}

PLUGINS = {
    "broken_plugin.py": "1 / 0",
    "leaving_plugin.py": "raise SystemExit(3)",
    "misspelt_plugin.py": (
        "from comfyreport import hookimpl\n@hookimpl\ndef comfyreport_run_finish(event):\n    pass\n"
    ),
    "unmarked_plugin.py": "def comfyreport_run_finished(event):\n    pass\n",
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_that_can_not_be_used(bad: Driver, server: Watched, name: str) -> None:
    words, texts, code = ARGUMENTS[name]
    for file, program in PLUGINS.items():
        bad.path(file, program)
    before = server.taken()
    env = {"PYTHONPATH": str(bad.folder)}
    ended = bad.run("--workflow", GOOD, "--reporter", "console", *words, env=env)
    check_told(ended, 2, *texts)
    check_stream(ended, "usage", {"r": "reporter"}.get(code, code))
    assert server.taken() == before


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (("--extra-data", "SECRET"), ("--extra-data", "KEY=VALUE")),
        (("--headers", "Authorization: Bearer SECRET"), ("unrecognized arguments: --headers",)),
        (("--token=SECRET",), ("unrecognized arguments: --token",)),
        (("--header", "Authorization:", "Bearer", "SECRET"), ("what stands behind --header",)),
        (("http://kim:SECRET@127.0.0.1:1",), ("what stands behind --workflow",)),
        (("--insecure=SECRET",), ("--insecure", "takes no value")),
        (("--header", "Authorization Basic kim:SECRET"), ("a header's name",)),
        (("--header", "Authorization Basic SECRET:kim"), ("a header's name",)),
        (("--server", "http:/kim:SECRET@127.0.0.1:1"), ("--server", "://")),
        (("--server", "http//kim:SECRET@127.0.0.1:1"), ("--server", "://")),
    ],
)
def test_what_may_be_secret_is_not_told(bad: Driver, words: tuple[str, ...], texts: tuple[str, ...]) -> None:
    ended = bad.run("--reporter", "console", "--workflow", GOOD, *words)
    check_told(ended, 2, *texts)
    check_stream(ended, "usage", "usage")
    assert "SECRET" not in f"{ended.err}{ended.events}"
    assert "SECRET" not in bad.run(*words, stream=False).err


def test_without_a_workflow(bad: Driver) -> None:
    check_told(bad.run(stream=False), 2, "--workflow", "--help")
    ended = bad.run("--reporter", "console")
    check_told(ended, 2, "--workflow")
    check_stream(ended, "usage", "usage")


def test_a_prompt_without_a_place(bad: Driver, server: Watched) -> None:
    before = server.taken()
    graph = {"1": IMAGE, "2": SAVE}
    ended = bad.follow(graph, "--prompt", "a kite", "--reporter", "console")
    check_told(ended, 2, "prompt")
    check_stream(ended, "usage", "workflow")
    assert server.taken() == before


def test_a_prompt_with_several_places(bad: Driver, server: Watched) -> None:
    graph: dict[str, Any] = json.loads(GOOD.read_text(encoding="utf-8"))
    (sampler,) = (key for key, node in graph.items() if node["class_type"] == "KSampler")
    first = graph[sampler]["inputs"]["positive"]
    graph["90"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "another one", "clip": ["4", 1]}}
    both = {"conditioning_1": first, "conditioning_2": ["90", 0]}
    graph["91"] = {"class_type": "ConditioningCombine", "inputs": both}
    graph[sampler]["inputs"]["positive"] = ["91", 0]
    before = server.taken()
    ended = bad.follow(graph, "--prompt", "a kite", "--reporter", "console")
    assert ended.code == 2
    assert "another one" in ended.err
    check_stream(ended, "usage", "workflow")
    assert server.taken() == before


def test_every_reporter_that_could_be_opened_is_told_the_end(bad: Driver) -> None:
    paths = [bad.folder / name for name in ("first.jsonl", "second.jsonl")]
    ended = bad.run(
        "--workflow", "nowhere.json", "--json-progress", "--reporter", f"jsonl={paths[0]}",
        "--reporter", "jsonl=/dev/null/x", "--reporter", f"jsonl={paths[1]}", stream=False,
    )  # fmt: skip
    assert ended.code == 2
    for text in (ended.out, *(path.read_text(encoding="utf-8") for path in paths)):
        events = bad.checker.whole(text)
        assert [event["type"] for event in events] == ["stream_started", "run_finished", "stream_finished"]
        assert [event["exit_code"] for event in events[1:]] == [2, 2]
    assert "can't write to /dev/null/x" in ended.err


@pytest.mark.parametrize("content", ["", "no JSON\n", "[]\n", '{"kind": 3}\n', "{}\n", "\x00\x01"])
def test_a_recording_that_is_none(bad: Driver, content: str) -> None:
    ended = bad.run("replay", bad.path("bad.rec", content), "--reporter", "console")
    check_told(ended, 2, "bad.rec")
    check_stream(ended, "usage", "usage")


def test_a_recording_that_is_not_there(bad: Driver) -> None:
    ended = bad.run("replay", "nowhere.rec", "--reporter", "console")
    check_told(ended, 2, "nowhere.rec")
    check_stream(ended, "usage", "usage")


@pytest.mark.parametrize(
    "words",
    [("replay",), ("replay", "a", "b"), ("replay", "a", "--speed", "-1"), ("replay", "a", "--speed", "inf")],
)
def test_bad_arguments_of_replay(bad: Driver, words: tuple[str, ...]) -> None:
    check_told(bad.run(*words, stream=False), 2, "--help")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("reporters", "consol"), "no reporter 'consol'"),
        (("reporters", "--jsn"), "--jsn"),
        (("timings", "--clera"), "--clera"),
        (("schema", "more"), "more"),
        (("simulate", "--port", "70000"), "--port"),
        (("simulate", "--port", "web"), "--port"),
        (("simulate", "--speed", "0"), "--speed"),
    ],
)
def test_bad_arguments_of_the_other_commands(bad: Driver, words: tuple[str, ...], text: str) -> None:
    check_told(bad.run(*words, stream=False), 2, text)


def test_a_port_that_is_taken(bad: Driver, server: Watched) -> None:
    port = server.url.rpartition(":")[2]
    check_told(bad.run("simulate", "--port", port, stream=False), 2, f"port {port} can't be used", "--port")


def test_nothing_is_left_behind(bad: Driver) -> None:
    """What could not be used leaves no file and no folder."""
    before = set(bad.folder.rglob("*"))
    bad.run("--workflow", "nowhere.json", "--output", "made/picture.png", "--record", "made.rec", stream=False)
    after = {path.relative_to(bad.folder) for path in set(bad.folder.rglob("*")) - before}
    assert {path for path in after if not path.parts[0].startswith("process-")} == set[Path]()
