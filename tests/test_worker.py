"""What may never return is waited for only so long, and others behind it are not waited for at all."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from comfyreport.worker import MOST_WAITING, TURN, Worker, call_within, turns

LIMIT = 20.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


def asides() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "comfyreport-worker"]


def test_things_are_done_in_order() -> None:
    done: list[int] = []
    worker = Worker()
    for number in range(300):
        worker.submit(lambda number=number: done.append(number), LIMIT)  # type: ignore[misc]
    assert worker.run(lambda: None, LIMIT)
    assert done == list(range(300))


def test_what_is_raised_is_raised_here() -> None:
    def fail() -> None:
        raise KeyError("x")

    worker = Worker()
    with pytest.raises(KeyError):
        worker.run(fail, LIMIT)
    assert worker.run(lambda: None, LIMIT)
    with pytest.raises(KeyError):
        call_within(LIMIT, fail)


def test_nobody_waits_behind_what_does_not_return(gate: threading.Event) -> None:
    done: list[int] = []
    worker = Worker()
    assert not worker.run(gate.wait, 0.05)
    # This would be the limit of the test if it were waited for.
    assert not worker.run(lambda: done.append(1), 1e6)
    for number in range(2 * MOST_WAITING):
        worker.submit(lambda number=number: done.append(number), 1e6)  # type: ignore[misc]
    gate.set()
    while not worker.run(lambda: None, LIMIT):
        pass
    assert done[0] == 1
    assert len(done) <= MOST_WAITING


def test_no_thread_is_left() -> None:
    assert call_within(LIMIT, lambda: None)
    for thread in asides():
        thread.join(LIMIT)
    assert asides() == []


def test_turns_are_short_and_end_in_time() -> None:
    began = time.monotonic()
    for seconds in turns(2.5 * TURN):
        assert 0 < seconds <= TURN
        time.sleep(seconds)
    assert 2.5 * TURN <= time.monotonic() - began < LIMIT
    assert list(turns(0)) == []


def test_turns_without_a_limit_have_no_end() -> None:
    assert set(itertools.islice(turns(), 1000)) == {TURN}
