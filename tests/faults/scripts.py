"""Random fault scripts: several faults in one run, each from a seed that a failure names."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from comfyreport.simulator import KINDS, MOMENTS, Fault, Kind
from tests.faults.checks import flaws
from tests.faults.playing import SCALE, WORKFLOW, Seen, play
from tests.simulator.prompts import Prompt, picture, probe

_SECONDS = (0.2, 1.0, 4.0, 12.0, 30.0, 70.0)
# A POST that is checked for longer than anybody waits for its answer can't be told from one that never came.
_SHORT: tuple[Kind, ...] = ("slow_validation", "early_frames")
# Without an end, nothing would ever be known of a run that goes on, nor could be.
_ENDING: tuple[Kind, ...] = (*_SHORT, "worker_stalled", "history_late", "restarted", "slow_reader")


def _failing(kind: str) -> Prompt:
    """A picture whose last node but one, 8, fails."""
    prompt = picture(steps=3)
    prompt["8"] = {"class_type": "ProbeRaise", "inputs": {"image": ["6", 0], "kind": kind}}
    prompt["7"]["inputs"]["images"] = ["8", 0]
    return prompt


def _two_outputs() -> Prompt:
    prompt = picture(steps=8)
    prompt["8"] = {"class_type": "PreviewImage", "inputs": {"images": ["6", 0]}}
    return prompt


FAILING = _failing("runtime")
_STOPPED = 0.25
"""The part of the runs that the user stops."""
_WORKFLOWS: tuple[Prompt, ...] = (
    WORKFLOW,
    FAILING,
    _failing("oom"),
    _two_outputs(),
    probe("TestExecutionBlocker", block=True, verbose=True),
    probe("ProbeExpand", what="progress"),
    probe("ProbeExpand", what="raise"),
    probe("ProbeProgress", mode="restart", count=5, delay=0.3),
    probe("TestSleep", seconds=2.0),
    probe("ProbeText", text="{i}", count=4, delay=0.4, to_client=True),
)


@dataclass(frozen=True)
class Plan:
    """One run, what goes wrong with it, and whether the user stops it."""

    seed: int
    faults: tuple[Fault, ...]
    workflow: Prompt
    behind: bool
    stop: float | None
    """After how many seconds the user stops it."""

    @property
    def name(self) -> str:
        return f"seed {self.seed}"

    def play(self, folder: Path, *, scale: float = SCALE) -> Seen:
        """Let it happen."""
        return play(self.faults, folder, scale=scale, workflow=self.workflow, behind=self.behind, stop=self.stop)

    def wrong(self, seen: Seen) -> Iterator[str]:
        """What is wrong with its run, besides lies."""
        return flaws(seen, self.workflow)


def plan(seed: int) -> Plan:
    """The plan of a seed, the same on every machine."""
    dice = random.Random(seed)
    faults = tuple(_fault(dice) for _ in range(dice.randint(1, 5)))
    kinds = {fault.kind for fault in faults}
    if {"other_id", "answer_lost"} <= kinds:
        # Nobody could tell the client which id its prompt has.
        faults = tuple(fault for fault in faults if fault.kind != "answer_lost")
    behind = any(fault.moment == "pending" for fault in faults)
    workflow = dice.choice(_WORKFLOWS)
    stop = dice.uniform(0, 8) if dice.random() < _STOPPED else None
    return Plan(seed, faults, workflow, behind, stop)


def _fault(dice: random.Random) -> Fault:
    kind = dice.choice(KINDS)
    longest = 30.0 if kind in _SHORT else math.inf
    seconds = [each for each in _SECONDS if each <= longest]
    if kind not in _ENDING:
        seconds.append(math.inf)
    if kind in ("killed", "silent"):
        # No connection loses messages and then goes on.
        seconds = [math.inf]
    elif kind == "restarted":
        # No server comes again so fast that nobody could notice.
        seconds = [each for each in seconds if each >= 4]
    moment = "post" if kind in (*_SHORT, "other_id", "answer_lost") else dice.choice(MOMENTS)
    return Fault(kind, moment, dice.choice(seconds), dice.randint(1, 8))
