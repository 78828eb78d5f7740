"""Estimates of the installed command on a real ComfyUI, learned from the runs before: their figures, and loose bounds.

`pytest -s tests/e2e/test_real_estimates.py` prints the figures. A machine that does something else beside has others.
"""

from __future__ import annotations

import copy

import pytest

from comfyreport.recording.player import Recording
from tests.benchmarks.estimates.figures import measure
from tests.benchmarks.estimates.playing import measured, read
from tests.benchmarks.estimates.series import Case, Result, grouped
from tests.benchmarks.estimates.tables import ABOVE, table
from tests.e2e.conftest import ComfyUIFactory
from tests.e2e.driver import Driver, Ended
from tests.e2e.raw_client import Graph, node, txt2img

pytestmark = [pytest.mark.real, pytest.mark.e2e]

NAMES = ("txt2img", "hires")
GROUPS = ("first", "repeat", "warm")
MOST_OFF = 0.5
"""Of the whole time; the targets themselves are asserted where nothing else can take the machine: on recordings."""


def twice(graph: Graph) -> Graph:
    """A second sampler behind an upscale."""
    graph = copy.deepcopy(graph)
    graph["10"] = node("LatentUpscaleBy", upscale_method="nearest-exact", scale_by=1.5, samples=["3", 0])
    graph["11"] = node("KSampler", **{**graph["3"]["inputs"], "latent_image": ["10", 0], "steps": 5, "denoise": 0.5})
    graph["8"]["inputs"]["samples"] = ["11", 0]
    return graph


def workflow(name: str, number: int) -> Graph:
    """One of the workflows with another seed and another text, so that a run repeats nothing of the one before."""
    graph = txt2img(size=128, steps=8, seed=700 + number, text=f"a lighthouse, {name}, {number}")
    return twice(graph) if name == "hires" else graph


def result(ended: Ended, case: Case) -> Result:
    """The figures of a run as it was told."""
    assert ended.code == 0, ended.err
    played = measured(event for event in map(read, ended.events) if event is not None)
    return Result(case, played, measure(played))


def test_the_second_and_third_run_are_told_better(
    driver: Driver, comfyui_factory: ComfyUIFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Threads that wait for each other are the slower the less of the machine is free.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    driver.server = comfyui_factory(checkpoint=True, previews=False).url
    env = {"COMFYREPORT_CACHE": str(driver.folder / "cache")}
    results = [
        result(driver.follow(workflow(name, number), env=env), Case(f"{name}-{number}", name, group, Recording(())))
        for name in NAMES
        for number, group in enumerate(GROUPS, 1)
    ]
    print(f"\n{ABOVE}\n{table(results, grouped(results))}")
    for each in results:
        assert each.figures.told > 0
        assert each.figures.off is not None
        assert each.case.group == "first" or each.figures.off < MOST_OFF
    told = {each.case.name: each.figures.told for each in results}
    assert all(told[f"{name}-1"] <= told[f"{name}-{number}"] for name in NAMES for number in (2, 3))
