"""All runs are checked, each thing once; errors name the axis, or the rows, and the nearest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from comfyreport.errors import UsageError
from comfyreport.inputs.declared import Declared, declared_inputs
from comfyreport.inputs.local_files import parse_given
from comfyreport.planning.checking import check_plan, check_with_server
from comfyreport.planning.plan import Plan, Wanted
from comfyreport.workflow.settings import Settings
from tests.planning.plans import plan_of

PNG = b"\x89PNG\r\n\x1a\n and so on"
INFO = {
    "KSampler": {
        "input": {
            "required": {
                "seed": ["INT", {"min": 0, "max": 2**64 - 1}],
                "steps": ["INT", {"min": 1, "max": 100}],
                "cfg": ["FLOAT", {"min": 0, "max": 30}],
            }
        }
    },
    "CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [["a.safetensors", "b.safetensors"]]}}},
    "CLIPTextEncode": {"input": {"required": {"text": ["STRING", {}]}}},
}


def ask(class_type: str) -> Mapping[str, Declared] | None:
    return declared_inputs(INFO, class_type)


def grid(*texts: str, workflows: tuple[str, ...] = ("w.json",)) -> Plan:
    return plan_of(Wanted(workflows=workflows, grid=texts))


def rows(text: str, **more: object) -> Plan:
    return plan_of(Wanted(**{"workflows": ("w.json",), "prompts": "p.csv", **more}), p_csv=text)  # type: ignore[arg-type]


def refused(plan: Plan, folder: str = "") -> list[str]:
    with pytest.raises(UsageError) as caught:
        check_plan(plan, folder)
    assert caught.value.hint
    return caught.value.message.split("\n")


def refused_by_server(plan: Plan) -> list[str]:
    check_plan(plan, "")
    with pytest.raises(UsageError) as caught:
        check_with_server(plan, ask)
    assert caught.value.hint
    return caught.value.message.split("\n")


def test_what_fits_passes() -> None:
    plan = rows("prompt,seed,3.cfg,size,model\na,1,5,64x32,\nb,random,6.5,,b.safetensors\n", grid=("steps=5,6",))
    check_plan(plan, "")
    check_with_server(plan, ask)


# --- against the workflow


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (("99.steps=1",), "--grid 99.steps: the workflow has no node '99'; near is 9"),
        (("CLIPTextEncode.text=a",), "--grid CLIPTextEncode.text could mean several nodes:"),
        (("3.cfg=5,x",), "--grid 3.cfg takes a number (there stands 8.0), not 'x'"),
        (("steps=1", "3.steps=2"), "steps and 3.steps both set 3.steps in w.json"),
        (("6.text=a", "Positive.text=b"), "6.text and Positive.text both set 6.text in w.json"),
    ],
)
def test_an_axis_that_does_not_fit(texts: tuple[str, ...], words: str) -> None:
    assert refused(grid(*texts))[0] == words


def test_the_workflow_is_named_where_there_are_several() -> None:
    plan = grid("steps=1,2", workflows=("w.json", "blur.json"))
    (line,) = refused(plan)
    assert line.startswith("--grid steps: the workflow has no place for --steps: ")
    assert line.endswith(" (in blur.json)")


def test_rows_that_do_not_fit() -> None:
    assert refused(rows("prompt,3.cfg\na,5\nb,x\nc,x\nd,6\ne,[1]\n")) == [
        "p.csv, line 3: 3.cfg takes a number (there stands 8.0), not 'x'",
        "  p.csv, line 4: 3.cfg takes a number (there stands 8.0), not 'x'",
        "  p.csv, line 6: 3.cfg takes a number (there stands 8.0), not '[1]'",
    ]
    (line,) = refused(rows("prompt,99.cfg\na,\nb,5\nc,6\n"))
    assert line == "p.csv, line 3: 99.cfg: the workflow has no node '99'; near is 9"


def test_a_column_and_an_axis_for_one_input() -> None:
    (line,) = refused(rows("prompt,6.clip,seed\na,,\nb,,5\n", grid=("3.seed=1,2",)))
    assert line == "p.csv, line 3: seed and 3.seed both set 3.seed in w.json"


def test_flags_are_checked_too() -> None:
    settings = Settings(assignments=("3.steps=x",))
    assert refused(plan_of(Wanted(workflows=("w.json",), settings=settings, grid=("seed=1,2",)))) == [
        "--set 3.steps takes a number (there stands 20), not 'x'"
    ]
    # Replaced, it is never used.
    check_plan(plan_of(Wanted(workflows=("w.json",), settings=settings, grid=("steps=1,2",))), "")


def test_the_last_repetition_is_looked_at() -> None:
    assert refused(plan_of(Wanted(workflows=("blur.json",), repeat=2)))[0].startswith("--repeat: no seed is found")


def test_files_for_loaders(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.png").write_bytes(b"no picture at all")
    folder = str(tmp_path)
    wanted = Wanted(workflows=("blur.json",), grid=("image=a.png,1=a.png",))
    check_plan(plan_of(wanted), folder)
    for texts, words in (
        (("image=a.png,b.png",), "--grid image: b.png is no picture"),
        (("image=gone.png",), "--grid image: gone.png doesn't exist"),
        (("mask=99=a.png",), "--grid mask: the workflow has no node '99'"),
        (("image=a.png", "1.image=x.png"), "--set and --image both set 1.image"),
    ):
        assert refused(plan_of(Wanted(workflows=("blur.json",), grid=texts)), folder)[0] == words
    plan = plan_of(Wanted(workflows=("blur.json",), prompts="p.csv"), p_csv="image\na.png\ngone.png\nb.png\n")
    assert refused(plan, folder) == [
        "p.csv, line 3: image: gone.png doesn't exist",
        "  p.csv, line 4: image: b.png is no picture",
    ]
    plan = plan_of(Wanted(workflows=("blur.json",), prompts="p.csv"), p_csv="image\n1=a.png\n99=a.png\n")
    assert refused(plan, folder) == ["p.csv, line 3: image: the workflow has no node '99'"]
    files = (parse_given("image", "gone.png"),)
    check_plan(plan_of(Wanted(workflows=("blur.json",), files=files, grid=("image=a.png",))), folder)


def test_outputs() -> None:
    wanted = Wanted(workflows=("w.json",), output="-", repeat=2)
    assert refused(plan_of(wanted)) == ["--output - takes the file of one run alone"]
    check_plan(plan_of(Wanted(workflows=("w.json",), output="-")), "")
    lines = refused(rows("output\na.png\nb/{x}.png\n-\n"))
    assert lines == [
        "p.csv, line 3: output: --output b/{x}.png: there is no field {x}",
        "  p.csv, line 4: output: --output - takes the file of one run alone",
    ]


# --- against the server


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (
            ("4.ckpt_name=a.safetensors,c.safetensors",),
            "--grid 4.ckpt_name can't be c.safetensors; nearest: b.safetensors, a.safetensors",
        ),
        (("model=a.safetensors,zzz",), "--grid model: 4.ckpt_name can't be zzz; allowed: a.safetensors, b.safetensors"),
        (("steps=1,101",), "--grid steps: 3.steps is at most 100, not 101"),
        (("3.seed=1.5",), "--grid 3.seed takes a whole number, not 1.5"),
        (("3.stepz=1,2",), "--grid 3.stepz: node 3 (KSampler) has no input 'stepz'; near is steps"),
    ],
)
def test_an_axis_that_the_server_does_not_take(texts: tuple[str, ...], words: str) -> None:
    assert refused_by_server(grid(*texts)) == [words]


def test_rows_that_the_server_does_not_take() -> None:
    assert refused_by_server(rows("prompt,model,steps\na,a.safetensors,5\nb,nope.ckpt,500\n")) == [
        "p.csv, line 3: model: 4.ckpt_name can't be nope.ckpt; allowed: a.safetensors, b.safetensors",
        "  p.csv, line 3: steps: 3.steps is at most 100, not 500",
    ]


def test_flags_that_the_server_does_not_take() -> None:
    wanted = Wanted(workflows=("w.json",), settings=Settings(steps=500), repeat=2)
    assert refused_by_server(plan_of(wanted)) == ["3.steps is at most 100, not 500"]


def test_a_server_that_does_not_tell_leaves_it_to_the_submission() -> None:
    plan = grid("model=x,y", "steps=500")
    check_plan(plan, "")
    check_with_server(plan, lambda class_type: None)


# --- each once


def test_what_many_runs_share_is_looked_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    looks: list[object] = []
    monkeypatch.setattr("comfyreport.planning.checking.look_at", lambda given, folder: looks.append(given))
    text = "image,2.blur_radius\n" + "a.png,5\n" * 100
    plan = plan_of(Wanted(workflows=("blur.json",), prompts="p.csv", grid=("3.filename_prefix=1..50",)), p_csv=text)
    assert len(plan) == 5000
    check_plan(plan, str(tmp_path))
    assert len(looks) == 1


def test_one_hundred_thousand_runs_ask_the_server_for_each_value_once() -> None:
    plan = grid("steps=1..100", "seed=1..1000")
    asked: Counter[str] = Counter()

    def counting(class_type: str) -> Mapping[str, Declared] | None:
        asked[class_type] += 1
        return ask(class_type)

    check_with_server(plan, counting)
    assert len(plan) == 100_000
    # Each value of both axes, and one run.
    assert asked == {"KSampler": 100 + 1000 + 2}
