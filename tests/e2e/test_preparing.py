"""Plugins that prepare, as the installed command loads them: flags of their own, workflows changed or refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from comfyreport.simulator import Simulator
from tests.e2e.comfyui_server import ComfyUI
from tests.e2e.driver import Driver, Ended
from tests.e2e.raw_client import txt2img
from tests.e2e.test_blocked_start import end_blocked, install
from tests.e2e.test_stuck import WORKFLOW

pytestmark = pytest.mark.e2e

PAINTER = """
import os
from comfyreport import UsageError, hookimpl

print("painter is imported")
with open("imports", "a") as file:
    file.write("once ")

@hookimpl
def comfyreport_addoption(parser):
    parser.add_argument("--colour", default="", help="what to paint with")

@hookimpl
def comfyreport_prepare(workflow, options):
    print("painter prepares")
    if options.colour == "none":
        raise UsageError("nothing to paint with", hint="give --colour")
    workflow["6"]["inputs"]["text"] += f" in {options.colour} for {options.server}"
"""
HANGS = "open('blocked', 'w').close()\n    while True: pass\n"
HEAD = "from comfyreport import hookimpl\n@hookimpl\n"


@pytest.fixture
def server(driver: Driver) -> Iterator[str]:
    """A simulated server, which the commands reach with a password that none may see."""
    with Simulator(speed=50) as simulator:
        driver.server = simulator.url.replace("http://", "http://user:hidden@")
        yield simulator.url


@pytest.fixture
def found(driver: Driver) -> dict[str, str]:
    """The environment that finds the modules of a test."""
    driver.path("painter.py", PAINTER)
    return {"PYTHONPATH": os.fspath(driver.folder)}


def submitted(server: str) -> list[Any]:
    """The graphs that a server was sent."""
    history = requests.get(f"{server}/history", timeout=10).json()
    return [entry["prompt"][2] for entry in history.values()]


def told(ended: Ended) -> tuple[int, str, str, str]:
    """How a run ended, with the reason."""
    result = ended.result
    assert "Traceback" not in ended.err
    return ended.code, result["status"], result["submitted"], result["error"]["message"]


def test_a_plugin_changes_what_is_submitted(driver: Driver, server: str, found: dict[str, str]) -> None:
    ended = driver.run(
        "--workflow", WORKFLOW, "--prompt", "a fox", "-p", "painter", "--colour", "teal", env=found, stream=False
    )
    assert ended.code == 0, ended.err
    (graph,) = submitted(server)
    assert graph["6"]["inputs"]["text"] == f"a fox in teal for {server}"
    # What it prints is no result.
    assert ended.out.startswith(f"{server}/view?")
    assert ended.err.index("painter is imported\n") < ended.err.index("painter prepares\n")
    assert (driver.folder / "imports").read_text() == "once "


def test_it_is_named_by_the_environment(driver: Driver, server: str, found: dict[str, str]) -> None:
    ended = driver.run("--workflow", WORKFLOW, "--colour=red", env=found | {"COMFYREPORT_PLUGINS": "painter"})
    assert (ended.code, ended.events[0]["reporters"]) == (0, ["painter", "jsonl"])
    assert " in red for " in submitted(server)[0]["6"]["inputs"]["text"]


def test_a_refusal_is_a_usage_error_in_its_words(driver: Driver, server: str, found: dict[str, str]) -> None:
    ended = driver.run("--workflow", WORKFLOW, "-p", "painter", "--colour", "none", env=found)
    assert told(ended) == (2, "usage", "no", "nothing to paint with")
    assert ended.result["error"]["hint"] == "give --colour"
    assert "comfyreport: nothing to paint with (give --colour)\n" in ended.err
    assert [event["type"] for event in ended.events] == ["stream_started", "run_finished", "stream_finished"]
    assert submitted(server) == []


def test_two_plugins_in_order_by_entry_points_and_factories(driver: Driver, server: str, found: dict[str, str]) -> None:
    source = (
        "from comfyreport import hookimpl\n"
        "class Guest:\n"
        "    @hookimpl\n"
        "    def comfyreport_addoption(self, parser):\n"
        "        parser.add_argument('--more', type=int, default=1)\n"
        "    @hookimpl\n"
        "    def comfyreport_prepare(self, workflow, options):\n"
        "        workflow['6']['inputs']['text'] += '!' * options.more\n"
        "        return dict(workflow)\n"
        "def guest():\n"
        "    return Guest()\n"
    )
    install(driver, "guest", source)
    words = ("-p", "painter", "-p", "guest", "--colour", "teal", "--more", "2")
    assert driver.run("--workflow", WORKFLOW, *words, env=found).code == 0
    assert submitted(server)[0]["6"]["inputs"]["text"].endswith(f" in teal for {server}!!")


BROKEN = {
    "raises": (f"{HEAD}def comfyreport_prepare():\n    1 / 0\n", "raised ZeroDivisionError: division by zero"),
    "exits": (f"{HEAD}def comfyreport_prepare():\n    raise SystemExit(0)\n", "raised SystemExit: 0"),
    "returns nonsense": (
        f"{HEAD}def comfyreport_prepare():\n    return [1]\n",
        "left what can't be used: the workflow holds no object",
    ),
    "empties it": (
        f"{HEAD}def comfyreport_prepare(workflow):\n    workflow.clear()\n",
        "left what can't be used: the workflow has no nodes",
    ),
    "takes too much": (f"{HEAD}def comfyreport_prepare(server):\n    pass\n", "doesn't fit the hooks"),
    "flag of ours": (
        f"{HEAD}def comfyreport_addoption(parser):\n    parser.add_argument('--prompt')\n",
        "plugin guest adds --prompt, which is comfyreport's own",
    ),
    "flag of another": (
        f"{HEAD}def comfyreport_addoption(parser):\n    parser.add_argument('--colour')\n",
        "plugins painter and guest both have",
    ),
    "asking raises": (
        f"{HEAD}def comfyreport_addoption(parser):\n    1 / 0\n",
        "plugin guest: comfyreport_addoption raised ZeroDivisionError",
    ),
}


@pytest.mark.parametrize(("source", "cause"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_named_and_nothing_is_submitted(
    driver: Driver, server: str, found: dict[str, str], source: str, cause: str
) -> None:
    driver.path("guest.py", source)
    code, status, sent, message = told(
        driver.run("--workflow", WORKFLOW, "-p", "painter", "-p", "guest", "--colour", "red", env=found)
    )
    assert (code, status, sent) == (2, "usage", "no")
    assert "guest" in message
    assert cause in message
    assert submitted(server) == []


def test_a_missing_plugin_is_told_rather_than_its_flags(driver: Driver, found: dict[str, str]) -> None:
    ended = driver.run("--workflow", WORKFLOW, "-p", "nowhere", "--limit", "3", env=found)
    assert told(ended)[:3] == (2, "usage", "no")
    assert "plugin nowhere can't be loaded" in told(ended)[3]


def test_unknown_flags_stay_usage_errors(driver: Driver, found: dict[str, str]) -> None:
    ended = driver.run("--workflow", WORKFLOW, "-p", "painter", "--color-of", "x", env=found)
    assert told(ended) == (2, "usage", "no", "unrecognized arguments: --color-of")
    ended = driver.run("--workflow", WORKFLOW, "--colour", "x", env=found, stream=False)
    assert (ended.code, ended.err.splitlines()[0]) == (2, "comfyreport: error: unrecognized arguments: --colour")
    assert (driver.folder / "imports").read_text() == "once "


def test_the_help_shows_its_flags(driver: Driver, found: dict[str, str]) -> None:
    ended = driver.run("--help", "-p", "painter", env=found, stream=False)
    assert (ended.code, ended.err) == (0, "painter is imported\n")
    assert "plugin painter:\n  --colour COLOUR" in ended.out
    ended = driver.run("attach", "--help", "-p", "nowhere", env=found, stream=False)
    assert ended.code == 2
    assert ended.out.startswith("usage: comfyreport attach")
    assert "plugin nowhere can't be loaded" in ended.err


def test_other_commands_take_its_flags_and_prepare_nothing(driver: Driver, found: dict[str, str]) -> None:
    ended = driver.run("replay", "--colour", "none", "txt2img", "--speed", "0", "-p", "painter", env=found)
    assert (ended.code, ended.result["status"]) == (0, "success")
    assert "painter prepares" not in ended.err


def test_a_reporter_with_these_hooks_is_refused(driver: Driver, found: dict[str, str]) -> None:
    source = f"{HEAD}def comfyreport_prepare():\n    pass\ndef guest():\n    import guest\n    return guest\n"
    install(driver, "guest", source)
    ended = driver.run("--workflow", WORKFLOW, "--reporter", "guest", env=found)
    assert told(ended)[:2] == (2, "usage")
    assert told(ended)[3].startswith("reporter guest: comfyreport_prepare is a hook of plugins")
    assert "-p guest" in ended.result["error"]["hint"]


@pytest.mark.parametrize("hook", ["addoption", "prepare"])
def test_a_hook_that_does_not_return_is_left_at_the_first_signal(
    driver: Driver, found: dict[str, str], hook: str
) -> None:
    driver.path("guest.py", f"{HEAD}def comfyreport_{hook}():\n    {HANGS}")
    end_blocked(driver, driver.start("--workflow", WORKFLOW, "--server", "sim", "-p", "guest", env=found))


def test_a_flag_whose_value_is_never_read_is_left_at_the_first_signal(driver: Driver, found: dict[str, str]) -> None:
    source = f"def slow(text):\n    {HANGS}{HEAD}def comfyreport_addoption(parser):\n"
    driver.path("guest.py", f"{source}    parser.add_argument('--slow', type=slow)\n")
    end_blocked(driver, driver.start("--workflow", WORKFLOW, "-p", "guest", "--slow", "x", env=found))


def test_files_are_still_each_for_one_use(driver: Driver, found: dict[str, str], tmp_path: Path) -> None:
    """The standard streams are moved by then, and are claimed as they were."""
    with (tmp_path / "all").open("wb") as out:
        process = driver.start(
            "--workflow", WORKFLOW, "--server", "sim", "-p", "painter", "--output", tmp_path / "all",
            "--reporter", "jsonl", env=found, stream=False, stdout=out,
        )  # fmt: skip
        ended = process.end()
    assert ended.code == 2
    assert "both" in ended.err or "is used" in ended.err, ended.err


@pytest.mark.real
def test_on_a_real_server(driver: Driver, comfyui: ComfyUI, found: dict[str, str]) -> None:
    (driver.folder / "w.json").write_text(json.dumps(txt2img(prefix="prepared")), encoding="utf-8")
    driver.server = comfyui.url
    command = ("--workflow", "w.json", "-p", "painter")
    ended = driver.run(*command, "--colour", "red", "--output", "made.png", env=found)
    assert ended.code == 0, ended.err
    made = driver.run("run", "--workflow", "made.png", "--dry-run", stream=False)
    assert json.loads(made.out)["prompt"]["6"]["inputs"]["text"].endswith(f" in red for {comfyui.url}")
    refused = driver.run(*command, "--colour", "none", env=found)
    assert (refused.code, refused.result["error"]["message"]) == (2, "nothing to paint with")
