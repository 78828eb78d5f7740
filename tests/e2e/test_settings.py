"""What goes into a workflow from the command line, as the server gets it; and what is refused before that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from comfyreport.simulator import Simulator
from tests.e2e.comfyui_server import ComfyUI
from tests.e2e.driver import Driver, Ended
from tests.e2e.installation import ROOT
from tests.e2e.raw_client import txt2img

pytestmark = pytest.mark.e2e

TXT2IMG = ROOT / "workflows" / "sd15-txt2img.json"
HIRES = ROOT / "workflows" / "hires-fix.json"
ALL = (
    "--prompt", "a red fox", "--negative", "blurry", "--seed", "42", "--steps", "4", "--size", "64x128", "--batch", "2",
    "--set", "KSampler.cfg=3.5", "--set", "9.filename_prefix=set",
)  # fmt: skip
SET = {
    ("6", "text"): "a red fox", ("7", "text"): "blurry", ("3", "seed"): 42, ("3", "steps"): 4, ("5", "width"): 64,
    ("5", "height"): 128, ("5", "batch_size"): 2, ("3", "cfg"): 3.5, ("9", "filename_prefix"): "set",
}  # fmt: skip


@pytest.fixture
def simulated(driver: Driver) -> Iterator[Driver]:
    with Simulator(speed=50) as simulator:
        driver.server = simulator.url
        yield driver


def get(driver: Driver, path: str) -> Any:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(f"{driver.server}{path}", timeout=10).json()


def submitted(driver: Driver) -> dict[str, Any]:
    """The graph of the one prompt that the server took."""
    (entry,) = get(driver, "/history").values()
    graph: dict[str, Any] = entry["prompt"][2]
    return graph


def changed(graph: dict[str, Any], path: Path = TXT2IMG) -> dict[tuple[str, str], Any]:
    """The inputs of *graph* that aren't those of the file."""
    before = json.loads(path.read_text(encoding="utf-8"))
    return {
        (key, name): value
        for key, node in graph.items()
        for name, value in node["inputs"].items()
        if value != before[key]["inputs"].get(name)
    }


def refused(driver: Driver, *arguments: str | Path, code: int = 2) -> str:
    """What is told of a run that is refused before anything is submitted."""
    ended = driver.run(*arguments)
    assert ended.code == code, ended.err
    assert (ended.result["status"], ended.result["submitted"]) == ("usage", "no")
    assert get(driver, "/history") == {}
    return str(ended.result["error"]["message"])


def test_everything_at_once(simulated: Driver) -> None:
    ended = simulated.run("--workflow", TXT2IMG, *ALL)
    assert ended.code == 0, ended.err
    assert changed(submitted(simulated)) == SET
    assert ended.of("run_queued")[0]["seed"] == ended.result["seed"] == 42


def test_a_random_seed_is_told(simulated: Driver) -> None:
    seeds = {simulated.run("--workflow", TXT2IMG, "--seed", "random").result["seed"] for _ in range(3)}
    assert len(seeds) == 3
    assert all(0 <= seed < 2**53 for seed in seeds)
    kept = simulated.run("--workflow", TXT2IMG, "--seed", "keep")
    assert kept.result["seed"] == json.loads(TXT2IMG.read_text(encoding="utf-8"))["3"]["inputs"]["seed"]


def test_texts_from_files_and_stdin(simulated: Driver) -> None:
    (simulated.folder / "prompt.txt").write_text("Grüße\nan den Fuchs\n", encoding="utf-8")
    (simulated.folder / "no.txt").write_text("blurry", encoding="utf-8")
    with (simulated.folder / "prompt.txt").open("rb") as stdin:
        ended = simulated.run("--workflow", TXT2IMG, "--prompt-file", "-", "--set", "7.text=@no.txt", stdin=stdin)
    assert ended.code == 0, ended.err
    assert changed(submitted(simulated)) == {("6", "text"): "Grüße\nan den Fuchs", ("7", "text"): "blurry"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "KSamplr.seed=1"], "no node 'KSamplr'; near is KSampler"),
        (["--set", "3.seed=five"], "3.seed takes a number"),
        (["--set", "CLIPTextEncode.text=x"], "could mean several nodes"),
        (["--set", "3.sampler_name=eulr"], "3.sampler_name can't be eulr; nearest: euler"),
        (["--set", "3.stepz=5"], "has no input 'stepz'; near is steps"),
        (["--set", "3.steps=2.5"], "3.steps takes a whole number"),
        (["--set", "6.text=@gone.txt"], "gone.txt can't be read: No such file"),
        (["--prompt-file", "."], "can't be read: Is a directory"),
        (["--set", "6"], "isn't NODE.INPUT=VALUE"),
    ],
)
def test_what_is_refused(simulated: Driver, arguments: list[str], words: str) -> None:
    assert words in refused(simulated, "--workflow", TXT2IMG, *arguments)


def test_what_is_not_clear_is_listed(simulated: Driver) -> None:
    message = refused(simulated, "--workflow", HIRES, "--steps", "9")
    assert '3.steps (KSampler "KSampler (first pass)"): 20' in message
    assert '11.steps (KSampler "KSampler (second pass)"): 14' in message


