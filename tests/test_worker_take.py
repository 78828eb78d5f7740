"""Waiting for what stands in a queue, however short the wait is and however busy the machine."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import Any

import pytest

from comfyreport.worker import take


class Asked:
    """What stands in for a queue, and notes how it is asked."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def get_nowait(self) -> int:
        self.calls.append("now")
        raise queue.Empty

    def get(self, *, timeout: float) -> int:
        self.calls.append(timeout)
        return 1


def test_what_is_there_or_comes_is_taken() -> None:
    source: queue.SimpleQueue[int] = queue.SimpleQueue()
    source.put(1)
    assert take(source, 0) == 1
    threading.Timer(0.02, source.put, (2,)).start()
    assert take(source, 1e300) == 2


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.001])
def test_the_wait_ends(seconds: float) -> None:
    source: queue.SimpleQueue[int] = queue.SimpleQueue()
    for _ in range(3):
        with pytest.raises(queue.Empty):
            take(source, seconds)


@pytest.mark.parametrize(
    ("seconds", "calls"), [(0.0, ["now"]), (1e-6, ["now", 1e-6]), (1e300, ["now", threading.TIMEOUT_MAX])]
)
def test_what_may_wait_for_ever_is_asked_only_with_the_lock(seconds: float, calls: list[object]) -> None:
    """On a machine that is busy enough, the other order hangs once in some hundred thousand times."""
    asked: Any = Asked()
    with contextlib.suppress(queue.Empty):
        take(asked, seconds)
    assert asked.calls == calls
