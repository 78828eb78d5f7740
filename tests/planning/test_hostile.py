"""Whatever a file or a flag holds, it is a plan or a usage error that can be shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hypothesis import given, settings, strategies as st

from comfyreport.errors import UsageError
from comfyreport.planning.grids import grid_files, parse_grid
from comfyreport.planning.plan import Wanted
from comfyreport.planning.prompts_file import read_rows
from tests.planning.plans import plan_of

Result = TypeVar("Result")
PATHS = st.sampled_from(["p.csv", "p.txt", "p.json", "p.jsonl", "-"])
PIECES = st.sampled_from(
    [
        "prompt",
        "seed",
        "3.cfg",
        ",",
        '"',
        "\n",
        "\r",
        ";",
        "{",
        "}",
        "[",
        "]",
        ":",
        "7",
        "null",
        "\x1b[31m",
        "\ud800",
        " ",
    ]
)
TEXTS = st.lists(PIECES, max_size=30).map("".join)


def attempt(action: Callable[[], Result]) -> Result | UsageError:
    """What *action* returns, or the usage error that it raises."""
    try:
        return action()
    except UsageError as error:
        return error


def is_shown(error: UsageError) -> bool:
    return bool(error.hint) and "\x1b" not in error.message


@settings(max_examples=200, deadline=None)
@given(path=PATHS, data=st.binary(max_size=60) | TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_rows_or_a_usage_error(path: str, data: bytes) -> None:
    found = attempt(lambda: read_rows(path, data))
    if isinstance(found, UsageError):
        assert is_shown(found)
    else:
        assert found.rows
        assert all(len(row.names) == len(row.values) for row in found.rows)


@settings(max_examples=200, deadline=None)
@given(text=TEXTS | st.text(max_size=30), name=st.sampled_from(["", "seed=", "prompt=", "3.cfg=", "size="]))
def test_any_text_is_an_axis_or_a_usage_error(text: str, name: str) -> None:
    grid_files(name + text)
    found = attempt(lambda: parse_grid(name + text, lambda path: path))
    assert is_shown(found) if isinstance(found, UsageError) else found.values


@settings(max_examples=50, deadline=None)
@given(
    rows=st.integers(1, 4), steps=st.integers(1, 4), cfg=st.integers(1, 4), repeat=st.integers(1, 3),
    workflows=st.integers(1, 2),
)  # fmt: skip
def test_a_plan_has_as_many_runs_as_it_says_and_no_two_alike(
    rows: int, steps: int, cfg: int, repeat: int, workflows: int
) -> None:
    grid = f"steps=1..{steps}", f"3.cfg=1..{cfg}"
    wanted = Wanted(workflows=("w.json", "v.json")[:workflows], grid=grid, repeat=repeat, prompts="p.txt")
    plan = plan_of(wanted, p_txt="".join(f"prompt {number}\n" for number in range(rows)))
    runs = list(plan)
    assert len(runs) == len(plan) == workflows * rows * steps * cfg * repeat
    assert len({run.inputs for run in runs}) == len(runs)
    assert [run.index for run in runs] == list(range(1, len(plan) + 1))
