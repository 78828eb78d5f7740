"""`--dry-run` of many runs: one body a line, all of them or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from comfyreport.cli.main import main

WORKFLOWS = Path(__file__).parents[2] / "workflows"
TXT2IMG = WORKFLOWS / "sd15-txt2img.json"


def run(capfd: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, list[dict[str, Any]], str]:
    """`main` with these words: its exit code, the graphs that it printed, and stderr."""
    code = main([*(str(word) for word in words), "--dry-run", "--server", "sim"])
    out, err = capfd.readouterr()
    return code, [json.loads(line)["prompt"] for line in out.splitlines()], err


def test_each_run_is_a_line(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    prompts = tmp_path / "p.csv"
    prompts.write_text('prompt,3.cfg\n"a jar, of stone",7\na bowl,\n')
    code, graphs, err = run(capfd, "--workflow", TXT2IMG, "--prompts", prompts, "--grid", "seed=1,2", "--repeat", "2")
    assert (code, err) == (0, "")
    found = [
        (graph["6"]["inputs"]["text"], graph["3"]["inputs"]["cfg"], graph["3"]["inputs"]["seed"]) for graph in graphs
    ]
    assert found == [
        *(("a jar, of stone", 7, seed) for seed in (1, 2, 2, 3)),
        *(("a bowl", 8, seed) for seed in (1, 2, 2, 3)),
    ]


def test_several_workflows(capfd: pytest.CaptureFixture[str]) -> None:
    code, graphs, _ = run(capfd, "--workflow", TXT2IMG, "--workflow", WORKFLOWS / "image-ops.json")
    assert code == 0
    assert ["KSampler" in str(graph) for graph in graphs] == [True, False]


def test_one_run_is_a_line_as_well(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(capfd, "--workflow", TXT2IMG, "--keep-going")[1] == run(capfd, "--workflow", TXT2IMG)[1]


def test_nothing_is_printed_where_one_run_is_bad(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "a"}\n{"prompt": "b", "steps": "x"}\n')
    code, graphs, err = run(capfd, "--workflow", TXT2IMG, "--prompts", prompts)
    assert (code, graphs) == (2, [])
    assert err.splitlines()[0].endswith("p.jsonl, line 2: steps: 'x' is no whole number from 1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--grid", "9.nope=1,2"),
            "--grid 9.nope: node 9 (SaveImage) has no input 'nope'; it has filename_prefix, images",
        ),
        (("--repeat", "2", "--record", "r"), "--record keeps what crosses the wire in one run, and there are 2"),
        (("--repeat", "2", "--output", "-"), "--output - takes the file of one run alone"),
    ],
)
def test_what_can_not_be_run(capfd: pytest.CaptureFixture[str], words: tuple[str, ...], message: str) -> None:
    code, graphs, err = run(capfd, "--workflow", TXT2IMG, *words)
    assert (code, graphs) == (2, [])
    assert err.splitlines()[0] == f"comfyreport: error: {message}"


def test_secrets_are_not_printed(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    graph = json.loads(TXT2IMG.read_text())
    graph["20"] = {"class_type": "Paid", "inputs": {"api_key": "", "image": ["8", 0]}}
    workflow = tmp_path / "w.json"
    workflow.write_text(json.dumps(graph))
    code, graphs, _ = run(capfd, "--workflow", workflow, "--grid", "20.api_key=secret-1,secret-2")
    assert code == 0
    assert [each["20"]["inputs"]["api_key"] for each in graphs] == ["[removed]"] * 2
