"""A plan is made: what it is made of, its fingerprint, and what is refused before there is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from comfyreport.errors import UsageError
from comfyreport.inputs.local_files import parse_given
from comfyreport.planning.making import make_plan, reading
from comfyreport.planning.plan import Wanted
from comfyreport.workflow.settings import Settings
from tests.planning.plans import load, plan_of

FULL = Wanted(
    workflows=("w.json",),
    settings=Settings(seed=5, assignments=("7.text=@n.txt",)),
    files=(parse_given("image", "a.png"),),
    output="out/",
    repeat=2,
    grid=("steps=1,2",),
    prompts="p.txt",
)


def fingerprint(wanted: Wanted, prompts: str = "a\n", negative: str = "n") -> str:
    return plan_of(wanted, p_txt=prompts, n_txt=negative).fingerprint


def test_the_same_runs_have_the_same_fingerprint() -> None:
    assert fingerprint(FULL) == fingerprint(replace(FULL))
    assert len(fingerprint(FULL)) == 64


@pytest.mark.parametrize(
    "changed",
    [
        {"workflows": ("v.json",)},
        {"workflows": ("w.json", "v.json")},
        {"settings": replace(FULL.settings, seed=6)},
        {"settings": replace(FULL.settings, inputs={"3.cfg": 5})},
        {"files": ()},
        {"files": (parse_given("image", "b.png"),)},
        {"output": None},
        {"repeat": 3},
        {"grid": ("steps=1,3",)},
    ],
)
def test_other_runs_have_another_fingerprint(changed: dict[str, Any]) -> None:
    assert fingerprint(replace(FULL, **changed)) != fingerprint(FULL)


def test_what_files_hold_is_in_the_fingerprint() -> None:
    assert fingerprint(FULL, prompts="b\n") != fingerprint(FULL)
    assert fingerprint(FULL, negative="m") != fingerprint(FULL)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted(), "there is no workflow"),
        (Wanted(workflows=("w.json",), repeat=0), "--repeat 0 is no whole number from 1"),
        (
            Wanted(workflows=("w.json",), grid=("seed=1..2000", "steps=1..1000")),
            "that makes 2,000,000 runs, and a command makes at most 1,000,000",
        ),
        (Wanted(workflows=("w.json",), repeat=10**9), "that makes 1,000,000,000 runs"),
        (
            Wanted(workflows=("w.json",), grid=("prompt=a,b",), prompts="p.txt"),
            "--grid prompt and the column prompt of p.txt set the same input",
        ),
        (Wanted(workflows=("-",), prompts="-"), "stdin can't be read by --workflow and --prompts"),
        (
            Wanted(workflows=("w.json",), prompts="-", grid=("6.text=@-",)),
            "stdin can't be read by --prompts and --grid",
        ),
        (
            Wanted(workflows=("w.json",), settings=Settings(prompt_file="-", assignments=("7.text=@-",))),
            "stdin can't be read by --prompt-file and --set",
        ),
        (Wanted(workflows=("gone.json",)), "gone.json doesn't exist"),
        (Wanted(workflows=("w.json",), prompts="gone.txt"), "gone.txt can't be read"),
        (Wanted(workflows=("w.json",), settings=Settings(assignments=("steps",))), "--set 'steps' isn't NODE.INPUT"),
    ],
)
def test_what_makes_no_plan(wanted: Wanted, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_of(wanted, p_txt="a\n")
    assert caught.value.message.startswith(words)
    assert caught.value.hint


def test_workflows_of_rows_that_can_not_be_read() -> None:
    rows = "prompt,workflow\na,gone.json\nb,\nc,gone.json\nd,-\ne,w.json\n"
    with pytest.raises(UsageError) as caught:
        plan_of(Wanted(prompts="p.csv"), p_csv=rows)
    assert caught.value.message.split("\n") == [
        "p.csv, line 2: workflow: gone.json doesn't exist",
        "  p.csv, line 3: no workflow is named",
        "  p.csv, line 4: workflow: gone.json doesn't exist",
        "  p.csv, line 5: workflow: stdin is no file",
    ]


def test_files_are_read_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"jar\r\nbowl")
    read = reading(str(tmp_path))
    plan = make_plan(Wanted(workflows=("w.json",), prompts="p.txt"), load=load, read=read, entropy=1)
    assert [run.settings.prompt for run in plan] == ["jar", "bowl"]
    with pytest.raises(UsageError, match=r"p\.txt is larger than 0 MiB"):
        read("p.txt", 3)
    with pytest.raises(UsageError, match=r"gone\.txt can't be read: No such file"):
        read("gone.txt", 3)
    with pytest.raises(UsageError, match="the name of the file is empty"):
        read("", 3)
