"""The runs of a plan: their order, what each sets, their seeds, and what is told of them."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport.errors import UsageError, WorkflowError
from comfyreport.inputs.local_files import parse_given
from comfyreport.planning.plan import Plan, PlannedRun, Wanted, draw_seed
from comfyreport.workflow.settings import MAX_SEED, Settings, find_settings
from tests.planning.plans import BLUR, TXT2IMG, plan_of


def told(plan: Plan) -> list[str]:
    """What tells each run from the others."""
    return [" ".join(f"{name}={value}" for name, value in run.inputs) for run in plan]


def values(run: PlannedRun) -> dict[str, Any]:
    """All inputs of a run that differ from the workflow's."""
    found = find_settings(run.loaded.graph, run.settings, lambda path: f"read {path}")
    return {f"{target.node}.{target.name}": setting.value for target, setting in found.items()}


# --- which runs, in which order


def test_one_run() -> None:
    (run,) = plan_of(Wanted(workflows=("w.json",), output="out.png"))
    assert (run.index, run.workflow, run.output, run.inputs, run.model) == (1, "w.json", "out.png", (), "a.safetensors")
    assert values(run) == {}


def test_the_order_is_workflow_row_grid_repetition() -> None:
    wanted = Wanted(
        workflows=("w.json", "v.json"), prompts="p.txt", grid=("steps=1,2", "3.cfg=5,6"), repeat=2
    )  # fmt: skip
    plan = plan_of(wanted, p_txt="jar\nbowl\n")
    assert len(plan) == 2 * 2 * 4 * 2
    lines = told(plan)
    assert lines[:5] == [
        "workflow=w.json prompt=jar steps=1 3.cfg=5 seed=100",
        "workflow=w.json prompt=jar steps=1 3.cfg=5 seed=101",
        "workflow=w.json prompt=jar steps=1 3.cfg=6 seed=100",
        "workflow=w.json prompt=jar steps=1 3.cfg=6 seed=101",
        "workflow=w.json prompt=jar steps=2 3.cfg=5 seed=100",
    ]
    assert lines[8].startswith("workflow=w.json prompt=bowl steps=1")
    assert lines[16].startswith("workflow=v.json prompt=jar steps=1")
    assert [run.index for run in plan] == list(range(1, 33))
    assert {run.model for run in plan[:16]} == {"a.safetensors"}
    assert {run.model for run in plan[16:]} == {"b.safetensors"}
    assert plan[0].loaded is plan[15].loaded


def test_a_plan_is_a_sequence() -> None:
    plan = plan_of(Wanted(workflows=("w.json",), grid=("seed=1..5",)))
    assert plan[-1].settings.seed == 5
    assert [run.settings.seed for run in plan[1:3]] == [2, 3]
    assert plan[2] == plan[2]
    with pytest.raises(IndexError):
        plan[5]


def test_rows_with_a_workflow_of_their_own_come_once() -> None:
    rows = "prompt,workflow\na,\nb,blur.json\nc,\nd,v.json\n"
    plan = plan_of(Wanted(workflows=("w.json", "v.json"), prompts="p.csv"), p_csv=rows)
    assert [(run.workflow, run.settings.prompt) for run in plan] == [
        ("w.json", "a"),
        ("blur.json", "b"),
        ("w.json", "c"),
        ("v.json", "d"),
        ("v.json", "a"),
        ("v.json", "c"),
    ]
    assert plan[3].loaded is plan[4].loaded
    alone = plan_of(Wanted(prompts="p.csv"), p_csv="prompt,workflow\nb,v.json\n")
    assert [run.workflow for run in alone] == ["v.json"]


# --- what is set


def test_a_row_and_the_grid_beat_the_flags() -> None:
    settings = Settings(
        assignments=("3.steps=5", "KSampler.cfg=2", "6.text=flag", "9.filename_prefix=y"),
        inputs={"5.width": 64},
        negative="none",
        size=(32, 32),
    )
    wanted = Wanted(workflows=("w.json",), settings=settings, prompts="p.csv", grid=("3.cfg=7",))
    (run,) = plan_of(wanted, p_csv="prompt,steps,size\nrow,9,128x256\n")
    assert values(run) == {
        "6.text": "row",
        "7.text": "none",
        "3.steps": 9,
        "5.width": 128,
        "5.height": 256,
        "3.cfg": 7,
        "9.filename_prefix": "y",
    }


