"""The fault matrix: what the user sees of each fault at each moment of a run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from comfyreport.simulator import MOMENTS, Fault, Kind, Moment
from comfyreport.timing import Timing
from tests.faults.playing import SCALE, Seen, play

_TIMING = Timing()
KNOWN_LIMIT = 20.0
"""Seconds within which an answering server's word on a run is known."""
GONE_LIMIT = _TIMING.lost_after + 5
REFUSED_LIMIT = _TIMING.lost_after_refused + 5


@dataclass(frozen=True)
class Sees:
    """What the user sees of one fault, in the end and within how many seconds from when it could be known."""

    status: str = "success"
    code: str = ""
    within: float = KNOWN_LIMIT
    warned: str = ""


@dataclass(frozen=True)
class Row:
    """One fault: what is seen of it at each moment, and why it isn't played at some.

    `among` goes wrong as well, from the POST on. `brief`: at which moment it is played at full scale in CI too,
    because that is over within half a minute.
    """

    title: str
    kind: Kind
    seconds: float = math.inf
    sees: Sees = Sees()
    otherwise: Mapping[Moment, Sees] = field(default_factory=dict)
    impossible: Mapping[Moment, str] = field(default_factory=dict)
    among: Kind | None = None
    brief: Moment | None = None

    def at(self, moment: Moment) -> Sees | str:
        """What is seen then, or why it can't be."""
        return self.impossible.get(moment) or self.otherwise.get(moment, self.sees)

    def name(self, moment: Moment) -> str:
        """The name of one of its cells."""
        words = re.sub(r"[^A-Za-z0-9]+", "_", self.title)
        return f"{words}-{moment}"


def _only(moment: Moment, reason: str) -> dict[Moment, str]:
    return {other: reason for other in MOMENTS if other != moment}


GONE = Sees("lost", "server_gone", GONE_LIMIT)
DEAD = Sees("lost", "server_gone", REFUSED_LIMIT)
RESTARTED = Sees("lost", "server_restarted")
VANISHED = Sees("lost", "prompt_vanished")
_ANSWERED = "the POST has its answer by then"
_NO_HISTORY = "shows only where history is asked, which is behind the success"
_NOT_THERE: dict[Moment, str] = {"post": "there is no prompt yet"}
_NO_WORK: dict[Moment, str] = {"post": "the worker has nothing to do yet"}

ROWS = (
    Row("slow check 30 s", "slow_validation", 30, impossible=_only("post", _ANSWERED)),
    Row("early frames", "early_frames", 2, impossible=_only("post", _ANSWERED), brief="post"),
    Row(
        "other id", "other_id", sees=Sees(warned="prompt_id_changed"), impossible=_only("post", _ANSWERED), brief="post"
    ),
    Row(
        "answer lost", "answer_lost", sees=Sees(warned="answer_lost"), impossible=_only("post", _ANSWERED), brief="post"
    ),
    Row(
        "answer lost, other id",
        "answer_lost",
        sees=Sees(warned="prompt_id_changed"),
        impossible=_only("post", _ANSWERED),
        among="other_id",
        brief="post",
    ),
    Row("dropped", "dropped", brief="sampling"),
    Row("dropped, refused", "reconnect_refused", brief="sampling"),
    Row("dropped and deaf", "deaf_socket", brief="loading"),
    Row("silent", "silent", brief="sampling"),
    Row("slow reader", "slow_reader", 30, brief="sampling"),
    Row("junk", "malformed_frames", sees=Sees(warned="malformed_message"), brief="post"),
    Row("doubled", "duplicate_frames", brief="post"),
    Row("others' frames", "foreign_frames", brief="post"),
    Row("others' prompts", "foreign_prompts", brief="post"),
    Row("stalled 60 s", "worker_stalled", 60, impossible=_NO_WORK),
    Row("frozen 30 s", "frozen", 30),
    Row("frozen for ever", "frozen", sees=GONE),
    Row("HTTP hangs 30 s", "http_hangs", 30),
    Row("HTTP hangs for ever", "http_hangs", sees=GONE),
    Row("HTTP hangs, others' prompts", "http_hangs", sees=GONE, among="foreign_prompts"),
    Row("history late 10 s", "history_late", 10, impossible=_only("ending", _NO_HISTORY), brief="ending"),
    Row("history 500, 10 s", "history_500", 10, impossible=_only("ending", _NO_HISTORY), brief="ending"),
    Row(
        "history 500 for ever",
        "history_500",
        sees=Sees("lost", "no_history", within=GONE_LIMIT),
        impossible=_only("ending", _NO_HISTORY),
        brief="ending",
    ),
    Row(
        "history 500, others' frames",
        "history_500",
        sees=Sees("lost", "no_history", within=GONE_LIMIT),
        impossible=_only("ending", _NO_HISTORY),
        among="foreign_frames",
    ),
    Row(
        "interrupted by somebody",
        "interrupted",
        sees=Sees("interrupted", "interrupted"),
        otherwise={"pending": Sees()},
        impossible=_NO_WORK | {"ending": "the work is done"},
        brief="decoding",
    ),
    Row(
        "lost",
        "prompt_lost",
        sees=VANISHED,
        otherwise={"pending": Sees("lost", "deleted")},
        impossible=_NOT_THERE,
        brief="sampling",
    ),
    Row(
        "lost, others' prompts",
        "prompt_lost",
        sees=VANISHED,
        otherwise={"pending": Sees("lost", "deleted")},
        impossible=_NOT_THERE,
        among="foreign_prompts",
        brief="pending",
    ),
    Row("killed", "killed", sees=DEAD, brief="sampling"),
    Row("restarted", "restarted", 3, sees=RESTARTED, brief="sampling"),
    Row("restarted at once", "restarted", 0, sees=RESTARTED, brief="loading"),
)


@dataclass(frozen=True)
class Cell:
    """One fault at one moment."""

    row: Row
    moment: Moment
    sees: Sees

    @property
    def name(self) -> str:
        return self.row.name(self.moment)

    def play(self, folder: Path, *, scale: float = SCALE, command: bool = False) -> Seen:
        """Let it happen."""
        faults = [Fault(self.row.kind, self.moment, self.row.seconds)]
        if self.row.among is not None:
            faults.append(Fault(self.row.among, "post"))
        return play(faults, folder, scale=scale, behind=self.moment == "pending", command=command)


def cells() -> Iterator[Cell]:
    """All that can be played."""
    for row in ROWS:
        for moment in MOMENTS:
            sees = row.at(moment)
            if isinstance(sees, Sees):
                yield Cell(row, moment, sees)


def first_cells() -> Iterator[Cell]:
    """One cell of each fault: the brief one, else that of its first moment."""
    for row in ROWS:
        own = [cell for cell in cells() if cell.row is row]
        yield next((cell for cell in own if cell.moment == row.brief), own[0])


def brief_cells() -> Iterator[Cell]:
    """One cell of each fault that is over soon, also at full scale."""
    return (cell for cell in first_cells() if cell.row.brief is not None)
