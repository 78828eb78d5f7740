"""What may never return is waited for only so long, and others behind it are not waited for at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from comfyreport.reporting.worker import MOST_WAITING, Aside, within

LIMIT = 20.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


def asides() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "comfyreport-aside"]


def test_things_are_done_in_order() -> None:
    done: list[int] = []
    aside = Aside()
    for number in range(300):
        aside.soon(lambda number=number: done.append(number), LIMIT)  # type: ignore[misc]
    assert aside.do(lambda: None, LIMIT)
    assert done == list(range(300))


def test_what_is_raised_is_raised_here() -> None:
    def fail() -> None:
        raise KeyError("x")

    aside = Aside()
    with pytest.raises(KeyError):
        aside.do(fail, LIMIT)
    assert aside.do(lambda: None, LIMIT)
    with pytest.raises(KeyError):
        within(LIMIT, fail)


def test_nobody_waits_behind_what_does_not_return(gate: threading.Event) -> None:
    done: list[int] = []
    aside = Aside()
    assert not aside.do(gate.wait, 0.05)
    # This would be the limit of the test if it were waited for.
    assert not aside.do(lambda: done.append(1), 1e6)
    for number in range(2 * MOST_WAITING):
        aside.soon(lambda number=number: done.append(number), 1e6)  # type: ignore[misc]
    gate.set()
    while not aside.do(lambda: None, LIMIT):
        pass
    assert done[0] == 1
    assert len(done) <= MOST_WAITING


def test_no_thread_is_left() -> None:
    assert within(LIMIT, lambda: None)
    for thread in asides():
        thread.join(LIMIT)
    assert asides() == []