def test_stdin_comes_once(simulated: Driver) -> None:
    for arguments in (["--prompt-file", "-", "--set", "7.text=@-"], ["--set", "6.text=@-", "--set", "7.text=@-"]):
        assert "stdin can't be read by" in refused(simulated, "--workflow", TXT2IMG, *arguments)
    assert plain(simulated, "run", "--workflow", "-", "--prompt-file", "-", "--dry-run").code == 2


def test_one_input_is_set_once(simulated: Driver) -> None:
    (simulated.folder / "mine.png").write_bytes(b"\x89PNG\r\n\x1a\n rest")
    command = ("--workflow", ROOT / "workflows" / "img2img.json", "--image", "mine.png", "--set", "10.image=other.png")
    assert "--set and --image both set 10.image" in refused(simulated, *command)


def test_hostile_names_and_secrets_are_not_shown(simulated: Driver) -> None:
    graph = {
        "1": {"class_type": "Odd", "inputs": {"x\x1b]0;A\x07\nB": 1, "api_key": "sk-SECRET.safetensors"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }
    (simulated.folder / "w.json").write_text(json.dumps(graph), encoding="utf-8")
    for ended in (plain(simulated, "inspect", "w.json"), plain(simulated, "inspect", "w.json", "--json")):
        assert ended.code == 0
        assert "\x1b" not in ended.out
        assert "SECRET" not in ended.out
    ended = plain(simulated, "run", "--workflow", "w.json", "--dry-run", "--server", "sim")
    assert (ended.code, "SECRET" in ended.out) == (0, False)
    several = plain(simulated, "run", "--workflow", TXT2IMG, "--dry-run", "--set", "CLIPTextEncode.text=x")
    assert len(several.err.splitlines()) == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seed", "-1"], ["--seed", "2.5"], ["--seed", "99999999999999999999"], ["--steps", "0"], ["--steps", "many"],
        ["--size", "512"], ["--size", "0x512"], ["--size", "512x"], ["--batch", "0"],
        ["--prompt", "a", "--prompt-file", "b"],
    ],
)  # fmt: skip
def test_flags_that_make_no_sense(simulated: Driver, arguments: list[str]) -> None:
    ended = simulated.run("--workflow", TXT2IMG, *arguments)
    assert ended.code == 2
    assert arguments[0] in ended.result["error"]["message"] or "not allowed with" in ended.result["error"]["message"]


def test_a_prompt_file_is_no_place_for_outputs(simulated: Driver) -> None:
    (simulated.folder / "prompt.txt").write_text("a fox", encoding="utf-8")
    message = refused(simulated, "--workflow", TXT2IMG, "--prompt-file", "prompt.txt", "--output", "prompt.txt")
    assert "prompt.txt" in message
    assert (simulated.folder / "prompt.txt").read_text(encoding="utf-8") == "a fox"


def plain(driver: Driver, *arguments: str | Path) -> Ended:
    return driver.run(*arguments, stream=False)


def test_a_dry_run_prints_the_body_and_submits_nothing(simulated: Driver) -> None:
    ended = plain(simulated, "run", "--workflow", TXT2IMG, *ALL, "--dry-run", "--extra-data", "api_key=secret-key-1")
    assert (ended.code, ended.err) == (0, "")
    body = json.loads(ended.out)
    assert changed(body["prompt"]) == SET
    assert body["extra_data"] == {"api_key": "[removed]"}
    assert get(simulated, "/history") == {}


def test_a_dry_run_names_files_and_sends_none(simulated: Driver) -> None:
    (simulated.folder / "mine.png").write_bytes(b"\x89PNG\r\n\x1a\n rest")
    command = ("run", "--workflow", ROOT / "workflows" / "img2img.json", "--dry-run")
    ended = plain(simulated, *command, "--image", "mine.png")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["prompt"]["10"]["inputs"]["image"] == "mine.png"
    assert plain(simulated, *command, "--image", "gone.png").code == 2


def test_a_dry_run_without_a_server(driver: Driver) -> None:
    nowhere = {"COMFYREPORT_SERVER": "http://127.0.0.1:1"}
    command = ("run", "--workflow", TXT2IMG, "--dry-run")
    ended = driver.run(*command, "--steps", "3", stream=False, env=nowhere)
    assert ended.code == 0, ended.err
    assert changed(json.loads(ended.out)["prompt"]) == {("3", "steps"): 3}
    ended = driver.run(*command, "--set", "3.x=1", stream=False, env=nowhere)
    assert (ended.code, ended.out) == (2, "")
    assert "has no input 'x'" in ended.err
    assert driver.run(*command, "--server", "127.0.0.1:1", stream=False).code == 3


