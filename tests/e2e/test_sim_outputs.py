"""The installed command's outputs on the simulator: templates, replacing, sidecars, pictures of the socket."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator

import pytest

from tests.e2e.comfyui_server import poll
from tests.e2e.driver import LIMIT, Driver
from tests.e2e.installation import ROOT

pytestmark = pytest.mark.e2e

TXT2IMG = ROOT / "workflows" / "sd15-txt2img.json"
EMPTY = {"class_type": "EmptyImage", "inputs": {"width": 32, "height": 32, "batch_size": 3, "color": 0}}


@pytest.fixture
def simulated(driver: Driver) -> Iterator[Driver]:
    """The driver of a simulated server that stays."""
    running = driver.start("simulate", "--port", "0", "--speed", "50", stream=False)
    poll(lambda: "\n" in running.text("out"), LIMIT, "the simulator's address")
    driver.server = running.text("out").strip()
    yield driver
    running.process.kill()


def graph(**nodes: str) -> dict[str, object]:
    """Three pictures, and nodes of these classes that take them: `n3="SaveImage"`."""
    takers = {
        name[1:]: {"class_type": kind, "inputs": {"images": ["1", 0], "filename_prefix": "made"}}
        for name, kind in nodes.items()
    }
    return {"1": EMPTY, **takers}


def files(driver: Driver, folder: str) -> list[str]:
    return sorted(os.listdir(driver.folder / folder))


def test_a_template_names_each_file(simulated: Driver) -> None:
    workflow = simulated.path("w.json", json.dumps(graph(n3="SaveImage")))
    ended = simulated.run("--workflow", workflow, "--output", "made/{{x}}/{node}-{index:02}.{ext}")
    assert ended.code == 0, ended.err
    assert files(simulated, "made/{x}") == ["3-00.png", "3-01.png", "3-02.png"]
    again = simulated.run("--workflow", workflow, "--output", "made/{{x}}/{node}-{index:02}.{ext}")
    assert again.out.splitlines()[0] == "made/{x}/3-00-2.png"
    ended = simulated.run("--workflow", workflow, "--overwrite", "--output", "made/{{x}}/{node}-{index:02}")
    assert ended.out.splitlines()[0] == "made/{x}/3-00.png"
    assert len(files(simulated, "made/{x}")) == 6


@pytest.mark.parametrize("path", ["made/{sed}.png", "made/{", "{title:9}"])
def test_a_template_that_cant_be_understood_is_told_before_anything_is_submitted(driver: Driver, path: str) -> None:
    ended = driver.run("--workflow", TXT2IMG, "--server", "sim", "--output", path)
    assert (ended.code, ended.result["submitted"]) == (2, "no")
    assert ended.events[-1]["exit_code"] == 2
    if "sed" in path:
        assert all(name in ended.result["error"]["hint"] for name in ("{seed}", "{prompt_id}", "{filename}", "{ext}"))
    assert not (driver.folder / "made").exists()


def test_pictures_of_the_socket_are_saved_and_need_an_output(simulated: Driver) -> None:
    workflow = simulated.path("w.json", json.dumps(graph(n3="SaveImageWebsocket")))
    ended = simulated.run("--workflow", workflow, "--output", "made/")
    assert ended.code == 0, ended.err
    assert files(simulated, "made") == [f"SaveImageWebsocket_3_0000{number}_.png" for number in (1, 2, 3)]
    assert all((simulated.folder / path).read_bytes().startswith(b"\x89PNG") for path in ended.out.splitlines())
    workflow = simulated.path("w2.json", json.dumps(graph(n4="SaveImageWebsocket")))
    ended = simulated.run("--workflow", workflow)
    assert (ended.code, ended.out) == (0, "")
    assert [event["code"] for event in ended.of("warning")] == ["no_outputs"]


def test_temporary_files_are_results_where_that_is_asked_for(simulated: Driver) -> None:
    workflow = simulated.path("w.json", json.dumps(graph(n3="SaveImage", n4="PreviewImage")))
    without = simulated.run("--workflow", workflow, "--output", "without/")
    included = simulated.run("--workflow", workflow, "--output", "with/", "--include-temp")
    assert (without.code, included.code) == (0, 0)
    assert (len(files(simulated, "without")), len(files(simulated, "with"))) == (3, 6)
    assert len(included.out.splitlines()) == 6


def test_files_are_saved_while_later_nodes_run(driver: Driver) -> None:
    nodes = {
        **graph(n2="SaveImage"),
        "3": {
            "class_type": "ProbeProgress",
            "inputs": {"image": ["1", 0], "mode": "normal", "count": 20, "delay": 0.1},
        },
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "late"}},
    }
    workflow = driver.path("w.json", json.dumps(nodes))
    ended = driver.run("--workflow", workflow, "--server", "sim", "--output", "made/")
    assert ended.code == 0, ended.err
    kinds = [event["type"] for event in ended.events]
    last_node = len(kinds) - kinds[::-1].index("node_finished")
    early = [event for event in ended.events[:last_node] if event["type"] == "output_saved"]
    assert {event["output"]["node_id"] for event in early} >= {"2"}
    assert [output["node_id"] for output in ended.result["outputs"]] == ["2", "2", "2", "4", "4", "4"]
    assert all("path" in output for output in ended.result["outputs"])


def test_a_sidecar_has_a_command_that_makes_it_again_and_nothing_secret(simulated: Driver) -> None:
    ended = simulated.run(
        "--workflow", TXT2IMG, "--prompt", "a red kite", "--output", "out.png", "--sidecar",
        "--header", "Authorization: Bearer s3cret-token", "--extra-data", "api_key=s3cret-key",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    text = (simulated.folder / "out.png.json").read_text(encoding="utf-8")
    told = json.loads(text)
    assert "s3cret" not in text
    assert told["seed"] == ended.of("run_queued")[0]["seed"]
    assert (told["prompt_id"], told["server"]) == (ended.result["prompt_id"], simulated.server)
    assert told["node_seconds"] == ended.result["node_seconds"]
    first = (simulated.folder / "out.png").read_bytes()
    (simulated.folder / "out.png").unlink()
    again = simulated.run(*shlex.split(told["command"])[1:])
    assert again.code == 0, again.err
    assert (simulated.folder / "out.png").read_bytes() == first


def test_a_sidecar_without_an_output_is_a_usage_error(driver: Driver) -> None:
    ended = driver.run("--workflow", TXT2IMG, "--server", "sim", "--sidecar")
    assert (ended.code, ended.result["error"]["hint"]) == (2, "name them with --output")
