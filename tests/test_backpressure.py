"""A writer waits for a reader that reads, and not for one that doesn't."""

from __future__ import annotations

import threading

from comfyreport.backpressure import Backpressure

LONG = 60.0


def test_nobody_waits_while_there_is_room() -> None:
    Backpressure(LONG).wait_while(lambda: False)


def test_a_writer_goes_on_once_the_reader_has_taken() -> None:
    backpressure, waiting = Backpressure(LONG), ["something"]
    asked = threading.Event()

    def full() -> bool:
        asked.set()
        return bool(waiting)

    writer = threading.Thread(target=backpressure.wait_while, args=(full,), daemon=True)
    writer.start()
    assert asked.wait(LONG)
    assert writer.is_alive()
    waiting.clear()
    backpressure.taken()
    writer.join(LONG)
    assert not writer.is_alive()


def test_a_reader_that_takes_nothing_is_waited_for_once() -> None:
    backpressure = Backpressure(0.0)
    looks: list[None] = []

    def full() -> bool:
        looks.append(None)
        return True

    backpressure.wait_while(full)
    assert len(looks) == 2
    # It has not taken since: the writer looks, and goes on.
    backpressure.wait_while(full)
    assert len(looks) == 3
    backpressure.taken()
    backpressure.wait_while(full)
    assert len(looks) == 5
