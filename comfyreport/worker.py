"""Doing what may never return, such as writing to a pipe that nobody reads, and waiting that a Ctrl-C ends."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

MOST_WAITING = 1000
"""What is to be done behind something that doesn't return is dropped beyond so many."""

TURN = 0.1
"""Seconds after which a KeyboardInterrupt is raised at the latest, in a thread that waits by `turns`."""

_Item = TypeVar("_Item")

_MANY = 100
_LINGER = 0.1


class _Task:
    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act
        self.done = threading.Event()
        self.error: BaseException | None = None


class Worker:
    """Does one thing after the other, in order, on a thread that can be left behind.

    There is such a thread only while there is something to do, and a moment longer.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[_Task] = deque()
        self._working = False
        self._stuck = False

    def run(self, act: Callable[[], object], limit: float) -> bool:
        """Do *act* and wait for it up to *limit* seconds; whether it was done by then. Raises what *act* raises.

        It is done later where it wasn't by then. While something that took too long isn't over, nothing is waited
        for.
        """
        task = _Task(act)
        if not self._add(task):
            return False
        if not task.done.wait(0.0 if self._stuck else limit):
            with self._changed:
                self._stuck = not task.done.is_set()
            return False
        if task.error is not None:
            raise task.error
        return True

    def submit(self, act: Callable[[], object], limit: float) -> None:
        """Do *act* without waiting for it, unless much waits already; what it raises is lost."""
        if len(self._waiting) < _MANY:
            self._add(_Task(act))
        else:
            self.run(act, limit)

    def _add(self, task: _Task) -> bool:
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                return False
            self._waiting.append(task)
            self._changed.notify()
            idle, self._working = not self._working, True
        if idle:
            try:
                threading.Thread(target=self._work, name="comfyreport-worker", daemon=True).start()
            except RuntimeError:
                # The machine gives no thread. What is to be told is told all the same, on this one.
                self._work(linger=0.0)
        return True

    def _work(self, linger: float = _LINGER) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._waiting, linger):
                    self._working = False
                    return
                task = self._waiting.popleft()
            try:
                task.act()
            except BaseException as error:  # noqa: BLE001  it is raised where it was asked for
                task.error = error
            with self._changed:
                self._stuck = False
                task.done.set()


def call_within(limit: float, act: Callable[[], object]) -> bool:
    """Do *act* on a thread of its own, and leave it behind after *limit* seconds; whether it was done.

    Raises what *act* raises.
    """
    return Worker().run(act, limit)


def turns(timeout: float | None = None) -> Iterator[float]:
    """Seconds to wait for in each turn, until *timeout* seconds are over (None: without end).

    The main thread waits by turns for whatever another thread does: not every KeyboardInterrupt wakes a thread that
    waits for a lock, and none does on Windows.
    """
    until = math.inf if timeout is None else time.monotonic() + timeout
    while (left := until - time.monotonic()) > 0:
        yield min(TURN, left)


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
