"""What the pages say is what the code does: tables, examples of data, finer counting."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import jsonschema
import pytest
from comfyreport_jsonl import jsonl

from comfyreport import NodeProgress, NodeRef, ProgressTracker, run_generation, run_many, to_line, wait_for_completion
from comfyreport.access.address import parse_address
from comfyreport.events import EXIT_CODES, EXIT_REPORTER_FAILED
from comfyreport.events.schema import json_schema
from comfyreport.listings.reporters import describe
from comfyreport.simulator import Simulator
from comfyreport.testing import play
from tests.docs.pages import BLOCKS, BY_NAME, Block, quoted

REPORTERS = (Path(__file__).parents[2] / "plugins").glob("comfyreport_*.py")


def test_exit_codes() -> None:
    rows = BY_NAME["docs/running.md"].rows("code")
    told: dict[int, set[str]] = {int(code): set(quoted(statuses)) for code, statuses, _ in rows}
    known: dict[int, set[str]] = {EXIT_REPORTER_FAILED: set()}
    for status, code in EXIT_CODES.items():
        known.setdefault(code, set()).add(status)
    assert told == known


def test_reporters() -> None:
    table = BY_NAME["docs/reporters.md"].rows("reporter")
    assert {quoted(name)[0] for name, *_ in table} == {path.stem.partition("_")[2] for path in REPORTERS}
    for name, _, destination, options in table:
        about = describe(quoted(name)[0])
        assert (about["default_destination"] or "must be given" * about["destination_required"]) == destination
        assert [option["name"] for option in about["options"]] == quoted(options)


def test_addresses() -> None:
    for written, meant in BY_NAME["docs/servers.md"].rows("you write"):
        if written != "`sim`":
            assert parse_address(quoted(written)[0]).base == quoted(meant)[0]


def test_arguments() -> None:
    callables = (run_generation, wait_for_completion, ProgressTracker)
    told: list[set[str]] = [set(), set(), set()]
    for name, *cells in BY_NAME["docs/python.md"].rows("argument"):
        for names, cell in zip(told, cells, strict=True):
            names.update(quoted(name) if cell else ())
    assert told == [set(inspect.signature(each).parameters) for each in callables]


def test_arguments_of_many_runs() -> None:
    told = [name for row in BY_NAME["docs/python.md"].rows("argument of `run_many`") for name in quoted(row[0])]
    assert set(told) == set(inspect.signature(run_many).parameters)


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "json" and not block.file], ids=lambda block: block.id
)
def test_json_lines(block: Block) -> None:
    line = json.loads(block.text)
    jsonschema.validate(line, json_schema())
    node = NodeRef(id="3", class_type="KSampler", title="KSampler")
    event = NodeProgress(
        seq=1, time=0.0, elapsed=0.0, prompt_id="p", node=node, step=5, max_steps=20, eta_seconds=12.0,
        steps_per_second=1.25,
    )  # fmt: skip
    assert list(line) == list(json.loads(to_line(event)))


def test_what_a_run_costs_a_reader() -> None:
    rows = BY_NAME["docs/agents.md"].rows("reporter")
    assert len(rows) == 3
    for reporter, *cells in rows:
        _, _, detail = quoted(reporter)[0].partition("detail=")
        told = play(jsonl, "txt2img", previews=False, detail=detail or "steps")
        for cell, cost in zip(cells, (told.count("\n"), len(told.encode())), strict=True):
            words, _, number = cell.rpartition(" ")
            most = int(number.replace(",", ""))
            assert cost <= most if words in ("at most", "under") else most * 0.8 < cost < most * 1.2, (reporter, cost)
    summary = [json.loads(line)["type"] for line in play(jsonl, "txt2img", detail="summary").splitlines()]
    assert summary.count("output_saved") == 1
    assert len(summary) == 5 + 1


def test_passes_names_and_cached_nodes(tmp_path: Path) -> None:
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
        "2": {
            "class_type": "ProbeProgress",
            "inputs": {"image": ["1", 0], "mode": "restart", "count": 3, "delay": 0.2},
            "_meta": {"title": "Two rounds"},
        },
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "readme"}},
    }
    told = []
    # A newer server tells of the second round of one bar its end alone.
    with Simulator(speed=20, version="0.3.64") as simulator:
        for name in ("first", "second"):
            path = tmp_path / name
            run_generation(graph, server=simulator.url, reporters=[f"console={path}"])
            told.append(path.read_text(encoding="utf-8"))
    assert re.search(r"\[INFO\] Node: Two rounds\n\[PROGRESS\] Two rounds: 1/3 steps \(33%\) - ETA: \d+s\n", told[0])
    assert "[PROGRESS] Two rounds (pass 2): 1/3 steps (33%)" in told[0]
    assert re.search(r"\[INFO\] Done: Two rounds in \d+\.\ds\n", told[0])
    assert "[INFO] 3 nodes cached\n" in told[1]
    assert re.search(r"\[OK\] Generation complete in \S+ \(0 executed, 3 cached: same inputs as before\)\n", told[1])
