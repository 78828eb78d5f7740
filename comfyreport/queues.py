"""Waiting for what stands in a queue."""

from __future__ import annotations

import queue
import threading
from typing import TypeVar

_Item = TypeVar("_Item")


def take(source: queue.SimpleQueue[_Item], seconds: float) -> _Item:
    """The next item of *source*, waited for at most *seconds*; queue.Empty where none comes.

    Before Python 3.13 `SimpleQueue.get(timeout=…)` may wait for ever: where nobody holds the queue's lock, it takes
    that, looks again with the time that is left, and takes less than none for no limit (Modules/_queuemodule.c).
    Behind a `get_nowait` that found nothing, the lock is held.
    """
    try:
        return source.get_nowait()
    except queue.Empty:
        if seconds <= 0:
            raise
    return source.get(timeout=min(seconds, threading.TIMEOUT_MAX))