def test_the_last_assignment_counts_however_it_is_spelt() -> None:
    settings = Settings(assignments=("3.cfg=1", "KSampler.cfg=2", "3.cfg=3"))
    (run,) = plan_of(Wanted(workflows=("w.json",), settings=settings))
    assert values(run) == {"3.cfg": 3}


def test_files_of_text_are_read_once() -> None:
    settings = Settings(assignments=("7.text=@n.txt", "9.filename_prefix=@@x"), prompt_file="p.txt")
    plan = plan_of(Wanted(workflows=("w.json", "v.json"), settings=settings), p_txt="jar\n", n_txt="@bad\n")
    assert values(plan[1]) == {"6.text": "jar", "7.text": "@bad", "9.filename_prefix": "@x"}
    assert (plan[0].settings.prompt_file, plan[0].settings.assignments) == (None, ())
    grid = plan_of(Wanted(workflows=("w.json",), settings=settings, grid=("prompt=@p.txt,x",)), p_txt="jar", n_txt="n")
    assert [run.settings.prompt for run in grid] == ["jar", "x"]


def test_files_for_loaders_and_outputs() -> None:
    base = (parse_given("image", "base.png"), parse_given("image", "2=other.png"))
    wanted = Wanted(workflows=("blur.json",), files=base, output="out/", prompts="p.csv", grid=("mask=m.png,n.png",))
    plan = plan_of(wanted, p_csv="image,output\nrow.png,\n,own.png\n")
    assert [[given.text for given in run.files] for run in plan] == [
        ["2=other.png", "row.png", "m.png"],
        ["2=other.png", "row.png", "n.png"],
        ["base.png", "2=other.png", "m.png"],
        ["base.png", "2=other.png", "n.png"],
    ]
    assert [run.output for run in plan] == ["out/", "out/", "own.png", "own.png"]
    assert plan[2].inputs == (("output", "own.png"), ("mask", "m.png"))


def test_files_and_what_is_set_in_their_loaders_replace_one_another() -> None:
    settings = Settings(assignments=("1.image=flag.png", "2.blur_radius=3"))
    (run,) = plan_of(Wanted(workflows=("blur.json",), settings=settings, grid=("image=a.png",)))
    assert (values(run), [given.text for given in run.files]) == ({"2.blur_radius": 3}, ["a.png"])
    (run,) = plan_of(Wanted(workflows=("blur.json",), files=(parse_given("image", "a.png"),), grid=("1.image=b.png",)))
    assert (values(run), run.files) == ({"1.image": "b.png"}, ())


@pytest.mark.parametrize(
    ("grid", "models"),
    [
        (("model=x,y",), ["x", "y"]),
        (("4.ckpt_name=x,y",), ["x", "y"]),
        (("CheckpointLoaderSimple.ckpt_name=x",), ["x"]),
        (("steps=1,2",), ["a.safetensors", "a.safetensors"]),
    ],
)
def test_the_model_of_a_run(grid: tuple[str, ...], models: list[str]) -> None:
    assert [run.model for run in plan_of(Wanted(workflows=("w.json",), grid=grid))] == models


def test_a_workflow_that_loads_no_model() -> None:
    assert plan_of(Wanted(workflows=("blur.json",)))[0].model == ""


# --- seeds


