"""Files of the editor and a real server: what becomes of them is accepted without a complaint, and runs."""

from __future__ import annotations

import json

import pytest

from tests.e2e.driver import Driver
from tests.e2e.raw_client import RawClient
from tests.workflow.convert.files import pairs
from tests.workflow.media import png

pytestmark = pytest.mark.real

# Each shows another thing that the editor has and a prompt lacks.
NAMES = (
    "hm_01_unicode_titles",
    "hm_04_primitive_seed",
    "hm_06_core_primitive_nodes",
    "hm_09_bypass_chain_reroute",
    "hm_10_notes_groups",
    "hm_13_subgraph_nested",
    "hm_17_subgraph_inner_modes_reroute_primitive",
    "hm_21_schema_version1",
    "hm_24_text_comments_single_choice",
    "hm_33_legacy_converted_widgets_edited",
    "hm_38_negative_zero_float_formats",
    "hm_42_subgraph_muted_promoted_chain",
)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_converted_is_accepted(real: Driver, raw: RawClient, name: str) -> None:
    pair = pairs()[name]
    done = real.run("convert", real.path("w.json", pair["ui"]), stream=False)
    assert done.code == 0, done.err
    prompt = json.loads(done.out)
    # Titles and widgets without a meaning to the server are those of its version.
    assert prompt.keys() == pair["api"].keys()
    answer = raw.post("/prompt", {"prompt": prompt})
    assert answer.status_code == 200, answer.text
    assert answer.json()["node_errors"] == {}


def test_one_runs_to_its_pictures(real: Driver) -> None:
    ui = pairs()["hm_13_subgraph_nested"]["ui"]
    ended = real.run("--workflow", real.path("w.json", ui), "--seed", "random", "--steps", "2", "--output", "made")
    assert ended.code == 0, ended.err
    assert ended.of("output_saved")
    made = [real.folder / each["output"]["path"] for each in ended.of("output_saved")]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)
    # And what it made is a workflow in its turn, by either half of its metadata.
    assert real.run("--workflow", made[0], "--dry-run", stream=False).code == 0
    again = real.path("again.png", png({"workflow": json.dumps(ui)}))
    done = real.run("--workflow", again, "--dry-run", stream=False)
    assert json.loads(done.out)["extra_data"]["extra_pnginfo"]["workflow"] == ui


def test_what_the_server_declares_is_saved_and_serves_without_it(real: Driver) -> None:
    assert real.run("inspect", "--save-object-info", "info.json", stream=False).code == 0
    path = real.path("w.json", pairs()["hm_12_subgraph_simple"]["ui"])
    offline = real.run("convert", path, "--object-info", "info.json", "--server", "127.0.0.1:1", stream=False)
    assert offline.code == 0, offline.err
    assert offline.out == real.run("convert", path, stream=False).out
