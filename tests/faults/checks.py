"""What holds for every run, whatever went wrong: no lie, each node told once, polite, in time."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from comfyreport.events import EXIT_CODES
from comfyreport.timing import Timing
from tests.faults.matrix import GONE_LIMIT, KNOWN_LIMIT, Cell
from tests.faults.playing import SCALE, WORKFLOW, Seen
from tests.simulator.prompts import Prompt

POLLS_A_MINUTE = 60
LEFT_SECONDS = 15.0
"""After which nothing of a run may be left. A request that was never answered lasts longest."""
# How a run may be told to have ended, by its prompt's fate.
_HONEST = {
    "success": ("success", "partial"),
    "error": ("error",),
    "interrupted": ("interrupted",),
    "nowhere": ("lost",),
}
# While one of these holds nobody can know.
_UNANSWERING = ("killed", "restarted", "frozen", "http_hangs")
_UNKNOWABLE = (*_UNANSWERING, "history_500")
# Which faults a code may be told of.
_CAUSES = {
    "server_gone": _UNANSWERING,
    # A prompt that is gone behind a broken connection: a restart so quick that nobody met it looks the same.
    "server_restarted": ("restarted", "prompt_lost"),
    "no_history": ("history_500",),
    "prompt_vanished": ("prompt_lost", "restarted", *_UNANSWERING),
    "deleted": ("prompt_lost",),
    "interrupted": ("interrupted",),
}


def lies(seen: Seen) -> Iterator[str]:
    """What was told and isn't so."""
    told = _HONEST.get(seen.truth, ())
    if seen.truth in ("nowhere", "running") or seen.holds(*_UNKNOWABLE):
        # What the socket told for certain may be said where there is nobody left to ask.
        told = (*told, *{"error": ("error",), "interrupted": ("interrupted",)}.get(seen.end, ()))
    if seen.holds(*_UNKNOWABLE):
        told = (*told, "lost")
    if not seen.taken:
        # Where this machine had no time for it before the first answer was due.
        told = (*told, "unreachable")
    if seen.stopped and seen.status == "cancelled":
        told = ("cancelled",) if seen.truth in _CANCELLED[seen.result["prompt_state"]] else ()
    if seen.status not in told:
        yield f"told {seen.status} {seen.code}, but the prompt's fate is {seen.truth}"
    causes = _CAUSES.get(seen.code)
    if causes is not None and not any(played.fault.kind in causes for played in seen.played):
        yield f"told {seen.code}, which is not what happened"
    if seen.result["exit_code"] != EXIT_CODES[seen.status]:
        yield f"exit code {seen.result['exit_code']} for {seen.status}"
    if seen.result["submitted"] == ("no" if seen.taken else "yes"):
        yield f"submitted: {seen.result['submitted']}, but the server {'took' if seen.taken else 'never took'} it"


# Where the prompt of a cancelled run may be, by what was told of it.
_CANCELLED = {
    "none": ("nowhere",),
    "cancelled": ("interrupted", "nowhere"),
    "finished": ("success",),
    "unknown": ("success", "error", "interrupted", "running", "pending", "nowhere"),
}
CANCEL_LIMIT = Timing().cancel_timeout


def flaws(seen: Seen, workflow: Prompt = WORKFLOW) -> Iterator[str]:
    """What else is wrong with any run."""
    if seen.status == "unreachable":
        yield "the server was not reached"
    if seen.status == "success":
        yield from _untold(seen, workflow)
    if seen.polls_in_a_minute() > POLLS_A_MINUTE:
        yield f"{seen.polls_in_a_minute()} requests in a minute"
    if seen.polls_at_once() > (2 if seen.stopped else 1):  # a cancel doesn't wait for what hangs
        yield f"{seen.polls_at_once()} requests in flight at once"
    if seen.stopped and (took := seen.seconds_since(seen.stopped)) > _most(CANCEL_LIMIT, seen.scale):
        yield f"the verdict came {took:.1f} s after the user wanted to stop"
    yield from _late(seen, GONE_LIMIT if seen.holds(*_UNKNOWABLE) else KNOWN_LIMIT)


def _untold(seen: Seen, workflow: Prompt) -> Iterator[str]:
    """Each node that was asked for is told once, as finished or as cached."""
    told = Counter(event["node_id"] for event in (*seen.of("node_finished"), *seen.of("node_cached")))
    for node_id in workflow:
        if told[node_id] != 1:
            yield f"node {node_id} was told of {told[node_id]} times"


def _late(seen: Seen, seconds: float) -> Iterator[str]:
    took = seen.since_known()
    if took > _most(seconds, seen.scale):
        yield f"the verdict came {took:.1f} s after it could be known, {seconds:g} s are the most"


def _most(seconds: float, scale: float) -> float:
    """A limit with what a busy machine may add: half a second, and at the short scale as much again."""
    return seconds * (2 if scale <= SCALE else 1) + 0.5 / scale


def unlike(cell: Cell, seen: Seen) -> Iterator[str]:
    """What a cell of the matrix shows that it shouldn't."""
    if not any(played.fault == seen.fault for played in seen.played):
        yield "nothing went wrong"
    yield from flaws(seen)
    sees = cell.sees
    if (seen.status, seen.code) != (sees.status, sees.code):
        yield f"{seen.status} {seen.code} instead of {sees.status} {sees.code}"
    if sees.warned and sees.warned not in seen.warned():
        yield f"no warning {sees.warned}"
    yield from _late(seen, sees.within)


def held(
    seen: Callable[[], Seen], again: Callable[[], Seen], wrong: Callable[[Seen], Iterator[str]], name: str
) -> Seen:
    """A run that is as it should be. A lie fails at once; anything else is tried once more, alone, and printed."""
    found = seen()
    for attempt in (1, 2):
        assert not (told := list(lies(found))), f"{name}: {told}\n{found.builder()}"
        problems = list(wrong(found))
        if not problems:
            break
        assert attempt == 1, f"{name}, twice: {problems}\n{found.builder()}"
        print(f"{name}: {problems}; once more")
        found = again()
    return found


class Leaks:
    """What a process has open, to be compared with what it has later."""

    def __init__(self) -> None:
        gc.collect()
        self._files = _open_files()

    def check(self) -> None:
        """Wait until nothing is left of all runs in between."""
        deadline = time.monotonic() + LEFT_SECONDS
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left, left

    def _left(self) -> list[str]:
        gc.collect()
        threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("comfyreport")]
        return threads + [name for number, name in _open_files().items() if number not in self._files]


def _open_files() -> dict[int, str]:
    """The open descriptors and what they are of."""
    found = {}
    for name in os.listdir("/dev/fd"):
        try:
            found[int(name)] = f"{name}: {os.readlink(f'/dev/fd/{name}')}"
        except OSError:
            # The folder that was listed, or something that isn't a link here.
            continue
    return found
