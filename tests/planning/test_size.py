"""A plan of very many runs takes little memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="counts as Linux does")]

WORKFLOW = Path(__file__).parents[2] / "workflows" / "sd15-txt2img.json"
PROGRAM = """
import sys
from comfyreport.planning.checking import check_plan, check_with_server
from comfyreport.planning.making import make_plan, reading
from comfyreport.planning.plan import Wanted
from comfyreport.sim_nodes.node_classes import object_info
from comfyreport.inputs.declared import declared_inputs
from comfyreport.workflow.files import load
wanted = Wanted(workflows=(sys.argv[1],), prompts=sys.argv[2])
plan = make_plan(wanted, load=load, read=reading(""), entropy=1)
check_plan(plan, "")
info = object_info(None)
check_with_server(plan, lambda name: declared_inputs(info, name))
assert sum(1 for run in plan) == 100_000
# Not getrusage: a child begins with its parent's peak there.
(peak,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak) // 1024)
"""
LIMIT = 250.0
"""MiB."""


def test_one_hundred_thousand_rows(tmp_path: Path) -> None:
    prompts = tmp_path / "p.csv"
    rows = (f'"a jar of stone, number {number}",{number},{number % 30}.5,out/{number}.png' for number in range(100_000))
    prompts.write_text("\n".join(["prompt,seed,KSampler.cfg,output", *rows]))
    command = [sys.executable, "-c", PROGRAM, str(WORKFLOW), str(prompts)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300)
    assert float(done.stdout) < LIMIT