def test_a_dry_run_of_what_no_server_takes(driver: Driver) -> None:
    graph = json.loads(TXT2IMG.read_text(encoding="utf-8"))
    graph["3"]["inputs"]["latent_image"] = ["gone", 0]
    graph["4"]["inputs"]["x"] = ["9", 0]
    (driver.folder / "w.json").write_text(json.dumps(graph), encoding="utf-8")
    nowhere = {"COMFYREPORT_SERVER": "http://127.0.0.1:1"}
    ended = driver.run("run", "--workflow", "w.json", "--dry-run", stream=False, env=nowhere)
    assert ended.code == 2
    assert "3.latent_image (KSampler) is linked to node gone" in ended.err
    assert "depends on itself" in ended.err


def test_inspect(simulated: Driver) -> None:
    ended = plain(simulated, "inspect", TXT2IMG)
    assert ended.code == 0, ended.err
    assert "  --seed      3.seed (KSampler): " in ended.out
    told = json.loads(plain(simulated, "inspect", TXT2IMG, "--json").out)
    assert told["server"] == {"url": simulated.server, "reached": True}
    assert [place["input"] for place in told["names"]["size"]["sets"]] == ["width", "height"]
    assert told["models"][0]["value"] == "v1-5-pruned-emaonly-fp16.safetensors"
    assert [node["node_id"] for node in told["outputs"]] == ["9"]


@pytest.mark.parametrize("command", [["inspect", "gone.json"], ["run", "--workflow", "gone.json", "--dry-run"]])
def test_a_workflow_that_is_not_there(driver: Driver, command: list[str]) -> None:
    ended = driver.run(*command, stream=False)
    assert (ended.code, ended.out) == (2, "")
    assert "gone.json doesn't exist" in ended.err


@pytest.mark.real
def test_on_a_real_server(driver: Driver, comfyui: ComfyUI) -> None:
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "before"}},
    }
    (driver.folder / "w.json").write_text(json.dumps(graph), encoding="utf-8")
    driver.server = comfyui.url
    changes = ("--set", "EmptyImage.color=255", "--set", "1.width=32", "--set", "2.filename_prefix=5", "--output", "o/")
    ended = driver.run("--workflow", "w.json", *changes)
    assert ended.code == 0, ended.err
    (output,) = ended.result["outputs"]
    assert output["filename"].startswith("5_"), "a text stays one, though it is a number"
    assert (driver.folder / output["path"]).read_bytes()[16:24] == (32).to_bytes(4, "big") + (64).to_bytes(4, "big")
    for assignment, words in {
        "1.width=99999999": "1.width is at most ",
        "1.width=1.5": "1.width takes a whole number",
        "1.wide=5": "has no input 'wide'; near is width",
    }.items():
        assert words in driver.run("--workflow", "w.json", "--set", assignment).result["error"]["message"]
    dry = driver.run("run", "--workflow", "w.json", "--dry-run", "--set", "1.width=0", stream=False)
    assert (dry.code, dry.out) == (2, "")
    graph["3"] = {"class_type": "EmptyImagge", "inputs": {}}
    (driver.folder / "w.json").write_text(json.dumps(graph), encoding="utf-8")
    dry = driver.run("run", "--workflow", "w.json", "--dry-run", stream=False)
    assert dry.code == 4
    assert "the server has no class EmptyImagge; near is EmptyImage" in dry.err
    problems = json.loads(driver.run("inspect", "w.json", "--json", stream=False).out)["problems"]
    assert [(each["code"], each["node_id"]) for each in problems] == [("missing_node", "3")]


@pytest.mark.real
def test_the_short_names_on_a_real_server(driver: Driver, comfyui: ComfyUI) -> None:
    graph = txt2img(prefix="named")
    (driver.folder / "w.json").write_text(json.dumps(graph), encoding="utf-8")
    driver.server = comfyui.url
    names = ("--prompt", "a red fox", "--negative", "grey", "--seed", "7", "--steps", "2", "--size", "64x128")
    command = ("--workflow", "w.json", *names, "--batch", "2", "--output", "o/{seed}-{index}.{ext}")
    ended = driver.run(*command)
    assert ended.code == 0, ended.err
    assert ended.result["seed"] == 7
    first, second = ended.result["outputs"]
    assert [Path(each["path"]).name for each in (first, second)] == ["7-0.png", "7-1.png"]
    assert (driver.folder / first["path"]).read_bytes()[16:24] == (64).to_bytes(4, "big") + (128).to_bytes(4, "big")
    assert [event["max_steps"] for event in ended.of("node_progress")][-1] == 2
    # The picture itself is a workflow: the same is made of it, and one input is set in it.
    again = driver.run("--workflow", first["path"], "--output", "again/")
    assert (again.code, again.result["seed"]) == (0, 7), again.err
    body = json.loads(driver.run("run", "--workflow", first["path"], "--dry-run", "--seed", "8", stream=False).out)
    assert body["prompt"]["6"]["inputs"]["text"] == "a red fox"
    assert body["prompt"]["3"]["inputs"]["seed"] == 8
    refused = driver.run("--workflow", "w.json", "--model", "nowhere.safetensors")
    assert refused.code == 2
    assert "4.ckpt_name can't be nowhere.safetensors; " in refused.result["error"]["message"]
