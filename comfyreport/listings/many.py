"""What is said of many runs at their end: which failed, what wasn't begun, and the command for the rest. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from comfyreport.batch.ledger import Failure
from comfyreport.batch.state import Counts
from comfyreport.shell import quote
from comfyreport.text import printable

MOST_NAMED = 20
"""Failures that are named one by one."""

_MESSAGE = 200
# Behind them stands what may be secret: it isn't told, though the user has written it.
_SECRET_FLAGS = ("--header", "--extra-data", "--set")


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
    if not counts.done:
        return []
    left = f"{total - counts.done} are left" if counts.done < total else "none is left"
    line = f"{counts.done} of {total} runs are done already, {left}"
    return [line + (f"; {counts.failed} of them failed: --only failed runs those again" if counts.failed else "")]


def describe_rest(words: Sequence[str], state: str | None, *, failed: int, unbegun: int) -> list[str]:
    """What was left, and what makes it: *words* are those of this command, *state* its state file."""
    lines = []
    if unbegun:
        going_on = "the same command goes on with them" if state else "with --state FILE the same command can go on"
        lines.append(f"{unbegun} run{'s'[unbegun == 1 :]} {'was' if unbegun == 1 else 'were'} not made: {going_on}")
    if failed and state:
        lines.append(f"to run only those again that failed: {again(words)}")
    elif failed:
        lines.append("with --state FILE, --only failed can run only those again that failed")
    return lines


def again(words: Sequence[str]) -> str:
    """The command that runs again only those that failed; where something secret may be in it, in words."""
    secret = any(word.partition("=")[0] in _SECRET_FLAGS for word in words)
    if secret or any(re.search(r"//[^/\s]*@|\?", word) for word in words):
        return "the same command with --only failed"
    kept = list(words)
    if "--only" not in kept and "--only=failed" not in kept:
        kept += ["--only", "failed"]
    return f"comfyreport {' '.join(quote(word) for word in kept)}"
