"""What is said of many runs at their end: which failed, what wasn't begun, and the command for the rest. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from comfyreport.access.secret_keys import is_secret_key
from comfyreport.ledger.ledger import Failure
from comfyreport.ledger.state import Counts
from comfyreport.shell import quote
from comfyreport.text import printable

MOST_NAMED = 20
"""Failures that are named one by one."""

_MESSAGE = 200
# Behind them stands what may be secret: it isn't told, though the user has written it.
_SECRET_FLAGS = ("--header", "--extra-data", "--set")
_SECRET_TEXT = re.compile(r"@|\?|=[a-z]+://")


def describe_failures(failures: Sequence[Failure], failed: int, ended: int) -> list[str]:
    """A line that counts the runs that failed, and one for each of the first."""
    if not failed:
        return []
    lines = [f"{failed} of {ended} runs failed:"]
    for failure in failures[:MOST_NAMED]:
        about = f" ({failure.inputs})" if failure.inputs else ""
        lines.append(f"  run {failure.index}{about}: {failure.status}: {printable(failure.message, _MESSAGE)}")
    if failed > MOST_NAMED:
        lines.append(f"  and {failed - MOST_NAMED} more")
    return lines


def describe_done(counts: Counts, total: int) -> list[str]:
    """What earlier commands have done of *total* runs."""
    if not counts.done and not counts.failed:
        return []
    left = total - counts.done
    rest = {0: "none is left", 1: "1 is left"}.get(left, f"{left} are left")
    failed = f", {counts.failed} failed (--only failed makes those again)" if counts.failed else ""
    return [f"{counts.done} of {total} runs have ended already{failed}; {rest}"]


def describe_rest(words: Sequence[str], state: str | None, *, failed: int, unbegun: int) -> list[str]:
    """What was left, and what makes it: *words* are those of this command, *state* its state file."""
    lines = []
    if unbegun:
        without = "with --state FILE from its start on, a command can go on"
        going_on = "the same command goes on from there" if state else without
        lines.append(f"{unbegun} run{'s'[unbegun == 1 :]} {'was' if unbegun == 1 else 'were'} not made: {going_on}")
    if failed and state:
        lines.append(f"to run only those again that failed: {again(words)}")
    elif failed:
        lines.append("with --state FILE from its start on, --only failed can run only those again that failed")
    return lines


def again(words: Sequence[str]) -> str:
    """The command that runs again only those that failed; where something secret may be in it, in words."""
    secret = any(word.partition("=")[0] in _SECRET_FLAGS or _SECRET_TEXT.search(word) for word in words)
    grids = (word.removeprefix("--grid=").partition("=")[0] for word in words)
    if secret or any(is_secret_key(name.rpartition(".")[2]) for name in grids):
        return "the same command with --only failed"
    kept = list(words)
    if "--only" not in kept and "--only=failed" not in kept:
        kept += ["--only", "failed"]
    return f"comfyreport {' '.join(quote(word) for word in kept)}"
