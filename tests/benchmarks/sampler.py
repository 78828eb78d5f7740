"""Where a process spends its CPU seconds: copied onto its path as `sitecustomize.py`, it begins with the interpreter.

Each thread's CPU time since the last look goes to the line that the thread is at. Threads that wait cost nothing.
What is found is written to the file that BENCH_SAMPLES names, also where the process leaves by `os._exit`.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

_INTERVAL = 0.0005
# A look must come right behind the call that took the time: with Python's 5 ms it comes where a thread next waits, and
# the waiting seems to cost what was done before it. Threads change more often than they would otherwise.
_SWITCH = 0.00002
_IMPORTING = "<frozen importlib"

_Place = tuple[str, str, int, int, bool]
_found: dict[_Place, float] = {}
_before: dict[int, float] = {}
_started = time.process_time()
_own = 0.0
_done = False
_lock = threading.Lock()
_exit = os._exit


def _place(frame: FrameType) -> _Place:
    code, importing = frame.f_code, False
    above: FrameType | None = frame
    while above is not None and not importing:
        importing = above.f_code.co_filename.startswith(_IMPORTING)
        above = above.f_back
    return code.co_filename, code.co_qualname, code.co_firstlineno, frame.f_lineno or 0, importing


def _look() -> None:
    """Give each thread's time to the line that it is at."""
    frames = sys._current_frames()
    for thread in threading.enumerate():
        frame, number = frames.get(thread.ident or 0), thread.native_id
        if frame is None or number is None or thread.name == "bench-sampler":
            continue
        try:
            now = time.clock_gettime((~number << 3) | 6)  # the thread's CPU clock (clock_getcpuclockid(3))
        except OSError:
            continue
        spent = now - _before.get(number, 0.0)
        _before[number] = now
        if spent > 0:
            place = _place(frame)
            _found[place] = _found.get(place, 0.0) + spent


def _watch() -> None:
    global _own  # noqa: PLW0603  read once, at the end
    while not _done:
        time.sleep(_INTERVAL)
        with _lock:
            if not _done:
                _look()
        _own = time.thread_time()


def _write() -> None:
    global _done  # noqa: PLW0603  the watching thread sees it
    with _lock:
        if _done:
            return
        _done = True
        _look()
    known = {"started": _started, "own": _own, "total": time.process_time(), "found": [*_found.items()]}
    with open(os.environ["BENCH_SAMPLES"], "w", encoding="utf-8") as file:
        json.dump(known, file)


def _leave(status: int) -> NoReturn:
    _write()
    _exit(status)


if os.environ.get("BENCH_SAMPLES"):
    _before[threading.main_thread().native_id or 0] = time.thread_time()
    os._exit = _leave
    atexit.register(_write)
    sys.setswitchinterval(_SWITCH)
    threading.Thread(target=_watch, name="bench-sampler", daemon=True).start()
