"""What a worker tells its command, a few times a second: events in batches, thinned where many wait."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence

from comfyreport import events as ev
from comfyreport.fleet.assignment import Assignment, Message, Note
from comfyreport.fleet.channel import Channel
from comfyreport.reporting.event_queue import merge

PAUSE = 0.2
"""Seconds between two messages of a run, and between two looks at what its command wants."""


class Teller:
    """Tells the events of one attempt, from any thread, in their order. What can't be told in time goes with the end.

    :param name: the worker's.
    """

    def __init__(self, channel: Channel, assignment: Assignment, attempt: str, name: str) -> None:
        self._channel = channel
        self._assignment = assignment
        self._attempt = attempt
        self._name = name
        self._waiting: list[ev.Event] = []
        self._adding = threading.Lock()
        self._untold: list[Message] = []
        self._sending = threading.Lock()
        self.told = 0

    def add(self, events: Sequence[ev.Event]) -> None:
        """Tell *events* with the next message. Previews stay here: they are too large to be told."""
        with self._adding:
            self._waiting += [event for event in events if not isinstance(event, ev.NodePreview)]

    def flush(self, note: Note | None = None) -> None:
        """Send what waits, and *note*. Blocks."""
        with self._sending:
            with self._adding:
                events, self._waiting = self._waiting, []
            if events or note is not None:
                self._send(tuple(merge(events)), note)

    def _send(self, events: tuple[ev.Event, ...], note: Note | None) -> None:
        self.told += 1
        message = Message(
            self._assignment.command,
            self._assignment.index,
            self._attempt,
            self.told,
            self._name,
            time.time(),
            events,
            note,
        )
        try:
            self._channel.send(message)
        except OSError:
            self._untold.append(message)

    def take_untold(self) -> tuple[Message, ...]:
        """The messages that could not be sent."""
        untold, self._untold = self._untold, []
        return tuple(untold)


class Upkeep:
    """Does *turn* every `PAUSE` seconds on a thread of its own, while it is entered."""

    def __init__(self, turn: Callable[[], None]) -> None:
        self._turn = turn
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="comfyreport-upkeep", daemon=True)

    def __enter__(self) -> Upkeep:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def wait(self, seconds: float, until: Callable[[], bool]) -> None:
        """Wait *seconds*, or until *until*."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and not until():
            self._over.wait(PAUSE)

    def _work(self) -> None:
        while not self._over.wait(PAUSE):
            # The command or the engine may not answer; the run goes on.
            with contextlib.suppress(OSError):
                self._turn()