@pytest.mark.parametrize(
    ("settings", "grid", "seeds"),
    [
        (Settings(), (), [100, 101, 102]),
        (Settings(seed=7), (), [7, 8, 9]),
        (Settings(seed=2**64 - 1), (), [2**64 - 1, 0, 1]),
        (Settings(assignments=("3.seed=7",)), (), [7, 8, 9]),
        (Settings(seed=3, assignments=("KSampler.seed=7",)), (), [7, 8, 9]),
        (Settings(seed=3), ("seed=50,60",), [50, 51, 52, 60, 61, 62]),
        (Settings(seed=3), ("3.seed=50",), [50, 51, 52]),
        (Settings(seed="keep"), (), [None, None, None]),
    ],
)
def test_repetitions_have_seeds_of_their_own(
    settings: Settings, grid: tuple[str, ...], seeds: list[int | None]
) -> None:
    plan = plan_of(Wanted(workflows=("w.json",), settings=settings, grid=grid, repeat=3))
    assert [values(run).get("3.seed", 100 if seeds[0] == 100 else None) for run in plan] == seeds
    if seeds[0] is not None:
        assert [dict(run.inputs).get("seed") or dict(run.inputs)["3.seed"] for run in plan] == [str(e) for e in seeds]


def test_the_files_own_seeds_keep_to_what_the_editor_can_count() -> None:
    graph = {**TXT2IMG, "3": {**TXT2IMG["3"], "inputs": {**TXT2IMG["3"]["inputs"], "seed": MAX_SEED}}}
    plan = plan_of(Wanted(workflows=(graph,), repeat=3))
    assert [values(run).get("3.seed") for run in plan] == [None, 0, 1]


def test_several_seeds_are_told_by_their_places() -> None:
    second = {**TXT2IMG["3"], "inputs": {**TXT2IMG["3"]["inputs"], "seed": 5, "latent_image": ["3", 0]}}
    graph = {**TXT2IMG, "13": second, "8": {"class_type": "VAEDecode", "inputs": {"samples": ["13", 0]}}}
    plan = plan_of(Wanted(workflows=(graph,), repeat=2))
    assert [dict(run.inputs) for run in plan] == [{"13.seed": "5", "3.seed": "100"}, {"13.seed": "6", "3.seed": "101"}]


def test_random_seeds_are_drawn_from_the_entropy_and_the_place() -> None:
    wanted = Wanted(workflows=("w.json",), settings=Settings(seed="random"), grid=("steps=1,2",), repeat=2)
    plan = plan_of(wanted)
    seeds = [run.settings.seed for run in plan]
    assert len({*seeds}) == 4
    assert seeds == [run.settings.seed for run in plan_of(wanted)]
    assert [dict(run.inputs)["seed"] for run in plan] == [str(seed) for seed in seeds]
    other = plan_of(wanted, entropy=2)
    assert other.fingerprint == plan.fingerprint
    assert {run.settings.seed for run in other}.isdisjoint(seeds)
    assert all(isinstance(seed, int) and 0 <= seed <= MAX_SEED for seed in seeds)
    assert draw_seed(1, 0) == draw_seed(1, 0) != draw_seed(1, 1)


def test_repetitions_without_a_seed_are_refused() -> None:
    with pytest.raises(UsageError, match="--repeat: no seed is found to be changed in blur"):
        list(plan_of(Wanted(workflows=("blur.json",), repeat=2)))
    kept = plan_of(Wanted(workflows=(BLUR,), settings=Settings(seed="keep"), repeat=2))
    assert [values(run) for run in kept] == [{}, {}]
    with pytest.raises(WorkflowError, match="no place for --seed"):
        values(plan_of(Wanted(workflows=(BLUR,), settings=Settings(seed=5), repeat=2))[1])


# --- what is told


def test_secrets_are_hidden_from_people() -> None:
    graph = {**TXT2IMG, "10": {"class_type": "Paid", "inputs": {"api_key": "", "images": ["8", 0]}}}
    wanted = Wanted(workflows=(graph,), grid=("10.api_key=secret1,secret2", "size=64x32"))
    plan = plan_of(wanted)
    assert told(plan) == ["10.api_key=[removed] size=64x32"] * 2
    assert [values(run)["10.api_key"] for run in plan] == ["secret1", "secret2"]


def test_graphs_are_told_by_their_number() -> None:
    assert told(plan_of(Wanted(workflows=(TXT2IMG, BLUR)))) == ["workflow=workflow 1", "workflow=workflow 2"]
